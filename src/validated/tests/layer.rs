//! The layer: its tools, its settings and its answers.

use std::sync::{Arc, Mutex};

use metrics_util::debugging::DebuggingRecorder;
use serde::Deserialize;
use turbomcp::prelude::*;
use validator::Validate;

use super::*;
use crate::testing::{counted, counts};
use crate::{CachedTool, Middleware};

#[derive(Debug, Deserialize, Validate)]
struct Anything {}

fn numbered() -> ScriptedServer {
    taking(
        json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}),
    )
}

#[tokio::test]
async fn the_answer_lists_what_a_model_needs_to_correct_the_call() {
    let script = numbered();
    let server = ValidatedTool::new().layer(script.clone());
    let answer = call(&server, "take", json!({"n": "s3cret", "nn": 1})).await;
    assert_eq!(answer.is_error, Some(true));
    assert_eq!(text(&answer), "`n` must be an integer\n`nn` is not known here");
    let meta = answer.meta.expect("what machines read");
    assert_eq!(meta["io.turbomcp/errorKind"], "invalid_params");
    assert_eq!(
        meta["io.turbomcp/errorData"],
        json!({VALIDATION: {"violations": [
            {"pointer": "/n", "code": "type", "message": "`n` must be an integer", "expected": {"type": "integer"}},
            {"pointer": "/nn", "code": "additionalProperties", "message": "`nn` is not known here", "expected": {"properties": ["n"]}},
        ], "omitted": 0}})
    );
    assert_eq!(script.calls("take"), 0);
}

#[tokio::test]
async fn valid_arguments_pass_unchanged() {
    let bare = call(&numbered(), "take", json!({"n": 1})).await;
    assert_eq!(call(&ValidatedTool::new().layer(numbered()), "take", json!({"n": 1})).await, bare);
}

#[tokio::test]
async fn missing_arguments_are_valid_for_a_tool_without_parameters() {
    let server = ValidatedTool::new().layer(numbered());
    for args in [json!(null), json!({})] {
        assert_eq!(text(&call(&server, "take", args).await), "`n` is missing");
    }
    let server = ValidatedTool::new().layer(taking(json!({"type": "object", "properties": {}})));
    assert_eq!(text(&call(&server, "take", json!(null)).await), "{}");
    assert_eq!(text(&call(&server, "take", json!([1])).await), "The input must be an object");
}

#[tokio::test]
async fn a_handwritten_tool_without_a_schema_accepts_any_arguments() {
    let script = ScriptedServer::new("server")
        .with_plain("take", |call| async move { Ok(ToolResult::text(call.args.to_string())) });
    assert_eq!(script.list_tools()[0].input_schema.additional_properties, Some(json!(false)));
    let server = ValidatedTool::new().layer(script);
    assert_eq!(text(&call(&server, "take", json!({"any": 1})).await), "{\"any\":1}");
    assert!(call(&server, "take", json!("text")).await.is_error());
}

#[tokio::test]
async fn rules_for_all_properties_are_kept() {
    for (schema, args, told) in [
        (json!({"additionalProperties": {"type": "string"}}), json!({"x": 1}), Some("`x` must be a string")),
        (json!({"additionalProperties": false}), json!({"x": 1}), Some("`x` is not known here")),
        (json!({"additionalProperties": false, "properties": {}}), json!({"x": 1}), Some("`x` is not known here")),
        (
            json!({"additionalProperties": false, "$schema": "http://json-schema.org/draft-07/schema#"}),
            json!({"x": 1}),
            Some("`x` is not known here"),
        ),
        (json!({"additionalProperties": false, "description": "none"}), json!({"x": 1}), Some("`x` is not known here")),
        (
            json!({"additionalProperties": false, "patternProperties": {"^x": {}}}),
            json!({"x": 1, "y": 1}),
            Some("`y` is not known here"),
        ),
        (json!({"additionalProperties": true}), json!({"x": 1}), None),
        (json!({}), json!({"x": 1}), None),
        // This is exactly the schema of `Tool::new`.
        (
            json!({"additionalProperties": false, "$schema": "https://json-schema.org/draft/2020-12/schema"}),
            json!({"x": 1}),
            None,
        ),
    ] {
        let mut schema = schema;
        schema["type"] = json!("object");
        let server = ValidatedTool::new().layer(taking(schema.clone()));
        let answer = call(&server, "take", args.clone()).await;
        assert_eq!(text(&answer), told.unwrap_or(&args.to_string()), "{schema}");
        let none = call(&server, "take", json!({})).await;
        assert!(!none.is_error(), "{schema}: none are none");
    }
}

#[tokio::test]
async fn a_macro_tool_without_parameters_is_called_without_arguments() {
    #[derive(Clone)]
    struct Clock;
    #[server(name = "clock", version = "1.0.0")]
    impl Clock {
        /// Returns the time.
        #[tool]
        async fn now(&self) -> McpResult<String> {
            Ok("noon".into())
        }
    }
    let server = ValidatedTool::new().layer(Clock);
    assert_eq!(text(&call(&server, "now", json!({})).await), "noon");
    assert!(call(&server, "now", json!({"zone": "UTC"})).await.is_error(), "the tool itself says so");
}

#[tokio::test]
async fn selectors_choose_the_tools() {
    let two = || {
        numbered().with_tool(tool("other", json!({"type": "object", "required": ["n"]})), |_| async {
            Ok(ToolResult::text("ok"))
        })
    };
    for (validated, refused) in [
        (ValidatedTool::new(), [true, true]),
        (ValidatedTool::new().only(["take"]), [true, false]),
        (ValidatedTool::new().except(["take"]), [false, true]),
        (ValidatedTool::new().when(|tool| tool.name == "other"), [false, true]),
    ] {
        let server = validated.layer(two());
        for (name, refused) in ["take", "other"].into_iter().zip(refused) {
            assert_eq!(call(&server, name, json!({})).await.is_error(), refused, "{name}");
        }
    }
    let server = ValidatedTool::new().layer(two());
    let unknown = server.call_tool("unknown", json!({}), &RequestContext::new()).await.expect_err("no such tool");
    assert_eq!(unknown.kind, ErrorKind::ToolNotFound);
}

#[test]
fn settings_that_cannot_work_are_found_when_the_layer_is_applied() {
    let mistake = |validated: ValidatedTool| validated.try_layer(numbered()).expect_err("a mistake").to_string();
    let nearest = "did you mean `take`?";
    for unknown in [
        ValidatedTool::new().only(["tke"]),
        ValidatedTool::new().typed::<Anything>("tke"),
        ValidatedTool::new().rule("tke", |_: Value, _| async { Ok(()) }),
        ValidatedTool::new().with_limits_for("tke", Limits::new()),
        ValidatedTool::new().with_name("tke", "a", "b"),
    ] {
        assert!(mistake(unknown.clone()).contains(nearest), "{unknown:?}");
    }
    let left_out = mistake(ValidatedTool::new().except(["take"]).typed::<Anything>("take"));
    assert!(left_out.contains("`take` has settings of its own and is excluded"), "{left_out}");
    let none_listed = mistake(ValidatedTool::new().with_max_violations(0));
    assert_eq!(none_listed, "ValidatedTool::with_max_violations: must be greater than zero");

    let bad = |schema| {
        ScriptedServer::new("server").with_tool(tool("search", schema), |_| async { Ok(ToolResult::text("")) })
    };
    let schema = json!({"type": "object", "properties": {"q": {"type": "string", "pattern": "(?!a)"}}});
    let refused = ValidatedTool::new().try_layer(bad(schema.clone())).expect_err("a mistake");
    assert!(matches!(&refused, ConfigError::InvalidSchema { tool, schema: "inputSchema", .. } if tool == "search"));
    assert!(refused.to_string().contains("cannot compile the inputSchema of `search`"), "{refused}");
    assert!(ValidatedTool::new().except(["search"]).try_layer(bad(schema)).is_ok());
    let remote = json!({"type": "object", "properties": {"q": {"$ref": "https://example.org/q.json"}}});
    assert!(
        ValidatedTool::new().try_layer(bad(remote)).expect_err("nothing is fetched").to_string().contains("search")
    );
}

#[tokio::test]
async fn a_tool_with_a_bad_schema_need_not_stop_a_server() {
    let look_around = json!({"type": "object", "properties": {"q": {"type": "string", "pattern": "^(?!a)"}}});
    let script = || {
        let bad = tool("search", look_around.clone());
        numbered().with_tool(bad, |call| async move { Ok(ToolResult::text(call.args.to_string())) })
    };
    let mistake = ValidatedTool::new().try_layer(script()).expect_err("a mistake, where nothing else is said");
    assert!(mistake.to_string().contains("look-around"), "{mistake}");

    let limits = Limits::new().with_max_properties(1);
    let validated = ValidatedTool::new().allow_invalid_schemas().with_limits_for("search", limits);
    let rule = |value: Value, cx: crate::validated::RuleContext| async move {
        if value["q"] == "forbidden" {
            cx.refuse(Violation::new("forbidden", "This is not searched for").at("q"));
        }
        Ok(())
    };
    let server = validated.rule("search", rule).layer(script());
    assert!(call(&server, "take", json!({"n": "x"})).await.is_error(), "the others are held against theirs");
    assert_eq!(text(&call(&server, "search", json!({"q": 1})).await), "{\"q\":1}");
    assert_eq!(listed(&call(&server, "search", json!({"q": 1, "r": 1})).await)[0].1, "max_properties");
    assert_eq!(listed(&call(&server, "search", json!({"q": "forbidden"})).await)[0].1, "forbidden");
}

/// A server whose only tool has the schema that was set last.
#[derive(Clone)]
struct Changing(Arc<Mutex<Value>>);

impl Middleware for Changing {
    fn list_tools<H: McpHandler>(&self, _: &H) -> Vec<Tool> {
        vec![tool("take", self.0.lock().expect("no panic").clone())]
    }
}

#[tokio::test]
async fn a_changed_tool_is_validated_by_its_current_schema() {
    let schema = Arc::new(Mutex::new(json!({"type": "object", "properties": {"a": {"type": "integer"}}})));
    let server = (ValidatedTool::new(), crate::layer(Changing(Arc::clone(&schema)))).layer(numbered());
    let text_args = json!({"a": "text"});
    assert!(call(&server, "take", text_args.clone()).await.is_error());

    *schema.lock().expect("no panic") = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    assert!(call(&server, "take", text_args.clone()).await.is_error(), "the layer has not seen the change yet");
    server.list_tools();
    assert!(!call(&server, "take", text_args.clone()).await.is_error());

    *schema.lock().expect("no panic") = json!({"type": "object", "properties": {"a": {"type": "strange"}}});
    server.list_tools();
    let answer = Ok(call(&server, "take", text_args).await);
    let failure = outcome::failure(&answer).expect("what cannot be checked is not called");
    assert_eq!(failure.kind(), Some(ErrorKind::Internal));
    assert!(failure.message().contains("`take` cannot be called"), "{}", failure.message());
}

#[tokio::test]
async fn messages_are_replaced_by_code() {
    let server = ValidatedTool::new()
        .with_message("required", |violation| format!("`{}` fehlt", violation.path()))
        .with_message("type", |violation| {
            format!("{} ist kein {}", violation.path(), violation.expected().expect("a type")["type"])
        })
        .layer(numbered());
    assert_eq!(text(&call(&server, "take", json!({})).await), "`n` fehlt");
    let answer = call(&server, "take", json!({"n": "x"})).await;
    assert_eq!(text(&answer), "n ist kein \"integer\"");
    assert_eq!(violations(&answer)[0]["message"], "n ist kein \"integer\"");
}

#[tokio::test]
async fn hints_and_the_length_of_the_list_are_settings() {
    let schema = json!({"type": "object", "properties": {"colour": {}}, "additionalProperties": false});
    let args = json!({"color": 1});
    let with = call(&ValidatedTool::new().layer(taking(schema.clone())), "take", args.clone()).await;
    assert_eq!(violations(&with)[0]["hint"], "colour");
    assert!(text(&with).ends_with("did you mean `colour`?"));
    let without = call(&ValidatedTool::new().without_hints().layer(taking(schema.clone())), "take", args).await;
    assert_eq!(violations(&without)[0]["hint"], Value::Null);
    assert_eq!(text(&without), "`color` is not known here");

    let few = ValidatedTool::new().with_max_violations(1).layer(taking(schema));
    let answer = call(&few, "take", json!({"b": 1, "a": 1, "c": 1})).await;
    assert_eq!(text(&answer), "`a` is not known here\nAnd 2 more");
    assert_eq!(data(&answer)["omitted"], 2);
}

#[tokio::test]
async fn refused_calls_load_no_cache() {
    let annotations = ToolAnnotations { read_only_hint: Some(true), ..Default::default() };
    let read = Tool {
        annotations: Some(annotations),
        ..tool("take", json!({"type": "object", "properties": {"n": {"default": 1}}}))
    };
    let script = ScriptedServer::new("server")
        .with_tool(read, |call| async move { Ok(ToolResult::text(call.args.to_string())) });
    let cached = CachedTool::new();
    let cache = cached.handle();
    let server = (ValidatedTool::new().with_defaults(), cached).layer(script.clone());
    for args in [json!(null), json!({}), json!({"n": 1})] {
        assert_eq!(text(&call(&server, "take", args).await), "{\"n\":1}");
    }
    assert_eq!((script.calls("take"), cache.stats().loads), (1, 1), "with its defaults, it is one and the same call");
    assert!(call(&server, "take", json!([])).await.is_error());
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test]
async fn calls_are_counted_by_tool_and_outcome() {
    let recorder = DebuggingRecorder::new();
    let server = metrics::with_local_recorder(&recorder, || ValidatedTool::new().layer(numbered()));
    for args in [json!({"n": 1}), json!({"n": 2}), json!({"n": "x"})] {
        call(&server, "take", args).await;
    }
    let expected = counts([("validation tool=take outcome=refused", 1), ("validation tool=take outcome=valid", 2)]);
    assert_eq!(counted(&recorder), expected);
}

#[test]
fn a_listing_compiles_each_schema_once() {
    let schema: Value = json!({"type": "object", "properties": (0..200).map(|n| (n.to_string(), json!({"format": "email", "pattern": "^[a-z]{1,99}$"}))).collect::<serde_json::Map<_, _>>()});
    let server = ValidatedTool::new().layer(taking(schema));
    let plan =
        |server: &crate::Layered<ValidatedTool, ScriptedServer>| server.middleware().plan_of("take").expect("a plan");
    let before = plan(&server);
    server.list_tools();
    assert!(Arc::ptr_eq(&before, &plan(&server)));
}
