//! Scene: money moves once, or not at all.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use mcp_patterns::{
    Layer, Middleware, RetryTool, TransactionalTool,
    idempotency_keys::{IDEMPOTENCY, Idempotency},
    layer,
    transactional::Transactor,
};
use serde_json::{Value, json};
use sqlx::{Sqlite, SqlitePool};
use turbomcp::prelude::*;

use crate::{
    backstage::{Answer, Client},
    stage::{Cell, Failure, Stage, Table, check, number, text},
    transfer::{
        amount::Cents,
        database,
        ledger::{Ledger, Tables},
        server::TransferServer,
    },
};

/// Lets a transfer succeed and then turns its answer into a failure, this many times.
#[derive(Debug, Clone)]
struct CutsConnection {
    left: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl CutsConnection {
    fn new(times: u64) -> Self {
        Self { left: Arc::new(times.into()), calls: Arc::default() }
    }
}

impl Middleware for CutsConnection {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let result = inner.call_tool(name, args, ctx).await;
        if name == "transfer" {
            self.calls.fetch_add(1, Relaxed);
            let strikes = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            if strikes {
                return Err(McpError::unavailable("The line went dead"));
            }
        }
        result
    }
}

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Money moves once, or not at all",
        "Two accounts in SQLite have $100.00 each. A call moves $12.50 from 1 to 2. A layer of the tour cuts the connection after \
         the tool: first before the commit, then between the commit and the caller.",
    )?;
    let halfway = CutsConnection::new(1);
    let pool = accounts().await?;
    let transactional = TransactionalTool::new(pool).when(|_| true);
    let server = (transactional, layer(halfway.clone())).layer(TransferServer::new(Sqlite));
    stage.code(include_str!("money.rs"), ["let transactional =", "let server = (transactional"])?;
    let client = Client::connect(&server).await?;
    let before = balances(&client).await?;
    let cut = client.call("transfer", json!({"from_account": 1, "to_account": 2, "amount": 12.50})).await;
    let undone = balances(&client).await?;
    check("the transfer that was cut off half-way failed", cut.is_err(), true)?;
    check("dollars that a failed transfer moved", u64::from(before != undone), 0)?;

    let lost = CutsConnection::new(1);
    let pool = accounts().await?;
    TransactionalTool::ensure_schema(&pool).await?;
    let keyed = TransactionalTool::new(pool).when(|_| true).with_idempotency(Idempotency::new());
    let server = (RetryTool::new(), layer(lost.clone()), keyed).layer(TransferServer::new(Sqlite));
    stage.code(include_str!("money.rs"), ["let keyed =", "let server = (RetryTool"])?;
    let client = Client::connect(&server).await?;
    let transfer = json!({"from_account": 1, "to_account": 2, "amount": 12.50, "idempotency_key": "tour-1"});
    let answer = client.call("transfer", transfer).await?;
    let moved = balances(&client).await?;
    check("the retried transfer failed", answer.is_error(), false)?;
    check("times the retried transfer was called", lost.calls.load(Relaxed), 2)?;
    check(
        "accounts that hold what one transfer leaves",
        moved.iter().filter(|held| **held == "$87.50" || **held == "$112.50").count(),
        2,
    )?;

    let rows = Table::new(["what happens", "called", "the caller gets", "account 1", "account 2"])
        .row(row("to begin with", 0, "", &before))
        .row(row("cut off before the commit", halfway.calls.load(Relaxed), "a failure", &undone))
        .row(row("answer lost after the commit", lost.calls.load(Relaxed), answer.text(), &moved));
    stage.table(&rows)?;
    stage.conclude(&format!(
        "The transfer that failed half-way changed nothing. The one whose answer was lost was called {} times and took effect once: \
         the second answer was {}.",
        lost.calls.load(Relaxed),
        replayed(&answer)?
    ))?;
    stage.note("TransactionalTool", "undid a transfer that failed half-way");
    stage.note("TransactionalTool", format!("{} calls with one key moved the money once", lost.calls.load(Relaxed)));
    Ok(())
}

/// Opens two accounts with $100.00 each, in memory.
async fn accounts() -> Result<SqlitePool, Failure> {
    let pool = database::sqlite("sqlite::memory:", 1).await?;
    Sqlite::make(&pool).await?;
    for owner in ["acme", "globex"] {
        Transactor::new(pool.clone()).run(&(), || Sqlite.open(owner, Cents(10_000))).await?;
    }
    Ok(pool)
}

async fn balances(client: &Client) -> Result<[String; 2], Failure> {
    let mut held = [const { String::new() }; 2];
    for (account, held) in (1..).zip(&mut held) {
        let answer = client.call("balance", json!({ "account": account })).await?;
        *held = answer.text().rsplit(' ').next().unwrap_or_default().to_owned();
    }
    Ok(held)
}

fn replayed(answer: &Answer) -> Result<&'static str, Failure> {
    match answer.meta(IDEMPOTENCY).and_then(Value::as_str) {
        Some("replayed") => Ok("the first one, replayed"),
        other => Err(Failure::new(format!("an answer that was replayed says so, and not {other:?}"))),
    }
}

fn row(what: &str, called: u64, heard: &str, held: &[String; 2]) -> [Cell; 5] {
    [text(what).strong(), number(called), text(heard), text(&held[0]), text(&held[1])]
}
