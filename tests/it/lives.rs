//! Two processes on one PostgreSQL, whose keys expire and are used again all the time while both of them sweep.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent::SqlBackend;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::transactional::{current, failed};
use mcp_patterns::{IdempotentTool, Layer, TransactionalTool};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use turbomcp::{McpHandler, RequestContext, ToolResult};

use crate::client::patiently;
use crate::support::Database;

const TTL: Duration = Duration::from_millis(20);
const KEYS: usize = 7;
const TASKS: usize = 8;
const CALLS: usize = 32;

/// The environment variable with the database for a process that the test has started.
const URL: &str = "MCP_PATTERNS_LIVES";

/// Records when a key had its effect. A key can have its next effect no sooner than its ttl after that.
async fn effect(connection: &mut PgConnection, layer: &str, key: usize) -> Result<(), sqlx::Error> {
    sqlx::query("insert into effects values ($1, $2, (extract(epoch from clock_timestamp()) * 1000000)::bigint)")
        .bind(layer)
        .bind(i64::try_from(key).expect("a small number"))
        .execute(&mut *connection)
        .await?;
    sqlx::query("select pg_sleep(0.002)").execute(connection).await.map(|_| ())
}

fn key(args: &serde_json::Value) -> usize {
    args["key"].as_u64().and_then(|key| key.try_into().ok()).expect("a key")
}

/// Makes 512 calls, half of them through each layer with keys, while the records are swept without a pause.
async fn call_and_sweep(url: &str) {
    let connect = |connections| PgPoolOptions::new().max_connections(connections).connect(url);
    let (keys, effects) = (connect(6).await.expect("a pool"), connect(8).await.expect("a pool"));
    let idempotency = || Idempotency::new().with_ttl(TTL);
    let transactional = TransactionalTool::new(keys.clone()).only(["pay"]).with_idempotency(idempotency()).layer(
        ScriptedServer::new("bank").with_plain("pay", |call| async move {
            let mut db = current::<sqlx::Postgres>().await?;
            effect(&mut db, "transactional", key(&call.args)).await.map_err(failed)?;
            Ok(ToolResult::text("paid"))
        }),
    );
    let patient = Duration::from_secs(60);
    let idempotent = IdempotentTool::new(SqlBackend::new(keys.clone()))
        .only(["send"])
        .with_idempotency(idempotency())
        .with_wait(patient)
        .with_backend_timeout(patient)
        .layer(ScriptedServer::new("post").with_plain("send", move |call| {
            let effects = effects.clone();
            async move {
                let mut db = effects.acquire().await.map_err(failed)?;
                effect(&mut db, "idempotent", key(&call.args)).await.map_err(failed)?;
                Ok(ToolResult::text("sent"))
            }
        }));
    let sweeps = tokio::spawn(async move {
        loop {
            TransactionalTool::sweep(&keys).await.expect("records are deleted");
        }
    });
    let tasks = (0..TASKS).map(|task| {
        let (transactional, idempotent) = (transactional.clone(), idempotent.clone());
        async move {
            for call in 0..CALLS {
                let key = (task + call) % KEYS;
                let args = json!({ "key": key, "idempotency_key": format!("key-{key}") });
                let ctx = RequestContext::new();
                let paid = transactional.call_tool("pay", args.clone(), &ctx).await.expect("a result");
                assert_eq!(paid.first_text(), Some("paid"));
                let sent = idempotent.call_tool("send", args, &ctx).await.expect("a result");
                assert_eq!(sent.first_text(), Some("sent"));
            }
        }
    });
    join_all(tasks.map(tokio::spawn)).await.into_iter().for_each(|task| task.expect("no task panics"));
    sweeps.abort();
}

/// The body of a process that the test below starts; without it, it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process() {
    if let Ok(url) = env::var(URL) {
        call_and_sweep(&url).await;
    }
}

#[tokio::test]
async fn a_key_has_one_effect_per_ttl_in_two_processes_while_both_sweep() {
    patiently(async {
        let database = Database::postgres().await;
        let pool = PgPool::connect(&database.url()).await.expect("a pool");
        TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
        let table = "create table effects (layer text, key bigint, at bigint)";
        sqlx::query(table).execute(&pool).await.expect("a table can be made");

        let processes: Vec<_> = (0..2)
            .map(|_| {
                Command::new(env::current_exe().expect("this program"))
                    .args(["--exact", "lives::one_process"])
                    .env(URL, database.url())
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("a process starts")
            })
            .collect();
        for process in processes {
            let ended = tokio::task::spawn_blocking(move || process.wait_with_output()).await.expect("no panic");
            let output = ended.expect("it ends");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
        }

        for layer in ["transactional", "idempotent"] {
            let effects = "select count(*) from effects where layer = $1";
            let effects: i64 = sqlx::query_scalar(effects).bind(layer).fetch_one(&pool).await.expect("it counts");
            assert!(effects > 3 * KEYS as i64, "{effects} lives are too few to tell");
            let early = "select count(*) from (select at - lag(at) over (partition by key order by at) as since \
                         from effects where layer = $1) as lives where since < $2";
            let ttl = i64::try_from(TTL.as_micros()).expect("a short time");
            let early: i64 = sqlx::query_scalar(early).bind(layer).bind(ttl).fetch_one(&pool).await.expect("it counts");
            assert_eq!(early, 0, "{layer}: of {effects} effects, so many came while the key had an answer");
        }
    })
    .await;
}
