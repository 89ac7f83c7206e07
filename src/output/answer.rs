//! What becomes of an answer.

use std::time::Duration;

use serde_json::json;
use turbomcp_core::{McpError, McpResult, RequestContext};
use turbomcp_types::{Content, ResourceLink, ToolResult};

use super::builder::OutputTool;
use super::cut::{Cut, LeftOut, Part, RESERVED, beginning};
use super::plan::{Redacted, ToolPlan};
use super::resource::link;
use super::sentence::{Of, of_cut, of_too_large};
use super::size::{answer_bytes, json_bytes, structure_bytes};
use super::store::Owner;
use crate::outcome::{self, ErrorKind, OUTPUT};

/// What became of an answer above the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Cut,
    Spilled,
    Whole,
    TooLarge,
}

impl Status {
    /// The word in `_meta`. An error has one in its data.
    fn in_meta(self) -> Option<&'static str> {
        match self {
            Self::Cut => Some("cut"),
            Self::Spilled => Some("spilled"),
            Self::Whole => Some("whole"),
            Self::TooLarge => None,
        }
    }
}

/// A call that has been answered.
#[derive(Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) layer: &'a OutputTool,
    pub(super) plan: &'a ToolPlan,
    pub(super) tool: &'a str,
    pub(super) ctx: &'a RequestContext,
}

impl Answered<'_> {
    /// Redacts an answer, and bounds it.
    pub(super) fn bounded(self, mut answer: McpResult<ToolResult>) -> McpResult<ToolResult> {
        if outcome::failure(&answer).is_some_and(|failure| failure.unfinished().is_some()) {
            return answer;
        }
        if let Some(redaction) = &self.layer.settings.redaction {
            redaction.apply(self.tool, &mut answer, self.plan.redaction == Redacted::Everything);
        }
        match answer {
            Err(error) => Err(self.bounded_error(error)),
            Ok(answer) => {
                let (bounds, bytes) = (self.layer.settings.bounds, answer_bytes(&answer));
                let is_within = bytes <= bounds.bytes && bounds.items.is_none_or(|items| answer.content.len() <= items);
                if is_within { Ok(answer) } else { self.reduced(answer, bytes) }
            }
        }
    }

    /// Cuts the message of an error. Its kind and its data stay.
    fn bounded_error(self, mut error: McpError) -> McpError {
        let (max, bytes) = (self.layer.settings.bounds.bytes, json_bytes(&error.message));
        if bytes > max {
            let of = error.message.len();
            let kept = beginning(&error.message, max - RESERVED).len();
            error.message.truncate(kept);
            let text = Part { left_out: of - kept, of };
            let sentence = of_cut(&Of::Failure, LeftOut { text, ..LeftOut::default() }, None);
            error.message.push('\n');
            error.message.push_str(&sentence);
            self.count_cut(bytes);
        }
        error
    }

    /// Reduces an answer that is above the bounds.
    fn reduced(self, mut answer: ToolResult, bytes: usize) -> McpResult<ToolResult> {
        // It is not a part of what is kept, and all of its entries stay.
        let meta = answer.meta.take();
        let (mut reduced, status) = if answer.is_error() {
            self.count_cut(bytes);
            (self.cut(&answer, None, &Of::Failure), Status::Cut)
        } else {
            self.reduced_success(answer, bytes)
        };
        reduced.meta = match (meta, reduced.meta) {
            (Some(meta), Some(own)) => Some(meta.into_iter().chain(own).collect()),
            (meta, own) => meta.or(own),
        };
        let mut reduced = Ok(reduced);
        if self.layer.settings.emits_meta
            && let Some(status) = status.in_meta()
        {
            outcome::note(&mut reduced, OUTPUT, json!({ "status": status, "bytes": bytes }));
        }
        reduced
    }

    fn reduced_success(self, answer: ToolResult, bytes: usize) -> (ToolResult, Status) {
        let kept_structure = if self.plan.keeps_structure { structure_bytes(&answer) } else { 0 };
        let can_be_cut = kept_structure + self.reserved() + 2 <= self.layer.settings.bounds.bytes;
        if !can_be_cut && !self.plan.is_read_only {
            self.count_whole(bytes, "its structured content cannot be cut");
            return (answer, Status::Whole);
        }
        let link = match self.keep(&answer) {
            Ok(link) => Some(link),
            Err(reason) if can_be_cut && !self.plan.may_be_cut => {
                self.count_whole(bytes, reason);
                return (answer, Status::Whole);
            }
            Err(_) => None,
        };
        if !can_be_cut {
            return (self.too_large(bytes, link), Status::TooLarge);
        }
        let status = if link.is_some() {
            self.layer.handled.spilled.add();
            self.plan.counters.spilled.increment();
            tracing::debug!(tool = self.tool, bytes, "an answer was kept whole, and its end left out");
            Status::Spilled
        } else {
            self.count_cut(bytes);
            Status::Cut
        };
        let hint = self.plan.hint.as_deref();
        let of = if self.plan.is_read_only { Of::Read { hint } } else { Of::Write { hint } };
        (self.cut(&answer, link, &of), status)
    }

    /// Counts an answer that can be neither cut nor kept.
    fn count_whole(self, bytes: usize, reason: &str) {
        self.layer.handled.whole.add();
        self.plan.counters.whole.increment();
        if let Some(unsaid) = self.layer.handled.warning.due() {
            tracing::warn!(tool = self.tool, bytes, reason, unsaid, "an answer above the bounds was passed whole");
        }
    }

    /// Replaces the answer of a read-only tool that can only be whole.
    fn too_large(self, bytes: usize, link: Option<ResourceLink>) -> ToolResult {
        self.layer.handled.too_large.add();
        self.plan.counters.too_large.increment();
        tracing::debug!(
            tool = self.tool,
            bytes,
            "an answer was replaced by an error: its structured content cannot be cut"
        );
        let sentence = of_too_large(
            bytes,
            self.layer.settings.bounds.bytes,
            self.plan.hint.as_deref(),
            self.whole_for(link.is_some()),
        );
        let error = outcome::marked(OUTPUT, "too_large", McpError::new(ErrorKind::ToolExecutionFailed, sentence));
        let mut answer = error.to_tool_result();
        answer.content.extend(link.map(Content::ResourceLink));
        answer
    }

    fn cut(self, answer: &ToolResult, link: Option<ResourceLink>, of: &Of<'_>) -> ToolResult {
        let whole_for = self.whole_for(link.is_some());
        let cut = Cut {
            bounds: self.layer.settings.bounds,
            reserved: self.reserved(),
            keeps_structure: self.plan.keeps_structure && !answer.is_error(),
            link,
            sentence: &|left_out| of_cut(of, left_out, whole_for),
        };
        cut.apply(answer)
    }

    /// The bytes that the sentence and the link may have.
    fn reserved(self) -> usize {
        RESERVED + self.plan.hint.as_deref().map_or(0, json_bytes)
    }

    /// How long the whole answer can be read, if it is kept.
    fn whole_for(self, is_kept: bool) -> Option<Duration> {
        self.layer.settings.spill.filter(|_| is_kept).map(|spill| spill.ttl)
    }

    /// Keeps an answer whole, or says why not.
    fn keep(self, answer: &ToolResult) -> Result<ResourceLink, &'static str> {
        let store = self.layer.store.as_ref().ok_or("answers are not kept, and those of this tool may not be cut")?;
        let owner = Owner::of(&self.layer.settings.identity, self.ctx)
            .ok_or("nothing is kept for a caller whose credentials were not read")?;
        let id = store.keep(owner, answer).ok_or("there is no room for kept answers")?;
        Ok(link(id, answer))
    }

    fn count_cut(self, bytes: usize) {
        self.layer.handled.cut.add();
        self.plan.counters.cut.increment();
        tracing::debug!(tool = self.tool, bytes, "an answer was cut");
    }
}
