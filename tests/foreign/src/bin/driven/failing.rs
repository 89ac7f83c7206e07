//! A tool that fails in every form.

use serde_json::json;
use turbomcp::prelude::*;
use turbomcp_core::ErrorKind;

/// Fails in the form that its caller asks for.
pub(crate) fn fail(form: &str) -> McpResult<ToolResult> {
    match form {
        "internal" => Err(McpError::internal("An internal error")),
        "unavailable" => Err(McpError::unavailable("Come back later")),
        "rate_limited" => Err(McpError::rate_limited("Too fast").with_data(json!({ "retryAfterMs": 20 }))),
        "invalid_params" => Err(McpError::invalid_params("No such form")),
        "permission_denied" => Err(McpError::permission_denied("Not for you")),
        "url_elicitation" => {
            let data = json!({ "elicitations": [{
                "mode": "url",
                "elicitationId": "1",
                "url": "https://example.org/consent",
                "message": "Please consent",
            }] });
            Err(McpError::new(ErrorKind::UrlElicitationRequired, "Consent is needed").with_data(data))
        }
        "result" => Ok(ToolResult::error("A result that is an error")),
        "structured" => Ok(ToolResult {
            is_error: Some(true),
            ..ToolResult::text("Sold out").with_structured(&json!({ "left": 0 }))
        }),
        #[expect(clippy::panic, reason = "a panic is one of the forms in which a tool fails")]
        "panic" => panic!("the tool panics"),
        _ => Ok(ToolResult::text("Nothing failed")),
    }
}
