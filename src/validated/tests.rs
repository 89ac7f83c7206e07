//! The guarantees of the validation, by subject.

mod defaults;
mod fields;
mod formats;
mod layer;
mod leaks;
mod limits;
mod output;
mod reference_servers;
mod references;
mod rules;
mod schema;
#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
mod transactions;
mod typed;
mod verdicts;
mod work;

use serde_json::{Value, json};
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_types::{Tool, ToolInputSchema, ToolResult};

use super::*;
use crate::outcome::{self, ErrorKind};
use crate::testing::ScriptedServer;
use crate::{ConfigError, Layer, TryLayer};

/// A tool with this input schema.
fn tool(name: &str, schema: Value) -> Tool {
    Tool { input_schema: ToolInputSchema::from_value(schema), ..Tool::new(name, "takes what its schema says") }
}

/// A server whose tool `take` has this input schema and answers with its arguments.
fn taking(schema: Value) -> ScriptedServer {
    ScriptedServer::new("server")
        .with_tool(tool("take", schema), |call| async move { Ok(ToolResult::text(call.args.to_string())) })
}

async fn call(server: &impl McpHandler, name: &str, args: Value) -> ToolResult {
    server.call_tool(name, args, &RequestContext::new()).await.expect("the tool is known")
}

/// The violations in an answer: pointer and code of each.
fn listed(answer: &ToolResult) -> Vec<(String, String)> {
    let text = |violation: &Value, name: &str| violation[name].as_str().expect("a string").to_owned();
    violations(answer).iter().map(|violation| (text(violation, "pointer"), text(violation, "code"))).collect()
}

fn violations(answer: &ToolResult) -> Vec<Value> {
    data(answer)["violations"].as_array().expect("a list").clone()
}

fn data(answer: &ToolResult) -> Value {
    let answer = Ok(answer.clone());
    let failure = outcome::failure(&answer).expect("a refusal is a failure");
    assert_eq!(failure.kind(), Some(ErrorKind::InvalidParams));
    failure.data().expect("what was wrong")[VALIDATION].clone()
}

fn text(answer: &ToolResult) -> &str {
    answer.first_text().expect("a text")
}
