//! Defaults of a schema for missing values.

use super::*;
use crate::references::References;
use crate::validated::defaults::Defaults;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "default": 10},
            "sort": {"$ref": "#/$defs/Sort"},
            "pages": {"type": "array", "items": {"type": "object", "properties": {"size": {"default": "A4"}}}},
            "either": {"anyOf": [{"type": "object", "properties": {"never": {"default": 1}}}]},
        },
        "allOf": [{"properties": {"also": {"default": null}}}],
        "$defs": {"Sort": {"type": "string", "enum": ["up", "down"], "default": "up"}},
        "required": ["limit"],
    })
}

#[tokio::test]
async fn a_default_is_filled_in_if_the_setting_is_on() {
    let bare = ValidatedTool::new().layer(taking(schema()));
    assert_eq!(text(&call(&bare, "take", json!({})).await), "`limit` is missing");

    let server = ValidatedTool::new().with_defaults().layer(taking(schema()));
    let taken = call(&server, "take", json!({"pages": [{}, {"size": "A5"}], "either": {}})).await;
    let taken: Value = serde_json::from_str(text(&taken)).expect("the arguments");
    assert_eq!(
        taken,
        json!({
            "limit": 10, "sort": "up", "also": null,
            "pages": [{"size": "A4"}, {"size": "A5"}], "either": {},
        })
    );
    let given = json!({"limit": 5, "sort": "down", "also": 1});
    let taken = call(&server, "take", given.clone()).await;
    assert_eq!(serde_json::from_str::<Value>(text(&taken)).expect("the arguments"), given);
}

#[tokio::test]
async fn a_default_that_its_own_schema_refuses_is_not_filled_in() {
    let properties = json!({
        "q": {"type": "string"},
        "project": {"type": "string", "default": null},
        "n": {"type": "integer", "default": "ten"},
        "size": {"$ref": "#/$defs/Size%20of%20page", "default": "A7"},
        "sort": {"$ref": "#/$defs/Sort"},
        "50%": {"type": "string", "default": 50},
        "limit": {"type": "integer", "default": 10},
    });
    let parts =
        json!({"Size of page": {"enum": ["A4", "A5"]}, "Sort": {"enum": ["up", "down"], "default": "sideways"}});
    for draft in ["https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema"] {
        let schema =
            json!({"$schema": draft, "type": "object", "properties": properties, "required": ["q"], "$defs": parts});
        let server = ValidatedTool::new().with_defaults().layer(taking(schema));
        let taken = call(&server, "take", json!({"q": "x"})).await;
        let taken: Value = serde_json::from_str(text(&taken)).expect("the arguments");
        assert_eq!(taken, json!({"q": "x", "limit": 10}), "{draft}");
    }
}

#[tokio::test]
async fn a_default_in_a_schema_with_its_own_id_is_checked_against_it() {
    let part = json!({"$id": "part", "type": "object", "properties": {
        "n": {"$ref": "#/$defs/n", "default": 0}, "m": {"$ref": "#/$defs/n", "default": 1},
    }, "$defs": {"n": {"minimum": 1}}});
    let schema = json!({"$id": "https://example.org/all", "type": "object", "properties": {"p": {"$ref": "part"}}, "$defs": {"part": part}});
    let server = ValidatedTool::new().with_defaults().layer(taking(schema));
    assert_eq!(text(&call(&server, "take", json!({"p": {}})).await), r#"{"p":{"m":1}}"#);
}

#[tokio::test]
async fn a_default_that_conflicts_with_valid_arguments_does_not_refuse_them() {
    for (schema, given) in [
        (json!({"oneOf": [{"required": ["id"]}, {"required": ["slug"]}]}), json!({"id": "1"})),
        (json!({"maxProperties": 1}), json!({"id": "1"})),
        (json!({"dependentRequired": {"slug": ["body"]}}), json!({"id": "1"})),
    ] {
        let mut schema = schema;
        schema["type"] = json!("object");
        schema["properties"] = json!({"id": {"type": "string"}, "slug": {"type": "string", "default": "s"}});
        let server = ValidatedTool::new().with_defaults().layer(taking(schema.clone()));
        assert_eq!(text(&call(&server, "take", given.clone()).await), given.to_string(), "{schema}");
    }
}

#[tokio::test]
async fn violations_of_filled_in_values_are_reported() {
    let server = ValidatedTool::new().with_defaults().layer(taking(schema()));
    let refused = call(&server, "take", json!({"sort": "sideways"})).await;
    assert_eq!(text(&refused), "`sort` must be \"up\" or \"down\"", "the limit that is required has a default");
}

#[tokio::test]
async fn circular_defaults_end() {
    for schema in [
        json!({"type": "object", "properties": {"next": {"$ref": "#", "default": {}}}}),
        json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"default": {}, "properties": {"next": {"$ref": "#/$defs/a"}}}}}),
    ] {
        let server = ValidatedTool::new().with_defaults().layer(taking(schema));
        assert_eq!(text(&call(&server, "take", json!({"next": {}})).await), "{\"next\":{\"next\":{}}}");
    }
}

#[tokio::test]
async fn nested_parts_have_defaults_too() {
    let schema = json!({"allOf": [{"allOf": [{"$ref": "#/$defs/deep"}]}], "$defs": {"deep": {"properties": {"n": {"default": 1}}}}});
    let server = ValidatedTool::new().with_defaults().layer(taking(schema));
    assert_eq!(text(&call(&server, "take", json!({})).await), "{\"n\":1}");
}

#[test]
fn schemas_that_refer_to_themselves_end() {
    let whole = json!({"properties": {"n": {"default": 1}}, "allOf": [{"$ref": "#"}]});
    let circle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}});
    for (schema, expected) in [(whole, json!({"n": 1})), (circle, json!({}))] {
        let mut value = json!({});
        let references = References::of(schema.clone());
        Defaults::of(&references, &Formats::all()).fill(&references, &mut value);
        assert_eq!(value, expected, "{schema}");
    }
}
