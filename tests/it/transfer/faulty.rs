//! The example's server on a ledger whose every step may fail.

use std::panic::resume_unwind;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use mcp_patterns::transactional::{Dialect, current};
use sqlx::Executor;
use turbomcp::{McpError, McpResult};

#[expect(unreachable_pub, reason = "the example's own file")]
#[path = "../../../examples/transfer/amount.rs"]
pub(super) mod amount;
#[expect(unreachable_pub, reason = "the example's own file")]
#[path = "../../../examples/transfer/ledger.rs"]
pub(super) mod ledger;
#[expect(unreachable_pub, reason = "the example's own file")]
#[path = "../../../examples/transfer/server.rs"]
pub(super) mod server;

use amount::Cents;
use ledger::{Account, Entry, Ledger};

/// The example's ledger, on which any step may fail before or after it.
#[derive(Debug)]
pub(super) struct Faulty<L> {
    ledger: L,
    rng: Mutex<fastrand::Rng>,
    swallow: fn() -> BoxFuture<'static, ()>,
}

impl<L: Ledger> Faulty<L> {
    pub(super) fn new(ledger: L, seed: u64, swallow: fn() -> BoxFuture<'static, ()>) -> Self {
        Self { ledger, rng: Mutex::new(fastrand::Rng::with_seed(seed)), swallow }
    }

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
            // Unlike `panic!`, this writes nothing to stderr.
            4 => resume_unwind(Box::new("injected")),
            5 => {
                (self.swallow)().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Makes a statement fail without reporting it.
pub(super) fn swallow<DB: Dialect>() -> BoxFuture<'static, ()>
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
