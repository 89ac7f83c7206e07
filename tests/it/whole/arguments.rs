//! Arguments that belong to a layer, through stacks in the documented order and around it.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use mcp_patterns::arguments::own_schema;
use mcp_patterns::batched::Call as Together;
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::session::{Session, SessionMode};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::transactional::current;
use mcp_patterns::validated::{RuleContext, Violation};
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, RetryTool, SessionStore, TransactionalTool, TryLayer,
    ValidatedTool, boxed,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::Sqlite;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_server::CompositeHandler;
use turbomcp_types::{Tool, ToolInputSchema, ToolResult};
use validator::Validate;

use super::shop::{database, own};

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Payment {
    #[validate(length(min = 2))]
    to: String,
    #[validate(range(min = 1))]
    cents: u32,
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Order {
    #[validate(length(min = 2))]
    item: String,
}

fn tool(name: &str, schema: Value) -> Tool {
    Tool {
        input_schema: serde_json::from_value(schema).expect("a schema"),
        ..Tool::new(name, "does what its name says")
    }
}

fn read_only(name: &str, schema: Value) -> Tool {
    Tool {
        annotations: Some(ToolAnnotations { read_only_hint: Some(true), ..Default::default() }),
        ..tool(name, schema)
    }
}

/// A server whose tools answer with their arguments: `pay` in cents, `order` an item, and `read` what it counts.
fn bank() -> ScriptedServer {
    let echo = |call: mcp_patterns::testing::Call| async move { Ok(ToolResult::text(call.args.to_string())) };
    let cents = json!({"type": "object", "properties": {"to": {"type": "string"}, "cents": {"type": "integer", "default": 1}},
                       "required": ["to"], "additionalProperties": false});
    let order = json!({"type": "object", "properties": {"order": {"type": "object", "properties": {"item": {"type": "string"}}}},
                       "required": ["order"], "additionalProperties": false});
    let id = json!({"type": "object", "properties": {"id": {"type": "integer"}}, "additionalProperties": false});
    ScriptedServer::new("bank")
        .with_tool(tool("pay", cents), echo)
        .with_tool(tool("order", order), echo)
        .with_tool(read_only("read", id), |call| async move { Ok(ToolResult::text(call.number.to_string())) })
}

fn keyed() -> IdempotentTool {
    IdempotentTool::new(MemoryBackend::new()).only(["pay"])
}

fn ada() -> RequestContext {
    RequestContext::new().with_user_id("ada").with_session_id("1")
}

async fn call(server: &impl McpHandler, tool: &str, args: Value) -> String {
    let answer = server.call_tool(tool, args, &ada()).await.expect("the tool is known");
    answer.first_text().expect("a text").to_owned()
}

fn validated() -> ValidatedTool {
    let rule = |payment: Payment, rule: RuleContext| async move {
        if payment.cents > 100 {
            rule.refuse(Violation::new("too_much", "is more than 100").at("cents"));
        }
        Ok(())
    };
    ValidatedTool::new().with_defaults().typed::<Payment>("pay").rule("pay", rule).typed::<Order>("order")
}

/// A stack in the documented order, with keys in an [`IdempotentTool`] or in a transaction.
async fn stacks(sessions: &SessionStore) -> Vec<mcp_patterns::BoxHandler> {
    let pool = database().await.expect("a database");
    TransactionalTool::<Sqlite>::ensure_schema(&pool).await.expect("a table");
    let in_transaction = TransactionalTool::new(pool).only(["pay"]).with_idempotency(Idempotency::new());
    let outside = || (own(), validated(), sessions.clone(), CachedTool::new());
    let inside = || (BatchedTool::new().only(["read"]), RetryTool::new());
    vec![
        boxed(outside().layer(inside().layer(keyed().layer(bank())))),
        boxed(outside().layer(inside().layer(in_transaction.layer(bank())))),
        boxed(outside().layer(boxed(inside().layer(boxed(keyed().layer(bank())))))),
    ]
}

#[tokio::test]
async fn a_call_with_a_handle_and_a_key_is_valid_in_the_documented_order() {
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle);
    for server in stacks(&sessions).await {
        let handle = call(&server, "open_session", json!({})).await;
        let pay = json!({"to": "bob", "session": handle, "idempotency_key": "k"});
        let mut paid: Value = serde_json::from_str(&call(&server, "pay", pay.clone()).await).expect("arguments");
        paid.as_object_mut().expect("an object").sort_keys();
        assert_eq!(
            paid,
            json!({"to": "bob", "cents": 1}),
            "the default is filled in, and the layers took what is theirs"
        );
        let again = server.call_tool("pay", pay, &ada()).await.expect("an answer");
        assert_eq!(again.meta.expect("told")["mcp-patterns/idempotency"], "replayed");

        let order = json!({"order": {"item": "tea"}, "session": handle});
        assert_eq!(call(&server, "order", order).await, r#"{"order":{"item":"tea"}}"#);

        let refused = |args: Value| call(&server, "pay", args);
        let with = |mut args: Value| {
            args["session"] = handle.clone().into();
            args["idempotency_key"] = "other".into();
            args
        };
        assert_eq!(refused(with(json!({"to": "b"}))).await, "`to` must have at least 2 characters");
        assert_eq!(refused(with(json!({"to": "bob", "cents": 101}))).await, "`cents`: is more than 100");
        assert_eq!(refused(with(json!({"to": "bob", "x": 1}))).await, "`x` is not known here");
        assert!(refused(json!({"to": "bob"})).await.contains("open_session"));
    }
}

#[tokio::test]
async fn a_key_is_accepted_wherever_the_validation_is() {
    let pay = json!({"to": "bob", "cents": 5, "idempotency_key": "k"});
    for server in [boxed((validated(), keyed()).layer(bank())), boxed((keyed(), validated()).layer(bank()))] {
        assert_eq!(call(&server, "pay", pay.clone()).await, r#"{"to":"bob","cents":5}"#);
    }
    let composite = CompositeHandler::new("all", "1.0.0").mount(keyed().layer(bank()), "bank");
    let server = ValidatedTool::new().typed::<Payment>("bank_pay").layer(composite);
    assert_eq!(call(&server, "bank_pay", pay.clone()).await, r#"{"to":"bob","cents":5}"#);
    let twice =
        (validated(), keyed().with_idempotency(Idempotency::new().required()), own(), boxed_layer()).layer(bank());
    assert!(call(&twice, "pay", json!({"to": "bob"})).await.contains("needs an idempotency key"));
}

/// A layer that changes nothing.
fn boxed_layer() -> impl Layer<ScriptedServer, Service = mcp_patterns::BoxHandler> {
    #[derive(Clone)]
    struct Boxed;
    impl Layer<ScriptedServer> for Boxed {
        type Service = mcp_patterns::BoxHandler;
        fn layer(&self, inner: ScriptedServer) -> Self::Service {
            boxed(inner)
        }
    }
    Boxed
}

/// Schemas to which an argument cannot simply be added, each with a valid and an invalid call.
fn schemas() -> Vec<(Value, Value, Value)> {
    let a = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let (one, text) = (json!({"a": 1}), json!({"a": "x"}));
    let object = |keywords: Value| {
        let mut schema = json!({"type": "object"});
        schema.as_object_mut().expect("an object").extend(keywords.as_object().expect("an object").clone());
        schema
    };
    vec![
        (object(json!({"$ref": "#/$defs/A", "$defs": {"A": a}})), one.clone(), text.clone()),
        (object(json!({"allOf": [a]})), one.clone(), text.clone()),
        (object(json!({"oneOf": [a, {"required": ["b"]}]})), one.clone(), text.clone()),
        (object(json!({"propertyNames": {"maxLength": 1}})), one.clone(), json!({"ab": 1})),
        (object(json!({"maxProperties": 1})), one.clone(), json!({"a": 1, "b": 1})),
        (object(json!({"minProperties": 1})), one.clone(), json!({})),
        (
            object(json!({"properties": {"a": {"type": "integer"}}, "unevaluatedProperties": false})),
            one.clone(),
            json!({"b": 1}),
        ),
        (
            object(json!({"properties": {"a": {"type": "integer"}}, "additionalProperties": false})),
            one.clone(),
            text.clone(),
        ),
        (object(json!({"patternProperties": {"^[a-z_]+$": {"type": "integer"}}})), one.clone(), text.clone()),
        (object(json!({"dependentRequired": {"a": ["b"]}})), json!({"a": 1, "b": 1}), one.clone()),
        (object(json!({"properties": {"a": true, "b": false}})), one.clone(), json!({"b": 1})),
        (object(json!({"not": {"minProperties": 2}})), one.clone(), json!({"a": 1, "b": 1})),
        (object(json!({"const": {"a": 1}})), one, text),
    ]
}

#[tokio::test]
async fn the_authors_schema_is_checked_whatever_it_is() {
    for (schema, valid, refused) in schemas() {
        let script = || {
            ScriptedServer::new("bank").with_tool(tool("pay", schema.clone()), |call| async move {
                Ok(ToolResult::text(call.args.to_string()))
            })
        };
        let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle);
        let server = (ValidatedTool::new(), sessions, keyed()).layer(script());
        let handle = call(&server, "open_session", json!({})).await;
        for key in [None, Some("k")] {
            let with = |args: &Value| {
                let mut args = args.clone();
                args["session"] = handle.clone().into();
                key.into_iter().for_each(|key| args["idempotency_key"] = key.into());
                args
            };
            assert_eq!(call(&server, "pay", with(&valid)).await, valid.to_string(), "{schema}");
            let told = server.call_tool("pay", with(&refused), &ada()).await.expect("an answer");
            assert!(told.is_error(), "{refused} by {schema}");
        }
    }
}

#[tokio::test]
async fn a_tool_without_a_schema_takes_any_arguments_with_a_key() {
    let script = ScriptedServer::new("bank")
        .with_plain("pay", |call| async move { Ok(ToolResult::text(call.args.to_string())) });
    for server in [
        boxed((ValidatedTool::new(), keyed()).layer(script.clone())),
        boxed((keyed(), ValidatedTool::new()).layer(script)),
    ] {
        assert_eq!(call(&server, "pay", json!({"x": 1, "idempotency_key": "k"})).await, r#"{"x":1}"#);
        assert_eq!(server.list_tools()[0].input_schema.additional_properties, None);
    }
}

/// A server behind a proxy, which marks its own argument as a layer's.
fn foreign() -> ScriptedServer {
    let mut told = tool("pay", json!({"type": "object", "properties": {"cents": {"type": "integer", "maximum": 100}}}));
    told.annotations = Some(ToolAnnotations { read_only_hint: Some(true), ..Default::default() });
    let own = json!({"type": "object"});
    let mark = json!({"secret": "", "added": {"cents": false}, "own": own, "listed": told.input_schema});
    let key = json!({"argument": "cents"});
    told.meta =
        Some([("mcp-patterns/arguments".to_owned(), mark), ("mcp-patterns/idempotency".to_owned(), key)].into());
    ScriptedServer::new("bank")
        .with_tool(told, |call| async move { Ok(ToolResult::text(call.args["cents"].to_string())) })
}

#[tokio::test]
async fn a_server_cannot_exempt_an_argument_from_validation_or_the_cache_key() {
    let server = (ValidatedTool::new(), CachedTool::new(), BatchedTool::new().only(["pay"])).layer(foreign());
    let refused = server.call_tool("pay", json!({"cents": 101}), &ada()).await.expect("an answer");
    assert_eq!(refused.first_text(), Some("`cents` must be at most 100"));
    for cents in [1, 2] {
        assert_eq!(call(&server, "pay", json!({ "cents": cents })).await, cents.to_string());
    }
    let listed = &server.list_tools()[0];
    assert!(listed.meta.as_ref().is_none_or(|meta| !meta.contains_key("mcp-patterns/arguments")));
    assert_eq!(own_schema(listed).as_ref(), &listed.input_schema);
}

#[test]
fn a_tools_own_argument_with_a_layers_name_is_an_error_at_any_position() {
    let with_argument = |name: &str| {
        let schema = json!({"type": "object", "$ref": "#/$defs/A", "$defs": {"A": {"properties": {name: {}}}}});
        ScriptedServer::new("bank").with_tool(tool("pay", schema), |_| async { Ok(ToolResult::text("")) })
    };
    let key = keyed().try_layer(with_argument("idempotency_key")).map(drop).unwrap_err().to_string();
    assert!(key.ends_with("`pay` already has an argument `idempotency_key`: choose another name"), "{key}");
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle);
    let handle = sessions.try_layer(with_argument("session")).map(drop).unwrap_err().to_string();
    assert!(handle.ends_with("`pay` already has an argument `session`: choose another name"), "{handle}");
    let twice = (keyed(), keyed()).try_layer(bank()).map(drop).unwrap_err().to_string();
    assert!(twice.ends_with("choose another name"), "{twice}");
}

/// A server whose tool appears after the start, with an argument whose name a layer uses.
#[derive(Clone)]
struct Late(Arc<Mutex<Vec<Tool>>>, ScriptedServer);

impl mcp_patterns::Middleware for Late {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        let late = self.0.lock().expect("no panic").clone();
        inner.list_tools().into_iter().chain(late).collect()
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, _: &RequestContext) -> Vec<Tool> {
        self.list_tools(inner)
    }

    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        match name {
            "late" => Ok(ToolResult::text(args.to_string())),
            _ => inner.call_tool(name, args, ctx).await,
        }
    }
}

#[tokio::test]
async fn a_later_tool_keeps_its_own_argument_with_a_layers_name() {
    let late = Late(Arc::default(), bank());
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle);
    let keys = IdempotentTool::new(MemoryBackend::new()).every_write();
    let server = (ValidatedTool::new(), sessions, keys, mcp_patterns::layer(late.clone())).layer(late.1.clone());
    let properties = json!({"session": {"type": "integer"}, "idempotency_key": {"type": "integer"}});
    let schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    late.0.lock().expect("no panic").push(tool("late", schema.clone()));
    let listed = server.list_tools().into_iter().find(|tool| tool.name == "late").expect("it is there");
    assert_eq!(json!(listed.input_schema), schema);
    let args = json!({"session": 1, "idempotency_key": 2});
    for _ in 0..2 {
        assert_eq!(call(&server, "late", args.clone()).await, args.to_string());
    }
    // Another tool, without a conflict, has both.
    late.0.lock().expect("no panic")[0] = tool("late", json!({"type": "object", "additionalProperties": false}));
    server.list_tools_for(&ada());
    let handle = call(&server, "open_session", json!({})).await;
    let args = json!({"session": handle, "idempotency_key": "k"});
    assert_eq!(call(&server, "late", args).await, "{}");
}

#[tokio::test]
async fn calls_of_a_read_only_tool_with_different_keys_are_equal() {
    let script = bank();
    let cached = CachedTool::new();
    let cache = cached.handle();
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["read"]);
    let server = (cached, keys.clone()).layer(script.clone());
    for key in ["1", "2"] {
        assert_eq!(call(&server, "read", json!({"id": 7, "idempotency_key": key})).await, "1");
    }
    assert_eq!(call(&server, "read", json!({"id": 7})).await, "1");
    cache.invalidate("read", &json!({"id": 7}));
    assert_eq!(call(&server, "read", json!({"id": 7, "idempotency_key": "3"})).await, "2");

    let batched = (BatchedTool::new().only(["read"]), keys).layer(script.clone());
    let calls = ["4", "5", "6"].map(|key| call(&batched, "read", json!({"id": 8, "idempotency_key": key})));
    assert_eq!(join_all(calls).await, ["3", "3", "3"]);
}

#[tokio::test]
async fn calls_of_a_tool_with_effects_with_different_keys_are_different() {
    let script = bank();
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["pay"]);
    let batched = BatchedTool::new().allow_skipped_effects(["pay"]);
    let server = (CachedTool::new().allow_skipped_effects(["pay"]), batched, keys).layer(script.clone());
    let pay = |key: &str| call(&server, "pay", json!({"to": "bob", "idempotency_key": key}));
    tokio::join!(pay("1"), pay("2"), pay("2"));
    assert_eq!(script.calls("pay"), 2);
}

#[tokio::test]
async fn calls_with_different_handles_are_different_also_for_a_cache_outside_the_sessions() {
    let script = ScriptedServer::new("museum").with_read_only("visit", |_| async {
        let visits = Session::current()?
            .update("visits", |visits: &mut u32| {
                *visits += 1;
                *visits
            })
            .await?;
        Ok(ToolResult::text(visits.to_string()))
    });
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle);
    for server in [
        boxed((CachedTool::new(), sessions.clone()).layer(script.clone())),
        boxed((BatchedTool::new().only(["visit"]), sessions.clone()).layer(script.clone())),
    ] {
        let one = call(&server, "open_session", json!({})).await;
        let two = call(&server, "open_session", json!({})).await;
        let visit = |handle: &str| call(&server, "visit", json!({ "session": handle }));
        visit(&one).await;
        assert_eq!(tokio::join!(visit(&one), visit(&two)).1, "1", "the other session has its own");
    }
}

#[tokio::test]
async fn a_repeated_key_with_another_handle_is_not_refused() {
    let script = bank();
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle);
    let server = (keyed(), sessions).layer(script.clone());
    for _ in 0..2 {
        let handle = call(&server, "open_session", json!({})).await;
        let args = json!({"to": "bob", "session": handle, "idempotency_key": "k"});
        assert_eq!(call(&server, "pay", args).await, r#"{"to":"bob"}"#);
    }
    assert_eq!(script.calls("pay"), 1);
    let other = json!({"to": "eve", "session": "any", "idempotency_key": "k"});
    assert!(call(&server, "pay", other).await.contains("was used for a call with other arguments"));
}

#[tokio::test]
async fn a_repeated_key_in_a_transaction_with_another_handle_is_not_refused() {
    let pool = database().await.expect("a database");
    TransactionalTool::<Sqlite>::ensure_schema(&pool).await.expect("a table");
    let script = ScriptedServer::new("bank").with_plain("pay", |call| async move {
        let mut db = current::<Sqlite>().await?;
        let insert = sqlx::query("insert into payments values (1)").execute(&mut *db).await;
        insert.map_err(|error| McpError::internal(error.to_string()))?;
        Ok(ToolResult::text(call.args.to_string()))
    });
    let keys = TransactionalTool::new(pool).only(["pay"]).with_idempotency(Idempotency::new());
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle);
    let server = (ValidatedTool::new(), keys, sessions).layer(script.clone());
    for _ in 0..2 {
        let handle = call(&server, "open_session", json!({})).await;
        let args = json!({"to": "bob", "session": handle, "idempotency_key": "k"});
        assert_eq!(call(&server, "pay", args).await, r#"{"to":"bob"}"#);
    }
    assert_eq!(script.calls("pay"), 1);
}

#[tokio::test]
async fn tags_and_invalidated_calls_do_not_contain_a_key() {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (by_tag, by_write) = (Arc::clone(&seen), Arc::clone(&seen));
    let note = |seen: &Mutex<Vec<Value>>, args: &Value| seen.lock().expect("no panic").push(args.clone());
    let cached = CachedTool::new()
        .tag("read", move |args| {
            note(&by_tag, args);
            [args["id"].to_string()]
        })
        .invalidates_tags("pay", move |args| {
            note(&by_write, args);
            ["7".to_owned()]
        });
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["read", "pay"]);
    let server = (cached, keys).layer(bank());
    assert_eq!(call(&server, "read", json!({"id": 7, "idempotency_key": "a"})).await, "1");
    call(&server, "pay", json!({"to": "bob", "idempotency_key": "b"})).await;
    assert_eq!(call(&server, "read", json!({"id": 7, "idempotency_key": "c"})).await, "2");
    for args in seen.lock().expect("no panic").iter() {
        assert_eq!(args.get("idempotency_key"), None);
    }
}

#[tokio::test]
async fn a_bulk_function_sees_the_tools_own_arguments() {
    let bulk = |calls: Vec<Together>| async move {
        calls.into_iter().map(|call| Ok(call.args.to_string())).collect::<Vec<McpResult<String>>>()
    };
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["read"]);
    let batched = BatchedTool::new().with_bulk("read", bulk).with_batch_key(|call| call.args.to_string());
    let server = (ValidatedTool::new(), batched, keys).layer(bank());
    assert_eq!(call(&server, "read", json!({"id": 1, "idempotency_key": "k"})).await, r#"{"id":1}"#);
}

#[tokio::test]
async fn a_conflicting_default_is_left_out_with_a_key_too() {
    let either = json!({"type": "object", "properties": {"to": {"type": "string"}, "cents": {"type": "integer", "default": 1}},
                        "maxProperties": 1, "additionalProperties": false});
    let script = ScriptedServer::new("bank")
        .with_tool(tool("pay", either), |call| async move { Ok(ToolResult::text(call.args.to_string())) });
    let server = (ValidatedTool::new().with_defaults(), keyed()).layer(script);
    for (given, seen) in [(json!({"to": "bob"}), r#"{"to":"bob"}"#), (json!({}), r#"{"cents":1}"#)] {
        let mut with_key = given.clone();
        with_key["idempotency_key"] = seen.len().to_string().into();
        assert_eq!(call(&server, "pay", given).await, seen);
        assert_eq!(call(&server, "pay", with_key).await, seen, "with a key");
    }
}

#[tokio::test]
async fn a_misspelled_argument_of_a_layer_is_suggested_unless_it_was_given() {
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle).optional();
    let server = (ValidatedTool::new(), sessions.clone(), keyed()).layer(bank());
    for misspelled in ["idempotency-key", "idempotencyKey", "idempotency_keys"] {
        let told = call(&server, "pay", json!({"to": "bob", misspelled: "k"})).await;
        assert_eq!(told, format!("`{misspelled}` is not known here; did you mean `idempotency_key`?"));
        let both = call(&server, "pay", json!({"to": "bob", misspelled: "k", "idempotency_key": "k"})).await;
        assert_eq!(both, format!("`{misspelled}` is not known here"));
    }
    let told = call(&server, "pay", json!({"to": "bob", "sesion": "s"})).await;
    assert_eq!(told, "`sesion` is not known here; did you mean `session`?");
    // A near name of the author's comes first, and nested values have no arguments of layers.
    let told = call(&server, "pay", json!({"too": "bob"})).await;
    assert_eq!(told, "`to` is missing\n`too` is not known here; did you mean `to`?");
    let order = json!({"order": {"item": "tea"}, "sessions": "s"});
    assert_eq!(call(&server, "order", order).await, "`sessions` is not known here; did you mean `session`?");
    // A known argument with a wrong value is not misspelled.
    let near = tool("pay", json!({"type": "object", "properties": {"idempotency_keys": {"type": "integer"}}}));
    let near = ScriptedServer::new("bank").with_tool(near, |_| async { Ok(ToolResult::text("paid")) });
    let told = call(&(ValidatedTool::new(), keyed()).layer(near), "pay", json!({"idempotency_keys": "k"})).await;
    assert_eq!(told, "`idempotency_keys` must be an integer");
    let silent = (ValidatedTool::new().without_hints(), sessions, keyed()).layer(bank());
    let told = call(&silent, "pay", json!({"to": "bob", "idempotency-key": "k"})).await;
    assert_eq!(told, "`idempotency-key` is not known here");
}

#[test]
fn an_argument_of_a_layer_is_no_parameter_of_the_tool() {
    let server = (ValidatedTool::new().typed_at::<Order>("pay", "idempotency_key"), keyed());
    let mistake = server.try_layer(bank()).map(drop).unwrap_err().to_string();
    assert!(mistake.contains("has no parameter `idempotency_key`"), "{mistake}");
}

#[test]
fn the_default_schema_of_turbomcp_counts_as_not_written_by_the_author() {
    // The schema of `Tool::new`, and the one that the specification recommends for a tool without parameters.
    let recommended: ToolInputSchema =
        serde_json::from_value(json!({"type": "object", "additionalProperties": false})).expect("a schema");
    assert_ne!(Tool::new("silent", "").input_schema, recommended);
}
