//! Transactions, and sessions in them.

use rmcp::model::CallToolResponse;
use serde_json::json;

use super::server::{Client, Tools, request, text};
use crate::Layer;
use crate::rmcp_server::RmcpServer;
use crate::transactional::TransactionalTool;

#[tokio::test]
async fn a_task_inside_a_transaction_is_rolled_back_and_answered_with_the_reason() {
    let tools = Tools::new();
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
    let stack = TransactionalTool::new(pool).only(["task", "input"]).layer(RmcpServer::new(tools.clone()));
    let client = Client::connect_without_handshake(&stack, "Ada").await;
    let CallToolResponse::Complete(result) =
        client.service.peer().call_tool_once(request("task", json!({}))).await.unwrap()
    else {
        panic!("it is no task");
    };
    assert_eq!(result.is_error, Some(true));
    assert!(text(&result).contains("a task, which cannot be a part of a transaction"), "{result:?}");
    assert_eq!(client.text("input", json!({})).await, "Ada at call 3", "a question passes a transaction");
}
