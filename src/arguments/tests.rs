//! How an argument that a layer adds is listed for clients, and marked for other layers.

#[cfg(feature = "validated")]
mod schemas;

use serde_json::json;
use turbomcp_core::McpHandler;
use turbomcp_types::ToolAnnotations;

use super::*;
use crate::testing::ScriptedServer;
use crate::{Layered, Middleware, boxed};

fn key() -> LayerArgument {
    LayerArgument::new("key", json!({"type": "string"}))
}

fn tool(schema: Value) -> Tool {
    Tool {
        input_schema: serde_json::from_value(schema).expect("a schema"),
        ..Tool::new("take", "takes what it is given")
    }
}

fn server(tool: Tool) -> ScriptedServer {
    ScriptedServer::new("server").with_tool(tool, |_| async { Ok(turbomcp_types::ToolResult::text("")) })
}

/// Adds an argument to each tool.
#[derive(Clone)]
struct Adds(LayerArgument);

impl Middleware for Adds {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        let mut tools = inner.list_tools();
        tools.iter_mut().for_each(|tool| assert!(self.0.add_to(tool)));
        tools
    }
}

/// Changes the definitions of the tools below.
#[derive(Clone)]
struct Changes(fn(&mut Tool));

impl Middleware for Changes {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        let mut tools = inner.list_tools();
        tools.iter_mut().for_each(self.0);
        tools
    }
}

fn put_on<M: Middleware, H: McpHandler>(middleware: M, inner: H) -> Layered<M, H> {
    Layered::try_new(middleware, inner).expect("nothing is wrong")
}

/// Returns what a layer on `inner` learns of its only tool.
fn learned(inner: &impl McpHandler) -> (LayerArguments, ToolInputSchema) {
    listing(|| {
        let tools = inner.list_tools();
        (LayerArguments::of(&tools[0]), own_schema(&tools[0]).into_owned())
    })
}

#[test]
fn an_outer_layer_sees_the_added_argument_and_the_authors_schema() {
    let own = tool(json!({"type": "object", "$ref": "#/$defs/A", "$defs": {"A": {"additionalProperties": false}}}));
    let one = put_on(Adds(key()), server(own.clone()));
    let two = put_on(Adds(LayerArgument::new("handle", json!({})).required()), boxed(one));
    let (arguments, schema) = learned(&two);
    assert!(arguments.has("key") && arguments.has("handle") && !arguments.has("other"));
    assert_eq!(schema, own.input_schema);
}

#[test]
fn marks_between_layers_do_not_leave_the_outermost_layer() {
    let own = tool(json!({"type": "object"}));
    let inner = put_on(Adds(key()), server(own.clone()));
    let outer = put_on(None::<Adds>, inner.clone());
    for listed in [inner.list_tools(), outer.list_tools(), boxed(outer.clone()).list_tools()] {
        assert_eq!((&listed[0].meta, listed[0].input_schema.properties.is_some()), (&None, true));
    }
    let told = Tool { meta: Some([("mine".to_owned(), json!(1))].into()), ..own };
    assert_eq!(put_on(Adds(key()), server(told.clone())).list_tools()[0].meta, told.meta);
}

#[test]
fn a_server_cannot_mark_its_own_argument_as_a_layers() {
    let inner = put_on(Adds(key()), server(tool(json!({"type": "object"}))));
    let seen = listing(|| inner.list_tools())[0].meta.clone().expect("a mark");
    let mut forged = seen["mcp-patterns/arguments"].clone();
    forged["secret"] = "guessed".into();
    forged["added"] = json!({"amount": false});
    let own = json!({"type": "object", "properties": {"amount": {"type": "integer"}}});
    let foreign = Tool { meta: Some([("mcp-patterns/arguments".to_owned(), forged)].into()), ..tool(own) };
    let (arguments, schema) = learned(&server(foreign.clone()));
    assert_eq!((arguments, &schema), (LayerArguments::default(), &foreign.input_schema));
    assert_eq!(put_on(None::<Adds>, server(foreign)).list_tools()[0].meta, None, "nor does it reach a client");
}

#[test]
fn a_schema_change_between_two_layers_is_not_lost() {
    let own = tool(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}));
    let below = put_on(Adds(key().required()), server(own));
    let changes = Changes(|tool| {
        tool.input_schema = tool.input_schema.clone().add_property("tenant", json!({})).require_property("tenant");
    });
    let (arguments, schema) = learned(&put_on(changes, below));
    assert!(arguments.has("key"));
    let properties = json!({"a": {"type": "integer"}, "tenant": {}});
    assert_eq!((schema.properties, schema.required), (Some(properties), Some(vec!["tenant".to_owned()])));
}

#[test]
fn a_name_that_the_author_uses_anywhere_is_taken() {
    let taken = [
        json!({"properties": {"key": {}}}),
        json!({"required": ["key"]}),
        json!({"$ref": "#/$defs/A%3Cint%3E", "$defs": {"A<int>": {"properties": {"key": {}}}}}),
        json!({"$ref": "#a", "$defs": {"A": {"$anchor": "a", "properties": {"key": {}}}}}),
        json!({"$id": "https://x.org/s", "$ref": "https://x.org/s#/$defs/A", "$defs": {"A": {"required": ["key"]}}}),
        json!({"$id": "https://x.org/s", "$ref": "one", "$defs": {"A": {"$id": "one", "required": ["key"]}}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#a", "definitions": {"A": {"$id": "#a", "required": ["key"]}}}),
        json!({"$dynamicRef": "#a", "$defs": {"A": {"$dynamicAnchor": "a", "properties": {"key": {}}}}}),
        // A mark elsewhere does not hide one here.
        json!({"$ref": "#/$defs/A", "allOf": [{"$ref": "https://elsewhere.org/s"}], "$defs": {"A": {"required": ["key"]}}}),
        json!({"allOf": [{"anyOf": [{"oneOf": [{"properties": {"key": {}}}]}]}]}),
        json!({"if": {"required": ["a"]}, "then": {"required": ["key"]}}),
        json!({"not": {"required": ["key"]}}),
        json!({"dependentRequired": {"a": ["key"]}}),
        json!({"dependentSchemas": {"key": {"required": ["a"]}}}),
        json!({"dependencies": {"a": {"properties": {"key": {}}}}}),
    ];
    for schema in taken {
        let mut tool = tool(schema);
        let before = tool.clone();
        let mistake = key().check("Layer", "with_key", [&tool]).expect_err("a conflict").to_string();
        assert_eq!(mistake, "Layer::with_key: `take` already has an argument `key`: choose another name");
        assert!(!key().add_to(&mut tool) && key().is_authors(&tool));
        assert_eq!(tool, before);
    }
    let free = [
        json!({"properties": {"inside": {"properties": {"key": {}}, "required": ["key"]}}}),
        json!({"patternProperties": {"k": {}}, "$defs": {"key": {"properties": {"key": {}}}}}),
        json!({"properties": {"a": {"const": "key"}}, "enum": [{"properties": {"key": {}}}]}),
    ];
    for schema in free {
        assert!(key().check("Layer", "with_key", [&tool(schema)]).is_ok());
    }
}

#[test]
fn a_layer_does_not_take_its_own_argument_for_the_authors() {
    let inner = put_on(Adds(key()), server(tool(json!({"type": "object"}))));
    let tools = listing(|| inner.list_tools());
    assert!(!key().is_authors(&tools[0]));
    assert!(key().check("Layer", "with_key", &tools).is_err(), "two layers cannot share one");
}

#[test]
fn a_tool_without_a_schema_still_takes_any_arguments() {
    let mut silent = Tool::new("take", "says nothing");
    assert!(key().add_to(&mut silent));
    assert_eq!(silent.input_schema.additional_properties, None);
    let mut closed = tool(json!({"type": "object", "additionalProperties": false}));
    assert!(key().add_to(&mut closed));
    assert_eq!(closed.input_schema.additional_properties, Some(json!(false)), "its author said that it takes none");
}

#[test]
fn a_null_argument_counts_as_missing() {
    let mut args = json!({"key": null, "a": 1});
    assert_eq!(key().take(&mut args), None);
    assert_eq!(args, json!({"a": 1}));
    assert_eq!(key().take(&mut json!([1])), None);
}

#[test]
fn arguments_removed_from_a_call_are_restored() {
    let (arguments, _) = learned(&put_on(Adds(key()), server(tool(json!({"type": "object"})))));
    let given = json!({"key": "k", "a": 1});
    let mut args = given.clone();
    let taken = arguments.take(&mut args);
    assert_eq!((&args, taken.get("key")), (&json!({"a": 1}), Some(&json!("k"))));
    assert_eq!(*arguments.without(&given), args);
    taken.put_back(&mut args);
    assert_eq!(args, given);
    let mut list = json!(["key"]);
    arguments.take(&mut list).put_back(&mut list);
    assert_eq!((&list, &*arguments.without(&list)), (&json!(["key"]), &json!(["key"])));
}

#[test]
fn only_arguments_that_an_answer_may_depend_on_are_in_a_key() {
    let read_only = |read_only| ToolAnnotations { read_only_hint: Some(read_only), ..Default::default() };
    let encoded = |argument: LayerArgument, annotations, args: Value| {
        let tool = Tool { annotations: Some(annotations), ..tool(json!({"type": "object"})) };
        let (arguments, _) = learned(&put_on(Adds(argument), server(tool)));
        let mut bytes = Vec::new();
        arguments.encode(|name| args.get(name), &mut bytes);
        bytes
    };
    let (one, other, none) = (json!({"key": "1"}), json!({"key": "2"}), json!({"key": null}));
    assert_ne!(encoded(key(), read_only(true), one.clone()), encoded(key(), read_only(true), other.clone()));
    assert!(encoded(key(), read_only(true), none).is_empty());
    assert!(encoded(key().not_in_keys(), read_only(true), one.clone()).is_empty());
    let of_writes = |args| encoded(key().not_in_keys(), read_only(false), args);
    assert_ne!(of_writes(one), of_writes(other), "another key is another intention");
}
