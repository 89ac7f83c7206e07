//! The layers on a server.

use std::convert::identity;

use mcp_patterns::cached::Reads;
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::selection::Hints;
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Middleware, MiddlewareLayer, RetryTool, SessionStore, TransactionalTool,
    ValidatedTool, layer,
};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};
use turbomcp_core::McpHandler;

use crate::Failure;

/// The server author's settings: the tools for the layers that act on no tool by default, and the settings of single
/// tools.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Tools that take an idempotency key and whose effect is not in SQL.
    pub idempotent: &'static [&'static str],
    /// Tools that run in a transaction.
    pub transactional: &'static [&'static str],
    /// Settings of the validation.
    pub validated: fn(ValidatedTool) -> ValidatedTool,
    /// Settings of the cache.
    pub cached: fn(CachedTool) -> CachedTool,
}

impl Named {
    /// An author without settings.
    pub const NOTHING: Self = Self { idempotent: &[], transactional: &[], validated: identity, cached: identity };
}

/// A layer of an author's own that changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct PassThrough;

impl Middleware for PassThrough {}

/// All layers in the documented order.
pub(crate) type All = (
    ValidatedTool,
    SessionStore,
    CachedTool,
    BatchedTool,
    RetryTool,
    IdempotentTool,
    TransactionalTool<Sqlite>,
    MiddlewareLayer<PassThrough>,
);

/// Each layer acts on tools whose annotations allow it, and on the named tools.
pub(crate) async fn defaults(named: &Named) -> Result<All, Failure> {
    let pool = database().await?;
    Ok((
        (named.validated)(ValidatedTool::new()),
        // Requests of rmcp by the protocol 2026-07-28 have no session.
        SessionStore::in_memory().optional(),
        (named.cached)(CachedTool::new()),
        BatchedTool::new().when(|tool| Hints::of(tool).read_only),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only(named.idempotent.iter().copied()),
        TransactionalTool::new(pool).with_idempotency(Idempotency::new()).only(named.transactional.iter().copied()),
        layer(PassThrough),
    ))
}

/// Each layer acts on every tool of the server, whatever its annotations say.
pub(crate) async fn everything(server: &impl McpHandler) -> Result<All, Failure> {
    let pool = database().await?;
    let all: Vec<String> = server.list_tools().into_iter().map(|tool| tool.name).collect();
    Ok((
        ValidatedTool::new(),
        SessionStore::in_memory().optional(),
        CachedTool::new().allow_skipped_effects(&all).with_resources(Reads::new()).with_prompts(Reads::new()),
        BatchedTool::new().only(&all).allow_skipped_effects(&all),
        RetryTool::new().allow_repeated_effects(&all),
        IdempotentTool::new(MemoryBackend::new()).only(&all),
        TransactionalTool::new(pool).only(&all),
        layer(PassThrough),
    ))
}

/// A database in memory exists as long as its only connection.
async fn database() -> Result<SqlitePool, Failure> {
    let options = SqlitePoolOptions::new().max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = options.connect("sqlite::memory:").await?;
    TransactionalTool::ensure_schema(&pool).await?;
    Ok(pool)
}
