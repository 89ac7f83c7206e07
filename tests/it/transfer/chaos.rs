//! Two thousand concurrent transfers that fail, panic and are dropped at any moment.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::outcome;
use mcp_patterns::transactional::{Dialect, Transactor};
use mcp_patterns::{Layer, RetryTool, TransactionalTool};
use serde_json::{Value, json};
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Connection, PgConnection, Pool, Postgres, Sqlite, SqliteConnection};
use turbomcp::{McpHandler, RequestContext};

use super::books::Books;
use super::faulty::{Faulty, amount::Cents, ledger::Tables, server::TransferServer, swallow};
use crate::client::patiently;
use crate::support::Database;

const CALLS: usize = 2_000;
/// The longest wait of a call for the others.
const PATIENCE: Duration = Duration::from_secs(100);
const ACCOUNTS: i64 = 20;
/// Fewer than the calls, so that some keys are used more than once.
const KEYS: i64 = 1_200;

/// A call, and its outcome for the caller.
struct Call {
    cents: i64,
    is_keyed: bool,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Succeeded,
    Failed,
    /// The caller left, or got an unknown outcome.
    Unknown,
}

/// Polls `future` at most that many times: a caller who leaves at any point.
async fn dropped_after<F: Future>(polls: Option<u32>, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|cx| match &mut left {
        Some(0) => Poll::Ready(None),
        left => {
            *left = left.map(|left| left - 1);
            future.as_mut().poll(cx).map(Some)
        }
    })
    .await
}

/// The example's server with the example's layers, and twenty accounts.
async fn server<DB: Dialect + Tables>(
    transactor: Transactor<DB>,
    pool: &Pool<DB>,
    ledger: DB,
    swallow: fn() -> BoxFuture<'static, ()>,
) -> impl McpHandler {
    DB::make(pool).await.expect("no tables");
    TransactionalTool::ensure_schema(pool).await.expect("no table of keys");
    for _ in 0..ACCOUNTS {
        let opened = Transactor::new(pool.clone()).run(&(), || ledger.open("acme", Cents(100_000))).await;
        opened.expect("no account");
    }
    // Two thousand callers for a few connections: all of them wait, but not because of a fault.
    let transactor = transactor.with_timeout(PATIENCE).with_max_attempts(50);
    let transactional =
        TransactionalTool::new(transactor).every_write().with_idempotency(Idempotency::new()).with_wait(PATIENCE);
    let faulty = Faulty::new(ledger, 11, swallow);
    (RetryTool::new(), transactional).layer(TransferServer::new(faulty))
}

/// The arguments of a call. No two keys move the same amount, so the history distinguishes them.
fn arguments(cents: i64) -> Value {
    let (from, to) = (cents % ACCOUNTS + 1, (cents + 1 + cents % (ACCOUNTS - 1)) % ACCOUNTS + 1);
    json!({ "from_account": from, "to_account": to, "amount": Cents(cents).to_string() })
}

async fn make_calls(server: &impl McpHandler) -> Vec<Call> {
    let mut rng = fastrand::Rng::with_seed(7);
    let calls = (0..).take(CALLS).map(|call| {
        let is_keyed = rng.u8(0..4) > 0;
        let cents = if is_keyed { rng.i64(1..=KEYS) } else { KEYS + 1 + call };
        let mut args = arguments(cents);
        if is_keyed {
            args["idempotency_key"] = format!("key-{cents}").into();
        }
        let polls = (rng.u8(0..4) == 0).then(|| rng.u32(1..9));
        let server = server.clone();
        let called = tokio::spawn(async move {
            let ctx = RequestContext::new();
            dropped_after(polls, server.call_tool("transfer", args, &ctx)).await
        });
        async move {
            let end = match called.await {
                Ok(None) => End::Unknown,
                Ok(Some(result)) => match outcome::failure(&result) {
                    None => End::Succeeded,
                    Some(failure) if failure.data().is_some_and(|data| data.to_string().contains("unknown")) => {
                        End::Unknown
                    }
                    Some(_) => End::Failed,
                },
                Err(panicked) => {
                    assert!(panicked.is_panic());
                    End::Failed
                }
            };
            Call { cents, is_keyed, end }
        }
    });
    // A task starts when it is spawned: every call runs before the first is awaited.
    let calls: Vec<_> = calls.collect();
    join_all(calls).await
}

/// As many callers as there are connections leave after this many polls.
async fn leave_after(polls: u32, callers: u32, server: &impl McpHandler) {
    let calls = (0..callers).map(|caller| {
        let (server, args) = (server.clone(), arguments(10_000 + i64::from(100 * polls + caller)));
        tokio::spawn(async move {
            let ctx = RequestContext::new();
            dropped_after(Some(polls), server.call_tool("transfer", args, &ctx)).await
        })
    });
    let calls: Vec<_> = calls.collect();
    // Some of them panic on purpose.
    let _ = join_all(calls).await;
}

/// A caller that holds all connections knows that no other work is running.
async fn all_connections<DB: sqlx::Database>(pool: &Pool<DB>, connections: u32) -> Vec<PoolConnection<DB>> {
    let mut all = Vec::new();
    for _ in 0..connections {
        all.push(pool.acquire().await.expect("a connection"));
    }
    all
}

async fn check(calls: &[Call], database: &Database) {
    let books = Books::of(database).await;
    books.check();
    let times = books.times();
    for (cents, times) in &times {
        assert_eq!(*times, 1, "{cents} cents were transferred {times} times");
    }
    for call in calls {
        let is_booked = times.contains_key(&call.cents);
        match call.end {
            End::Succeeded => assert!(is_booked, "{} cents were lost", call.cents),
            End::Failed => assert!(call.is_keyed || !is_booked, "{} cents moved although the call failed", call.cents),
            End::Unknown => {}
        }
    }
    let count = |end: End| calls.iter().filter(|call| call.end == end).count();
    let [succeeded, failed, unknown] = [End::Succeeded, End::Failed, End::Unknown].map(count);
    assert!(
        succeeded > 800 && failed > 100 && unknown > 100,
        "{succeeded} succeeded, {failed} failed, {unknown} unknown"
    );
    let replayed = calls.iter().filter(|call| call.is_keyed && call.end == End::Succeeded).count();
    let keys = times.keys().filter(|cents| **cents <= KEYS).count();
    assert!(replayed > keys, "no key was used twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_transfers_on_a_file_under_all_kinds_of_failures_lose_no_cent() {
    const CONNECTIONS: u32 = 4;
    patiently(async {
        let database = Database::file();
        let options: SqliteConnectOptions = database.url().parse().expect("a URL");
        let options = options.create_if_missing(true).foreign_keys(true).journal_mode(SqliteJournalMode::Wal);
        let pool = PoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options);
        let pool: Pool<Sqlite> = pool.await.expect("no pool");
        let server = server(Transactor::new(pool.clone()), &pool, Sqlite, swallow::<Sqlite>).await;

        let calls = make_calls(&server).await;

        let mut db = SqliteConnection::connect(&database.url()).await.expect("no connection");
        for polls in 1..20 {
            leave_after(polls, CONNECTIONS, &server).await;
            let _all = all_connections(&pool, CONNECTIONS).await;
            let write = "pragma busy_timeout = 0; begin immediate; update accounts set owner = 'globex'; commit";
            sqlx::raw_sql(write).execute(&mut db).await.expect("a transaction is still open");
        }
        check(&calls, &database).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_transfers_on_postgres_under_all_kinds_of_failures_lose_no_cent() {
    two_thousand_transfers_on_postgres(Transactor::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_transfers_on_reused_connections_lose_no_cent() {
    two_thousand_transfers_on_postgres(|pool| Transactor::new(pool).with_connection_reuse()).await;
}

async fn two_thousand_transfers_on_postgres(transactor: fn(Pool<Postgres>) -> Transactor<Postgres>) {
    const CONNECTIONS: u32 = 10;
    patiently(async {
        let database = Database::postgres().await;
        let url = database.url();
        let pool = PoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect(&url);
        let pool: Pool<Postgres> = pool.await.expect("no pool");
        let server = server(transactor(pool.clone()), &pool, Postgres, swallow::<Postgres>).await;

        let calls = make_calls(&server).await;

        let mut db = PgConnection::connect(&database.url()).await.expect("no connection");
        for polls in 1..20 {
            leave_after(polls, CONNECTIONS, &server).await;
            let _all = all_connections(&pool, CONNECTIONS).await;
            let states = "select state from pg_stat_activity where datname = current_database() \
                          and pid <> pg_backend_pid() and backend_type = 'client backend'";
            let states: Vec<String> = sqlx::query_scalar(states).fetch_all(&mut db).await.expect("no states");
            // The server may not have noticed yet that the pool has replaced one.
            assert!(states.len() >= CONNECTIONS as usize, "not all connections are there: {states:?}");
            assert!(states.iter().all(|state| state == "idle"), "a transaction is still open: {states:?}");
        }
        check(&calls, &database).await;
    })
    .await;
}
