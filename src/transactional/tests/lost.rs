//! Errors of the database outside a transaction, as a caller and the layers around a tool see them.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgPool, Postgres};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{NONE, TestDb, numbers_at_rest};
use crate::idempotent::MemoryBackend;
use crate::outcome::{self, ErrorKind, Failure};
use crate::testing::databases::postgres_options;
use crate::testing::{ScriptedServer, Took, Traced};
use crate::transactional::{TRANSACTION, TransactionalTool, Transactor, current, failed};
use crate::{IdempotentTool, Layer, RetryTool};

/// Fails a test that hangs.
const GUARD: Duration = Duration::from_secs(60);

/// A path to the server that a test can cut, and that works again for new connections.
async fn way(direct: &PgPool) -> (PgPool, Arc<Notify>) {
    let options = direct.connect_options().as_ref().clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let upstream = format!("{}:{}", options.get_host(), options.get_port());
    let cut = Arc::new(Notify::new());
    let is_cut = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (is_cut, mut server) = (Arc::clone(&is_cut), TcpStream::connect(&upstream).await.expect("it is there"));
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    () = is_cut.notified() => {}
                }
            });
        }
    });
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.host("127.0.0.1").port(port));
    (pool.await.expect("the way is open"), cut)
}

/// Tools that write and read outside any transaction, and lose the connection during the first call.
async fn server() -> (ScriptedServer, PgPool) {
    let direct = Postgres::pool().await;
    let (pool, cut) = way(&direct).await;
    let tool = move |writes: bool| {
        let (pool, cut) = (pool.clone(), Arc::clone(&cut));
        move |call: crate::testing::Call| {
            let (pool, cut) = (pool.clone(), Arc::clone(&cut));
            async move {
                let sql = if writes { "insert into t select 1 from pg_sleep($1)" } else { "select pg_sleep($1)" };
                let takes = if call.number == 1 { 2.0 } else { 0.0 };
                let statement = sqlx::query(sql).bind(takes).execute(&pool);
                let cuts = async {
                    if call.number == 1 {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        cut.notify_waiters();
                    }
                };
                let (done, ()) = tokio::join!(statement, cuts);
                done.map_err(failed)?;
                Ok(ToolResult::text(format!("call {}", call.number)))
            }
        }
    };
    (ScriptedServer::new("numbers").with_plain("write", tool(true)).with_read_only("read", tool(false)), direct)
}

async fn call(server: &impl McpHandler, tool: &str) -> McpResult<ToolResult> {
    let (ctx, took) = (RequestContext::new(), Took::begin());
    let called = server.call_tool(tool, json!({"idempotency_key": "secret-key"}), &ctx);
    let answer = timeout(GUARD, called).await.expect("it ends");
    took.until("the answer; where the connection is cut, that is after 0.3 s");
    answer
}

fn failure(result: &McpResult<ToolResult>) -> Failure<'_> {
    outcome::failure(result).expect("a failure")
}

fn reason<'a>(failure: &Failure<'a>) -> Option<&'a str> {
    failure.data()?.get(TRANSACTION)?.as_str()
}

#[tokio::test]
async fn an_exhausted_pool_is_unavailable_and_no_internal_error() {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(50));
    let pool = pool.connect_with(postgres_options()).await.expect("the server is there");
    let all = pool.clone();
    let script = ScriptedServer::new("numbers").with_plain("write", move |_| {
        let pool = all.clone();
        async move {
            sqlx::query("select 1").execute(&pool).await.map_err(failed)?;
            Ok(ToolResult::text("written"))
        }
    });
    let held = pool.acquire().await.expect("it is free");
    let server = IdempotentTool::new(MemoryBackend::new()).only(["write"]).layer(script);
    let traced = Traced::start();
    let refused = call(&server, "write").await;
    let failure = failure(&refused);
    assert_eq!((failure.kind(), reason(&failure)), (Some(ErrorKind::Unavailable), Some("statement_failed")));
    let text = failure.message();
    let id = text.strip_prefix("The database is not available (error ").and_then(|id| id.strip_suffix(')'));
    let id = id.unwrap_or_else(|| panic!("{text}"));
    assert!(id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    let log = traced.text();
    let line = log.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("no line has {id}: {log}"));
    for field in ["tool=\"write\"", "key_hash=\"", "attempt=1", "backend=\"SQL\"", "may_have_run=false"] {
        assert!(line.contains(field), "{field}: {line}");
    }
    assert!(!log.contains("secret-key"), "{log}");

    // The key is free.
    drop(held);
    assert_eq!(call(&server, "write").await.expect("a result").first_text(), Some("written"));
}

#[tokio::test]
async fn a_database_that_refuses_connections_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound").port();
    let options = postgres_options().host("127.0.0.1").port(port);
    let error = sqlx::PgConnection::connect_with(&options).await.err();
    let refused = Err(failed(error.expect("no server is there")));
    assert!(failure(&refused).is_temporary() && failure(&refused).is_not_executed(), "{refused:?}");
}

#[tokio::test]
async fn a_statement_whose_connection_is_lost_leaves_its_key_ambiguous_and_is_not_repeated() {
    let (script, direct) = server().await;
    let server = (RetryTool::new(), IdempotentTool::new(MemoryBackend::new()).only(["write"])).layer(script.clone());
    let lost = call(&server, "write").await;
    let failure = failure(&lost);
    assert!(!failure.is_temporary() && !failure.is_not_executed(), "{lost:?}");
    assert!(failure.message().contains("it may or may not have taken effect"), "{lost:?}");
    assert!(numbers_at_rest(&direct).await.len() <= 1);
    assert_eq!(script.calls("write"), 1, "the outcome of the first one is unknown");
}

#[tokio::test]
async fn a_statement_whose_connection_is_lost_has_an_unknown_outcome_and_no_writer_is_called_again() {
    let (script, _direct) = server().await;
    let server = RetryTool::new().allow_repeated_effects(["write"]).layer(script.clone());
    let lost = call(&server, "write").await;
    assert_eq!(reason(&failure(&lost)), Some("outcome_unknown"), "{lost:?}");
    assert_eq!(failure(&lost).kind(), Some(ErrorKind::Internal));
    assert!(failure(&lost).message().starts_with("The connection to the database was lost: it is not known"));
    assert_eq!(script.calls("write"), 1);
}

#[tokio::test]
async fn a_read_whose_connection_is_lost_is_made_again() {
    let (script, _direct) = server().await;
    let server = RetryTool::new().layer(script.clone());
    assert_eq!(call(&server, "read").await.expect("a result").first_text(), Some("call 2"));
}

#[tokio::test]
async fn a_statement_of_a_session_that_an_administrator_ends_did_not_run() {
    let direct = Postgres::pool().await;
    let mut connection = direct.acquire().await.expect("it is free");
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await.expect("it tells");
    let statement = sqlx::query("insert into t select 1 from pg_sleep(60)").execute(&mut *connection);
    let ends = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let ended = sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&direct).await;
        ended.expect("it may");
    };
    let (done, ()) = tokio::join!(statement, ends);
    let refused = Err(failed(done.expect_err("the session has ended")));
    assert!(failure(&refused).is_temporary() && failure(&refused).is_not_executed(), "{refused:?}");
    drop(connection);
    assert_eq!(numbers_at_rest(&direct).await, NONE);
}

#[tokio::test]
async fn a_connection_lost_inside_a_transaction_before_its_commit_did_nothing() {
    let direct = Postgres::pool().await;
    let (pool, cut) = way(&direct).await;
    let script = ScriptedServer::new("numbers").with_plain("write", move |_| {
        let cut = Arc::clone(&cut);
        async move {
            let mut db = current::<Postgres>().await?;
            Postgres::write(&mut db, 1).await.map_err(failed)?;
            cut.notify_waiters();
            sqlx::query("select pg_sleep(1)").execute(&mut *db).await.map_err(failed)?;
            Ok(ToolResult::text("written"))
        }
    });
    let server = TransactionalTool::new(Transactor::new(pool)).only(["write"]).layer(script);
    let refused = call(&server, "write").await;
    assert!(failure(&refused).is_temporary() && failure(&refused).is_not_executed(), "{refused:?}");
    assert_eq!(numbers_at_rest(&direct).await, NONE);
}
