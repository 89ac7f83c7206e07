//! Events in a table of a database.

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{PgPool, Pool, SqlitePool};

use super::*;
use crate::TransactionalTool;
use crate::audit::{AuditDatabase, SqlTable};
use crate::testing::databases;
use crate::testing::proxy::Proxy;

/// The ids and ends in the table, by the order of the events.
async fn rows<DB: AuditDatabase>(pool: &Pool<DB>) -> Vec<(String, String)>
where
    for<'a> &'a mut DB::Connection: sqlx::Executor<'a, Database = DB>,
    for<'a> (String, String): sqlx::FromRow<'a, DB::Row>,
    DB::Arguments: sqlx::IntoArguments<DB>,
{
    let rows = sqlx::query_as("select id, ended from mcp_patterns_audit order by began_at, id").fetch_all(pool);
    rows.await.expect("the table is read")
}

fn ids(seen: &Seen) -> std::collections::BTreeSet<String> {
    seen.all().into_iter().map(|event| event.id).collect()
}

async fn postgres(connections: u32) -> PgPool {
    let pool = databases::postgres_schema(databases::postgres_options(), connections).await;
    SqlTable::ensure_schema(&pool).await.expect("the table is created");
    pool
}

async fn has_a_row_for_each_event<DB: AuditDatabase>(pool: Pool<DB>)
where
    for<'a> &'a mut DB::Connection: sqlx::Executor<'a, Database = DB>,
    for<'a> (String, String): sqlx::FromRow<'a, DB::Row>,
    for<'a> (i64, i64, String): sqlx::FromRow<'a, DB::Row>,
    for<'a> (Option<String>, Option<String>, Option<String>): sqlx::FromRow<'a, DB::Row>,
    DB::Arguments: sqlx::IntoArguments<DB>,
{
    // Twice, as replicas do.
    for _ in 0..2 {
        SqlTable::ensure_schema(&pool).await.expect("the table is created");
    }
    let (seen, buffer) = (Seen::default(), Buffered::new(SqlTable::new(&pool)));
    let server = seen.audit().with_buffer(buffer.clone()).layer(server());
    server.on_initialize().await.expect("it starts");
    for call in 0..250 {
        let fails = (call % 2 == 0).then_some("forbidden");
        let _ = super::call(&server, "order", json!({ "fails": fails })).await;
    }
    // A name that a database might not take.
    let ctx = RequestContext::with_id("a\0b").with_session_id("1");
    let _ = server.call_tool("or\0der", json!({}), &ctx).await;
    buffer.flush().await;
    let rows = rows(&pool).await;
    assert_eq!(rows.len(), 251);
    assert_eq!(rows.iter().map(|(id, _)| id.clone()).collect::<std::collections::BTreeSet<_>>(), ids(&seen));
    assert_eq!(rows.iter().filter(|(_, ended)| ended == "answered").count(), 125);

    let last = seen.last();
    let sql = format!("select began_at, recorded_at, event from mcp_patterns_audit where id = '{}'", last.id);
    let (began_at, recorded_at, event): (i64, i64, String) =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.expect("a row");
    assert_eq!(event, serde_json::to_string(&last).expect("JSON"));
    assert!(began_at > 1_577_836_800_000 && recorded_at > 1_577_836_800_000, "in milliseconds, after 2020");
    let sql = format!("select principal, session, request_id from mcp_patterns_audit where id = '{}'", last.id);
    let columns: (Option<String>, Option<String>, Option<String>) =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.expect("a row");
    assert_eq!(columns, (None, last.session, last.request_id));

    // As after a batch whose answer was lost.
    let again: Vec<_> = seen.all().into_iter().take(3).map(Arc::new).collect();
    SqlTable::new(&pool).write(&again).await.expect("it is known");
    assert_eq!(self::rows(&pool).await.len(), 251, "each event has one row");
}

#[tokio::test]
async fn each_event_has_one_row_on_sqlite() {
    let file = databases::sqlite().await;
    has_a_row_for_each_event(file.pool.clone()).await;
}

#[tokio::test]
async fn each_event_has_one_row_on_postgres() {
    has_a_row_for_each_event(databases::postgres_schema(databases::postgres_options(), 2).await).await;
}

#[tokio::test]
async fn a_database_that_is_killed_loses_only_what_the_buffer_cannot_hold_and_counts_it() {
    let direct = postgres(2).await;
    let schema = direct.connect_options().get_application_name().expect("its name").to_owned();
    let options = databases::postgres_options().options([("search_path", schema.as_str())]);
    let (network, options) = Proxy::to_postgres(&options).await;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(1))
        .connect_with(options)
        .await
        .expect("the way is open");
    let (seen, buffer) = (Seen::default(), Buffered::new(SqlTable::new(&pool)).with_capacity(20));
    let server = seen.audit().with_buffer(buffer.clone()).layer(server());
    let calls = async |count: usize| {
        for _ in 0..count {
            call(&server, "order", json!({})).await.expect("a call does not depend on its audit");
        }
    };
    calls(5).await;
    buffer.flush().await;
    network.refuse(true);
    network.reset();
    calls(50).await;
    // Time for some attempts.
    tokio::time::sleep(ms(150)).await;
    let stats = buffer.stats();
    assert_eq!((stats.written, stats.lost, stats.pending), (5, 30, 20));
    network.refuse(false);
    buffer.flush().await;
    let stats = buffer.stats();
    assert_eq!((stats.written, stats.lost, stats.pending), (25, 30, 0));
    let kept: std::collections::BTreeSet<_> = rows(&direct).await.into_iter().map(|(id, _)| id).collect();
    let expected: std::collections::BTreeSet<_> = seen.all().into_iter().take(25).map(|event| event.id).collect();
    assert_eq!(kept, expected);
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_written_again_and_leaves_one_row_for_each_event() {
    let direct = postgres(2).await;
    let schema = direct.connect_options().get_application_name().expect("its name").to_owned();
    let options = databases::postgres_options().options([("search_path", schema.as_str())]);
    let (network, options) = Proxy::to_postgres(&options).await;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(2));
    let pool = pool.connect_with(options).await.expect("the way is open");
    let (seen, buffer) = (Seen::default(), Buffered::new(SqlTable::new(&pool)));
    let server = seen.audit().with_buffer(buffer.clone()).layer(server());
    call(&server, "order", json!({})).await.expect("an answer");
    buffer.flush().await;
    // The statement arrives, and its answer does not.
    network.mute();
    call(&server, "order", json!({})).await.expect("an answer");
    tokio::time::sleep(ms(50)).await;
    network.reset();
    buffer.flush().await;
    let kept: std::collections::BTreeSet<_> = rows(&direct).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!((kept, buffer.stats().lost), (ids(&seen), 0));
}

#[tokio::test]
async fn tools_that_hold_all_connections_in_transactions_do_not_hold_up_the_table() {
    let pool = postgres(2).await;
    TransactionalTool::ensure_schema(&pool).await.expect("a table of keys");
    let (seen, buffer) = (Seen::default(), Buffered::new(SqlTable::new(&pool)));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opens = Arc::clone(&gate);
    let script = ScriptedServer::new("bank")
        .with_plain("pay", move |_| {
            let opens = Arc::clone(&opens);
            async move {
                opens.acquire().await.expect("it stays").forget();
                Ok(ToolResult::text("paid"))
            }
        })
        .with_plain("note", |_| async { Ok(ToolResult::text("noted")) });
    let layers = (seen.audit().with_buffer(buffer.clone()), TransactionalTool::new(pool.clone()).only(["pay"]));
    let server = layers.layer(script);
    let pays: Vec<_> = (0..2)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { call(&server, "pay", json!({})).await })
        })
        .collect();
    tokio::time::sleep(ms(50)).await;
    call(&server, "note", json!({})).await.expect("an answer");
    buffer.flush().await;
    assert_eq!(rows(&pool).await.len(), 1, "while the transactions are open");
    gate.add_permits(2);
    for pay in pays {
        pay.await.expect("no panic").expect("an answer");
    }
    buffer.flush().await;
    assert_eq!(rows(&pool).await.len(), 3);
}

#[tokio::test]
async fn the_event_of_a_call_that_was_rolled_back_stays() {
    let pool: SqlitePool =
        SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("a database");
    SqlTable::ensure_schema(&pool).await.expect("the table is created");
    let buffer = Buffered::new(SqlTable::new(&pool));
    let layers = (AuditTool::new().with_buffer(buffer.clone()), TransactionalTool::new(pool.clone()).only(["order"]));
    let server = layers.layer(server());
    let answer = call(&server, "order", json!({"fails": "forbidden"})).await.expect("a failure");
    assert!(answer.is_error());
    buffer.flush().await;
    assert_eq!(rows(&pool).await.into_iter().map(|(_, ended)| ended).collect::<Vec<_>>(), ["failed"]);
}

#[tokio::test]
async fn a_missing_table_stops_the_start_and_names_what_creates_it() {
    let file = databases::sqlite().await;
    let server = AuditTool::new().with_buffer(Buffered::new(SqlTable::new(&file.pool))).layer(server());
    let error = server.on_initialize().await.expect_err("a server without a table does not start");
    let expected = "audit::SqlTable: the database has no table `mcp_patterns_audit`: call \
                    `audit::SqlTable::ensure_schema(&pool)` before the server starts";
    assert_eq!(error.message, expected);
    SqlTable::ensure_schema(&file.pool).await.expect("the table can be created");
    server.on_initialize().await.expect("the server starts");
}
