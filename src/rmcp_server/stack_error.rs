use std::fmt;

use rmcp::ErrorData;
use turbomcp_core::McpError;

use super::convert::error_to_rmcp;

/// The error of a layer that cannot start or end its work. It is a sentence, also where a `main` returns it.
pub struct StackError(McpError);

impl StackError {
    pub(super) fn new(error: McpError) -> Self {
        Self(error)
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// A `main` that returns an error prints this.
impl fmt::Debug for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StackError {}

impl From<StackError> for ErrorData {
    fn from(StackError(error): StackError) -> Self {
        error_to_rmcp(error)
    }
}
