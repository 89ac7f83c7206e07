//! Answers of servers of rmcp, as a client of turbomcp reads them: so that one test judges both.

use rmcp::ErrorData;
use serde::Serialize;
use serde::de::DeserializeOwned;
use turbomcp_core::{ErrorKind, McpError, McpResult, meta_keys};

pub(crate) fn error_of(error: ErrorData) -> McpError {
    let data = error.data.unwrap_or_default();
    let stated = data.get(meta_keys::ERROR_KIND).cloned().and_then(|kind| serde_json::from_value(kind).ok());
    let kind = stated.unwrap_or_else(|| match error.code.0 {
        -32602 if error.message.starts_with("Tool not found") => ErrorKind::ToolNotFound,
        -32012 => ErrorKind::Timeout,
        -32013 => ErrorKind::Unavailable,
        -32014 => ErrorKind::Transport,
        -32016 => ErrorKind::ExternalService,
        -32017 => ErrorKind::Cancelled,
        code => ErrorKind::from_i32(code),
    });
    McpError::new(kind, error.message).with_data(data)
}

pub(crate) fn as_turbomcp<A: Serialize, B: DeserializeOwned>(answer: Result<A, ErrorData>) -> McpResult<B> {
    let answer = serde_json::to_value(answer.map_err(error_of)?).expect("an answer");
    Ok(serde_json::from_value(answer).expect("an answer of the same protocol"))
}
