//! Keys that make a call happen once: where they come from, what they cover, and how a tool tells of them.
//!
//! A model, or a client, that does not know whether a call took effect makes it again with the same key, and gets the first
//! call's answer instead of a second effect. [`TransactionalTool`](crate::TransactionalTool) keeps the answer in the same
//! transaction as the effect; [`IdempotentTool`](crate::IdempotentTool) does the same promise for effects elsewhere, as far as
//! it can be kept there.
//!
//! turbomcp hands neither a request's `_meta` nor its HTTP headers to a handler, so the key is an argument: the layer adds it
//! to the tool's schema, with a description that tells a model when to use it again, and takes it out before the call.
//! Whoever fills `ctx.metadata` or `ctx.headers` can name an entry there instead.

#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod ambiguous;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod call;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod key_space;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod settings;
mod source;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod told;

#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub use ambiguous::{AmbiguousCall, AmbiguousCalls, Handle, Page, Resolution, ResolveError, Resolved};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use ambiguous::{Bound, Ledger};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
#[doc(hidden)]
pub use call::CallKey;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use call::{from_record, to_record};
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use key_space::KeySpace;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub use settings::Idempotency;
pub use source::KeySource;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
pub(crate) use told::{KeyCounts, Told};

/// `_meta` entry of a result, and of a tool: what an idempotency key did, and where a tool takes it from.
pub const IDEMPOTENCY: &str = "mcp-patterns/idempotency";
