//! A type that does not fit its place in the schema.

use serde::Deserialize;
use validator::Validate;

use super::*;

#[derive(Debug, Deserialize, Validate)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its names are asked for")]
struct Address {
    zip_code: String,
}

#[tokio::test]
async fn a_parameter_type_that_cannot_fit_the_schema_is_found_at_the_start() {
    let inner = json!({"type": "object", "properties": {"howMany": {"type": "integer"}, "shipTo": {}}});
    let nested = |more: Value| {
        let mut schema =
            json!({"type": "object", "properties": {"query": {"type": "object", "properties": {"order": inner}}}});
        for (name, property) in more.as_object().expect("properties") {
            schema["properties"][name] = property.clone();
        }
        taking(schema)
    };
    let mistake = |validated: ValidatedTool, more: Value| {
        let mistake = validated.try_layer(nested(more)).expect_err("a mistake");
        mistake.to_string()
    };
    let typed = mistake(ValidatedTool::new().typed::<Address>("take"), json!({}));
    for told in ["`typed_at`", "`order` in its parameter `query`", "(`zipCode`)"] {
        assert!(typed.contains(told), "{told}: {typed}");
    }
    assert!(typed.starts_with("ValidatedTool::typed: "), "{typed}");
    let two = mistake(ValidatedTool::new().typed::<Address>("take"), json!({"dry_run": {"type": "boolean"}}));
    assert!(two.contains("`dry_run`, `query` in its arguments as a whole"), "{two}");
    let at = mistake(ValidatedTool::new().typed_at::<Address>("take", "query"), json!({"other": {}}));
    assert!(at.contains("(`zipCode`)"), "{at}");
    assert!(at.starts_with("ValidatedTool::typed_at: "), "{at}");
    let rule = |_: Address, _: crate::validated::RuleContext| async { Ok(()) };
    assert!(mistake(ValidatedTool::new().rule("take", rule), json!({})).contains("`rule_at`"));

    let open = json!({"type": "object", "properties": {"query": {"type": "object", "properties": {"a": {}}, "additionalProperties": {}}}});
    assert!(ValidatedTool::new().typed::<Address>("take").try_layer(taking(open)).is_ok(), "it may be there");
    let untold = json!({"type": "object", "properties": {"query": {"type": "object"}}});
    assert!(ValidatedTool::new().typed::<Address>("take").try_layer(taking(untold)).is_ok(), "nothing is known");
}
