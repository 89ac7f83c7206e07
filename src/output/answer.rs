//! What becomes of an answer.

use std::sync::Arc;
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
use crate::Scope;
use crate::outcome::{self, ErrorKind, OUTPUT};
use crate::telemetry::Warning;

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

impl OutputTool {
    /// Redacts an answer, and bounds it.
    pub(super) fn bounded(
        &self,
        plan: &ToolPlan,
        tool: &str,
        mut answer: McpResult<ToolResult>,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        if outcome::failure(&answer).is_some_and(|failure| failure.unfinished().is_some()) {
            return answer;
        }
        if let Some(redaction) = &self.settings.redaction {
            redaction.apply(tool, &mut answer, plan.redaction == Redacted::Everything);
        }
        match answer {
            Err(error) => Err(self.bounded_error(plan, tool, error)),
            Ok(answer) => {
                let (bounds, bytes) = (self.settings.bounds, answer_bytes(&answer));
                let is_within = bytes <= bounds.bytes && bounds.items.is_none_or(|items| answer.content.len() <= items);
                if is_within { Ok(answer) } else { self.reduced(plan, tool, answer, bytes, ctx) }
            }
        }
    }

    /// Cuts the message of an error. Its kind and its data stay.
    fn bounded_error(&self, plan: &ToolPlan, tool: &str, mut error: McpError) -> McpError {
        let (max, bytes) = (self.settings.bounds.bytes, json_bytes(&error.message));
        if bytes > max {
            let of = error.message.len();
            let kept = beginning(&error.message, max - RESERVED).len();
            error.message.truncate(kept);
            let text = Part { left_out: of - kept, of };
            let sentence = of_cut(&Of::Failure, LeftOut { text, ..LeftOut::default() }, None);
            error.message.push('\n');
            error.message.push_str(&sentence);
            self.count_cut(plan, tool, bytes);
        }
        error
    }

    /// Reduces an answer that is above the bounds.
    fn reduced(
        &self,
        plan: &ToolPlan,
        tool: &str,
        mut answer: ToolResult,
        bytes: usize,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        // It is not a part of what is kept, and all of its entries stay.
        let meta = answer.meta.take();
        let (mut reduced, status) = if answer.is_error() {
            self.count_cut(plan, tool, bytes);
            (self.cut(plan, &answer, None, &Of::Failure), Status::Cut)
        } else {
            self.reduced_success(plan, tool, answer, bytes, ctx)
        };
        reduced.meta = match (meta, reduced.meta) {
            (Some(meta), Some(own)) => Some(meta.into_iter().chain(own).collect()),
            (meta, own) => meta.or(own),
        };
        let mut reduced = Ok(reduced);
        if self.settings.emits_meta
            && let Some(status) = status.in_meta()
        {
            outcome::note(&mut reduced, OUTPUT, json!({ "status": status, "bytes": bytes }));
        }
        reduced
    }

    fn reduced_success(
        &self,
        plan: &ToolPlan,
        tool: &str,
        answer: ToolResult,
        bytes: usize,
        ctx: &RequestContext,
    ) -> (ToolResult, Status) {
        let kept_structure = if plan.keeps_structure { structure_bytes(&answer) } else { 0 };
        let can_be_cut = kept_structure + self.reserved(plan) + 2 <= self.settings.bounds.bytes;
        if !can_be_cut && !plan.is_read_only {
            self.count_whole(plan, tool, bytes, "its structured content cannot be cut");
            return (answer, Status::Whole);
        }
        let answer = Arc::new(answer);
        let link = match self.keep(&answer, ctx) {
            Ok(link) => Some(link),
            Err(reason) if can_be_cut && !plan.may_be_cut => {
                self.count_whole(plan, tool, bytes, reason);
                return (Arc::unwrap_or_clone(answer), Status::Whole);
            }
            Err(_) => None,
        };
        if !can_be_cut {
            return (self.too_large(plan, tool, bytes, link), Status::TooLarge);
        }
        let status = if link.is_some() { Status::Spilled } else { Status::Cut };
        match status {
            Status::Spilled => {
                self.handled.spilled.add();
                plan.counters.spilled.increment();
                tracing::debug!(tool, bytes, "an answer was kept whole, and its end left out");
            }
            _ => self.count_cut(plan, tool, bytes),
        }
        let hint = plan.hint.as_deref();
        let of = if plan.is_read_only { Of::Read { hint } } else { Of::Write { hint } };
        (self.cut(plan, &answer, link, &of), status)
    }

    /// Counts an answer that can be neither cut nor kept.
    fn count_whole(&self, plan: &ToolPlan, tool: &str, bytes: usize, reason: &str) {
        static WHOLE: Warning = Warning::new();
        self.handled.whole.add();
        plan.counters.whole.increment();
        if let Some(unsaid) = WHOLE.due() {
            tracing::warn!(tool, bytes, reason, unsaid, "an answer above the bounds was passed whole");
        }
    }

    /// Replaces the answer of a read-only tool that can only be whole.
    fn too_large(&self, plan: &ToolPlan, tool: &str, bytes: usize, link: Option<ResourceLink>) -> ToolResult {
        self.handled.too_large.add();
        plan.counters.too_large.increment();
        tracing::debug!(tool, bytes, "an answer was replaced by an error: its structured content cannot be cut");
        let sentence =
            of_too_large(bytes, self.settings.bounds.bytes, plan.hint.as_deref(), self.whole_for(link.is_some()));
        let error = outcome::marked(OUTPUT, "too_large", McpError::new(ErrorKind::ToolExecutionFailed, sentence));
        let mut answer = error.to_tool_result();
        answer.content.extend(link.map(Content::ResourceLink));
        answer
    }

    fn cut(&self, plan: &ToolPlan, answer: &ToolResult, link: Option<ResourceLink>, of: &Of<'_>) -> ToolResult {
        let whole_for = self.whole_for(link.is_some());
        let cut = Cut {
            bounds: self.settings.bounds,
            reserved: self.reserved(plan),
            keeps_structure: plan.keeps_structure && !answer.is_error(),
            link,
            sentence: &|left_out| of_cut(of, left_out, whole_for),
        };
        cut.apply(answer)
    }

    /// The bytes that the sentence and the link may have.
    fn reserved(&self, plan: &ToolPlan) -> usize {
        RESERVED + plan.hint.as_deref().map_or(0, json_bytes)
    }

    /// How long the whole answer can be read, if it is kept.
    fn whole_for(&self, is_kept: bool) -> Option<Duration> {
        self.settings.spill.filter(|_| is_kept).map(|spill| spill.ttl)
    }

    /// Keeps an answer whole, or says why not.
    fn keep(&self, answer: &Arc<ToolResult>, ctx: &RequestContext) -> Result<ResourceLink, &'static str> {
        let store = self.store.as_ref().ok_or("answers are not kept, and those of this tool may not be cut")?;
        let owner = self.owner(ctx).ok_or("nothing is kept for a caller whose credentials were not read")?;
        let id = store.keep(owner, answer).ok_or("there is no room for kept answers")?;
        Ok(link(id, answer))
    }

    /// The caller, with its rights. `None` for one that shares nothing.
    pub(super) fn owner(&self, ctx: &RequestContext) -> Option<Owner> {
        let identity = &self.settings.identity;
        let caller = identity.partition(Scope::Principal, ctx)?;
        let mut partition = Vec::with_capacity(caller.size_hint());
        caller.encode_with_rights(&mut partition);
        Some(Owner { partition, share: identity.share_of(ctx) })
    }

    fn count_cut(&self, plan: &ToolPlan, tool: &str, bytes: usize) {
        self.handled.cut.add();
        plan.counters.cut.increment();
        tracing::debug!(tool, bytes, "an answer was cut");
    }
}
