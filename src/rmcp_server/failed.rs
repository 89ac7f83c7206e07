//! A failure that states its kind: [`Failed`].

use std::fmt;

use rmcp::ErrorData;
use rmcp::handler::server::tool::IntoCallToolResult;
use rmcp::model::CallToolResponse;
use turbomcp_core::{McpError, meta_keys};

use super::convert::{error_to_rmcp, result_to_rmcp};
use crate::outcome::note_in;

/// A failure of a tool, with its kind: whether it is temporary, whether it proves that nothing was done.
///
/// rmcp's own errors have no such kind, so [`RetryTool`](crate::RetryTool) would repeat nothing. Return this as the error of a tool. The model
/// reads the message. For resources and prompts, convert it into an [`ErrorData`] (`?` does).
///
/// ```
/// use mcp_patterns::rmcp_server::{Failed, McpError};
/// use rmcp::handler::server::tool::IntoCallToolResult;
/// use rmcp::model::CallToolResponse;
///
/// async fn fetch() -> Result<String, Failed> {
///     Err(Failed(McpError::unavailable("The weather service is down")))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let answer = fetch().await.into_call_tool_result()?;
/// let CallToolResponse::Complete(result) = answer else { unreachable!("it is complete") };
/// assert_eq!(result.is_error, Some(true));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Failed(
    /// The failure.
    pub McpError,
);

impl<E: Into<McpError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl IntoCallToolResult for Failed {
    fn into_call_tool_result(self) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResponse::Complete(result_to_rmcp(self.0.to_tool_result())))
    }
}

impl From<Failed> for ErrorData {
    fn from(Failed(mut error): Failed) -> Self {
        if let Ok(kind) = serde_json::to_value(error.kind) {
            note_in(&mut error, meta_keys::ERROR_KIND, kind);
        }
        error_to_rmcp(error)
    }
}
