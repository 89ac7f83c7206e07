//! What is missing: the table of the records, a transaction, or one on this kind of database.

use serde_json::json;
use sqlx::{Postgres, Sqlite};
use turbomcp_core::{ErrorKind, McpHandler, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::TestDb;
use super::on_each_database;
use crate::idempotency_keys::Idempotency;
use crate::testing::{ScriptedServer, databases};
use crate::transactional::{Dialect, TransactionError, Transactor, current};
use crate::{Layer, TransactionalTool, TryLayer};

const SENTENCE: &str = "TransactionalTool: the database has no table `mcp_patterns_idempotency`: call \
                        `TransactionalTool::ensure_schema(&pool)` before the server starts";

fn shop() -> ScriptedServer {
    ScriptedServer::new("shop")
        .with_plain("order", |_| async { Ok(ToolResult::text("ordered")) })
        .with_plain("ship", |_| async { Ok(ToolResult::text("shipped")) })
        .with_read_only("look", |_| async { Ok(ToolResult::text("looked")) })
}

async fn says_how_to_create_the_table<DB: Dialect>(pool: sqlx::Pool<DB>) {
    let script = shop();
    let layer = TransactionalTool::new(pool.clone()).only(["order"]);
    layer.clone().layer(script.clone()).on_initialize().await.expect("without keys, no table is needed");
    let server = layer.with_idempotency(Idempotency::new()).layer(script.clone());
    let refused = server.on_initialize().await.expect_err("a server without a table does not start");
    assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::Configuration, SENTENCE));

    let args = json!({"idempotency_key": "k"});
    let refused = server.call_tool("order", args.clone(), &RequestContext::new()).await.expect("a result");
    let expected = format!("Idempotency keys cannot be used: {SENTENCE}; nothing was done");
    assert_eq!(refused.first_text(), Some(expected.as_str()));
    let meta = refused.meta.as_ref().expect("a kind");
    assert_eq!(meta["io.turbomcp/errorKind"], "internal");
    assert_eq!(meta["io.turbomcp/errorData"], json!({"mcp-patterns/transaction": "no_table"}));
    assert_eq!(script.calls("order"), 0);

    TransactionalTool::ensure_schema(&pool).await.expect("the table can be created");
    server.on_initialize().await.expect("the server starts");
    let ordered = server.call_tool("order", args, &RequestContext::new()).await.expect("a result");
    assert_eq!(ordered.first_text(), Some("ordered"));
}

#[tokio::test]
async fn a_missing_table_stops_the_start_and_names_what_creates_it_on_sqlite() {
    let file = databases::sqlite().await;
    says_how_to_create_the_table(file.pool.clone()).await;
}

#[tokio::test]
async fn a_missing_table_stops_the_start_and_names_what_creates_it_on_postgres() {
    says_how_to_create_the_table(databases::postgres_schema(databases::postgres_options(), 2).await).await;
}

/// Returns what code reads that asks for a transaction on `Other` inside one on `Open`.
async fn asked<Open: TestDb, Other: Dialect>() -> String {
    let transactor = Transactor::new(Open::pool().await);
    let asked = transactor.run(&(), || async { Ok::<_, TransactionError>(current::<Other>().await.map(drop)) }).await;
    asked.expect("the transaction itself succeeds").expect_err("none is open on that database").to_string()
}

#[tokio::test]
async fn code_that_asks_for_the_wrong_database_reads_which_one_is_open() {
    assert_eq!(
        asked::<Postgres, Sqlite>().await,
        "The open transaction is on PostgreSQL, and this tool asks for one on SQLite: give `current` the type of the database that \
         the `TransactionalTool` has"
    );
    assert!(asked::<Sqlite, Postgres>().await.starts_with("The open transaction is on SQLite, and this tool asks for"));
}

#[tokio::test]
async fn a_required_key_of_a_tool_that_takes_none_is_a_mistake_with_its_reason() {
    let file = databases::sqlite().await;
    let pool = file.pool.clone();
    let mistake = |layer: TransactionalTool<Sqlite>, required: &str| {
        let layer = layer.with_idempotency(Idempotency::new().required_for([required]));
        layer.try_layer(shop()).map(drop).expect_err("it takes no key").to_string()
    };
    let layer = || TransactionalTool::new(pool.clone());
    assert_eq!(
        mistake(layer().only(["order"]), "ship"),
        "Idempotency::required_for: `ship` takes no key, since TransactionalTool does not act on it, or it is annotated `read_only`: \
         add it to `TransactionalTool::only`, or remove it here"
    );
    assert!(mistake(layer().only(["order", "look"]), "look").contains("`look` takes no key"));
    assert!(mistake(layer().every_write().except(["ship"]), "ship").contains("`ship` takes no key"));
    assert!(mistake(layer().only(["order"]), "ordr").contains("which the server does not have: did you mean `order`?"));
}

async fn a_body_outside_a_transaction_reads_where_there_is_one<DB: TestDb>() {
    assert_eq!(
        current::<DB>().await.expect_err("there is none").to_string(),
        "No transaction is open here: name the tool in `TransactionalTool::only`. A task that the tool spawns has no transaction"
    );
}

on_each_database!(a_body_outside_a_transaction_reads_where_there_is_one);

/// A replica that starts during a deployment does not wait for the transactions of the others, nor hold them up.
#[tokio::test]
async fn a_schema_that_exists_is_ensured_beside_an_open_transaction_that_has_written_to_it() {
    let impatient = databases::postgres_options().options([("lock_timeout", "1s")]);
    let pool = databases::postgres_schema(impatient, 2).await;
    TransactionalTool::<Postgres>::ensure_schema(&pool).await.expect("the table can be created");
    let mut open = pool.begin().await.expect("a transaction");
    sqlx::raw_sql("delete from mcp_patterns_idempotency").execute(&mut *open).await.expect("the table is there");
    TransactionalTool::<Postgres>::ensure_schema(&pool).await.expect("nothing is to be created");
    open.rollback().await.expect("the transaction is still open");
}
