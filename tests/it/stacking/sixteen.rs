//! The longest tuples, on a transport, where each call runs in a task of its own.

use std::collections::HashMap;

use mcp_patterns::idempotent::{IdempotentTool, MemoryBackend};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{
    BatchedTool, CachedTool, ConfigError, Layer, RetryTool, SessionStore, TransactionalTool, TryLayer, ValidatedTool,
    layer,
};
use serde_json::{Value, json};
use sqlx::SqlitePool;
use turbomcp::turbomcp_client::Client;
use turbomcp_core::McpHandler;
use turbomcp_server::transport::channel;
use turbomcp_types::ToolResult;

use super::{Times, ask, digit, echo};

/// The part of an answer that a client reads.
async fn answered(server: &impl McpHandler, tool: &str, number: i64) -> Value {
    let (transport, running) = channel::run_in_process(server).await.expect("the server starts");
    let client = Client::new(transport);
    client.initialize().await.expect("the session is initialized");
    let args = HashMap::from([("number".to_owned(), json!(number))]);
    let answer = client.call_tool(tool, Some(args), None).await.expect("an answer");
    client.shutdown().await.expect("the client stops");
    running.abort();
    json!(answer)["content"][0]["text"].take()
}

#[tokio::test(start_paused = true)]
async fn a_client_sees_sixteen_layers_in_their_order() {
    let mut digits = (1..=9).cycle();
    let digits = std::array::from_fn(|_| digit(digits.next().expect("a cycle has no end")));
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = digits;
    let server = (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p).layer(echo());
    assert_eq!(answered(&server, "echo", 9).await, "97654321987654321");
}

/// All layers of the crate, whose futures are the largest, with a user's layers between them. The compiler proves layer
/// by layer that the whole future is `Send`.
#[tokio::test(start_paused = true)]
async fn sixteen_layers_can_mix_those_of_the_crate_and_of_a_user() {
    let script = ScriptedServer::new("echo")
        .with_read_only("read", |call| async move { Ok(ToolResult::text(call.args["number"].to_string())) })
        .with_plain("write", |_| async { Ok(ToolResult::text("written")) });
    let pool = SqlitePool::connect_lazy("sqlite::memory:").expect("an address");
    let server = (
        digit(1),
        ValidatedTool::new(),
        digit(2),
        SessionStore::in_memory().optional(),
        digit(3),
        CachedTool::new(),
        digit(4),
        BatchedTool::new().only(["read"]),
        digit(5),
        RetryTool::new(),
        digit(6),
        IdempotentTool::new(MemoryBackend::new()).only(["write"]),
        digit(7),
        TransactionalTool::new(pool).only(["write"]),
        digit(8),
        digit(9),
    );
    let server = server.try_layer(script.clone()).expect("nothing is wrong");
    assert_eq!(answered(&server, "read", 0).await, "0987654321");
    assert_eq!(script.calls("read"), 1);
}

/// Seven large layers inside seven others: if their work on a call were not on the heap, the calls would overflow the
/// stack of this thread in a debug build.
#[tokio::test(start_paused = true)]
async fn one_whole_stack_can_be_served_inside_another() {
    let pool = SqlitePool::connect_lazy("sqlite::memory:").expect("an address");
    let stack = |writes: &'static str| {
        (
            ValidatedTool::new(),
            SessionStore::in_memory().optional(),
            CachedTool::new(),
            BatchedTool::new().only(["read"]),
            RetryTool::new(),
            IdempotentTool::new(MemoryBackend::new()).only([writes]),
            TransactionalTool::new(pool.clone()).only([writes]),
        )
    };
    let script = ScriptedServer::new("echo")
        .with_read_only("read", |call| async move { Ok(ToolResult::text(call.args["number"].to_string())) })
        .with_plain("write", |_| async { Ok(ToolResult::text("written")) })
        .with_plain("pay", |_| async { Ok(ToolResult::text("paid")) });
    let server = stack("write").layer(stack("pay").layer(script.clone()));
    assert_eq!(answered(&server, "read", 9).await, "9");
    assert_eq!(script.calls("read"), 1);
}

#[test]
fn an_invalid_layer_is_found_at_both_ends_of_sixteen() {
    let good = || std::array::from_fn(|_| layer(Times(2)));
    let bad = || CachedTool::new().only(["ehco"]);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = good();
    let outermost = (bad(), a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = good();
    let innermost = (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, bad());

    for mistake in [outermost.try_layer(echo()).map(drop), innermost.try_layer(echo()).map(drop)] {
        assert!(matches!(mistake, Err(ConfigError::UnknownTool { .. })), "{mistake:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_stack_leaves_the_server_unchanged() {
    let server: ScriptedServer = ().try_layer(echo()).expect("nothing is wrong");
    assert_eq!(ask(&server, 9).await, 9);
}
