//! The targets of references of every kind.

use schemars::JsonSchema;
use serde::Deserialize;
use turbomcp::prelude::*;
use validator::Validate;

use super::*;
use crate::references::References;
use crate::validated::hints::Hints;
use crate::validated::violations::Collector;

/// Returns whether the part at this pointer refers to the part at that one.
fn leads(schema: &Value, from: &str, to: &str) -> bool {
    let references = References::of(schema.clone());
    let from = references.root().pointer(from).expect("a part");
    let target = references.targets(from).next();
    target.is_some_and(|target| std::ptr::eq(target, references.root().pointer(to).expect("a part")))
}

#[test]
fn a_reference_is_followed_as_the_validator_follows_it() {
    let d2020 = "https://json-schema.org/draft/2020-12/schema";
    for (schema, to) in [
        (json!({"a": 1, "properties": {"p": {"$ref": "#/$defs/plain"}}, "$defs": {"plain": {}}}), "/$defs/plain"),
        (
            json!({"properties": {"p": {"$ref": "#/$defs/Page%3Cint%3E"}}, "$defs": {"Page<int>": {}}}),
            "/$defs/Page<int>",
        ),
        (json!({"properties": {"p": {"$ref": "#/$defs/two%20words"}}, "$defs": {"two words": {}}}), "/$defs/two words"),
        (json!({"properties": {"p": {"$ref": "#/$defs/Gr%C3%B6%C3%9Fe"}}, "$defs": {"Größe": {}}}), "/$defs/Größe"),
        (json!({"properties": {"p": {"$ref": "#/$defs/Größe"}}, "$defs": {"Größe": {}}}), "/$defs/Größe"),
        (json!({"properties": {"p": {"$ref": "#/$defs/a~1b~0c"}}, "$defs": {"a/b~c": {}}}), "/$defs/a~1b~0c"),
        (json!({"properties": {"p": {"$ref": "#/$defs/50%25"}}, "$defs": {"50%": {}}}), "/$defs/50%"),
        (json!({"properties": {"p": {"$ref": "#/prefixItems/1"}}, "prefixItems": [{}, {}]}), "/prefixItems/1"),
        (
            json!({"properties": {"p": {"$ref": "#/components/schemas/P"}}, "components": {"schemas": {"P": {}}}}),
            "/components/schemas/P",
        ),
        (json!({"properties": {"p": {"$ref": "#it"}}, "$defs": {"it": {"$anchor": "it"}}}), "/$defs/it"),
        (json!({"properties": {"p": {"$dynamicRef": "#it"}}, "$defs": {"it": {"$dynamicAnchor": "it"}}}), "/$defs/it"),
        (json!({"properties": {"p": {"$ref": "#"}}}), ""),
        (
            json!({"$id": "https://example.org/all", "properties": {"p": {"$ref": "https://example.org/all#/$defs/it"}}, "$defs": {"it": {}}}),
            "/$defs/it",
        ),
        (
            json!({"$schema": d2020, "$id": "https://example.org/all", "properties": {"p": {"$ref": "one"}}, "$defs": {"it": {"$id": "one"}}}),
            "/$defs/it",
        ),
        (
            json!({"$id": "https://example.org/all", "properties": {"p": {"$ref": "/one#/items"}}, "$defs": {"it": {"$id": "one", "items": {}}}}),
            "/$defs/it/items",
        ),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"p": {"$ref": "#it"}}, "definitions": {"x": {"$id": "#it"}}}),
            "/definitions/x",
        ),
        (
            json!({"$schema": "http://json-schema.org/draft-04/schema#", "id": "http://example.org/4#", "properties": {"p": {"$ref": "one.json"}}, "definitions": {"x": {"id": "one.json"}}}),
            "/definitions/x",
        ),
        (
            json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "properties": {"p": {"$recursiveRef": "#"}}}),
            "",
        ),
    ] {
        assert!(leads(&schema, "/properties/p", to), "{schema}");
    }
    // Inside a part with its own id, that part is the document.
    let nested = json!({"$id": "https://example.org/all", "$defs": {"it": {"$id": "one", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": {}}}, "x": {}}});
    assert!(leads(&nested, "/$defs/it/items", "/$defs/it/$defs/x"));
}

#[test]
fn a_lookalike_of_a_reference_is_not_followed() {
    for schema in [
        json!({"properties": {"$ref": {"type": "string"}}}),
        json!({"const": {"$ref": "#/const"}}),
        json!({"enum": [{"$ref": "#"}, {"allOf": [{"$ref": "#/enum/1"}]}]}),
        json!({"default": {"$ref": "#/default"}, "x-note": {"anyOf": [{"$ref": "#/x-note"}]}}),
    ] {
        assert!(Schema::compile(&schema).is_ok(), "{schema}");
        assert!(!References::of(schema.clone()).is_endless(), "{schema}");
    }
}

#[test]
fn endless_references_are_found_through_every_kind_of_name() {
    for schema in [
        json!({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"anyOf": [{"$ref": "#/$defs/a%20b"}]}}}),
        json!({"$id": "https://example.org/x", "allOf": [{"$ref": "https://example.org/x#"}]}),
        json!({"$id": "https://example.org/x", "items": {"$ref": "y"}, "$defs": {"y": {"$id": "y", "not": {"$ref": "#"}}}}),
        json!({"properties": {"a": {"$ref": "#/x-parts/a"}}, "x-parts": {"a": {"oneOf": [{"$ref": "#/x-parts/a"}]}}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": {"$ref": "#"}}}),
    ] {
        let error = Schema::compile(&schema).expect_err("it has no end").to_string();
        assert!(error.contains("refers to itself"), "{schema}: {error}");
    }
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "User Registration")]
struct Registration {
    #[validate(length(min = 3))]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Filter<Order>")]
#[expect(dead_code, reason = "only its schema is used")]
enum Filter {
    Not { not: Box<Filter> },
    Both { not: Box<Filter>, or: Box<Filter> },
    Eq { eq: String },
}

#[derive(Clone)]
struct Shop;

#[server(name = "shop", version = "1.0.0")]
impl Shop {
    /// Registers a user.
    #[tool]
    async fn register(&self, data: Option<Registration>) -> McpResult<String> {
        Ok(data.map(|data| data.name).unwrap_or_default())
    }

    /// Finds orders.
    #[tool]
    async fn find(&self, filters: Vec<Filter>) -> McpResult<String> {
        Ok(format!("{} filters", filters.len()))
    }
}

#[tokio::test]
async fn a_type_with_a_space_in_its_name_is_read_from_the_only_parameter() {
    let server = ValidatedTool::new().typed::<Registration>("register").layer(Shop);
    assert_eq!(text(&call(&server, "register", json!({"data": {"name": "ada"}})).await), "ada");
    let refused = call(&server, "register", json!({"data": {"name": "al"}})).await;
    assert_eq!(text(&refused), "`data.name` must have at least 3 characters");
}

#[tokio::test]
async fn a_default_is_found_behind_every_reference() {
    for (reference, rest) in [
        ("#/$defs/Page%3Cint%3E", json!({"Page<int>": {"type": "integer", "default": 1}})),
        ("#page", json!({"x": {"$anchor": "page", "type": "integer", "default": 1}})),
        (
            "https://example.org/page",
            json!({"x": {"$id": "https://example.org/page", "type": "integer", "default": 1}}),
        ),
    ] {
        let schema = json!({"type": "object", "properties": {"p": {"$ref": reference}}, "$defs": rest});
        let server = ValidatedTool::new().with_defaults().layer(taking(schema));
        assert_eq!(text(&call(&server, "take", json!({})).await), r#"{"p":1}"#, "{reference}");
    }
}

#[tokio::test]
async fn a_name_is_suggested_across_references() {
    let schema = json!({"type": "object", "allOf": [{"$ref": "#/$defs/a%20b"}], "unevaluatedProperties": false,
        "$defs": {"a b": {"properties": {"colour": {}}}}});
    let server = ValidatedTool::new().layer(taking(schema));
    let refused = call(&server, "take", json!({"color": 1})).await;
    assert_eq!(text(&refused), "`color` is not known here; did you mean `colour`?");
}

#[test]
fn the_cost_of_a_recursive_union_does_not_depend_on_its_name() {
    let named = |name: &str, encoded: &str| {
        let all = json!([
            {"type": "object", "properties": {"not": {"$ref": encoded}}, "required": ["not"]},
            {"type": "object", "properties": {"not": {"$ref": encoded}, "or": {"$ref": encoded}}, "required": ["not", "or"]},
            {"type": "object", "properties": {"eq": {"type": "string"}}, "required": ["eq"]},
        ]);
        Schema::compile(&json!({"$ref": encoded, "$defs": {name: {"anyOf": all}}})).expect("a schema")
    };
    let nested = (0..30).fold(json!({"eq": 1}), |inner, _| json!({"not": inner}));
    let steps = |schema: &Schema| {
        let mut found = Collector::new(20);
        let steps = schema.find(&nested, &mut Hints::new(), &mut found);
        assert!(!found.is_empty());
        steps
    };
    let plain = steps(&named("Filter", "#/$defs/Filter"));
    assert_eq!(steps(&named("Filter<Order>", "#/$defs/Filter%3COrder%3E")), plain);
    assert!(plain.0 < 10_000 && plain.1 < 50_000, "{plain:?}");
}

#[tokio::test]
async fn a_recursive_filter_of_the_macro_is_judged_and_reported_in_bounded_time() {
    let server = ValidatedTool::new().layer(Shop);
    let nested = (0..25).fold(json!({"eq": 1}), |inner, _| json!({"not": inner}));
    assert!(call(&server, "find", json!({"filters": [nested]})).await.is_error());
    let good = json!({"filters": [{"not": {"eq": "a"}}]});
    assert_eq!(text(&call(&server, "find", good).await), "1 filters");
}
