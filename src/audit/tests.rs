mod arguments;
mod buffers;
mod callers;
mod drops;
mod ends;
mod json_lines;
mod settings;
mod sinks;
mod table;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::{AuditTool, Buffered, Destination, DestinationError, End, Event};
use crate::testing::{Call, ScriptedServer, Token};
use crate::{Layer, TryLayer};

/// The events that a function has received.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    fn audit(&self) -> AuditTool {
        let seen = self.clone();
        AuditTool::new().with_sink(move |event| seen.0.lock().expect("no panic").push(event.clone()))
    }

    fn all(&self) -> Vec<Event> {
        self.0.lock().expect("no panic").clone()
    }

    /// The event of the only call.
    fn one(&self) -> Event {
        let all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().expect("one")
    }

    fn last(&self) -> Event {
        self.all().pop().expect("an event")
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn user(name: &str) -> RequestContext {
    RequestContext::with_id("7").with_user_id(name)
}

/// A server whose tools do what the arguments say.
fn server() -> ScriptedServer {
    async fn work(call: Call) -> McpResult<ToolResult> {
        if let Some(millis) = call.args["ms"].as_u64() {
            tokio::time::sleep(ms(millis)).await;
        }
        if call.args["panics"] == true {
            // Without the hook, which would print it.
            std::panic::resume_unwind(Box::new("a tool panics"));
        }
        match call.args["fails"].as_str() {
            None => Ok(ToolResult::text("done")),
            Some("once") if call.number > 1 => Ok(ToolResult::text("done")),
            Some("forbidden") => Err(McpError::permission_denied("only for editors")),
            Some("missing") => Err(McpError::resource_not_found("no such thing")),
            Some("timeout") => Err(McpError::timeout("the bank does not answer")),
            Some("cancelled") => Err(McpError::cancelled("as you wish")),
            Some(_) => Err(McpError::unavailable("not yet")),
        }
    }
    ScriptedServer::new("shop").with_read_only("search", work).with_plain("order", work)
}

async fn call(server: &impl McpHandler, tool: &str, args: Value) -> McpResult<ToolResult> {
    server.call_tool(tool, args, &user("ada")).await
}
