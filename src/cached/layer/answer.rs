//! The values of the cache: the answers to tool calls, to reads of resources and to requests for prompts.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, ToolResult};

use super::key::{CallKey, Kind};
use crate::cached::cache::error::LoadError;
use crate::cached::cache::load::Source;
use crate::outcome::{self, Failure};

/// An answer of any kind: one cache keeps them all, so that they share the bounds, the clock and the invalidations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cached) enum Answer {
    Tool(ToolResult),
    Resource(ResourceResult),
    Prompt(PromptResult),
}

impl Answer {
    /// Returns the failure, or `None` for an answer that may be kept. Only the answer of a tool can be a failure.
    pub(in crate::cached) fn failure(answer: &McpResult<Self>) -> Option<Failure<'_>> {
        match answer {
            Err(error) => Some(Failure::of_error(error)),
            Ok(Self::Tool(result)) => Failure::of_result(result),
            Ok(Self::Resource(_) | Self::Prompt(_)) => None,
        }
    }

    /// Returns the answer as one of its kind. Keys differ by kind, so that another kind is found only if the second level mixes values
    /// up.
    pub(in crate::cached) fn open<A: Cacheable>(answer: McpResult<Self>) -> McpResult<A> {
        match answer.map(A::of_answer) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => A::of_error(LoadError::aborted()),
            Err(error) => Err(error),
        }
    }

    pub(in crate::cached) fn meta(&mut self) -> &mut Meta {
        match self {
            Self::Tool(result) => result.meta(),
            Self::Resource(result) => result.meta(),
            Self::Prompt(result) => result.meta(),
        }
    }
}

pub(in crate::cached) type Meta = Option<HashMap<String, Value>>;

/// Adds `key` to the `_meta` of the answer, or to the data of the error.
pub(in crate::cached) fn note<A>(
    answer: &mut McpResult<A>,
    meta: impl FnOnce(&mut A) -> &mut Meta,
    key: &str,
    value: Value,
) {
    match answer {
        Ok(answer) => drop(meta(answer).get_or_insert_default().insert(key.to_owned(), value)),
        Err(error) => outcome::note_in(error, key, value),
    }
}

/// An answer of one kind, and the request for it.
pub(in crate::cached) trait Cacheable: Sized + Send + 'static {
    const KIND: Kind;

    /// The arguments of a request, besides the name or the URI.
    type Args: Default + Send + 'static;

    /// The arguments in a form that is equal if they mean the same.
    fn value(args: &Self::Args) -> &Value;

    fn ask<'a, H: McpHandler>(
        inner: &'a H,
        name: &'a str,
        args: Self::Args,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<Self>> + Send + 'a;

    fn into_answer(self) -> Answer;

    /// `None` for an answer of another kind.
    fn of_answer(answer: Answer) -> Option<Self>;

    /// An error of the layer, in the form in which this kind fails.
    fn of_error(error: McpError) -> McpResult<Self> {
        Err(error)
    }

    fn meta(&mut self) -> &mut Meta;
}

/// A failure, as all callers who wait for the answer get it.
#[derive(Debug, Clone)]
pub(in crate::cached) struct Failed<A = ToolResult>(pub(in crate::cached) McpResult<A>);

/// The origin of an answer, for its `_meta`.
pub(in crate::cached) struct Status {
    pub(in crate::cached) word: &'static str,
    pub(in crate::cached) is_hit: bool,
    from: Option<(Duration, u8)>,
}

impl Status {
    pub(in crate::cached) fn of(source: Source) -> Self {
        match source {
            Source::Hit { age, level } => Self { word: "hit", is_hit: true, from: Some((age, level)) },
            Source::Stale { age, level } => Self { word: "stale", is_hit: true, from: Some((age, level)) },
            Source::Load | Source::Own => Self { word: "miss", is_hit: false, from: None },
        }
    }

    /// The status of a failure that was kept for this long.
    pub(in crate::cached) fn of_kept_failure(age: Duration) -> Value {
        Self::of(Source::Hit { age, level: 1 }).to_meta()
    }

    /// How long ago the answer was loaded.
    pub(in crate::cached) fn age(&self) -> Duration {
        self.from.map_or(Duration::ZERO, |(age, _)| age)
    }

    pub(in crate::cached) fn to_meta(&self) -> Value {
        match self.from {
            Some((age, level)) => {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                json!({"status": self.word, "level": level, "ageMs": age})
            }
            None => json!({"status": self.word}),
        }
    }
}

static NONE: Value = Value::Null;

impl Cacheable for ToolResult {
    const KIND: Kind = Kind::Tool;
    type Args = Value;

    fn value(args: &Value) -> &Value {
        args
    }

    fn ask<'a, H: McpHandler>(
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<Self>> + Send + 'a {
        inner.call_tool(name, args, ctx)
    }

    fn into_answer(self) -> Answer {
        Answer::Tool(self)
    }

    fn of_answer(answer: Answer) -> Option<Self> {
        if let Answer::Tool(result) = answer { Some(result) } else { None }
    }

    /// A failure of a tool is a result, which the model reads.
    fn of_error(error: McpError) -> McpResult<Self> {
        Ok(error.to_tool_result())
    }

    fn meta(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

impl Cacheable for ResourceResult {
    const KIND: Kind = Kind::Resource;
    type Args = ();

    fn value((): &()) -> &Value {
        &NONE
    }

    fn ask<'a, H: McpHandler>(
        inner: &'a H,
        uri: &'a str,
        (): (),
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<Self>> + Send + 'a {
        inner.read_resource(uri, ctx)
    }

    fn into_answer(self) -> Answer {
        Answer::Resource(self)
    }

    fn of_answer(answer: Answer) -> Option<Self> {
        if let Answer::Resource(result) = answer { Some(result) } else { None }
    }

    fn meta(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

impl Cacheable for PromptResult {
    const KIND: Kind = Kind::Prompt;
    type Args = Option<Value>;

    fn value(args: &Option<Value>) -> &Value {
        args.as_ref().map_or(&NONE, prompt_args)
    }

    fn ask<'a, H: McpHandler>(
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<Self>> + Send + 'a {
        inner.get_prompt(name, args, ctx)
    }

    fn into_answer(self) -> Answer {
        Answer::Prompt(self)
    }

    fn of_answer(answer: Answer) -> Option<Self> {
        if let Answer::Prompt(result) = answer { Some(result) } else { None }
    }

    fn meta(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

/// The arguments of a prompt: empty ones and `null` are none, as they are to a `#[prompt]`.
pub(in crate::cached) fn prompt_args(args: &Value) -> &Value {
    if args.as_object().is_some_and(Map::is_empty) { &NONE } else { args }
}

/// The memory of an entry besides its key and its answer: 470 bytes were measured.
pub(in crate::cached) const ENTRY_BYTES: usize = 512;

/// The size of an entry: its key, its answer as JSON, and the memory around them.
pub(in crate::cached) fn entry_bytes(key: &CallKey, answer: &Answer) -> usize {
    struct Counted(usize);
    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(ENTRY_BYTES + key.len());
    match serde_json::to_writer(&mut counted, answer) {
        Ok(()) => counted.0,
        // An answer that cannot be measured is not kept.
        Err(_) => usize::MAX,
    }
}
