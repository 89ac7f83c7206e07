//! What is kept: what a handler answers to a tool call, to the reading of a resource, or to the getting of a prompt.

use std::collections::HashMap;
use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, ToolResult};

use super::key::{CallKey, Kind};
use crate::cached::cache::error::LoadError;
use crate::outcome::{self, Failure};

/// An answer of any kind: one cache keeps them all, so that one bound, one clock and one invalidation are for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cached) enum Answer {
    Tool(ToolResult),
    Resource(ResourceResult),
    Prompt(PromptResult),
}

impl Answer {
    /// Returns what went wrong, or `None` for an answer that may be kept. Only a tool fails in an answer.
    pub(in crate::cached) fn failure(answer: &McpResult<Self>) -> Option<Failure<'_>> {
        match answer {
            Err(error) => Some(Failure::of_error(error)),
            Ok(Self::Tool(result)) => Failure::of_result(result),
            Ok(Self::Resource(_) | Self::Prompt(_)) => None,
        }
    }

    /// Returns the answer as one of its kind. Keys tell kinds apart, so that it is of another only if the second level mixes
    /// values up.
    pub(in crate::cached) fn open<A: Cacheable>(answer: McpResult<Self>) -> McpResult<A> {
        match answer.map(A::of_answer) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => A::of_error(LoadError::lost()),
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

/// Adds `key` to what the caller's machine reads: the answer's `_meta`, or the error's data.
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

/// An answer of one kind, and how it is asked for.
pub(in crate::cached) trait Cacheable: Sized + Send + 'static {
    const KIND: Kind;

    /// What a request says besides the name or the URI of what it asks for.
    type Args: Default + Send + 'static;

    /// The arguments in a form that is equal where they mean the same.
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

/// A failure, as all who wait for the answer get it.
#[derive(Debug, Clone)]
pub(in crate::cached) struct Failed<A = ToolResult>(pub(in crate::cached) McpResult<A>);

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

    /// The model reads what a tool fails with.
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

/// What the store needs around a key and an answer: 470 bytes were measured.
pub(in crate::cached) const ENTRY_BYTES: u64 = 512;

/// What an entry takes: its key, its answer as JSON, and what is around them.
pub(in crate::cached) fn entry_bytes(key: &CallKey, answer: &Answer) -> u64 {
    struct Counted(u64);
    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(ENTRY_BYTES + key.len() as u64);
    match serde_json::to_writer(&mut counted, answer) {
        Ok(()) => counted.0,
        // What cannot be measured is not kept.
        Err(_) => u64::MAX,
    }
}
