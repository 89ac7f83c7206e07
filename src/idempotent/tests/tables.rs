//! A database without the table of the records.

#![cfg(all(feature = "transactional", feature = "postgres", feature = "sqlite", feature = "redis"))]

use super::*;
use crate::testing::databases;
use crate::transactional::Dialect;

const SENTENCE: &str = "idempotent::SqlBackend: the database has no table `mcp_patterns_idempotency`: call \
                        `idempotent::SqlBackend::ensure_schema(&pool)` before the server starts";

async fn says_how_to_create_the_table<DB: Dialect>(pool: sqlx::Pool<DB>) {
    let script = post();
    let server = IdempotentTool::new(SqlBackend::new(pool.clone())).only(["send"]).layer(script.clone());
    let refused = server.on_initialize().await.expect_err("a server without a table does not start");
    assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::Configuration, SENTENCE));

    let args = json!({"idempotency_key": "k"});
    let refused = server.call_tool("send", args.clone(), &RequestContext::new()).await.expect("a result");
    let text = refused.first_text().expect("a text");
    let start = format!("Idempotency keys cannot be used: {SENTENCE}; this call did nothing (error ");
    assert!(text.starts_with(&start), "{text}");
    let meta = refused.meta.as_ref().expect("a kind");
    assert_eq!(meta["io.turbomcp/errorKind"], "internal");
    assert_eq!(meta["io.turbomcp/errorData"][IDEMPOTENCY], "no_table");
    assert_eq!(script.calls("send"), 0);

    SqlBackend::ensure_schema(&pool).await.expect("the table can be created");
    server.on_initialize().await.expect("the server starts");
    let sent = server.call_tool("send", args, &RequestContext::new()).await.expect("a result");
    assert!(!sent.is_error(), "{sent:?}");
}

#[tokio::test]
async fn a_missing_table_stops_the_start_and_names_what_creates_it_on_sqlite() {
    let file = databases::sqlite().await;
    says_how_to_create_the_table(file.pool.clone()).await;
}

#[tokio::test]
async fn a_missing_table_stops_the_start_and_names_what_creates_it_on_postgres() {
    says_how_to_create_the_table(databases::postgres_schema(databases::postgres_options(), 2).await).await;
}
