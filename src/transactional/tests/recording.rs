//! How an answer is recorded together with the commit, and the cost of that on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Pool, Postgres};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{NONE, TestDb, numbers_at_rest, until_idle, write};
use super::on_each_database;
use crate::idempotency_keys::Idempotency;
use crate::testing::ScriptedServer;
use crate::transactional::{Dialect, TransactionalTool, Transactor, current};
use crate::{Layer, outcome};

on_each_database! {
    an_answer_of_any_characters_is_replayed_unchanged,
    without_meta_a_replay_is_the_first_answer_without_a_mark,
    an_answer_that_cannot_be_recorded_is_not_committed,
    an_answer_of_a_part_is_recorded_before_the_whole_is_committed,
}

async fn prepared<DB: TestDb>() -> Pool<DB> {
    let pool = DB::pool().await;
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    pool
}

fn layer<DB: TestDb>(pool: &Pool<DB>) -> TransactionalTool<DB> {
    TransactionalTool::new(pool.clone()).every_write().with_idempotency(Idempotency::new())
}

async fn call(server: &impl McpHandler, tool: &str) -> McpResult<ToolResult> {
    server.call_tool(tool, json!({"idempotency_key": "a"}), &RequestContext::new()).await
}

fn reason(result: &McpResult<ToolResult>) -> Value {
    outcome::failure(result)
        .and_then(|failure| failure.data()?.get("mcp-patterns/transaction").cloned())
        .unwrap_or_default()
}

async fn an_answer_of_any_characters_is_replayed_unchanged<DB: TestDb>() {
    const TEXT: &str = "'; drop table t; -- $1 $$ \\' \\x00 \" \u{0} \u{1} \n\r\t {} %s é 漢 🦀 \u{10ffff}";
    let pool = prepared::<DB>().await;
    let script = ScriptedServer::new("numbers").with_plain("write", |_| async {
        write::<DB>(1).await?;
        let mut result = ToolResult::text(TEXT);
        result.structured_content = Some(json!({ TEXT: [1.5, null, TEXT.repeat(1_000)] }));
        Ok(result)
    });
    let server = layer(&pool).layer(script);
    let first = call(&server, "write").await.expect("a result");
    let again = call(&server, "write").await.expect("a result");
    assert_eq!(again.first_text(), Some(TEXT));
    assert_eq!((&again.content, &again.structured_content), (&first.content, &first.structured_content));
    assert_eq!(again.meta.expect("a marker")["mcp-patterns/idempotency"], "replayed");
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn without_meta_a_replay_is_the_first_answer_without_a_mark<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let script = ScriptedServer::new("numbers").with_plain("write", |_| async {
        write::<DB>(1).await?;
        Ok(ToolResult::text("written"))
    });
    let server = layer(&pool).without_meta().layer(script);
    for _ in 0..2 {
        assert_eq!(call(&server, "write").await.expect("a result"), ToolResult::text("written"));
    }
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn an_answer_that_cannot_be_recorded_is_not_committed<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let script = ScriptedServer::new("numbers").with_plain("write", |_| async {
        write::<DB>(1).await?;
        DB::execute(&mut *current::<DB>().await?, "delete from mcp_patterns_idempotency".into())
            .await
            .map_err(crate::transactional::failed)?;
        Ok(ToolResult::text("written"))
    });
    let server = layer(&pool).layer(script.clone());
    let refused = call(&server, "write").await;
    assert_eq!(reason(&refused), "rolled_back", "{refused:?}");
    assert_eq!(script.calls("write"), 1, "it is not tried again");
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn an_answer_of_a_part_is_recorded_before_the_whole_is_committed<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let script = ScriptedServer::new("numbers").with_plain("write", |_| async {
        write::<DB>(1).await?;
        Ok(ToolResult::text("written"))
    });
    let server = layer(&pool).layer(script.clone());
    let transactor = Transactor::new(pool.clone());
    let whole = transactor.run(&(), || async {
        for _ in 0..2 {
            let answer = call(&server, "write").await.expect("a result");
            assert_eq!(answer.first_text(), Some("written"));
        }
        Ok::<_, crate::transactional::TransactionError>(())
    });
    assert_eq!(whole.await, Ok(()));
    assert_eq!(script.calls("write"), 1);
    assert_eq!(numbers_at_rest(&pool).await, [1]);
    assert_eq!(DB::records(&pool).await, 1);
}

#[tokio::test]
async fn an_ignored_database_error_prevents_the_recording_of_the_answer() {
    let pool = prepared::<Postgres>().await;
    let script = ScriptedServer::new("numbers").with_plain("write", |_| async {
        write::<Postgres>(1).await?;
        let _ = Postgres::execute(&mut *current::<Postgres>().await?, "select 1 / 0".into()).await;
        Ok(ToolResult::text("written"))
    });
    let refused = call(&layer(&pool).layer(script), "write").await;
    assert_eq!(reason(&refused), "rolled_back", "{refused:?}");
    assert_eq!(numbers_at_rest(&pool).await, NONE);
    assert_eq!(Postgres::records(&pool).await, 0);
}

#[tokio::test]
async fn a_violated_deferred_constraint_rolls_back_the_recorded_answer() {
    let pool = prepared::<Postgres>().await;
    for statement in
        ["alter table t add unique (n)", "create table child (n bigint references t (n) deferrable initially deferred)"]
    {
        sqlx::raw_sql(statement).execute(&pool).await.expect("a table can be changed");
    }
    let script = ScriptedServer::new("numbers").with_plain("write", |_| async {
        write::<Postgres>(1).await?;
        let orphan = "insert into child values (2)";
        Postgres::execute(&mut *current::<Postgres>().await?, orphan.into())
            .await
            .map_err(crate::transactional::failed)?;
        Ok(ToolResult::text("written"))
    });
    let server = layer(&pool).layer(script.clone());
    let plain = TransactionalTool::new(pool.clone()).every_write().layer(script);
    for refused in [call(&server, "write").await, plain.call_tool("write", json!({}), &RequestContext::new()).await] {
        assert_eq!(reason(&refused), "rolled_back", "{refused:?}");
    }
    assert_eq!(numbers_at_rest(&pool).await, NONE);
    assert_eq!(Postgres::records(&pool).await, 0);
}

#[tokio::test]
async fn the_record_is_found_by_its_index() {
    let pool = prepared::<Postgres>().await;
    let mut transaction = pool.begin().await.expect("a transaction");
    // A plan that reads the whole table then has no alternative.
    sqlx::raw_sql("set local enable_seqscan = off").execute(&mut *transaction).await.expect("a setting");
    let statement = Postgres::recording(&"a1".repeat(48), "{}", Duration::from_secs(7))
        .expect("PostgreSQL records with the commit");
    let explain = sqlx::AssertSqlSafe(format!("explain {statement}"));
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut *transaction).await.expect("a plan");
    assert!(plan.iter().any(|line| line.contains("mcp_patterns_idempotency_pkey")), "{plan:#?}");
    assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
}

/// Forwards everything and counts the messages that the client waits for: simple queries and syncs.
async fn count_round_trips(server: &PgConnectOptions) -> (PgConnectOptions, Arc<AtomicU64>) {
    async fn pass(mut client: TcpStream, mut server: TcpStream, trips: &AtomicU64) -> std::io::Result<()> {
        let (mut from_server, mut buffer, mut pending) = (vec![0; 65_536], vec![0; 65_536], Vec::new());
        // The first message (start-up) has no type.
        let mut head = 0;
        loop {
            tokio::select! {
                n = client.read(&mut buffer) => {
                    let sent = &buffer[..n?];
                    if sent.is_empty() {
                        return Ok(());
                    }
                    server.write_all(sent).await?;
                    pending.extend_from_slice(sent);
                    while let Some(length) = pending.get(head..head + 4) {
                        let length = length.iter().fold(0, |length, byte| 256 * length + usize::from(*byte)) + head;
                        if pending.len() < length {
                            break;
                        }
                        let message: Vec<u8> = pending.drain(..length).collect();
                        if head == 1 && b"QS".contains(&message[0]) {
                            trips.fetch_add(1, Ordering::SeqCst);
                        }
                        head = 1;
                    }
                }
                n = server.read(&mut from_server) => match n? {
                    0 => return Ok(()),
                    n => client.write_all(&from_server[..n]).await?,
                },
            }
        }
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let upstream = format!("{}:{}", server.get_host(), server.get_port());
    let trips = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&trips);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, trips) = (TcpStream::connect(&upstream).await, Arc::clone(&counted));
            tokio::spawn(async move { pass(client, server?, &trips).await });
        }
    });
    (server.clone().host("127.0.0.1").port(port).ssl_mode(sqlx::postgres::PgSslMode::Disable), trips)
}

/// The round trips of one call, once its statements are prepared and its layer has swept. While they are counted, no
/// connection goes back to its pool: no caller waits for the ping on the way back, and it might be counted or not.
async fn round_trips(
    (direct, pool, returns): (&Pool<Postgres>, &Pool<Postgres>, &Arc<Semaphore>),
    trips: &AtomicU64,
    layer: TransactionalTool<Postgres>,
    keyed: bool,
) -> u64 {
    let script = ScriptedServer::new("numbers").with_plain("write", |_| async {
        write::<Postgres>(1).await?;
        Ok(ToolResult::text("written"))
    });
    let server = layer.only(["write"]).layer(script);
    let mut count = 0;
    let expired = "delete from mcp_patterns_idempotency; insert into mcp_patterns_idempotency \
                   (id, tool, key, fingerprint, created_at, expires_at) values ('expired', 't', 'k', 'f', 0, 0)";
    sqlx::raw_sql(expired).execute(direct).await.expect("a record");
    for round in 0..3 {
        let args = if keyed { json!({"idempotency_key": format!("{round}")}) } else { json!({}) };
        let before = trips.load(Ordering::SeqCst);
        let answer = server.call_tool("write", args, &RequestContext::new()).await.expect("a result");
        count = trips.load(Ordering::SeqCst) - before;
        assert!(!answer.is_error(), "{answer:?}");
        returns.add_permits(1);
        if keyed && round == 0 {
            // The connection of the sweep, which begins with the first key, goes back, too.
            returns.add_permits(1);
            while Postgres::records(direct).await > 1 {}
        }
        until_idle(pool).await;
    }
    count
}

#[tokio::test]
async fn a_key_costs_one_round_trip_and_the_layer_adds_none_to_the_wait() {
    let direct = prepared::<Postgres>().await;
    let (through, trips) = count_round_trips(&direct.connect_options()).await;
    for is_tested in [false, true] {
        let returns = Arc::new(Semaphore::new(0));
        let allowed = Arc::clone(&returns);
        let options = PgPoolOptions::new().max_connections(1).test_before_acquire(is_tested);
        let options = options.after_release(move |_, _| {
            let allowed = Arc::clone(&allowed);
            Box::pin(async move {
                allowed.acquire().await.expect("it is open").forget();
                Ok(true)
            })
        });
        let pool = options.connect_with(through.clone()).await.expect("the way is open");
        let calls = (&direct, &pool, &returns);
        let transactor = Transactor::new(pool.clone());
        let reusing = TransactionalTool::new(transactor.clone().with_connection_reuse());
        let layer = TransactionalTool::new(transactor).with_idempotency(Idempotency::new());
        let test = u64::from(is_tested);
        // The begin, the statement and the commit; and with a key, the claim. A handwritten transaction needs as many.
        assert_eq!(round_trips(calls, &trips, layer.clone(), false).await, 3 + test);
        assert_eq!(round_trips(calls, &trips, layer, true).await, 4 + test);
        assert_eq!(round_trips(calls, &trips, reusing, false).await, 3);
    }
}
