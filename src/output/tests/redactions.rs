//! Texts that the author's function replaces.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use turbomcp_core::{ErrorKind, McpError};

use super::*;

/// Replaces each `s3cret`, and only for the tool that it is asked for.
fn hide<'a>(tool: &str, text: &'a str) -> Cow<'a, str> {
    assert!(["read", "write", "read_rows", "write_rows"].contains(&tool));
    if text.contains("s3cret") { text.replace("s3cret", "***").into() } else { text.into() }
}

fn redacting() -> OutputTool {
    OutputTool::new().with_redaction(hide)
}

#[tokio::test]
async fn every_text_of_an_answer_is_redacted_and_nothing_else() {
    let link = |text: &str| json!({ "type": "resource_link", "uri": "file:///a", "name": text, "title": text, "description": text });
    let answer = |text: &str| {
        json!({
            "content": [
                { "type": "text", "text": format!("the key is {text}") },
                { "type": "resource", "resource": { "uri": "file:///a", "text": text } },
                link(text),
                { "type": "image", "data": "s3cret", "mimeType": "image/png" },
                { "type": "resource", "resource": { "uri": "file:///b", "blob": "s3cret" } },
            ],
            "structuredContent": { "a": [text, { "b": text, "s3cret": 1 }], "c": 5, "d": null },
            "_meta": { "for the program": "s3cret" },
        })
    };
    let given: ToolResult = serde_json::from_value(answer("s3cret")).expect("a result");
    let server = redacting().layer(answering(Ok(given.clone())));
    for tool in ["read", "write", "read_rows", "write_rows"] {
        let redacted = serde_json::to_value(call(&server, tool, &user("ada")).await).expect("JSON");
        assert_eq!(redacted, answer("***"));
    }
    let server = redacting().without_redaction_of_structure(["write"]).layer(answering(Ok(given.clone())));
    let answer = call(&server, "write", &user("ada")).await;
    assert_eq!((text(&answer.content[0]), answer.structured_content), ("the key is ***", given.structured_content));
}

#[tokio::test]
async fn errors_are_redacted_and_keep_their_kind_and_the_marks_of_layers() {
    let data = json!({ "query": "s3cret", outcome::RETRY: "s3cret" });
    let error = McpError::unavailable("s3cret is down").with_data(data);
    for answer in [
        Err(error.clone()),
        Ok(error.to_tool_result()),
        Err(McpError::unavailable("s3cret is down").with_data(json!("s3cret"))),
    ] {
        let server = raising(&redacting(), answer);
        let answer = server.call_tool("read", json!({}), &user("ada")).await;
        let failure = outcome::failure(&answer).expect("a failure");
        assert_eq!((failure.kind(), failure.message()), (Some(ErrorKind::Unavailable), "*** is down"));
        let data = failure.data().expect("data");
        let expected = json!({ "query": "***", outcome::RETRY: "s3cret" });
        assert!(*data == expected || *data == json!("***"), "{data}");
    }
}

#[tokio::test]
async fn a_text_is_redacted_before_it_is_cut_or_kept() {
    // The bound is within the secret.
    let text_of_tool = format!("{}s3cret{}", "x".repeat(BYTES - 1_100), "y".repeat(BYTES));
    let layer = keeping().with_redaction(hide);
    let server = layer.layer(answering(Ok(ToolResult::text(text_of_tool.clone()))));
    for tool in ["read", "write"] {
        let answer = call(&server, tool, &user("ada")).await;
        assert!(!format!("{answer:?}").contains("s3"), "{answer:?}");
        assert_eq!(whole(&server, &answer, &user("ada")).await, Some(vec![text_of_tool.replace("s3cret", "***")]));
    }
    let error = ToolResult::error(text_of_tool);
    assert!(!format!("{:?}", call(&layer.layer(answering(Ok(error))), "read", &user("ada")).await).contains("s3"));
}

#[tokio::test]
async fn a_part_of_the_text_may_be_the_replacement() {
    let layer = OutputTool::new().with_redaction(|_, text| text.split(':').next().unwrap_or_default().into());
    let answer = call(&layer.layer(answering(Ok(ToolResult::text("user: ada")))), "read", &user("ada")).await;
    assert_eq!(text(&answer.content[0]), "user");
}

/// Lists a tool with a status, from the second listing on with a schema that constrains it.
#[derive(Clone)]
struct Changing(Arc<AtomicBool>);

impl Middleware for Changing {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        let mut tools = inner.list_tools();
        if self.0.load(Ordering::SeqCst) {
            let status = json!({ "type": "object", "properties": { "status": { "enum": ["open", "closed"] } } });
            tools.push(tool("status", true, Some(status)));
        }
        tools
    }
}

#[tokio::test]
async fn a_tool_whose_schema_a_redacted_answer_could_break_is_an_error_and_is_not_called_if_it_comes_later() {
    let has_status = Arc::new(AtomicBool::new(true));
    let script = ScriptedServer::new("server").with_plain("other", |_| async { Ok(ToolResult::default()) });
    let stack =
        |redacting: OutputTool| (redacting, crate::layer(Changing(has_status.clone()))).try_layer(script.clone());
    let free = || OutputTool::new().with_redaction(|_, text| text.into());
    let mistake = stack(free()).map(drop).expect_err("it could break the schema");
    assert_eq!(
        mistake.to_string(),
        "OutputTool::with_redaction: the output schema of `status` constrains strings (`enum`), so a redacted answer could break it: \
         name the tool in `without_redaction_of_structure` if its structured content has nothing to hide, or leave it out with `except`"
    );
    assert!(stack(free().except(["status"])).is_ok());
    assert!(stack(free().without_redaction_of_structure(["status"])).is_ok());
    assert!(stack(OutputTool::new()).is_ok(), "without a redaction");

    has_status.store(false, Ordering::SeqCst);
    let server = stack(free()).expect("there is no such tool yet");
    has_status.store(true, Ordering::SeqCst);
    server.list_tools();
    let refused = server.call_tool("status", json!({}), &user("ada")).await;
    let failure = outcome::failure(&refused).expect("refused");
    assert_eq!(failure.data(), Some(&json!({ OUTPUT: "not_redactable" })));
    assert!(failure.is_not_executed() && failure.kind() == Some(ErrorKind::Configuration));
    assert_eq!(failure.message(), "`status` cannot be called on this server. Nothing was done");
}

/// Lists no tools for callers, but answers their calls. A listing panics if it is broken.
#[derive(Clone)]
struct Hidden {
    is_broken: bool,
}

impl Middleware for Hidden {
    fn list_tools_for<H: McpHandler>(&self, _: &H, _: &RequestContext) -> Vec<Tool> {
        assert!(!self.is_broken, "the listing is down");
        Vec::new()
    }

    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        _: &'a str,
        _: Value,
        _: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        Ok(ToolResult::text("s3cret"))
    }
}

#[tokio::test]
async fn a_tool_that_is_not_listed_is_redacted_and_refused_if_nobody_knows_whether_it_is_listed() {
    let replacing = || OutputTool::new().with_redaction(|_, text| text.replace("s3cret", "***").into());
    let answer = async |layer: OutputTool, is_broken| {
        let server = (layer, crate::layer(Hidden { is_broken })).layer(ScriptedServer::new("server"));
        server.call_tool("hidden", json!({}), &user("ada")).await
    };
    assert_eq!(answer(replacing(), false).await.expect("a result").first_text(), Some("***"));
    assert_eq!(answer(OutputTool::new(), true).await.expect("a result").first_text(), Some("s3cret"));
    let refused = answer(replacing(), true).await;
    let failure = outcome::failure(&refused).expect("its schema is not known");
    assert_eq!((failure.kind(), refused.is_ok()), (Some(ErrorKind::Unavailable), true), "{refused:?}");
}
