//! Keys expire by the clock of the database, whatever the clock of the process says.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row, Sqlite};
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{TestDb, write};
use crate::clock::time_of;
use crate::database::SupportedDatabase;
use crate::idempotency_keys::{CallKey, IDEMPOTENCY, Idempotency, Origin, Resolved};
use crate::sweeper::Sweeper;
use crate::testing::ScriptedServer;
use crate::testing::databases::{move_clock, postgres_with_clock};
use crate::transactional::records::{EXPIRED, Owner, Records, resolve};
use crate::transactional::{TransactionalTool, current, failed};
use crate::{Layer, outcome};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

const fn secs(secs: i64) -> Duration {
    Duration::from_secs(secs.unsigned_abs())
}

async fn prepared() -> PgPool {
    let pool = postgres_with_clock(4).await;
    sqlx::query("create table t (n bigint)").execute(&pool).await.expect("a table can be made");
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    pool
}

fn bank() -> ScriptedServer {
    ScriptedServer::new("bank")
        .with_plain("pay", |call| async move {
            write::<Postgres>(1).await?;
            Ok(ToolResult::text(format!("payment {}", call.number)))
        })
        .with_plain("pay_and_commit", |_| async {
            sqlx::raw_sql("commit").execute(&mut *current::<Postgres>().await?).await.map_err(failed)?;
            Ok(ToolResult::text("paid"))
        })
}

async fn call(server: &impl McpHandler, tool: &str) -> McpResult<ToolResult> {
    server.call_tool(tool, json!({"idempotency_key": "k"}), &RequestContext::new()).await
}

async fn pay(server: &impl McpHandler) -> String {
    let answer = call(server, "pay").await.expect("a tool's result");
    answer.first_text().expect("a text").to_owned()
}

/// The answer about the key of a call that ended its transaction.
async fn told(server: &impl McpHandler) -> Value {
    let answer = call(server, "pay_and_commit").await;
    let noted = answer.as_ref().ok().and_then(|answer| answer.meta.as_ref()?.get(IDEMPOTENCY).cloned());
    let data = || outcome::failure(&answer)?.data()?.get(IDEMPOTENCY).cloned();
    noted.or_else(data).unwrap_or_default()
}

fn key(id: &str) -> CallKey {
    CallKey { id: id.into(), fingerprint: "f".into(), tool: "pay".into(), key: "k".into(), origin: Origin::default() }
}

/// Both clocks may be wrong: only the time that passes on the clock of the database counts.
#[tokio::test]
async fn a_key_pays_once_within_its_ttl_by_the_clock_of_the_database() {
    for wrong_by in [-DAY, 0, DAY] {
        let pool = prepared().await;
        move_clock(&pool, wrong_by).await;
        let keys = Idempotency::new().with_ttl(secs(HOUR));
        let server = TransactionalTool::new(pool.clone()).every_write().with_idempotency(keys).layer(bank());
        assert_eq!(pay(&server).await, "payment 1");
        move_clock(&pool, HOUR - 120).await;
        assert_eq!(pay(&server).await, "payment 1", "the database's clock is wrong by {wrong_by} s");
        move_clock(&pool, 121).await;
        assert_eq!(pay(&server).await, "payment 2", "the database's clock is wrong by {wrong_by} s");
        assert_eq!(Postgres::numbers(&pool).await, [1, 1]);
    }
}

#[tokio::test]
async fn a_call_becomes_unresolved_for_good_by_the_clock_of_the_database() {
    let pool = prepared().await;
    let keys = Idempotency::new().with_ttl(secs(2 * HOUR)).with_final_refusal_after(secs(HOUR));
    let server = TransactionalTool::new(pool.clone()).every_write().with_idempotency(keys).layer(bank());
    assert_eq!(told(&server).await, "ambiguous");
    move_clock(&pool, HOUR - 120).await;
    assert_eq!(told(&server).await, "ambiguous");
    move_clock(&pool, 121).await;
    assert_eq!(told(&server).await, "unresolved");
}

#[tokio::test]
async fn a_sweep_of_keys_uses_the_clock_of_the_database() {
    let pool = prepared().await;
    let mut connection = pool.acquire().await.expect("a connection");
    // By the clock of this process, that time is long past.
    move_clock(&pool, -DAY).await;
    assert!(Postgres::claim(&mut connection, &key("a"), None, secs(HOUR)).await.expect("it is claimed"));
    assert!(Postgres::complete(&mut connection, "a", "{}", secs(HOUR)).await.expect("it is recorded"));
    let sweeper = Sweeper::new(&EXPIRED);
    for (later, swept) in [(HOUR - 120, 0), (121, 1)] {
        move_clock(&pool, later).await;
        assert_eq!(sweeper.sweep(&pool).await.expect("a sweep"), swept);
    }
}

#[tokio::test]
async fn leases_and_ages_of_claims_are_measured_by_the_clock_of_the_database() {
    let pool = prepared().await;
    let mut db = pool.acquire().await.expect("a connection");
    let owner = Owner { token: "mine", lease: secs(60) };
    assert!(Postgres::claim(&mut db, &key("a"), Some(owner), secs(HOUR)).await.expect("it is claimed"));
    let mut age = async || {
        let found = Postgres::find(&mut db, "a").await.expect("it is found").expect("it is there");
        found.ambiguous_for().map(|age| age.as_secs().cast_signed())
    };
    assert_eq!(age().await, None, "its lease is not over");
    move_clock(&pool, 50).await;
    assert_eq!(age().await, None);
    move_clock(&pool, 40).await;
    let since = age().await.expect("its lease has ended");
    assert!((30..40).contains(&since), "for {since} s");

    // The owner continues and then leaves the claim.
    let renewed = Postgres::renew(&mut db, &[("a".into(), "mine".into())], secs(60)).await;
    assert_eq!(renewed.expect("a renewal"), ["a"]);
    assert!(!Postgres::take_over(&mut db, &key("a"), owner, secs(HOUR)).await.expect("a step"), "it runs again");
    assert_eq!(resolve(&pool, "a", None, secs(HOUR)).await.expect("a step"), Resolved::Running);
    assert!(Postgres::abandon(&mut db, "a", "mine").await.expect("a step"));
    move_clock(&pool, 1800).await;
    let found = Postgres::find(&mut db, "a").await.expect("it is found").expect("it is there");
    assert!((1800..1830).contains(&found.ambiguous_for().expect("it was abandoned").as_secs()), "{found:?}");
    let kept = found.expires_at - found.now;
    assert!((1_770_000..=1_800_000).contains(&kept), "an hour from when it was abandoned, not {kept} ms from now");
    move_clock(&pool, 1801).await;
    assert_eq!(resolve(&pool, "a", None, secs(HOUR)).await.expect("a step"), Resolved::Unknown, "it is forgotten");
}

#[tokio::test]
async fn sqlite_returns_the_time_of_its_machine_in_whole_milliseconds() {
    #[expect(clippy::disallowed_methods, reason = "it is what is compared with")]
    let time = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
        i64::try_from(since.as_millis()).expect("it is before the year 294,000")
    };
    let pool = Sqlite::pool().await;
    for _ in 0..100 {
        let before = time();
        let told: i64 =
            sqlx::query_scalar(concat!("select ", time_of!(Sqlite))).fetch_one(&pool).await.expect("a number");
        assert!((before..=time()).contains(&told), "{told} is not between {before} and {}", time());
    }
}

/// Tables of 20,000 unexpired rows: to read all of them would be a mistake. They are in random order, as keys are.
#[tokio::test]
async fn every_sweep_finds_expired_rows_by_an_index() {
    let pool = prepared().await;
    let fill = "insert into mcp_patterns_idempotency (id, tool, key, fingerprint, result, created_at, expires_at) \
                select n::text, 't', 'k', 'f', '{}', 0, 9000000000000000 + n * 7919 % 20000 from generate_series(1, 20000) as n";
    sqlx::query(fill).execute(&pool).await.expect("rows");
    sqlx::query("analyze mcp_patterns_idempotency").execute(&pool).await.expect("they are counted");
    let explain = format!("explain {}", EXPIRED.statement::<Postgres>(Postgres::SKIP_LOCKED));
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&pool).await.expect("a plan");
    assert!(plan.iter().any(|line| line.contains("mcp_patterns_idempotency_expires_at")), "{plan:#?}");
    assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");

    let file = Sqlite::pool().await;
    TransactionalTool::ensure_schema(&file).await.expect("the table is made");
    let explain = format!("explain query plan {}", EXPIRED.statement::<Sqlite>(Sqlite::SKIP_LOCKED));
    let plan = sqlx::query(AssertSqlSafe(explain)).fetch_all(&file).await.expect("a plan");
    let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
    assert!(plan.iter().any(|line| line.contains("mcp_patterns_idempotency_expires_at (expires_at<?)")), "{plan:#?}");
    assert!(!plan.iter().any(|line| line.starts_with("SCAN mcp")), "{plan:#?}");
}
