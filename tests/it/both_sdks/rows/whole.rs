//! All layers at once.

use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::outcome::{self, ErrorKind};
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, RetryTool, SessionStore, TransactionalTool, ValidatedTool, layer,
};
use serde_json::json;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};

use crate::both_sdks::script::Script;
use crate::both_sdks::{Answer, in_both_columns, mark, text};

const KINDS: [ErrorKind; 24] = [
    ErrorKind::ToolNotFound,
    ErrorKind::ToolExecutionFailed,
    ErrorKind::PromptNotFound,
    ErrorKind::ResourceNotFound,
    ErrorKind::ResourceAccessDenied,
    ErrorKind::CapabilityNotSupported,
    ErrorKind::ProtocolVersionMismatch,
    ErrorKind::UrlElicitationRequired,
    ErrorKind::UserRejected,
    ErrorKind::ParseError,
    ErrorKind::InvalidRequest,
    ErrorKind::MethodNotFound,
    ErrorKind::InvalidParams,
    ErrorKind::Internal,
    ErrorKind::Authentication,
    ErrorKind::PermissionDenied,
    ErrorKind::Transport,
    ErrorKind::Timeout,
    ErrorKind::Unavailable,
    ErrorKind::RateLimited,
    ErrorKind::ServerOverloaded,
    ErrorKind::Configuration,
    ErrorKind::ExternalService,
    ErrorKind::Cancelled,
];

async fn database() -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("a database");
    TransactionalTool::ensure_schema(&pool).await.expect("a table of keys");
    pool
}

fn layers(
    pool: &SqlitePool,
) -> (ValidatedTool, SessionStore, CachedTool, BatchedTool, RetryTool, IdempotentTool, TransactionalTool<Sqlite>) {
    (
        ValidatedTool::new(),
        SessionStore::in_memory().optional(),
        CachedTool::new(),
        BatchedTool::new().only(["fail"]).allow_skipped_effects(["fail"]),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only(["pay"]),
        TransactionalTool::new(pool.clone()).only(["fail"]),
    )
}

/// What the answer says, and whether it is an error of the protocol.
fn said(answer: &Answer) -> (String, Option<ErrorKind>, bool) {
    (text(answer), outcome::failure(answer).and_then(|failure| failure.kind()), answer.is_err())
}

in_both_columns! {
    #[tokio::test]
    async fn a_failure_of_each_kind_and_form_passes_all_layers_unchanged() {
        let pool = database().await;
        let (bare, layered) = (Script::new(), Script::new());
        let (one, other) = (serve(&bare, layer(None::<CachedTool>)).client("ada").await, serve(&layered, layers(&pool)).client("ada").await);
        for kind in KINDS {
            for how in ["error", "result"] {
                let args = json!({"kind": kind, "how": how});
                let (expected, answer) = (one.call("fail", args.clone()).await, other.call("fail", args).await);
                assert_eq!(said(&answer), said(&expected), "{kind:?} as {how}");
                assert_eq!(mark(&answer, outcome::ATTEMPTS), json!(null), "a tool that may write is called once");
            }
        }
        assert_eq!(layered.calls("fail"), bare.calls("fail"));
    }
}
