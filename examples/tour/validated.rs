//! Scene: bad input never reaches the tool.

use std::sync::Arc;

use futures_util::future::join_all;
use mcp_patterns::{Layer, TransactionalTool};
use serde_json::json;
use sqlx::Sqlite;

use crate::{
    backstage::Client,
    stage::{Failure, Stage, Table, check, number, text},
    transfer::database,
    users::{
        server::{UsersServer, validated},
        store::{Store, Tables},
    },
};

const UNITS: usize = 100;
const ORDERS: usize = 500;

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Bad input never reaches the tool",
        "A model makes up arguments. The layer lists all that is wrong in one answer: by the tool's own schema, by types, and by \
         rules that read the database. The tool is not called.",
    )?;
    let pool = database::sqlite("sqlite::memory:", 1).await?;
    Tables::<Sqlite>::make(&pool).await?;
    let store: Arc<dyn Store> = Arc::new(Tables(pool.clone()));
    let transactional = TransactionalTool::new(pool).every_write();
    let server = (validated(&store), transactional).layer(UsersServer::new(store));
    stage.code(include_str!("validated.rs"), ["let server = (validated"])?;
    let client = Client::connect(&server).await?;

    let user = json!({"username": "ada", "email": "ada@example.org", "age": 36});
    let order = |product: u64, quantity: u64| json!({"user_id": 1, "product_id": product, "quantity": quantity});
    let guessable = json!({"data": {"username": "bob", "email": "b@example.org", "age": 20, "password": "12345678"}});
    let mut table = Table::new(["call", "the model reads"]);
    let mut told = 0;
    for (tool, arguments, violations) in [
        ("create_user", json!({"username": "a!", "mail": "nonsense", "age": 17}), 5),
        ("create_user", user, 0),
        ("register", guessable, 1),
        ("create_order", order(2, 5), 1),
        ("create_order", order(3, 1), 1),
    ] {
        let answer = client.call(tool, arguments).await?;
        let lines: Vec<_> = answer.text().lines().map(str::to_owned).collect();
        check("a call with bad input failed", answer.is_error(), violations > 0)?;
        if violations > 0 {
            check("violations in one answer", lines.len(), violations)?;
        }
        check("rejected values that were repeated", lines.iter().filter(|line| line.contains("12345678")).count(), 0)?;
        told += violations;
        for (position, line) in lines.into_iter().enumerate() {
            let line = text(line);
            let line = if answer.is_error() { line.bad() } else { line.good() };
            table = table.row([text(if position == 0 { tool } else { "" }).strong(), line]);
        }
    }
    stage.table(&table)?;

    let orders = (0..ORDERS).map(|_| client.call("create_order", order(1, 1)));
    let (mut ordered, mut refused) = (0, 0);
    for answer in join_all(orders).await {
        let answer = answer?;
        match answer.text() {
            text if text.ends_with("Only 0 units available") => refused += 1,
            _ if !answer.is_error() => ordered += 1,
            other => return Err(Failure::new(format!("an order was answered with: {other}"))),
        }
    }
    check("orders for the units in stock", ordered, UNITS)?;
    check("orders that were refused in so many words", refused, ORDERS - UNITS)?;
    let rows = Table::new(["orders at the same time", "ordered", "refused: only 0 units available"]).row([
        number(ORDERS),
        number(ordered),
        number(refused),
    ]);
    stage.table(&rows)?;
    stage.conclude(&format!(
        "4 answers listed {told} violations. Of {ORDERS} concurrent orders for {UNITS} units, {ordered} succeeded: the rule rejects \
         early, and the condition in the statement decides."
    ))?;
    stage.note("ValidatedTool", format!("listed {told} violations in 4 answers"));
    stage.note("ValidatedTool", format!("{ORDERS} orders for {UNITS} units: {ordered} succeeded"));
    Ok(())
}
