//! A call whose key belongs to a call that has not ended yet.

use std::sync::Arc;
use std::time::Duration;

use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::outcome;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::transactional::Transactor;
use mcp_patterns::{Layer, TransactionalTool};
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use turbomcp::{McpHandler, RequestContext, ToolResult};

use crate::client::patiently;
use crate::support::Database;

#[tokio::test]
async fn a_duplicate_whose_wait_times_out_gets_in_progress() {
    patiently(async {
        let database = Database::postgres().await;
        let pool = PgPool::connect(&database.url()).await.expect("no pool");
        TransactionalTool::ensure_schema(&pool).await.expect("no table of keys");
        let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let script = ScriptedServer::new("slow").with_plain("slow", {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            move |_| {
                let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
                async move {
                    begun.add_permits(1);
                    let _ = go_on.acquire().await;
                    Ok(ToolResult::text("done"))
                }
            }
        });
        let layer = |timeout| {
            let transactor = Transactor::new(pool.clone()).with_timeout(timeout);
            TransactionalTool::new(transactor).only(["slow"]).with_idempotency(Idempotency::new())
        };
        let patient = layer(Duration::from_secs(60)).layer(script.clone());
        let hasty = layer(Duration::from_millis(300)).layer(script.clone());
        let (args, ctx) = (json!({ "idempotency_key": "k" }), RequestContext::new());

        let first = patient.call_tool("slow", args.clone(), &ctx);
        let second = async {
            let _ = begun.acquire().await;
            let second = hasty.call_tool("slow", args.clone(), &ctx).await;
            go_on.add_permits(1);
            second
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.expect("a result").first_text(), Some("done"));
        let failure = outcome::failure(&second).expect("the second was not made");
        assert!(failure.message().contains("in progress"), "{second:?}");
        assert!(failure.is_temporary() && failure.retry_after().is_some(), "{second:?}");
        assert_eq!(script.calls("slow"), 1);
    })
    .await;
}
