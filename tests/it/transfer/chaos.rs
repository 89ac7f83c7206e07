//! Transfers that fail, panic and are dropped at any moment, two thousand at the same time.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mcp_patterns::idempotency::Idempotency;
use mcp_patterns::outcome;
use mcp_patterns::transactional::{Dialect, Transactor, current};
use mcp_patterns::{Layer, RetryTool, TransactionalTool};
use serde_json::json;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Pool, Postgres, Sqlite, SqliteConnection};
use turbomcp::{McpError, McpHandler, McpResult, RequestContext};

use super::books::Books;
use crate::client::patiently;
use crate::support::Database;

#[expect(unreachable_pub, reason = "the example's own file")]
#[path = "../../../examples/transfer/amount.rs"]
mod amount;
#[expect(unreachable_pub, reason = "the example's own file")]
#[path = "../../../examples/transfer/ledger.rs"]
mod ledger;
#[expect(unreachable_pub, reason = "the example's own file")]
#[path = "../../../examples/transfer/server.rs"]
mod server;

use amount::Cents;
use ledger::{Account, Entry, Ledger, Tables};
use server::TransferServer;

const CALLS: usize = 2_000;
const ACCOUNTS: i64 = 20;
/// Fewer than the calls, so that some keys are used more than once.
const KEYS: i64 = 1_200;

/// The example's ledger, on which any step may go wrong before or after it.
#[derive(Debug)]
struct Faulty<L> {
    ledger: L,
    rng: Mutex<fastrand::Rng>,
    swallow: fn() -> BoxFuture<'static, ()>,
}

impl<L: Ledger> Faulty<L> {
    async fn step<T>(&self, step: BoxFuture<'_, McpResult<T>>) -> McpResult<T> {
        self.fault().await?;
        let done = step.await?;
        self.fault().await?;
        Ok(done)
    }

    async fn fault(&self) -> McpResult<()> {
        let chance = self.rng.lock().expect("never poisoned").u32(0..160);
        match chance {
            0 | 1 => Err(McpError::internal("injected")),
            2 | 3 => Err(McpError::unavailable("injected")),
            // Unlike `panic!`, this says nothing on stderr.
            4 => resume_unwind(Box::new("injected")),
            5 => {
                (self.swallow)().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Makes a statement fail and tells nobody.
fn swallow<DB: Dialect>() -> BoxFuture<'static, ()>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    Box::pin(async {
        let mut db = current::<DB>().await.expect("in a transaction");
        let failed = (&mut *db).execute("select nothing from nowhere").await;
        assert!(failed.is_err());
    })
}

impl<L: Ledger> Ledger for Faulty<L> {
    fn lock(&self, accounts: [i64; 2]) -> BoxFuture<'_, McpResult<Vec<i64>>> {
        Box::pin(self.step(self.ledger.lock(accounts)))
    }
    fn debit(&self, account: i64, amount: Cents) -> BoxFuture<'_, McpResult<bool>> {
        Box::pin(self.step(self.ledger.debit(account, amount)))
    }
    fn credit(&self, account: i64, amount: Cents) -> BoxFuture<'_, McpResult<()>> {
        Box::pin(self.step(self.ledger.credit(account, amount)))
    }
    fn record(&self, from: i64, to: i64, amount: Cents) -> BoxFuture<'_, McpResult<()>> {
        Box::pin(self.step(self.ledger.record(from, to, amount)))
    }
    fn account(&self, account: i64) -> BoxFuture<'_, McpResult<Option<Account>>> {
        self.ledger.account(account)
    }
    fn open<'a>(&'a self, owner: &'a str, deposit: Cents) -> BoxFuture<'a, McpResult<i64>> {
        self.ledger.open(owner, deposit)
    }
    fn history(&self, account: i64) -> BoxFuture<'_, McpResult<Vec<Entry>>> {
        self.ledger.history(account)
    }
}

/// A call, and what its caller knows of it.
struct Call {
    cents: i64,
    is_keyed: bool,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Succeeded,
    Failed,
    /// The caller went away, or was told that nobody knows.
    Unknown,
}

/// Polls `future` no more often than that: a caller who leaves in the middle of anything.
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

async fn make_calls<DB: Dialect + Tables>(
    pool: &Pool<DB>,
    ledger: DB,
    swallow: fn() -> BoxFuture<'static, ()>,
) -> Vec<Call> {
    DB::make(pool).await.expect("no tables");
    TransactionalTool::ensure_schema(pool).await.expect("no table of keys");
    for _ in 0..ACCOUNTS {
        let opened = Transactor::new(pool.clone()).run(&(), || ledger.open("acme", Cents(1_000_00))).await;
        opened.expect("no account");
    }
    // Two thousand callers for a handful of connections: all of them wait, and none because of a fault.
    let transactor = Transactor::new(pool.clone()).with_timeout(Duration::from_secs(100)).with_max_attempts(50);
    let transactional = TransactionalTool::new(transactor).every_write().with_idempotency(Idempotency::new());
    let faulty = Faulty { ledger, rng: Mutex::new(fastrand::Rng::with_seed(11)), swallow };
    let server = (RetryTool::new(), transactional).layer(TransferServer::new(faulty));

    let mut rng = fastrand::Rng::with_seed(7);
    let calls = (0..).take(CALLS).map(|call| {
        let is_keyed = rng.u8(0..4) > 0;
        // No two intentions move the same amount, so that the history tells them apart.
        let cents = if is_keyed { rng.i64(1..=KEYS) } else { KEYS + 1 + call };
        let (from, to) = (cents % ACCOUNTS + 1, (cents + 1 + cents % (ACCOUNTS - 1)) % ACCOUNTS + 1);
        let mut args = json!({ "from_account": from, "to_account": to, "amount": Cents(cents).to_string() });
        if is_keyed {
            args["idempotency_key"] = format!("key-{cents}").into();
        }
        let polls = (rng.u8(0..8) == 0).then(|| rng.u32(1..25));
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
    // A task begins when it is made: every call is on its way before the first is waited for.
    let calls: Vec<_> = calls.collect();
    join_all(calls).await
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
        succeeded > 800 && failed > 100 && unknown > 50,
        "{succeeded} succeeded, {failed} failed, {unknown} unknown"
    );
    let replayed = calls.iter().filter(|call| call.is_keyed && call.end == End::Succeeded).count();
    let keys = times.keys().filter(|cents| **cents <= KEYS).count();
    assert!(replayed > keys, "no key was used twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_transfers_on_a_file_among_all_kinds_of_failures_lose_no_cent() {
    patiently(async {
        let database = Database::file();
        let options: SqliteConnectOptions = database.url().parse().expect("a URL");
        let options = options.create_if_missing(true).foreign_keys(true).journal_mode(SqliteJournalMode::Wal);
        let patience = Duration::from_secs(100);
        let pool = PoolOptions::new().max_connections(4).acquire_timeout(patience).connect_with(options).await;
        let pool: Pool<Sqlite> = pool.expect("no pool");

        let calls = make_calls(&pool, Sqlite, swallow::<Sqlite>).await;

        // Whoever has all connections knows that nobody is at work any more.
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(pool.acquire().await.expect("a connection"));
        }
        let mut db = SqliteConnection::connect(&database.url()).await.expect("no connection");
        let write = "pragma busy_timeout = 0; begin immediate; update accounts set owner = 'globex'; commit";
        sqlx::raw_sql(write).execute(&mut db).await.expect("a transaction is still open");
        check(&calls, &database).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_transfers_on_postgres_among_all_kinds_of_failures_lose_no_cent() {
    patiently(async {
        let database = Database::postgres().await;
        let patience = Duration::from_secs(100);
        let pool = PoolOptions::new().max_connections(10).acquire_timeout(patience).connect(&database.url()).await;
        let pool: Pool<Postgres> = pool.expect("no pool");

        let calls = make_calls(&pool, Postgres, swallow::<Postgres>).await;

        // Whoever has all connections knows that nobody is at work any more.
        let mut all = Vec::new();
        for _ in 0..10 {
            all.push(pool.acquire().await.expect("a connection"));
        }
        let mut db = PgConnection::connect(&database.url()).await.expect("no connection");
        let states = "select state from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
                      and backend_type = 'client backend'";
        let states: Vec<String> = sqlx::query_scalar(AssertSqlSafe(states)).fetch_all(&mut db).await.expect("no states");
        assert_eq!(states, ["idle"; 10], "a transaction is still open");
        check(&calls, &database).await;
    })
    .await;
}
