//! A stack, and what is done with it: plain data, so that it can be drawn, shrunk, printed and written into a test.

use std::fmt;

use turbomcp_core::ErrorKind;

use super::callers::{CONNECTIONS, Identities};
use super::log::{Forget, Form};
use super::requests::{Op, Request};
use super::wrong::Wrong;

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// What the layers' own chance begins with.
    pub(super) seed: u64,
    pub(super) stack: Stack,
    /// What the executions do, by their number. Those beyond succeed at once.
    pub(super) behaviours: Vec<Behaviour>,
    pub(super) script: Vec<Step>,
}

/// The layers, and where they run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stack {
    /// The outermost first.
    pub(super) layers: Vec<Layered>,
    pub(super) identities: Identities,
    /// How many servers with these layers share the world and the backends of production.
    pub(super) replicas: usize,
    /// Whether there is a second environment, with a world of its own, on the same backends.
    pub(super) has_staging: bool,
    pub(super) backends: BackendKind,
    /// Whose server is at the end.
    pub(super) sdk: Sdk,
    /// Whether sessions and keys are kept in the database of the transactions, on the same pool.
    pub(super) keeps_in_database: bool,
    /// Whether the store of keys has room for a few only.
    pub(super) has_small_store: bool,
    /// What there is room for in the sessions of memory, if it is little.
    pub(super) session_room: Option<SessionRoom>,
}

/// The SDK of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sdk {
    #[default]
    Turbomcp,
    Rmcp,
}

/// What there is room for in the sessions, of all callers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionRoom {
    Sessions(usize),
    Bytes(usize),
}

/// Where the layers keep what they share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum BackendKind {
    /// In memory, with a clock that stands still unless somebody waits.
    #[default]
    Memory,
    /// In memory, and a SQLite file. The clock is the real one.
    Sqlite,
    /// Redis and PostgreSQL. The clock is the real one.
    Servers,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layered {
    pub(super) kind: Kind,
    pub(super) settings: Vec<Setting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Only in the tests of the judge.
    Wrong(Wrong),
    Output,
    Own,
    Validated,
    Session,
    Cached,
    Batched,
    Retry,
    Breaker,
    Limited,
    Idempotent,
    Transactional,
}

/// One setting of a layer. Without it, the layer has its default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Setting {
    // Of several layers.
    /// Steps of the backend fail now and then. Only in memory.
    FaultyBackend,
    WithoutMeta,
    Only(Op),
    PublicFor(Op),
    // CachedTool. Times are in seconds.
    Ttl(u64),
    StaleWhileRevalidate(u64),
    StaleIfError(u64),
    EarlyRefresh,
    TtlJitter,
    NegativeTtl(u64),
    BySession,
    SecondLevel,
    FirstLevelTtl(u64),
    Lease,
    ResourcesAndPrompts,
    /// How `Update` says what it makes wrong.
    Invalidates(Way),
    LoadTimeout(u64),
    /// The answers of one half only.
    Keeps(Half),
    // BatchedTool. Times are in milliseconds.
    MaxInFlight(usize),
    MaxSize(usize),
    MaxDelay(u64),
    MaxQueue(usize),
    WaitWhenFull,
    Splits,
    BatchTimeout(u64),
    // RetryTool. Times are in milliseconds.
    MaxAttempts(u32),
    AttemptTimeout(u64),
    Deadline(u64),
    AllowRepeated(Op),
    WithoutBudget,
    AllowRepeatedQuestions,
    // BreakerTool.
    MinCalls(usize),
    // LimitedTool.
    /// So many calls of a principal, and no more for an hour.
    Burst(u32),
    /// So many calls of a tool at the same time, and as many in a queue.
    Places(usize),
    /// In milliseconds.
    CallTimeout(u64),
    // IdempotentTool and TransactionalTool. Times are in seconds.
    KeyTtl(u64),
    Wait(u64),
    RecordsFailures,
    Required(Op),
    RunsAgainWhenAmbiguous,
    KeyLease(u64),
    // SessionStore.
    ByPrincipal,
    ByHandle,
    Optional,
    // ValidatedTool.
    WithoutOutputChecks,
}

/// One half of what a cache can keep, so that two share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// What reads no session, with the resource.
    One,
    /// With the prompt.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Tool,
    Tag,
    Call,
}

/// What an execution does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Behaviour {
    /// How long it takes, half of it before and half of it after it reads or takes effect.
    pub(super) millis: u64,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    Succeeds,
    Fails {
        kind: Option<ErrorKind>,
        form: Form,
        /// Before it reads or takes effect.
        early: bool,
        /// Whether it says when to come back.
        hints: bool,
    },
    Panics {
        early: bool,
    },
    /// Goes on until it is cancelled, for half a minute at most, before it takes effect.
    Hangs,
    /// Answers what breaks the promise of its output schema.
    Lies,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { millis: 0, outcome: Outcome::Succeeds }
    }
}

/// What happens next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// These calls, at the same time.
    Calls(Vec<Call>),
    /// Milliseconds.
    Pause(u64),
    /// The handle of this server's cache is told.
    Handle(usize, Order),
    /// The same, so many milliseconds after the next calls have begun.
    Meanwhile(u64, usize, Order),
    /// This server begins anew, with what its backends have.
    Restart(usize),
    /// `Late` is there from now on.
    AddLate,
    /// A connection lists the tools of a server.
    List(usize, usize),
}

/// What the handle of a cache is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Order {
    Forget(Forget),
    /// To call a tool anew, for nobody in particular.
    Refresh(Request),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Call {
    /// By number in [`CONNECTIONS`].
    pub(super) connection: usize,
    /// The replicas come first, then staging.
    pub(super) server: usize,
    /// Milliseconds after the step has begun.
    pub(super) after: u64,
    pub(super) request: Request,
    /// The session that the call is to belong to, where sessions have handles: how many have been opened since, by anybody. Beyond
    /// the first there is a handle that somebody has made up.
    pub(super) handle: Option<usize>,
    pub(super) leaves: Leaves,
    /// Whether the caller wants to hear of progress.
    pub(super) listens: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    Never,
    /// Is dropped after so many polls.
    Polls(u32),
    /// Cancels after so many milliseconds.
    Cancels(u64),
    /// Cancels while its client is asked, which then answers no more.
    HangsUp,
}

impl Stack {
    /// The outermost of this kind.
    pub(super) fn layer(&self, kind: Kind) -> Option<&Layered> {
        self.layers.iter().find(|layer| layer.kind == kind)
    }

    pub(super) fn servers(&self) -> usize {
        self.replicas + usize::from(self.has_staging)
    }

    /// The environment of a server: production, or staging.
    pub(super) fn environment(&self, server: usize) -> usize {
        usize::from(server >= self.replicas)
    }

    pub(super) fn has_database(&self) -> bool {
        self.backends != BackendKind::Memory
    }

    /// Whether the sessions are in memory.
    pub(super) fn has_sessions_in_memory(&self) -> bool {
        match self.backends {
            BackendKind::Memory => true,
            BackendKind::Sqlite => !self.keeps_in_database,
            BackendKind::Servers => false,
        }
    }

    pub(super) fn layers(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Layered> {
        self.layers.iter().filter(move |layer| layer.kind == kind)
    }
}

impl Half {
    pub(super) fn has(self, op: Op) -> bool {
        let is_first = matches!(op, Op::News | Op::Slow | Op::Price | Op::Balance | Op::Note);
        is_first == (self == Self::One)
    }
}

impl Leaves {
    /// Whether the caller may have cancelled.
    pub(super) fn may_cancel(self) -> bool {
        matches!(self, Self::Cancels(_) | Self::HangsUp)
    }
}

impl Layered {
    pub(super) fn has(&self, setting: Setting) -> bool {
        self.settings.contains(&setting)
    }

    /// Whether a cache keeps the answers of this kind, if those of one half, or resources and prompts, are not left out.
    pub(super) fn keeps(&self, op: Op) -> bool {
        let is_in_half = self.settings.iter().all(|it| if let Setting::Keeps(half) = it { half.has(op) } else { true });
        is_in_half && (op.is_tool() || self.has(Setting::ResourcesAndPrompts))
    }

    pub(super) fn find<T>(&self, of: impl Fn(&Setting) -> Option<T>) -> Option<T> {
        self.settings.iter().find_map(of)
    }
}

impl fmt::Display for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        self.settings.iter().try_for_each(|setting| write!(f, ".{setting:?}"))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → server {}: {}", CONNECTIONS[self.connection].name, self.server, self.request)?;
        if let Some(opened) = self.handle {
            write!(f, ", in the session before {opened} others")?;
        }
        if self.after > 0 {
            write!(f, ", after {} ms", self.after)?;
        }
        match self.leaves {
            Leaves::Never => {}
            Leaves::Polls(polls) => write!(f, ", dropped after {polls} polls")?,
            Leaves::Cancels(millis) => write!(f, ", cancelled after {millis} ms")?,
            Leaves::HangsUp => write!(f, ", gone as soon as it is asked")?,
        }
        if self.listens { write!(f, ", listens") } else { Ok(()) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stack = &self.stack;
        writeln!(f, "stack around a server of {:?}, outermost first, on {:?}:", stack.sdk, stack.backends)?;
        stack.layers.iter().try_for_each(|layer| writeln!(f, "    {layer}"))?;
        writeln!(f, "    {} replica(s){}", stack.replicas, if stack.has_staging { ", and staging" } else { "" })?;
        if stack.keeps_in_database {
            writeln!(f, "    sessions and keys in the database")?;
        }
        if stack.has_small_store {
            writeln!(f, "    little room for keys")?;
        }
        if let Some(room) = stack.session_room {
            writeln!(f, "    room for {room:?}")?;
        }
        if stack.identities != Identities::default() {
            writeln!(f, "    {:?}", stack.identities)?;
        }
        if !self.behaviours.is_empty() {
            writeln!(f, "executions:")?;
            for (at, behaviour) in self.behaviours.iter().enumerate() {
                if *behaviour != Behaviour::default() {
                    writeln!(f, "    {}: {} ms, {:?}", at + 1, behaviour.millis, behaviour.outcome)?;
                }
            }
        }
        writeln!(f, "script:")?;
        let mut number = 0;
        for step in &self.script {
            match step {
                Step::Calls(calls) => {
                    writeln!(f, "  at the same time:")?;
                    for call in calls {
                        writeln!(f, "    call {number}: {call}")?;
                        number += 1;
                    }
                }
                step => writeln!(f, "  {step:?}")?,
            }
        }
        Ok(())
    }
}
