//! Expired records are deleted during calls, which neither lose a record nor wait.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Pool, Postgres, Row, Sqlite, SqliteConnection};
use tokio::time::timeout;
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{LONG, TestDb, hooked_pool};
use super::on_each_database;
use crate::Layer;
use crate::clock::time_of;
use crate::database::SupportedDatabase;
use crate::idempotency_keys::{CallKey, Idempotency, Origin};
use crate::sweeper::Sweeper;
use crate::testing::ScriptedServer;
use crate::transactional::records::{EXPIRED, Owner, Records};
use crate::transactional::{Dialect, TransactionError, TransactionalTool, current};

on_each_database! {
    a_sweep_leaves_a_record_that_a_running_transaction_has_renewed,
    a_sweep_takes_no_connection_that_calls_wait_for,
}

const HOUR: Duration = Duration::from_secs(3600);

fn key(id: &str) -> CallKey {
    CallKey { id: id.into(), fingerprint: "f".into(), tool: "pay".into(), key: "k".into(), origin: Origin::default() }
}

/// A database with records of these ids, all of which have expired.
async fn expired<DB: TestDb>(ids: &[&str]) -> Pool<DB> {
    let pool = DB::pool().await;
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    let mut connection = pool.acquire().await.expect("a connection");
    for id in ids {
        assert!(DB::claim(&mut connection, &key(id), None, Duration::ZERO).await.expect("it is claimed"));
        assert!(DB::complete(&mut connection, id, "old", HOUR).await.expect("it is recorded"));
    }
    DB::execute(&mut connection, "update mcp_patterns_idempotency set expires_at = 0".into())
        .await
        .expect("they expire");
    drop(connection);
    pool
}

async fn sweep<DB: TestDb>(pool: &Pool<DB>) -> u64 {
    let sweeper = Sweeper::new(&EXPIRED);
    let swept = timeout(LONG, sweeper.sweep(pool)).await.expect("nothing holds up a sweep");
    swept.expect("records are deleted")
}

/// `READ COMMITTED` checks a row again after waiting for it, but only the outer condition.
async fn a_sweep_leaves_a_record_that_a_running_transaction_has_renewed<DB: TestDb>() {
    let pool = expired::<DB>(&["renewed", "not renewed"]).await;
    for owner in [None, Some(Owner { token: "t", lease: Duration::MAX })] {
        let mut call = pool.acquire().await.expect("a connection");
        DB::execute(&mut call, "begin".into()).await.expect("a transaction");
        let claimed = DB::claim(&mut call, &key("renewed"), owner, HOUR).await;
        assert!(claimed.expect("it is claimed"), "its ttl has passed");
        let beside = sweep(&pool).await;
        // SQLite has one lock: there the sweep is postponed, since no other connection can write meanwhile.
        assert_eq!(beside, if DB::HAS_ONE_WRITER || owner.is_some() { 0 } else { 1 });
        let recorded = match owner {
            None => DB::complete(&mut call, "renewed", "new", HOUR).await,
            Some(owner) => DB::record(&mut call, "renewed", owner.token, "new", HOUR).await,
        };
        assert!(recorded.expect("it is recorded"));
        DB::execute(&mut call, "commit".into()).await.expect("it is committed");

        sweep(&pool).await;
        assert_eq!(DB::records(&pool).await, 1);
        let found = DB::find(&mut call, "renewed").await.expect("it is found").expect("it is there");
        assert_eq!(found.result.as_deref(), Some("new"));
        DB::execute(&mut call, "update mcp_patterns_idempotency set expires_at = 0".into()).await.expect("it expires");
    }
}

/// The statement alone; its sub-select locks nothing.
#[tokio::test]
async fn a_statement_that_waited_for_a_row_checks_it_again() {
    let pool = expired::<Postgres>(&["renewed"]).await;
    let mut call = pool.begin().await.expect("a transaction");
    let claimed = Postgres::claim(&mut call, &key("renewed"), None, HOUR).await;
    assert!(claimed.expect("it is claimed"));
    let sweep = {
        let (pool, statement) = (pool.clone(), EXPIRED.statement::<Postgres>(""));
        tokio::spawn(async move {
            let mut connection = pool.acquire().await?;
            Postgres::delete_expired(&mut connection, statement).await
        })
    };
    let waits = "select count(*) from pg_stat_activity \
                 where application_name = current_setting('application_name') and wait_event_type = 'Lock'";
    let is_waiting =
        async { while sqlx::query_scalar::<_, i64>(waits).fetch_one(&pool).await.expect("the server tells") == 0 {} };
    timeout(LONG, is_waiting).await.expect("it waits for the row");
    assert!(Postgres::complete(&mut call, "renewed", "new", HOUR).await.expect("it is recorded"));
    call.commit().await.expect("it is committed");
    let deleted = timeout(LONG, sweep).await.expect("it goes on").expect("it does not panic");
    assert_eq!(deleted.expect("records are deleted"), 0);
    assert_eq!(Postgres::records(&pool).await, 1);
}

/// The only connection is lent, and a waiting caller comes first.
async fn a_sweep_takes_no_connection_that_calls_wait_for<DB: TestDb>() {
    let others = expired::<DB>(&["a"]).await;
    let (pool, hooks) = hooked_pool(&others, 1).await;
    let call = pool.acquire().await.expect("it is free");
    let before = hooks.before_acquire();
    Sweeper::new(&EXPIRED).sweep_now_and_then(&pool);
    // The task of the sweep runs.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    drop(call);
    drop(timeout(LONG, pool.acquire()).await.expect("no caller is before it").expect("it comes back"));
    assert_eq!(hooks.before_acquire() - before, 1, "the sweep did not wait in line");
    let swept = timeout(LONG, async { while DB::records(&others).await > 0 {} });
    swept.await.expect("it is done once a connection is idle");
}

#[tokio::test]
async fn a_sqlite_connection_waits_for_locks_again_after_a_sweep() {
    let pool = expired::<Sqlite>(&["a"]).await;
    let mut connection = pool.acquire().await.expect("a connection");
    let mut writer = pool.acquire().await.expect("a connection");
    let before = busy_timeout(&mut connection).await;
    assert!(before > 0);
    for (begin, deleted) in [("begin immediate", 0), ("begin immediate", 0), ("begin deferred", 1)] {
        Sqlite::execute(&mut writer, begin.into()).await.expect("a transaction");
        let swept = timeout(LONG, Sqlite::delete_expired(&mut connection, EXPIRED.statement::<Sqlite>(""))).await;
        assert_eq!(swept.expect("it waits for no other call").expect("it is put off, or done"), deleted);
        assert_eq!(busy_timeout(&mut connection).await, before);
        Sqlite::execute(&mut writer, "rollback".into()).await.expect("it ends");
    }
}

async fn busy_timeout(connection: &mut SqliteConnection) -> i64 {
    let row = sqlx::raw_sql("PRAGMA busy_timeout").fetch_one(connection).await.expect("it tells");
    row.get(0)
}

/// Two replicas, whose keys expire all the time while both of them sweep: a record states its end, and no new effect of
/// its key comes before.
#[tokio::test]
async fn a_key_has_one_effect_per_ttl_while_sweeps_run() {
    const TTL: i64 = 20;
    const TASKS: usize = 8;
    const CALLS: usize = 63;
    let first = expired::<Postgres>(&[]).await;
    let lives = "create table effects (key text, began bigint, at bigint)";
    sqlx::query(lives).execute(&first).await.expect("a table can be made");
    let (second, _) = hooked_pool(&first, 4).await;

    let pay = ScriptedServer::new("bank").with_plain("pay", |_| async {
        let mut db = current::<Postgres>().await?;
        let effect = concat!(
            "insert into effects select key, created_at, ",
            time_of!(Postgres),
            " from mcp_patterns_idempotency where result is null"
        );
        sqlx::query(effect).execute(&mut *db).await.map_err(TransactionError::from)?;
        sqlx::query("select pg_sleep(0.002)").execute(&mut *db).await.map_err(TransactionError::from)?;
        Ok(ToolResult::text("paid"))
    });
    let idempotency = || Idempotency::new().with_ttl(Duration::from_millis(TTL.unsigned_abs()));
    let replicas = [&first, &second].map(|pool| {
        let layer = TransactionalTool::new(pool.clone()).only(["pay"]).with_idempotency(idempotency());
        layer.layer(pay.clone())
    });
    let sweeps = [&first, &second].map(|pool| {
        let (pool, sweeper) = (pool.clone(), Sweeper::new(&EXPIRED));
        tokio::spawn(async move {
            loop {
                sweeper.sweep(&pool).await.expect("records are deleted");
            }
        })
    });
    let calls =
        replicas.iter().flat_map(|replica| (0..TASKS).map(move |task| (replica, task))).map(async |(replica, task)| {
            for call in 0..CALLS {
                let args = json!({"idempotency_key": format!("{}", (task + call) % 5)});
                let answer = replica.call_tool("pay", args, &RequestContext::new()).await.expect("a tool's result");
                assert_eq!(answer.first_text(), Some("paid"));
            }
        });
    timeout(Duration::from_secs(120), join_all(calls)).await.expect("1,008 calls take no longer");
    sweeps.iter().for_each(tokio::task::JoinHandle::abort);

    let effects: i64 = sqlx::query_scalar("select count(*) from effects").fetch_one(&first).await.expect("it counts");
    assert!(effects > 20, "{effects} lives are too few to tell");
    let early = "select count(*) from (select at - lag(began) over (partition by key order by at) as since \
                 from effects) as lives where since < $1";
    let early: i64 = sqlx::query_scalar(early).bind(TTL).fetch_one(&first).await.expect("it counts");
    assert_eq!(early, 0, "of {effects} effects, so many came while the key had an answer");
}
