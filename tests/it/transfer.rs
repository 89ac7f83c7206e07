//! The transfer example, through a real client, and money under every kind of failure.

pub(crate) mod books;
mod chaos;
mod clocks;
mod faulty;
mod keys;
mod killed;
mod skew;
mod tools;
mod twins;
mod waiting;

use rmcp::model::CallToolResult;
use serde_json::{Value, json};

use crate::client::{Client, Server, Transport};
use crate::support::Database;

/// Runs each test on every database, over stdio and over HTTP.
macro_rules! everywhere {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use crate::client::{Transport, patiently};
            use crate::support::Database;

            #[tokio::test]
            async fn in_memory_over_stdio() {
                patiently(super::$test(Database::Memory, Transport::Stdio)).await;
            }

            #[tokio::test]
            async fn in_memory_over_http() {
                patiently(super::$test(Database::Memory, Transport::Http)).await;
            }

            #[tokio::test]
            async fn in_a_file() {
                patiently(super::$test(Database::file(), Transport::Stdio)).await;
            }

            #[tokio::test]
            async fn in_postgres() {
                patiently(async { super::$test(Database::postgres().await, Transport::Http).await }).await;
            }
        }
    )+};
}
use everywhere;

/// Starts a server on a database of its own.
async fn serve(database: &Database, transport: Transport) -> Server {
    Server::start("transfer", transport, &["--database-url", &database.url()]).await
}

/// A server with the accounts 1 of acme and 2 of globex, $100.00 in each.
async fn two_accounts(database: &Database, transport: Transport) -> (Server, Client) {
    let mut server = serve(database, transport).await;
    let client = server.connect().await;
    if !matches!(database, Database::Memory) {
        for (account, owner) in [(1, "acme"), (2, "globex")] {
            let opened = client.call("open_account", json!({ "owner": owner, "deposit": "100.00" })).await;
            assert_eq!(data(&opened)["account"], account);
        }
    }
    (server, client)
}

async fn balances(client: &Client) -> [String; 2] {
    let mut balances = [const { String::new() }; 2];
    for (account, balance) in (1..).zip(&mut balances) {
        let answer = client.call("balance", json!({ "account": account })).await;
        *balance = data(&answer)["balance"].as_str().expect("a string").to_owned();
    }
    balances
}

#[track_caller]
fn data(result: &CallToolResult) -> &Value {
    assert_ne!(result.is_error, Some(true), "{result:?}");
    result.structured_content.as_ref().expect("the result has structured content")
}

/// The status of the idempotency key, from the result's `_meta`.
fn replayed(result: &CallToolResult) -> bool {
    let meta = json!(result.meta);
    match &meta["mcp-patterns/idempotency"] {
        Value::Null => false,
        said => {
            assert_eq!(said, "replayed");
            true
        }
    }
}

fn kind(result: &CallToolResult) -> Value {
    json!(result.meta)["io.turbomcp/errorKind"].clone()
}

/// The arguments of a transfer from 1 to 2.
fn transfer(amount: impl Into<Value>) -> Value {
    json!({ "from_account": 1, "to_account": 2, "amount": amount.into() })
}

fn keyed(mut arguments: Value, key: &str) -> Value {
    arguments["idempotency_key"] = key.into();
    arguments
}

/// The number of accounts for a [numbered] call.
pub(crate) const ACCOUNTS: i64 = 5;

/// The arguments of the transfer with this number: no other transfer has its amount.
pub(crate) fn numbered(number: i64) -> Value {
    let (from, to) = (number % ACCOUNTS + 1, (number + 1 + number % (ACCOUNTS - 1)) % ACCOUNTS + 1);
    json!({
        "from_account": from,
        "to_account": to,
        "amount": format!("{}.{:02}", number / 100, number % 100),
        "idempotency_key": format!("call-{number}"),
    })
}

/// Returns whether it is done. If not, nothing was done or the outcome is unknown, and it may be repeated.
pub(crate) fn is_done(answer: &CallToolResult) -> bool {
    if answer.is_error != Some(true) {
        return true;
    }
    let is_unknown = json!(answer.meta)["io.turbomcp/errorData"]["mcp-patterns/transaction"] == "outcome_unknown";
    let is_temporary = ["unavailable", "timeout", "server_overloaded"].iter().any(|known| kind(answer) == *known);
    assert!(is_unknown || is_temporary, "{answer:?}");
    false
}
