//! Calls that hold a connection of a pool, and need another one of it.

use std::future::ready;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Pool, Postgres, Sqlite};
use tokio::time::timeout;
use turbomcp_core::{ErrorKind, McpHandler, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{LONG, TestDb, nothing, numbers_at_rest, postgres_pool, write};
use crate::idempotent;
use crate::session::{Session, SessionError, SessionMode, SqlBackend};
use crate::testing::ScriptedServer;
use crate::testing::databases::postgres_options;
use crate::transactional::{Propagation, TransactionError, TransactionalTool, Transactor, current};
use crate::{IdempotentTool, Layer, SessionStore, outcome};

const CALLERS: usize = 40;

async fn pool_of(connections: u32) -> Pool<Postgres> {
    let pool = postgres_pool(postgres_options(), connections).await;
    SqlBackend::ensure_schema(&pool).await.expect("a table can be made");
    TransactionalTool::ensure_schema(&pool).await.expect("a table can be made");
    pool
}

/// Waits until all callers have reached this point.
async fn hold_on() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

/// Makes forty users call concurrently; each must succeed.
async fn forty_callers_succeed(server: &impl McpHandler) {
    let calls = (0..CALLERS).map(|caller| {
        let server = server.clone();
        tokio::spawn(async move {
            let ctx = RequestContext::new().with_user_id(format!("user {caller}"));
            server.call_tool("order", json!({"idempotency_key": "order"}), &ctx).await
        })
    });
    for answer in timeout(LONG, join_all(calls)).await.expect("they do not stand still") {
        let answer = answer.expect("no panic");
        assert_eq!(outcome::failure(&answer).map(|failure| failure.message().to_owned()), None);
    }
}

/// Writes in its transaction first, and then in its session.
fn shop() -> ScriptedServer {
    ScriptedServer::new("shop").with_plain("order", |_| async {
        write::<Postgres>(1).await?;
        hold_on().await;
        Session::current()?.set("basket", &0).await?;
        Ok(ToolResult::text("ordered"))
    })
}

async fn baskets(pool: &Pool<Postgres>) -> i64 {
    sqlx::query_scalar("select count(*) from mcp_patterns_sessions").fetch_one(pool).await.expect("they can be counted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_transactions_that_write_their_session_all_succeed_on_one_pool_of_ten() {
    for in_transactions in [false, true] {
        for reuses in [false, true] {
            let pool = pool_of(10).await;
            let backend = SqlBackend::new(pool.clone());
            let backend = if in_transactions { backend.in_transactions() } else { backend };
            let transactor = Transactor::new(pool.clone());
            let transactor = if reuses { transactor.with_connection_reuse() } else { transactor };
            let sessions = SessionStore::new(backend).with_mode(SessionMode::Principal);
            let server = (sessions, TransactionalTool::new(transactor).only(["order"])).layer(shop());
            forty_callers_succeed(&server).await;
            assert_eq!(numbers_at_rest(&pool).await, [1; CALLERS]);
            assert_eq!(baskets(&pool).await, 40);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_transactions_with_an_independent_inner_one_all_succeed_on_one_pool_of_ten() {
    for reuses in [false, true] {
        let pool = pool_of(10).await;
        let transactor = Transactor::new(pool.clone());
        let transactor = if reuses { transactor.with_connection_reuse() } else { transactor };
        let own = transactor.clone().with_propagation(Propagation::RequiresNew);
        let shop = ScriptedServer::new("shop").with_plain("order", move |_| {
            let own = own.clone();
            async move {
                write::<Postgres>(1).await?;
                hold_on().await;
                own.run(&(), || write::<Postgres>(2)).await?;
                Ok(ToolResult::text("ordered"))
            }
        });
        forty_callers_succeed(&TransactionalTool::new(transactor).only(["order"]).layer(shop)).await;
        assert_eq!(numbers_at_rest(&pool).await, [[1; CALLERS], [2; CALLERS]].concat());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_transactions_with_a_key_inside_or_outside_all_succeed_on_one_pool_of_ten() {
    let shop = || {
        ScriptedServer::new("shop").with_plain("order", |_| async {
            write::<Postgres>(1).await?;
            hold_on().await;
            Ok(ToolResult::text("ordered"))
        })
    };
    let pool = pool_of(10).await;
    let transactional = TransactionalTool::new(pool.clone()).only(["order"]);
    let idempotent =
        || IdempotentTool::new(idempotent::SqlBackend::new(pool.clone())).only(["order"]).with_backend_timeout(LONG);
    forty_callers_succeed(&(idempotent(), transactional.clone()).layer(shop())).await;
    forty_callers_succeed(&(transactional, idempotent().with_namespace("inside")).layer(shop())).await;
    assert_eq!(numbers_at_rest(&pool).await, [1; 2 * CALLERS]);
}

fn reason(answer: &ToolResult) -> (Option<ErrorKind>, Value) {
    let answer = Ok(answer.clone());
    let failure = outcome::failure(&answer).expect("a failure");
    (failure.kind(), failure.data().cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_call_that_needs_more_connections_than_its_pool_has_is_refused_at_once() {
    for connections in 1..=2 {
        let pool = pool_of(connections).await;
        let transactor = Transactor::new(pool.clone());
        let own = transactor.clone().with_propagation(Propagation::RequiresNew);
        let too_deep = transactor.run(&(), || async {
            match connections {
                1 => own.run(&(), nothing).await,
                _ => own.run(&(), || own.run(&(), nothing)).await,
            }
        });
        let refused = timeout(LONG / 2, too_deep).await.expect("it waits for no other call");
        assert_eq!(refused, Err(TransactionError::WaitsForItself), "{connections} connections");
    }
    let pool = pool_of(1).await;
    let sessions = SessionStore::postgres(pool.clone()).with_mode(SessionMode::Principal);
    let server = (sessions, TransactionalTool::new(pool.clone()).only(["order"])).layer(shop());
    let ctx = RequestContext::new().with_user_id("ada");
    let refused =
        timeout(LONG / 2, server.call_tool("order", json!({}), &ctx)).await.expect("it waits for no other call");
    let told = (Some(ErrorKind::Internal), json!({"mcp-patterns/session": "waits_for_itself"}));
    assert_eq!(reason(&refused.expect("a result")), told);
    let idempotent =
        IdempotentTool::new(idempotent::SqlBackend::new(pool.clone())).only(["order"]).with_backend_timeout(LONG);
    let script = ScriptedServer::new("shop").with_plain("order", |_| ready(Ok(ToolResult::text("ordered"))));
    let server = (TransactionalTool::new(pool.clone()).only(["order"]), idempotent).layer(script.clone());
    let call = server.call_tool("order", json!({"idempotency_key": "a"}), &ctx);
    let refused = timeout(LONG / 2, call).await.expect("it waits for no other call").expect("a result");
    assert_eq!(reason(&refused).0, Some(ErrorKind::Unavailable));
    assert_eq!(script.calls("order"), 0);
}

/// A savepoint uses the existing connection.
#[tokio::test]
async fn a_savepoint_needs_no_connection_of_its_own() {
    let pool = pool_of(2).await;
    let ctx = RequestContext::new().with_user_id("ada");
    let session = SessionStore::postgres(pool.clone()).with_mode(SessionMode::Principal).of(&ctx).expect("a session");
    let transactor = Transactor::new(pool);
    let part = transactor.clone().with_propagation(Propagation::Nested);
    let run = transactor.run(&(), || async {
        let deepest = || async {
            session.set("n", &1).await.expect("a connection is left for it");
            Ok::<_, TransactionError>(())
        };
        part.run(&(), || part.run(&(), deepest)).await
    });
    assert_eq!(timeout(LONG, run).await.expect("it waits for no other call"), Ok(()));
}

#[tokio::test]
async fn an_inner_transaction_without_a_connection_fails_with_the_reason() {
    let pool = postgres_pool(postgres_options(), 1).await;
    let options = pool.connect_options().as_ref().clone();
    let two = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_millis(200));
    let pool = two.connect_with(options).await.expect("the database is there");
    let transactor = Transactor::new(pool.clone());
    let own = transactor.clone().with_propagation(Propagation::RequiresNew);
    let run = transactor.run(&(), || async {
        // A tool that takes connections directly from the pool.
        let _taken = pool.acquire().await?;
        own.run(&(), nothing).await
    });
    assert_eq!(run.await, Err(TransactionError::Overloaded));
    let error = turbomcp_core::McpError::from(TransactionError::Overloaded);
    assert_eq!(error.kind, ErrorKind::ServerOverloaded);
    assert_eq!(transactor.run(&(), nothing).await, Ok(()), "nothing is left behind");
}

/// SQLite has one writer: a write outside the transaction would wait for its end.
#[tokio::test]
async fn on_sqlite_a_session_write_outside_the_running_transaction_is_refused_and_does_not_wait() {
    let pool = Sqlite::pool().await;
    SqlBackend::ensure_schema(&pool).await.expect("a table can be made");
    let ctx = RequestContext::new().with_user_id("ada");
    let beside = SessionStore::sqlite(pool.clone()).with_mode(SessionMode::Principal);
    let within = SessionStore::new(SqlBackend::new(pool.clone()).in_transactions()).with_mode(SessionMode::Principal);
    let (beside, within) = (beside.of(&ctx).expect("a session"), within.of(&ctx).expect("a session"));
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<Sqlite>(1).await?;
        let refused = timeout(LONG / 4, beside.set("n", &1)).await.expect("it does not wait");
        assert!(matches!(refused, Err(SessionError::WaitsForItself(_))), "{refused:?}");
        assert_eq!(beside.get::<u32>("n").await.expect("to read is no harm"), None);
        within.set("n", &2).await.expect("it is a part of the transaction");
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(beside.get::<u32>("n").await.expect("it is there"), Some(2));
    let reads = transactor.clone().read_only();
    let run = reads.run(&(), || async {
        drop(current::<Sqlite>().await?);
        beside.set("n", &3).await.expect("a reader blocks no writer");
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
}
