//! Results of a tool, checked against its output schema.

use turbomcp_types::ToolOutputSchema;

use super::*;
use crate::testing::Traced;

fn answering(answer: ToolResult) -> ScriptedServer {
    let output = json!({"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]});
    let output: ToolOutputSchema = serde_json::from_value(output).expect("a schema");
    let made = Tool { output_schema: Some(output), ..Tool::new("make", "makes") };
    ScriptedServer::new("server").with_tool(made, move |_| {
        let answer = answer.clone();
        async move { Ok(answer) }
    })
}

fn structured(content: Value) -> ToolResult {
    ToolResult { structured_content: Some(content), ..ToolResult::text("made") }
}

#[tokio::test]
async fn a_result_that_violates_its_output_schema_is_masked_and_logged() {
    let traced = Traced::start();
    let server = ValidatedTool::new().layer(answering(structured(json!({"id": "s3cret", "password": "s3cret"}))));
    let answer = Ok(call(&server, "make", json!({})).await);
    let log = traced.text();
    let failure = outcome::failure(&answer).expect("the server's fault");
    assert_eq!(failure.kind(), Some(ErrorKind::Internal));
    assert_eq!(failure.data(), Some(&json!({VALIDATION: "bad_output"})));
    let id = failure.message().split(['(', ')']).nth(1).expect("an id").trim_start_matches("error ").to_owned();
    assert!(log.contains(&id) && log.contains("`id` must be an integer"), "{log}");
    assert!(!format!("{answer:?}{log}").contains("s3cret"));
}

#[tokio::test]
async fn a_result_that_matches_its_output_schema_or_has_none_passes() {
    for answer in [
        structured(json!({"id": 1})),
        ToolResult::text("no content at all"),
        ToolResult { is_error: Some(true), ..structured(json!({"id": "what a failure tells is its own"})) },
    ] {
        let server = ValidatedTool::new().layer(answering(answer.clone()));
        assert_eq!(call(&server, "make", json!({})).await, answer);
    }
    let broken = structured(json!({}));
    let server = ValidatedTool::new().without_output_checks().layer(answering(broken.clone()));
    assert_eq!(call(&server, "make", json!({})).await, broken);
}

#[test]
fn an_output_schema_that_cannot_be_compiled_is_an_error() {
    let broken: ToolOutputSchema =
        serde_json::from_value(json!({"type": "object", "properties": {"id": {"type": "strange"}}})).expect("a schema");
    let made = Tool { output_schema: Some(broken), ..Tool::new("make", "makes") };
    let server = ScriptedServer::new("server").with_tool(made, |_| async { Ok(ToolResult::text("")) });
    let mistake = ValidatedTool::new().try_layer(server.clone()).expect_err("a mistake");
    assert!(matches!(mistake, ConfigError::InvalidSchema { schema: "outputSchema", .. }));
    assert!(ValidatedTool::new().without_output_checks().try_layer(server).is_ok());
}
