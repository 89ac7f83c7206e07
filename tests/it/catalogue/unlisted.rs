//! Tools that were in no listing yet: after a restart, on another replica, or with made-up names.

use futures_util::future::join_all;
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::session::SessionMode;
use mcp_patterns::validated::Limits;
use mcp_patterns::{ConfigError, Middleware, TryLayer, layer};

use super::*;

const UNKNOWN: Result<String, Option<ErrorKind>> = Err(Some(ErrorKind::ToolNotFound));
const INVALID: Result<String, Option<ErrorKind>> = Err(Some(ErrorKind::InvalidParams));

#[tokio::test]
async fn a_tool_visible_to_one_caller_is_validated_from_the_first_call_on() {
    let script = for_members();
    let server = ValidatedTool::new().layer(script.clone());
    assert_eq!(call(&server, "send", json!({"to": "much too long", "evil": true}), &user("ada")).await, INVALID);
    assert_eq!(call(&server, "send", json!({"to": "Bob"}), &user("ada")).await.as_deref(), Ok(r#"1 {"to":"Bob"}"#));
    assert_eq!(script.listings(), 2, "one when the layer was put on, and one for ada");
}

#[tokio::test]
async fn a_tool_visible_to_one_caller_takes_effect_once_from_the_first_call_on() {
    let script = for_members();
    let server = IdempotentTool::new(MemoryBackend::new()).when(|tool| tool.name == "send").layer(script.clone());
    for _ in 0..2 {
        let sent = call(&server, "send", json!({"to": "Bob", "idempotency_key": "once"}), &user("ada")).await;
        assert_eq!(sent.as_deref(), Ok(r#"1 {"to":"Bob"}"#));
    }
    assert_eq!(script.calls("send"), 1);
}

#[tokio::test]
async fn a_tool_visible_to_one_caller_runs_in_a_transaction_from_the_first_call_on() {
    let server = TransactionalTool::new(pool().await).every_write().layer(for_members());
    assert_eq!(call(&server, "transfer", json!({}), &user("ada")).await.as_deref(), Ok("1 {}"));
}

#[tokio::test]
async fn an_unlisted_tool_has_a_session_like_every_other() {
    let script = for_members();
    let store = || SessionStore::in_memory().with_mode(SessionMode::Handle);
    let every_tool = store().layer(script.clone());
    assert!(call(&every_tool, "send", json!({"to": "Bob"}), &user("ada")).await.is_err(), "without a session");
    let sent = call(&every_tool, "send", json!({"to": "Bob", "session": "a handle"}), &user("ada")).await;
    assert_eq!(sent.as_deref(), Ok(r#"1 {"to":"Bob"}"#));
    assert_eq!(script.listings(), 2, "`send` could have an argument of that name");
    let by_connection = SessionStore::in_memory().layer(script.clone());
    assert!(call(&by_connection, "send", json!({"to": "Bob"}), &RequestContext::with_id("1")).await.is_err());
    assert_eq!(script.listings(), 3, "it needs no listing to know that it is about every tool");
    let chosen = store().when(|tool| tool.name == "send").layer(script.clone());
    assert!(call(&chosen, "send", json!({"to": "Bob"}), &user("ada")).await.is_err());
    assert_eq!(script.calls("send"), 1);
}

/// Calls `made_up` through the layer. Returns the outcome, and how often the server was called.
async fn made_up(
    name: &str,
    layer: impl Layer<Catalogue, Service: McpHandler>,
) -> (Result<String, Option<ErrorKind>>, usize) {
    let script = for_members();
    let server = layer.layer(script.clone());
    (call(&server, name, json!({}), &user("ada")).await, script.calls(name))
}

#[tokio::test]
async fn a_protecting_layer_refuses_a_tool_missing_from_a_fresh_listing() {
    let refused = (UNKNOWN, 0);
    assert_eq!(made_up("made_up", ValidatedTool::new()).await, refused);
    assert_eq!(made_up("made_up", IdempotentTool::new(MemoryBackend::new()).every_write()).await, refused);
    assert_eq!(made_up("made_up", TransactionalTool::new(pool().await).every_write()).await, refused);
    // As a client reads it.
    let refusal = ValidatedTool::new().layer(for_members()).call_tool("made_up", json!({}), &nobody()).await;
    assert_eq!(refusal.expect_err("no such tool").jsonrpc_code(), -32602);
}

#[tokio::test]
async fn a_layer_that_does_not_protect_an_unknown_tool_passes_it_to_the_server() {
    let passed = (Ok("1 {}".to_owned()), 1);
    assert_eq!(made_up("made_up", CachedTool::new()).await, passed);
    assert_eq!(made_up("made_up", RetryTool::new()).await, passed);
    assert_eq!(made_up("made_up", BatchedTool::new().when(|_| false)).await, passed);
    assert_eq!(made_up("made_up", SessionStore::in_memory().when(|_| false)).await, passed);
    assert_eq!(made_up("made_up", ValidatedTool::new().except(["ping"])).await.0, UNKNOWN);
    // A layer that acts only on named tools needs no listing to pass the others on.
    assert_eq!(made_up("made_up", ValidatedTool::new().only(["ping"])).await, passed);
    assert_eq!(made_up("made_up", IdempotentTool::new(MemoryBackend::new()).only(["ping"])).await, passed);
    assert_eq!(made_up("made_up", TransactionalTool::new(pool().await).only(["ping"])).await, passed);
}

#[tokio::test]
async fn deliberately_unlisted_tools_can_be_allowed() {
    let passed = (Ok("1 {}".to_owned()), 1);
    assert_eq!(made_up("made_up", ValidatedTool::new().allow_unlisted_tools()).await, passed);
    let idempotent = IdempotentTool::new(MemoryBackend::new()).every_write().allow_unlisted_tools();
    assert_eq!(made_up("made_up", idempotent).await, passed);
    // They have the protection that needs no definition.
    let limits = Limits::new().with_max_depth(1);
    let server = ValidatedTool::new().with_limits(limits).allow_unlisted_tools().layer(for_members());
    assert_eq!(call(&server, "made_up", json!({"a": {"b": {"c": 1}}}), &nobody()).await, INVALID);
    let script = for_members();
    let server = IdempotentTool::new(MemoryBackend::new()).every_write().allow_unlisted_tools().layer(script.clone());
    for _ in 0..2 {
        let answer = call(&server, "hidden", json!({"idempotency_key": "once"}), &nobody()).await;
        assert_eq!(answer.as_deref(), Ok("1 {}"));
    }
    let server = TransactionalTool::new(pool().await).every_write().allow_unlisted_tools().layer(script);
    assert!(call(&server, "transfer", json!({}), &nobody()).await.is_ok());
}

#[tokio::test]
async fn settings_may_name_tools_that_only_some_callers_see_if_unlisted_tools_are_allowed() {
    let script = for_members();
    let idempotent = || IdempotentTool::new(MemoryBackend::new()).only(["send"]);
    assert!(matches!(idempotent().try_layer(script.clone()), Err(ConfigError::UnknownTool { .. })));
    let server = idempotent()
        .with_idempotency(Idempotency::new().required_for(["send"]))
        .allow_unlisted_tools()
        .layer(script.clone());
    // Also for a caller who does not see it.
    assert_eq!(call(&server, "send", json!({}), &nobody()).await, INVALID);
    for caller in [nobody(), user("ada"), user("ada")] {
        let sent = call(&server, "send", json!({"to": "Bob", "idempotency_key": "once"}), &caller).await;
        assert!(sent.is_ok(), "{sent:?}");
    }
    assert_eq!(script.calls("send"), 2);
    let limits = Limits::new().with_max_depth(1);
    let validated = || ValidatedTool::new().with_limits_for("send", limits.clone());
    assert!(matches!(validated().try_layer(script.clone()), Err(ConfigError::UnknownTool { .. })));
    let server = validated().allow_unlisted_tools().layer(script.clone());
    assert_eq!(call(&server, "send", json!({"a": {"b": {"c": 1}}}), &nobody()).await, INVALID);
    assert_eq!(call(&server, "send", json!({"to": "too long"}), &user("ada")).await, INVALID);
}

#[tokio::test]
async fn a_stack_lists_once_for_a_tool_that_all_its_layers_miss() {
    let script = for_members();
    let server = whole(pool().await, script.clone());
    let bound = script.listings();
    let sent = call(&server, "send", json!({"to": "Bob", "idempotency_key": "once"}), &user("ada")).await;
    assert_eq!(sent.as_deref(), Ok(r#"1 {"to":"Bob"}"#));
    assert_eq!(script.listings() - bound, 1);
    for _ in 0..3 {
        assert_eq!(call(&server, "look", json!({}), &user("ada")).await.as_deref(), Ok("1 {}"), "it is cached");
    }
    assert_eq!(script.listings() - bound, 1, "all layers have learned of all tools");
    assert_eq!(call(&server, "made_up", json!({}), &user("ada")).await, UNKNOWN);
    assert_eq!(script.listings() - bound, 1, "the listing was just now");
}

#[tokio::test]
async fn layers_that_pass_an_unknown_tool_on_add_no_listing() {
    let script = for_members();
    let server = (
        SessionStore::in_memory().when(|_| true),
        IdempotentTool::new(MemoryBackend::new()).every_write().allow_unlisted_tools(),
        ValidatedTool::new().allow_unlisted_tools(),
    )
        .layer(script.clone());
    let bound = script.listings();
    assert_eq!(call(&server, "made_up", json!({}), &user("ada")).await.as_deref(), Ok("1 {}"));
    assert_eq!(script.listings() - bound, 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_of_made_up_names_cause_one_listing_per_caller() {
    let script = for_members();
    let server = ValidatedTool::new().layer(script.clone());
    let callers = [user("eve"), user("ada")];
    let names: Vec<_> = (0..1_000).map(|number| format!("made_up_{number}")).collect();
    let calls = names.iter().flat_map(|name| callers.iter().map(|ctx| call(&server, name, json!({}), ctx)));
    assert!(join_all(calls).await.iter().all(|answer| *answer == UNKNOWN));
    assert_eq!(script.listings(), 1 + callers.len());
    // While Eve continues, Ada's tools are found.
    for _ in 0..3 {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let calls = names.iter().map(|name| call(&server, name, json!({}), &callers[0]));
        assert!(join_all(calls).await.iter().all(|answer| *answer == UNKNOWN));
    }
    assert_eq!(script.listings(), 1 + callers.len() + 3);
    assert_eq!(call(&server, "send", json!({"to": "Bob"}), &callers[1]).await.as_deref(), Ok(r#"1 {"to":"Bob"}"#));
}

#[tokio::test]
async fn made_up_names_use_no_memory() {
    let server = ValidatedTool::new().layer(for_members());
    let known = format!("{:?}", server.middleware());
    for number in 0..10_000 {
        assert_eq!(call(&server, &format!("made_up_{number}"), json!({}), &user("eve")).await, UNKNOWN);
    }
    assert_eq!(format!("{:?}", server.middleware()), known);
}

/// Adds an argument, as a user's own layer may do.
#[derive(Debug, Clone)]
struct Adds;

impl Middleware for Adds {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        inner.list_tools()
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        let mut tools = inner.list_tools_for(ctx);
        for tool in &mut tools {
            if let Some(properties) = tool.input_schema.properties.as_mut().and_then(Value::as_object_mut) {
                properties.insert("trace".to_owned(), json!({ "type": "string" }));
            }
        }
        tools
    }
}

#[tokio::test]
async fn arguments_that_inner_layers_add_to_a_tool_are_looked_up_too() {
    let idempotent = || IdempotentTool::new(MemoryBackend::new()).when(|tool| tool.name == "send");
    let server = (ValidatedTool::new(), layer(Adds), idempotent()).layer(for_members());
    let args = json!({"to": "Bob", "trace": "a", "idempotency_key": "once"});
    assert_eq!(call(&server, "send", args, &user("ada")).await.as_deref(), Ok(r#"1 {"to":"Bob","trace":"a"}"#));
    let args = json!({"to": "Bob", "idempotency_key": "not a key"});
    assert_eq!(call(&server, "send", args, &user("ada")).await, INVALID);
}
