//! Tools that ask their client inside a transaction.

use serde_json::{Value, json};
use sqlx::Postgres;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{NONE, TestDb, numbers_at_rest, write};
use crate::idempotency_keys::Idempotency;
use crate::testing::client::{Client, ask_name};
use crate::testing::{ScriptedServer, Traced};
use crate::transactional::{Dialect, TransactionalTool, current, failed};
use crate::{Layer, RetryTool, outcome};

const CONFLICT: &str = "do $$ begin raise exception 'x' using errcode = '40001'; end $$";

/// Writes, asks for a name, and conflicts with another transaction if configured.
fn office() -> ScriptedServer {
    ScriptedServer::new("office").with_plain("sign", |call| async move {
        write::<Postgres>(1).await?;
        let name = if call.args["asks"] == json!(true) { ask_name(&call.ctx).await? } else { String::new() };
        if call.args["gives_way"] == json!(true) {
            Postgres::execute(&mut *current::<Postgres>().await?, CONFLICT.into()).await.map_err(failed)?;
        }
        Ok(ToolResult::text(name))
    })
}

async fn sign(server: &impl McpHandler, args: Value, ctx: &RequestContext) -> McpResult<ToolResult> {
    server.call_tool("sign", args, ctx).await
}

#[tokio::test]
async fn a_transaction_that_conflicts_after_a_question_is_not_repeated() {
    let pool = Postgres::pool().await;
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    let script = office();
    let layer = TransactionalTool::new(pool.clone()).only(["sign"]).with_idempotency(Idempotency::new());
    let retry = RetryTool::new().allow_repeated_effects(["sign"]);
    let server = (retry, layer).layer(script.clone());
    let laptop = Client::new("laptop");
    for (calls, key) in [(1, None), (2, Some("a"))] {
        let mut args = json!({"asks": true, "gives_way": true});
        if let Some(key) = key {
            args["idempotency_key"] = key.into();
        }
        let answer = sign(&server, args.clone(), &laptop.ctx("ada")).await;
        let failure = outcome::failure(&answer).expect("it conflicted");
        assert_eq!(failure.data().expect("it says so")["mcp-patterns/transaction"], "conflict", "{key:?}");
        assert_eq!((laptop.asked().len(), script.calls("sign")), (calls, calls));
        assert_eq!(numbers_at_rest(&pool).await, NONE);
    }
    // A repeated call asks again, also with the same key.
    let again = json!({"asks": true, "gives_way": true, "idempotency_key": "a"});
    sign(&server, again, &laptop.ctx("ada")).await.expect("a result");
    assert_eq!(laptop.asked().len(), 3);
    let quietly = sign(&server, json!({"gives_way": true}), &laptop.ctx("ada")).await;
    assert!(outcome::failure(&quietly).is_some());
    assert!(script.calls("sign") > 5, "a transaction without a question is repeated: {} calls", script.calls("sign"));
}

#[tokio::test]
async fn a_transaction_around_a_tool_that_asks_its_client_causes_one_warning() {
    let pool = Postgres::pool().await;
    let traced = Traced::start();
    let server = TransactionalTool::new(pool).only(["sign"]).layer(office());
    let laptop = Client::new("laptop");
    let told = || traced.text().matches("a tool asks its client inside a transaction").count();
    sign(&server, json!({}), &laptop.ctx("ada")).await.expect("a result");
    assert_eq!(told(), 0, "it has asked no client");
    for _ in 0..3 {
        let answer = sign(&server, json!({"asks": true}), &laptop.ctx("ada")).await.expect("a result");
        assert_eq!(answer.first_text(), Some("laptop"), "it is done anyway");
    }
    assert_eq!(told(), 1, "{}", traced.text());
}
