//! What the layers promise, as one table with two columns: each row runs over a server of turbomcp and over the same server of rmcp.
//!
//! The [script](script) is what both servers do. [Rows](rows) call it through a client of the [SDK](turbomcp), and see the same. What is
//! not the same stands in [one place](differences), with the reason.

mod differences;
mod rmcp;
mod rows;
mod script;
mod turbomcp;

use mcp_patterns::outcome;
use serde_json::Value;
use turbomcp_core::McpResult;
use turbomcp_types::ToolResult;

/// Writes each row as a test of both columns.
macro_rules! in_both_columns {
    ($($(#[$attribute:meta])* async fn $name:ident() $body:block)*) => {
        mod with_turbomcp {
            use super::*;
            use crate::both_sdks::turbomcp::*;
            $($(#[$attribute])* async fn $name() $body)*
        }

        mod with_rmcp {
            use super::*;
            use crate::both_sdks::rmcp::*;
            $($(#[$attribute])* async fn $name() $body)*
        }
    };
}
use in_both_columns;

type Answer = McpResult<ToolResult>;

/// The text of an answer, also of a failure.
fn text(answer: &Answer) -> String {
    match answer {
        Ok(result) => result.first_text().unwrap_or_default().to_owned(),
        Err(error) => error.message.clone(),
    }
}

/// What a layer has left in the `_meta` of an answer, or in the data of a failure.
fn mark(answer: &Answer, name: &str) -> Value {
    let meta = answer.as_ref().ok().and_then(|result| result.meta.as_ref()?.get(name).cloned());
    let data = || outcome::failure(answer)?.data()?.get(name).cloned();
    meta.or_else(data).unwrap_or_default()
}

/// Whether the answer came out of the cache.
fn status(answer: &Answer) -> Value {
    mark(answer, outcome::CACHE)["status"].clone()
}
