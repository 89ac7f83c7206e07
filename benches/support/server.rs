//! The server whose tools are called.

use turbomcp::prelude::*;

/// Tools that do almost nothing, so that the cost of the layers in front of them is visible.
#[derive(Debug, Clone)]
pub(crate) struct Tools;

#[server(name = "tools", version = "1.0.0")]
impl Tools {
    /// Does nothing.
    #[tool]
    async fn noop(&self) -> String {
        String::new()
    }

    /// Adds two numbers.
    #[tool]
    async fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    /// Returns a page of text.
    #[tool(read_only = true)]
    async fn page(&self, bytes: usize) -> String {
        "x".repeat(bytes)
    }
}
