//! Output schemas are never broken.

use super::*;
use crate::output::schema::constrains_strings;

fn conforms(answer: &ToolResult) -> bool {
    let content = answer.structured_content.as_ref().expect("structured content");
    jsonschema::validator_for(&rows_schema()).expect("a schema").is_valid(content)
}

#[tokio::test]
async fn structured_content_with_a_schema_stays_and_only_texts_are_cut() {
    let large = ToolResult { structured_content: rows(5).structured_content, ..ToolResult::text(lines(500)) };
    for tool in ["read_rows", "write_rows"] {
        let answer = call(&keeping().layer(answering(Ok(large.clone()))), tool, &user("ada")).await;
        assert!(conforms(&answer) && answer.structured_content == large.structured_content);
        assert!(answer_bytes(&answer) <= BYTES && !text(&answer.content[1]).contains("structured"), "{answer:?}");
    }
}

#[tokio::test]
async fn too_much_structured_content_of_a_read_is_an_error_that_says_where_it_is() {
    let layer = keeping().with_hint("read_rows", "pass a smaller `limit`");
    let handle = layer.handle();
    let server = layer.layer(answering(Ok(rows(500))));
    let result = server.call_tool("read_rows", json!({}), &user("ada")).await;
    let failure = outcome::failure(&result).expect("too large");
    assert_eq!(failure.data(), Some(&json!({ OUTPUT: "too_large" })));
    assert!(!failure.is_temporary() && !failure.is_not_executed(), "{failure:?}");
    assert_eq!(failure.kind(), Some(outcome::ErrorKind::ToolExecutionFailed));
    let bytes = answer_bytes(&rows(500));
    let expected = format!(
        "The answer has {bytes} bytes, and at most 2000 are allowed. Its structured content cannot be cut. The whole answer can be read \
         for 15 min from the resource that is linked here. To get less, pass a smaller `limit`."
    );
    assert_eq!(failure.message(), expected);
    let answer = result.expect("a result");
    assert_eq!(answer.structured_content, None, "an error needs none");
    let all = whole(&server, &answer, &user("ada")).await.expect("it is kept");
    assert_eq!(all, ["500 rows".to_owned(), rows(500).structured_content.unwrap().to_string()]);
    assert_eq!((handle.stats().too_large, handle.stats().kept), (1, 1));

    let answer = call(&bound().layer(answering(Ok(rows(500)))), "read_rows", &user("ada")).await;
    assert_eq!((answer.is_error(), link(&answer)), (true, None), "without a place for it");
}

#[test]
fn a_schema_constrains_strings_if_it_has_a_keyword_that_reads_them() {
    let free = [
        json!({ "type": "object", "properties": { "enum": { "type": "string" }, "format": { "type": ["string", "null"] } } }),
        json!({ "properties": { "n": { "type": "integer", "format": "int64", "minimum": 0 } }, "required": ["n"] }),
        json!({ "anyOf": [{ "$ref": "#/$defs/A" }, { "type": "null" }], "$defs": { "A": { "type": "array", "maxItems": 3 } } }),
        json!({ "properties": { "level": { "enum": [1, 2, null] }, "v": { "const": 3 } }, "additionalProperties": false }),
        json!(true),
    ];
    for schema in free {
        assert_eq!(constrains_strings(&schema), None, "{schema}");
    }
    let constrained = [
        ("enum", json!({ "properties": { "status": { "enum": ["open", "closed"] } } })),
        ("const", json!({ "oneOf": [{ "properties": { "kind": { "const": "a" } } }, { "type": "null" }] })),
        ("format", json!({ "items": { "type": "string", "format": "email" } })),
        ("pattern", json!({ "additionalProperties": { "type": ["null", "string"], "pattern": "^a" } })),
        ("maxLength", json!({ "$defs": { "A": { "maxLength": 3 } } })),
        ("minLength", json!({ "not": { "minLength": 3 } })),
        ("uniqueItems", json!({ "type": "array", "uniqueItems": true })),
        ("const", json!({ "const": { "deep": ["a"] } })),
        ("$ref", json!({ "$ref": "https://example.com/schema.json" })),
        ("$dynamicRef", json!({ "$dynamicRef": "#node" })),
    ];
    for (keyword, schema) in constrained {
        assert_eq!(constrains_strings(&schema), Some(keyword), "{schema}");
    }
}
