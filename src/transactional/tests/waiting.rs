//! Duplicates of a call that is running in the same process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sqlx::Pool;
use tokio::sync::Semaphore;
use turbomcp_core::{Cancellable, McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{TestDb, numbers_at_rest, write};
use super::on_each_database;
use crate::idempotency_keys::Idempotency;
use crate::testing::ScriptedServer;
use crate::transactional::TransactionalTool;
use crate::transactional::in_flight::{Admission, InFlight};
use crate::{Layer, outcome};

on_each_database! {
    a_duplicate_waits_for_the_first_call_and_gets_its_answer,
    a_duplicate_that_does_not_wait_gets_in_progress,
    a_duplicate_that_is_cancelled_while_it_waits_makes_no_call,
    the_next_call_is_made_if_the_first_one_fails,
    the_next_call_is_made_if_the_first_caller_leaves,
}

const LONG: Duration = Duration::from_secs(60);

/// A server whose `write` waits until the test releases it.
struct Slow {
    script: ScriptedServer,
    begun: Arc<Semaphore>,
    go_on: Arc<Semaphore>,
}

impl Slow {
    fn new<DB: TestDb>() -> Self {
        let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let gates = (Arc::clone(&begun), Arc::clone(&go_on));
        let script = ScriptedServer::new("numbers").with_plain("write", move |call| {
            let (begun, go_on) = gates.clone();
            async move {
                write::<DB>(1).await?;
                begun.add_permits(1);
                go_on.acquire().await.expect("it is open").forget();
                match call.args["ends"].as_str() {
                    Some("badly at first") if call.number == 1 => Err(McpError::invalid_request("refused")),
                    _ => Ok(ToolResult::text(format!("call {}", call.number))),
                }
            }
        });
        Self { script, begun, go_on }
    }

    async fn has_begun(&self) {
        self.begun.acquire().await.expect("it is open").forget();
    }
}

async fn prepared<DB: TestDb>() -> Pool<DB> {
    let pool = DB::pool().await;
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    pool
}

fn layer<DB: TestDb>(pool: &Pool<DB>, wait: Duration) -> TransactionalTool<DB> {
    TransactionalTool::new(pool.clone()).every_write().with_idempotency(Idempotency::new()).with_wait(wait)
}

async fn call(server: &impl McpHandler, ends: &str) -> McpResult<ToolResult> {
    server.call_tool("write", json!({"ends": ends, "idempotency_key": "a"}), &RequestContext::new()).await
}

fn text(result: &McpResult<ToolResult>) -> &str {
    result.as_ref().ok().and_then(ToolResult::first_text).unwrap_or_default()
}

async fn a_duplicate_waits_for_the_first_call_and_gets_its_answer<DB: TestDb>() {
    let (pool, slow) = (prepared::<DB>().await, Slow::new::<DB>());
    let server = layer(&pool, LONG).layer(slow.script.clone());
    let (first, others) = tokio::join!(call(&server, "well"), async {
        slow.has_begun().await;
        // More calls than connections: a waiting call holds none.
        let others = join_all((0..20).map(|_| call(&server, "well")));
        let lets_go = async {
            tokio::task::yield_now().await;
            assert!(pool.acquire().await.is_ok(), "there are connections left");
            slow.go_on.add_permits(1);
        };
        tokio::join!(others, lets_go).0
    });
    assert_eq!((text(&first), slow.script.calls("write")), ("call 1", 1));
    for other in others {
        assert_eq!(text(&other), "call 1");
        let marked = other.ok().and_then(|other| other.meta?.get("mcp-patterns/idempotency").cloned());
        assert_eq!(marked, Some(json!("replayed")));
    }
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn a_duplicate_that_does_not_wait_gets_in_progress<DB: TestDb>() {
    let (pool, slow) = (prepared::<DB>().await, Slow::new::<DB>());
    let server = layer(&pool, Duration::ZERO).layer(slow.script.clone());
    let (first, second) = tokio::join!(call(&server, "well"), async {
        slow.has_begun().await;
        let second = call(&server, "well").await;
        slow.go_on.add_permits(1);
        second
    });
    assert_eq!(text(&first), "call 1");
    let failure = outcome::failure(&second).expect("it was not made");
    assert_eq!(failure.data().and_then(|data| data.get("mcp-patterns/idempotency")), Some(&json!("in_progress")));
    assert!(failure.is_temporary() && failure.retry_after().is_some(), "{second:?}");
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn a_duplicate_that_is_cancelled_while_it_waits_makes_no_call<DB: TestDb>() {
    #[derive(Debug)]
    struct Cancelled;
    impl Cancellable for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }

    let (pool, slow) = (prepared::<DB>().await, Slow::new::<DB>());
    let server = layer(&pool, LONG).layer(slow.script.clone());
    let (first, second) = tokio::join!(call(&server, "well"), async {
        slow.has_begun().await;
        let ctx = RequestContext::new().with_cancellation_token(Arc::new(Cancelled));
        let args = json!({"ends": "well", "idempotency_key": "a"});
        let second = server.call_tool("write", args, &ctx).await;
        slow.go_on.add_permits(1);
        second
    });
    assert_eq!(text(&first), "call 1");
    let reason = outcome::failure(&second).and_then(|failure| failure.data()?.get("mcp-patterns/transaction").cloned());
    assert_eq!(reason, Some(json!("cancelled")));
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn the_next_call_is_made_if_the_first_one_fails<DB: TestDb>() {
    let (pool, slow) = (prepared::<DB>().await, Slow::new::<DB>());
    let server = layer(&pool, LONG).layer(slow.script.clone());
    let (first, others) = tokio::join!(call(&server, "badly at first"), async {
        slow.has_begun().await;
        slow.go_on.add_permits(2);
        join_all((0..3).map(|_| call(&server, "badly at first"))).await
    });
    assert_eq!(text(&first), "refused");
    assert!(others.iter().all(|other| text(other) == "call 2"), "{others:?}");
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn the_next_call_is_made_if_the_first_caller_leaves<DB: TestDb>() {
    let (pool, slow) = (prepared::<DB>().await, Slow::new::<DB>());
    let server = layer(&pool, LONG).layer(slow.script.clone());
    let second = {
        let first = call(&server, "well");
        tokio::select! {
            _ = first => unreachable!("nobody lets it go"),
            () = slow.has_begun() => {}
        }
        slow.go_on.add_permits(1);
        call(&server, "well").await
    };
    assert_eq!(text(&second), "call 2");
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_flight_while_its_call_runs_and_duplicates_wait_only_for_its_answer() {
    let (running, wait) = (InFlight::default(), Duration::from_secs(5));
    let Admission::First(first) = running.admit("a", wait, &()).await else { panic!("no call was before") };
    assert!(matches!(running.admit("b", wait, &()).await, Admission::First(_)), "another key is another call");
    assert!(matches!(running.admit("a", wait, &()).await, Admission::InProgress));
    first.has_answer();
    assert!(matches!(running.admit("a", wait, &()).await, Admission::AskDatabase));
    drop(first);
    assert!(matches!(running.admit("a", wait, &()).await, Admission::First(_)));
    assert_eq!(running.len(), 0);
}
