//! Which formats are asserted.

use super::*;

fn undashed() -> (Value, Value) {
    let schema =
        json!({"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}, "on": {"format": "date"}}});
    (schema, json!({"id": "123e4567e89b12d3a456426614174000", "on": "31.1.2026"}))
}

#[tokio::test]
async fn formats_can_be_disabled_one_by_one_or_as_a_whole() {
    let (schema, args) = undashed();
    for (formats, refused) in [
        (None, vec!["/id", "/on"]),
        (Some(Formats::all()), vec!["/id", "/on"]),
        (Some(Formats::all().except(["uuid"])), vec!["/on"]),
        (Some(Formats::all().except(["uuid", "date"])), vec![]),
        (Some(Formats::none()), vec![]),
    ] {
        let validated = formats.iter().cloned().fold(ValidatedTool::new(), ValidatedTool::with_formats);
        let answer = call(&validated.layer(taking(schema.clone())), "take", args.clone()).await;
        let places: Vec<_> = match answer.is_error() {
            true => listed(&answer).into_iter().map(|(place, _)| place).collect(),
            false => Vec::new(),
        };
        assert_eq!(places, refused, "{formats:?}");
    }
}

#[tokio::test]
async fn results_are_checked_with_the_same_formats() {
    let (schema, args) = undashed();
    let answering = || {
        let output = turbomcp_types::ToolOutputSchema::from_value(schema.clone());
        let tool = Tool { output_schema: Some(output), ..Tool::new("take", "answers") };
        let structured = args.clone();
        ScriptedServer::new("server").with_tool(tool, move |_| {
            let answer = ToolResult { structured_content: Some(structured.clone()), ..ToolResult::text("taken") };
            async move { Ok(answer) }
        })
    };
    assert!(call(&ValidatedTool::new().layer(answering()), "take", json!({})).await.is_error());
    let loose = ValidatedTool::new().with_formats(Formats::none()).layer(answering());
    assert_eq!(text(&call(&loose, "take", json!({})).await), "taken");
}

#[test]
fn an_unknown_format_is_an_error_of_the_layer_and_of_the_schema() {
    let mistake = |name| {
        let validated = ValidatedTool::new().with_formats(Formats::all().except([name]));
        validated.try_layer(taking(json!({"type": "object"}))).expect_err("a mistake").to_string()
    };
    assert!(mistake("uid").contains("did you mean `uuid`?"), "{}", mistake("uid"));
    assert!(mistake("no such").contains("there is no format `no such`"));
    let error = Schema::compile_with(&json!({}), &Formats::all().except(["uid"])).expect_err("a mistake");
    assert_eq!(error.to_string(), "there is no format `uid`: did you mean `uuid`?");
}

#[test]
fn formats_can_be_disabled_in_a_draft_that_asserts_them_by_default() {
    let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "format": "date"});
    let formats = Formats::none();
    assert!(Schema::compile(&schema).expect("a schema").check(&json!("today")).is_err());
    assert!(Schema::compile_with(&schema, &formats).expect("a schema").check(&json!("today")).is_ok());
}
