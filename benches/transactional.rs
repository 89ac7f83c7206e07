//! Transfers per second through `TransactionalTool`, compared with the same statements in a handwritten transaction on
//! the same pool; and the messages of a transfer, counted on the wire.
//!
//! SQLite in a file, and PostgreSQL at `TEST_POSTGRES_URL` or at its usual address.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

use std::env;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::transactional::{self, Dialect, Transactor, failed};
use mcp_patterns::{Layer, TransactionalTool};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Pool, Postgres, Sqlite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use turbomcp::prelude::*;

/// How often each candidate is timed, in turns.
const ROUNDS: usize = 7;

const DEBIT: &str = "update accounts set cents = cents - 1 where id = $1 and cents >= 1";
const CREDIT: &str = "update accounts set cents = cents + 1 where id = $1";
const RECORD: &str = "insert into transfers (from_id, to_id, cents) values ($1, $2, 1)";

macro_rules! database {
    ($database:ty, $by_hand:ident, $layered:ident) => {
        /// Commits with the statements `end`, or as sqlx does it.
        fn $by_hand(pool: &Pool<$database>, begin: &'static str, end: Option<&'static str>) -> ScriptedServer {
            let pool = pool.clone();
            ScriptedServer::new("bank").with_plain("transfer", move |call| {
                let pool = pool.clone();
                async move {
                    let (from, to) = accounts(&call.args);
                    let mut transaction = pool.begin_with(begin).await.map_err(failed)?;
                    sqlx::query(DEBIT).bind(from).execute(&mut *transaction).await.map_err(failed)?;
                    sqlx::query(CREDIT).bind(to).execute(&mut *transaction).await.map_err(failed)?;
                    sqlx::query(RECORD).bind(from).bind(to).execute(&mut *transaction).await.map_err(failed)?;
                    match end {
                        None => transaction.commit().await.map_err(failed)?,
                        Some(end) => <$database>::execute(&mut transaction, end.into()).await.map_err(failed)?,
                    }
                    Ok(ToolResult::text("transferred"))
                }
            })
        }

        fn $layered() -> ScriptedServer {
            ScriptedServer::new("bank").with_plain("transfer", |call| async move {
                let (from, to) = accounts(&call.args);
                let mut connection = transactional::current::<$database>().await?;
                sqlx::query(DEBIT).bind(from).execute(&mut *connection).await.map_err(failed)?;
                sqlx::query(CREDIT).bind(to).execute(&mut *connection).await.map_err(failed)?;
                sqlx::query(RECORD).bind(from).bind(to).execute(&mut *connection).await.map_err(failed)?;
                Ok(ToolResult::text("transferred"))
            })
        }
    };
}

database!(Sqlite, sqlite_by_hand, sqlite_layered);
database!(Postgres, postgres_by_hand, postgres_layered);

fn accounts(args: &Value) -> (i64, i64) {
    (args["from"].as_i64().unwrap_or_default(), args["to"].as_i64().unwrap_or_default())
}

/// Makes `calls` transfers with this many callers, each a task with its own accounts, and returns the duration.
async fn timed(server: &impl McpHandler, callers: i64, calls: i64, keyed: bool) -> Duration {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    let started = Instant::now();
    let callers = (0..callers).map(|caller| {
        let server = server.clone();
        tokio::spawn(async move {
            let ctx = RequestContext::new();
            for _ in 0..calls / callers {
                let mut args = json!({"from": 2 * caller + 1, "to": 2 * caller + 2});
                if keyed {
                    let key = format!("{}-{}", std::process::id(), KEYS.fetch_add(1, Ordering::Relaxed));
                    args["idempotency_key"] = key.into();
                }
                let answer = server.call_tool("transfer", args, &ctx).await.expect("a result");
                assert!(!answer.is_error(), "{answer:?}");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("a caller comes to its end");
    }
    started.elapsed()
}

/// The median.
fn per_second(mut times: Vec<Duration>, calls: i64) -> f64 {
    times.sort_unstable();
    calls as f64 / times[ROUNDS / 2].as_secs_f64()
}

async fn compare(name: &str, by_hand: &impl McpHandler, [layered, reusing, keyed]: [&impl McpHandler; 3], calls: i64) {
    for callers in [1, 16] {
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            times[0].push(timed(by_hand, callers, calls, false).await);
            times[1].push(timed(layered, callers, calls, false).await);
            times[2].push(timed(reusing, callers, calls, false).await);
            times[3].push(timed(keyed, callers, calls, true).await);
        }
        let [by_hand, layered, reusing, keyed] = times.map(|times| per_second(times, calls));
        println!(
            "| {name} | {callers} | {by_hand:.0} | {layered:.0} | {:.2} | {reusing:.0} | {:.2} | {keyed:.0} | {:.2} |",
            layered / by_hand,
            reusing / by_hand,
            keyed / by_hand
        );
    }
}

async fn prepare<DB: Dialect>(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    for statement in [
        "create table accounts (id bigint primary key, cents bigint not null)",
        "create table transfers (from_id bigint not null, to_id bigint not null, cents bigint not null)",
    ] {
        DB::execute(&mut connection, statement.into()).await?;
    }
    DB::execute(
        &mut connection,
        "with recursive n (id) as (select 1 union all select id + 1 from n where id < 32) \
         insert into accounts select id, 1000000000 from n"
            .into(),
    )
    .await?;
    drop(connection);
    TransactionalTool::ensure_schema(pool).await
}

fn layer<DB: Dialect>(pool: &Pool<DB>) -> TransactionalTool<DB> {
    TransactionalTool::new(pool.clone()).only(["transfer"])
}

/// The messages on the wire.
#[derive(Debug, Default)]
struct Counts {
    /// Simple queries and syncs: the messages that the client waits for.
    round_trips: AtomicU64,
    /// The commands that the server has completed.
    statements: AtomicU64,
}

impl Counts {
    fn now(&self) -> [u64; 2] {
        [self.round_trips.load(Ordering::Relaxed), self.statements.load(Ordering::Relaxed)]
    }
}

/// Forwards everything and calls `count` with the type of each message. The first message of a client has no type.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is_typed: bool,
    count: impl Fn(u8),
) -> io::Result<()> {
    let (mut buffer, mut pending) = (vec![0; 65_536], Vec::new());
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).await?;
        pending.extend_from_slice(&buffer[..n]);
        loop {
            let head = usize::from(is_typed);
            let Some(length) = pending.get(head..head + 4) else { break };
            let length = u32::from_be_bytes(length.try_into().unwrap_or_default()) as usize + head;
            if pending.len() < length {
                break;
            }
            if is_typed {
                count(pending[0]);
            }
            pending.drain(..length);
            is_typed = true;
        }
    }
}

/// A path to the server on which messages are counted.
async fn counted(server: &PgConnectOptions) -> (PgConnectOptions, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let upstream = format!("{}:{}", server.get_host(), server.get_port());
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&upstream).await else { continue };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let (asked, answered) = (Arc::clone(&counted), Arc::clone(&counted));
            tokio::spawn(pass(from_client, to_server, false, move |kind| {
                asked.round_trips.fetch_add(u64::from(matches!(kind, b'Q' | b'S')), Ordering::Relaxed);
            }));
            tokio::spawn(pass(from_server, to_client, true, move |kind| {
                answered.statements.fetch_add(u64::from(kind == b'C'), Ordering::Relaxed);
            }));
        }
    });
    (server.clone().host("127.0.0.1").port(port).ssl_mode(PgSslMode::Disable), counts)
}

#[tokio::main]
async fn main() -> Result<(), sqlx::Error> {
    println!("| database | callers | by hand /s | layer /s | ratio | reusing /s | ratio | with keys /s | ratio |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");

    let file = env::temp_dir().join(format!("mcp-patterns-bench-{}.db", std::process::id()));
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(30));
    let pool = SqlitePoolOptions::new().max_connections(16).connect_with(options).await?;
    prepare(&pool).await?;
    let layered = layer(&pool).layer(sqlite_layered());
    let reusing = Transactor::new(pool.clone()).with_connection_reuse();
    let reusing = TransactionalTool::new(reusing).only(["transfer"]).layer(sqlite_layered());
    let keyed = layer(&pool).with_idempotency(Idempotency::new()).layer(sqlite_layered());
    let by_hand = sqlite_by_hand(&pool, "BEGIN IMMEDIATE", None);
    compare("SQLite", &by_hand, [&layered, &reusing, &keyed], 800).await;
    pool.close().await;
    for leftover in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{leftover}", file.display()));
    }

    let url = env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into());
    let schema = format!("mcp_patterns_bench_{}", std::process::id());
    let options: PgConnectOptions = url.parse()?;
    let options = options.options([("search_path", schema.as_str())]);
    let pool = PgPoolOptions::new().max_connections(16).connect_with(options.clone()).await?;
    sqlx::query(AssertSqlSafe(format!("create schema {schema}"))).execute(&pool).await?;
    prepare(&pool).await?;
    let layered = layer(&pool).layer(postgres_layered());
    let reusing = Transactor::new(pool.clone()).with_connection_reuse();
    let reusing = TransactionalTool::new(reusing).only(["transfer"]).layer(postgres_layered());
    let keyed = layer(&pool).with_idempotency(Idempotency::new()).layer(postgres_layered());
    let by_hand = postgres_by_hand(&pool, "BEGIN", None);
    compare("PostgreSQL", &by_hand, [&layered, &reusing, &keyed], 1600).await;
    let same_statements = postgres_by_hand(
        &pool,
        "BEGIN; SET LOCAL statement_timeout = 30000",
        // Dropping it then rolls the new transaction back.
        Some("SET CONSTRAINTS ALL IMMEDIATE; COMMIT AND CHAIN"),
    );
    println!("\n| database | callers | by hand /s | by hand, with the layer's statements /s | ratio |");
    println!("| --- | --- | --- | --- | --- |");
    for callers in [1, 16] {
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            times[0].push(timed(&by_hand, callers, 1600, false).await);
            times[1].push(timed(&same_statements, callers, 1600, false).await);
        }
        let [by_hand, same_statements] = times.map(|times| per_second(times, 1600));
        let ratio = same_statements / by_hand;
        println!("| PostgreSQL | {callers} | {by_hand:.0} | {same_statements:.0} | {ratio:.2} |");
    }

    println!("\n| PostgreSQL, per transfer | round trips | statements |\n| --- | --- | --- |");
    let (through, counts) = counted(&options).await;
    let counted = PgPoolOptions::new().max_connections(1).connect_with(through).await?;
    let by_hand = postgres_by_hand(&counted, "BEGIN", None);
    let layered = layer(&counted).layer(postgres_layered());
    let keyed = layer(&counted).with_idempotency(Idempotency::new()).layer(postgres_layered());
    let reusing = Transactor::new(counted.clone()).with_connection_reuse();
    let reusing = TransactionalTool::new(reusing).only(["transfer"]).layer(postgres_layered());
    for name in ["by hand", "layer", "layer with connection reuse", "layer with keys"] {
        let mut before = [0; 2];
        // A statement is prepared once: the first calls are not counted.
        for calls in [10, 100] {
            // The connection is back in the pool, and its ping is counted.
            drop(counted.acquire().await?);
            before = counts.now();
            match name {
                "by hand" => timed(&by_hand, 1, calls, false).await,
                "layer" => timed(&layered, 1, calls, false).await,
                "layer with keys" => timed(&keyed, 1, calls, true).await,
                _ => timed(&reusing, 1, calls, false).await,
            };
        }
        drop(counted.acquire().await?);
        let [round_trips, statements] = counts.now();
        let per_transfer = |count: u64, before: u64| (count - before) as f64 / 100.0;
        println!(
            "| {name} | {:.1} | {:.1} |",
            per_transfer(round_trips, before[0]),
            per_transfer(statements, before[1])
        );
    }
    sqlx::query(AssertSqlSafe(format!("drop schema {schema} cascade"))).execute(&pool).await?;
    Ok(())
}
