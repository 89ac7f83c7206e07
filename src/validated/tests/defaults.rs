//! What a schema says for what is not said.

use super::*;
use crate::validated::defaults::fill;

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
async fn a_default_is_filled_in_where_it_is_asked_for() {
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
async fn a_default_that_breaks_the_schema_is_refused_like_any_value() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "default": "ten"}}});
    let server = ValidatedTool::new().with_defaults().layer(taking(schema));
    assert_eq!(text(&call(&server, "take", json!({})).await), "`n` must be an integer");
}

#[tokio::test]
async fn defaults_in_a_circle_end() {
    for schema in [
        json!({"type": "object", "properties": {"next": {"$ref": "#", "default": {}}}}),
        json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"default": {}, "properties": {"next": {"$ref": "#/$defs/a"}}}}}),
    ] {
        let server = ValidatedTool::new().with_defaults().layer(taking(schema));
        assert_eq!(text(&call(&server, "take", json!({"next": {}})).await), "{\"next\":{\"next\":{}}}");
    }
}

#[tokio::test]
async fn the_parts_of_a_part_have_defaults_too() {
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
        fill(&schema, &mut value);
        assert_eq!(value, expected, "{schema}");
    }
}
