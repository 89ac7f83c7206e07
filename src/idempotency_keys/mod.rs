//! Idempotency keys: where a call carries its key, who shares a key, and how a tool advertises it.
//!
//! [`IdempotentTool`](crate::IdempotentTool) and [`TransactionalTool`](crate::TransactionalTool) take them, with the same settings
//! ([`Idempotency`]).
//!
//! # Who shares a key
//!
//! A key belongs to its caller, and the [`Identity`](crate::Identity) distinguishes callers. **All callers who are not authenticated are
//! one caller**: if two of them choose the same key for the same tool, they share one effect, and the second one reads the answer of the
//! first. That is right for a local server, which has one user whose keys must survive a new connection. A server on a network needs one
//! of these:
//!
//! - authorization on the transport. Then each user has keys of their own;
//! - [`Identity::with_anonymous_by_session`](crate::Identity::with_anonymous_by_session). Then each MCP session has keys of its own. A
//!   client that calls again over another session has another key, and the call may take effect again.
//!
//! In any case, keys should be hard to guess and never be chosen twice. The description that a tool advertises asks for a random UUID,
//! and [`Idempotency::with_min_key_length`] refuses keys that are too short for one. If a replay goes to another connection than the
//! first answer, its `_meta` has `true` under [`mcp-patterns/other-connection`](OTHER_CONNECTION). A layer logs one warning when the
//! first call with a key comes over a network from a caller whom nothing distinguishes from others.
//!
//! # What a key does
//!
//! A model or a client may not know whether a call took effect. It then makes the call again with the same key, and gets the answer of
//! the first call instead of a second effect. [`TransactionalTool`](crate::TransactionalTool) keeps the answer in the same transaction
//! as the effect. [`IdempotentTool`](crate::IdempotentTool) makes the same promise for effects elsewhere, as far as it can be kept there.
//!
//! turbomcp passes neither the `_meta` of a request nor its HTTP headers to a handler, so the key is an argument. The layer adds the
//! argument to the tool's schema, with a description that tells a model when to use the same key again, and removes it before the call.
//! If your server fills `ctx.metadata` or `ctx.headers`, you can name an entry there instead ([`KeySource`]).
//!
//! # Clocks
//!
//! Only the clock of the backend decides when an answer expires, when a lease ends, when a call has been ambiguous for the
//! [chosen time](Idempotency::with_final_refusal_after), and what a sweep deletes. The layers never read the wall clock of a server. It
//! may be wrong by days, and it may be set while the server runs: a key still takes effect once within its ttl.
//!
//! | keys of | the clock |
//! | --- | --- |
//! | `TransactionalTool` and `idempotent::SqlBackend`, PostgreSQL | that of the server (`clock_timestamp()`) |
//! | the same, SQLite | that of the machine, which all processes on the file share |
//! | `idempotent::RedisBackend` | that of Redis |
//! | `idempotent::MemoryBackend` | the monotonic clock of the process. It cannot be set; it may stand still while the machine sleeps |
//!
//! So only the clock of the backend has to be right. If it is set forward by a time `d`, or a failover leads to a server whose clock is
//! ahead by `d`:
//!
//! - keys expire `d` sooner: a call that is made again in the last `d` of its key's ttl takes effect again. Prevent that with a ttl that
//!   is longer by `d` than clients call again;
//! - leases that are shorter than `d` are over: a running call of an `IdempotentTool` looks ambiguous until its lease is renewed, for a
//!   third of a lease at most. Only a tool with `run_again_when_ambiguous` may then run twice.
//!
//! If it is set back by `d`, all of this happens `d` later, and nothing takes effect twice.

#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod ambiguous;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod call;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod handle;
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
pub use ambiguous::{AmbiguousCall, AmbiguousCalls, Page, Resolution, ResolveError, Resolved};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
#[doc(hidden)]
pub use call::CallKey;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub use handle::Handle;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use handle::{AmbiguousClaims, Bound, ClaimsError};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use key_space::KeySpace;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use metrics::{KeyCounts, KeyOutcome};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use origin::Origin;
#[cfg(feature = "idempotent")]
pub(crate) use record::record_without_answer;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use record::{from_record, to_record};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub use settings::Idempotency;
pub use source::KeySource;

/// The `_meta` entry of a result that says what its idempotency key did, and of a tool that says where the tool takes the key from.
pub const IDEMPOTENCY: &str = "mcp-patterns/idempotency";

/// The `_meta` entry of a replay that is `true` if the first call with the key came over another connection.
pub const OTHER_CONNECTION: &str = "mcp-patterns/other-connection";
