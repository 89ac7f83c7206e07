//! Keys that make a call happen once: where they come from, what they cover, and how a tool tells of them.
//!
//! # Who shares a key
//!
//! A key belongs to its caller, as the [`Identity`](crate::Identity) tells callers apart. **All callers who are not authenticated are
//! one caller**: two of them who choose the same key for the same tool share one effect, and the second reads the answer of the
//! first. That is right for a local server, which has one user whose keys must survive a new connection. A server on a network needs
//! one of these:
//!
//! - authorization on the transport, so that each user has keys of their own;
//! - [`Identity::with_anonymous_by_session`](crate::Identity::with_anonymous_by_session), so that each MCP session has. A client that
//!   calls again over another session then has another key, and the call may take effect again.
//!
//! Keys that nobody guesses or chooses twice help in any case. The description that a tool advertises asks for a random UUID, and
//! [`Idempotency::with_min_key_length`] refuses keys that are too short for one. A replay to another connection than that of the first
//! call has `true` under [`mcp-patterns/other-connection`](OTHER_CONNECTION) in its `_meta`. The first call with a key that comes over
//! a network, from a caller whom nothing tells apart, is logged as a warning, once for each layer.
//!
//! # What a key does
//!
//! A model, or a client, that does not know whether a call took effect makes it again with the same key, and gets the first
//! call's answer instead of a second effect. [`TransactionalTool`](crate::TransactionalTool) keeps the answer in the same
//! transaction as the effect; [`IdempotentTool`](crate::IdempotentTool) does the same promise for effects elsewhere, as far as
//! it can be kept there.
//!
//! turbomcp hands neither a request's `_meta` nor its HTTP headers to a handler, so the key is an argument: the layer adds it
//! to the tool's schema, with a description that tells a model when to use it again, and takes it out before the call.
//! Whoever fills `ctx.metadata` or `ctx.headers` can name an entry there instead.
//!
//! # Clocks
//!
//! The clock of the store alone decides when an answer is forgotten, a lease is over, a call has been ambiguous for the
//! [chosen time](Idempotency::with_final_refusal_after), and what a sweep deletes. The wall clock of a server is never read: it may be wrong
//! by days, and it may be set while the server runs, and a key still takes effect once within its ttl.
//!
//! | keys of | the clock |
//! | --- | --- |
//! | `TransactionalTool` and `idempotent::SqlStore`, PostgreSQL | that of the server (`clock_timestamp()`) |
//! | the same, SQLite | that of the machine, which all processes on the file share |
//! | `idempotent::RedisStore` | that of Redis |
//! | `idempotent::MemoryStore` | the monotonic clock of the process, which cannot be set; it may stand still while the machine sleeps |
//!
//! So one clock has to be right, that of the store. Where it is set forward, or a failover leads to a server whose clock is ahead, by a time
//! `d`:
//!
//! - keys are forgotten `d` sooner: a call that is made again in the last `d` of its key's ttl takes effect again. A ttl that is longer
//!   by `d` than clients call again prevents that;
//! - leases that are shorter than `d` are over: a running call of an `IdempotentTool` looks ambiguous until its lease is renewed, for a third of a
//!   lease at most. Only a tool with `run_again_when_ambiguous` may then be run twice.
//!
//! Where it is set back, all of that comes `d` later, and nothing takes effect twice.

#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod ambiguous;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod call;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod key_space;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod metrics;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod origin;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod record;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod settings;
mod source;

#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub use ambiguous::{AmbiguousCall, AmbiguousCalls, Handle, Page, Resolution, ResolveError, Resolved};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use ambiguous::{Bound, Ledger};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
#[doc(hidden)]
pub use call::CallKey;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use key_space::KeySpace;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use metrics::{KeyCounts, Told};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use origin::Origin;
#[cfg(feature = "idempotent")]
pub(crate) use record::record_without_answer;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use record::{from_record, to_record};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub use settings::Idempotency;
pub use source::KeySource;

/// `_meta` entry of a result, and of a tool: what an idempotency key did, and where a tool takes it from.
pub const IDEMPOTENCY: &str = "mcp-patterns/idempotency";

/// `_meta` entry of a replay: `true` where the first call with the key came over another connection.
pub const OTHER_CONNECTION: &str = "mcp-patterns/other-connection";
