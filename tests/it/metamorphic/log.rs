//! What happened: each execution in a world, each call, and each notice that a client got.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_patterns::audit::Event;
use serde_json::{Map, Value};
use tokio::time::Instant;
use turbomcp_core::auth::Principal;
use turbomcp_core::{ErrorKind, McpError, McpResult};
use turbomcp_types::{PromptResult, ResourceResult, ToolResult};

use super::callers::Identities;
use super::requests::{Op, Request};

/// A moment: what came before has a smaller number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Stamp {
    pub(super) number: u64,
    pub(super) at: Duration,
}

/// What an answer says, without what layers add to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Text(String),
    Failure { form: Form, kind: Option<ErrorKind>, message: String },
}

/// In which form a failure came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Error,
    Result,
}

/// What one execution did.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) request: Request,
    /// The environment that it ran in.
    pub(super) environment: usize,
    /// The call that it was made for.
    pub(super) origin: Option<usize>,
    pub(super) principal: Option<Principal>,
    /// As in [`Connection`](super::callers::Connection).
    pub(super) session_id: Option<String>,
    pub(super) is_bulk: bool,
    pub(super) begun: Stamp,
    /// When it read what it answers.
    pub(super) read: Stamp,
    /// When it took effect.
    pub(super) effect: Option<Stamp>,
    pub(super) ended: Option<Stamp>,
    /// `None` where it was dropped, or panicked.
    pub(super) said: Option<Said>,
    pub(super) has_panicked: bool,
    /// Whether it came as far as asking its client.
    pub(super) has_asked: bool,
    /// Whether a person was asked.
    pub(super) has_questioned: bool,
    /// Whether what it answered breaks the promise of its output schema.
    pub(super) lied: bool,
    pub(super) progress: Vec<f64>,
    pub(super) visits: Option<Visits>,
    /// The name of its session, where that has a handle.
    pub(super) handle: Option<String>,
    /// What it read of the database.
    pub(super) rows: Vec<u64>,
}

impl Execution {
    pub(super) fn owner(&self, identities: Identities) -> String {
        identities.owner(self.principal.as_ref(), self.session_id.as_deref())
    }

    pub(super) fn sharer(&self, identities: Identities) -> String {
        identities.sharer(self.principal.as_ref(), self.session_id.as_deref())
    }
}

/// What `Visit` keeps in a session.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Visits {
    /// The executions that have visited it, the first one first.
    pub(super) by: Vec<u64>,
}

/// What a client was told, apart from answers.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    pub(super) at: Stamp,
    pub(super) connection: usize,
    pub(super) method: String,
    pub(super) params: Value,
}

/// All that happens in the worlds of one plan.
#[derive(Debug)]
pub(super) struct Log {
    numbers: AtomicU64,
    start: Instant,
    executions: Mutex<Vec<Execution>>,
    notices: Mutex<Vec<Notice>>,
    events: Mutex<Vec<Event>>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            numbers: AtomicU64::new(1),
            start: Instant::now(),
            executions: Mutex::default(),
            notices: Mutex::default(),
            events: Mutex::default(),
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { number: self.numbers.fetch_add(1, Ordering::SeqCst), at: self.start.elapsed() }
    }

    pub(super) fn executions(&self) -> MutexGuard<'_, Vec<Execution>> {
        self.executions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notices(&self) -> MutexGuard<'_, Vec<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the audit around the stacks has recorded.
    pub(super) fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hear(&self, notice: Notice) {
        self.notices().push(notice);
    }
}

/// An answer, as it reached a caller.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) said: Said,
    /// The `_meta` of a result, the data of an error.
    pub(super) meta: Map<String, Value>,
}

impl Answer {
    pub(super) fn of_tool(result: McpResult<ToolResult>) -> Self {
        match result {
            Err(error) => Self::of_error(&error),
            Ok(result) => {
                let meta: Map<_, _> = result.meta.clone().unwrap_or_default().into_iter().collect();
                let text = result.first_text().unwrap_or_default().to_owned();
                let kind =
                    meta.get("io.turbomcp/errorKind").cloned().and_then(|kind| serde_json::from_value(kind).ok());
                let said = match result.is_error() {
                    true => Said::Failure { form: Form::Result, kind, message: text },
                    false => Said::Text(text),
                };
                Self { said, meta }
            }
        }
    }

    pub(super) fn of_resource(result: McpResult<ResourceResult>) -> Self {
        match result {
            Err(error) => Self::of_error(&error),
            Ok(result) => {
                let text = serde_json::to_value(&result.contents).unwrap_or_default()[0]["text"].clone();
                let meta = result.meta.unwrap_or_default().into_iter().collect();
                Self { said: Said::Text(text.as_str().unwrap_or_default().to_owned()), meta }
            }
        }
    }

    pub(super) fn of_prompt(result: McpResult<PromptResult>) -> Self {
        match result {
            Err(error) => Self::of_error(&error),
            Ok(result) => {
                let message = serde_json::to_value(&result.messages).unwrap_or_default()[0]["content"].clone();
                let text = message["text"].as_str().unwrap_or_default().to_owned();
                Self { said: Said::Text(text), meta: result.meta.unwrap_or_default().into_iter().collect() }
            }
        }
    }

    fn of_error(error: &McpError) -> Self {
        let said = Said::Failure { form: Form::Error, kind: Some(error.kind), message: error.message.clone() };
        let meta = error.data().and_then(Value::as_object).cloned().unwrap_or_default();
        Self { said, meta }
    }

    /// What a layer has left under this name, in the `_meta` or in the data of the error.
    pub(super) fn mark(&self, name: &str) -> Option<&Value> {
        self.meta.get(name).or_else(|| self.meta.get("io.turbomcp/errorData")?.get(name))
    }

    /// Why a layer refused, as it says in the data of its error.
    pub(super) fn reason(&self, name: &str) -> Option<&str> {
        let data = self.meta.get("io.turbomcp/errorData").and_then(|data| data.get(name));
        data.or_else(|| self.meta.get(name)).and_then(Value::as_str)
    }

    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.mark(name).and_then(Value::as_str)
    }
}

impl Said {
    /// The number of the execution that said it.
    pub(super) fn execution(&self) -> Option<u64> {
        let (Self::Text(text) | Self::Failure { message: text, .. }) = self;
        let digits = text.strip_prefix("execution ")?;
        digits[..digits.find(':')?].parse().ok()
    }

    pub(super) fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Text(_) => None,
            Self::Failure { kind, .. } => *kind,
        }
    }

    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failure { .. })
    }

    pub(super) fn text(&self) -> &str {
        let (Self::Text(text) | Self::Failure { message: text, .. }) = self;
        text
    }
}

/// A call, and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) call: super::plan::Call,
    /// The handle that it gave.
    pub(super) handle: Option<String>,
    /// Whether a listing had shown before that callers see a tool differently.
    pub(super) are_told_apart: bool,
    pub(super) begun: Stamp,
    pub(super) ended: Stamp,
    pub(super) end: End,
}

/// The handle of the session that a call has opened.
pub(super) fn opened(made: &Made) -> Option<&str> {
    match &made.end {
        End::Answered(Answer { said: Said::Text(handle), .. }) if made.call.request.op == Op::Open => Some(handle),
        _ => None,
    }
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Answered(Answer),
    Panicked,
    Dropped,
    /// Nobody knows for how long it would have gone on.
    Unending,
}

/// Something after which an answer from before is wrong.
#[derive(Debug, Clone)]
pub(super) struct Forgotten {
    pub(super) what: Forget,
    /// Whether only for callers whom nobody knows.
    pub(super) only_for_nobody: bool,
    /// The server that was told.
    pub(super) server: usize,
    pub(super) begun: Stamp,
    pub(super) ended: Stamp,
}

/// What is invalidated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Forget {
    Call(Request),
    All(Op),
    Topic(u8),
    Everything,
}

/// All that happened in one run of a plan.
#[derive(Debug)]
pub(super) struct History {
    pub(super) executions: Vec<Execution>,
    pub(super) notices: Vec<Notice>,
    /// What the audit has recorded.
    pub(super) events: Vec<Event>,
    pub(super) calls: Vec<Made>,
    pub(super) forgotten: Vec<Forgotten>,
    /// Moments at which everything was told to everybody who listens.
    pub(super) settled: Vec<Stamp>,
    /// What is in the database, by execution.
    pub(super) rows: Vec<u64>,
}
