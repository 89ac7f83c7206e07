//! The tools of the listing that passes the layers.

use std::cell::RefCell;

use rmcp::model::Tool;
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_types as own;

use super::convert::{tool_from_rmcp, tool_to_rmcp};

thread_local! {
    /// What the server has listed: a listing waits for the server first, and passes the layers at once then.
    static LISTED: RefCell<Option<Vec<own::Tool>>> = const { RefCell::new(None) };
}

/// Returns what the server has listed, while a listing passes the layers.
pub(super) fn listed_now() -> Option<Vec<own::Tool>> {
    LISTED.with_borrow(Clone::clone)
}

/// Runs `list` with these tools at the end of the stack.
fn with_listed<A>(tools: Vec<own::Tool>, list: impl FnOnce() -> A) -> A {
    /// Also if a layer panics.
    struct Reset(Option<Vec<own::Tool>>);
    impl Drop for Reset {
        fn drop(&mut self) {
            LISTED.set(self.0.take());
        }
    }
    let _reset = Reset(LISTED.replace(Some(tools)));
    list()
}

/// Lets a page of tools pass the layers. Tools that layers add come with the first page.
pub(super) fn through_layers<S: McpHandler>(
    stack: &S,
    page: &[Tool],
    ctx: &RequestContext,
    is_first: bool,
) -> Vec<Tool> {
    let seen: Vec<_> = page.iter().map(tool_from_rmcp).collect();
    let listed = with_listed(seen.clone(), || McpHandler::list_tools_for(stack, ctx));
    let tool = |tool: own::Tool| match seen.iter().position(|seen| seen.name == tool.name) {
        // A tool that no layer has changed stays exactly as it is.
        Some(place) if seen[place] == tool => Some(page[place].clone()),
        Some(_) => tool_to_rmcp(&tool),
        None => is_first.then(|| tool_to_rmcp(&tool)).flatten(),
    };
    listed.into_iter().filter_map(tool).collect()
}

/// Returns one tool as it is listed, which the server has like this.
pub(super) fn listed_tool<S: McpHandler>(stack: &S, own: Option<Tool>, name: &str) -> Option<Tool> {
    let seen: Vec<_> = own.iter().map(tool_from_rmcp).collect();
    let listed = crate::middleware::without_learning(|| with_listed(seen.clone(), || McpHandler::list_tools(stack)));
    let tool = listed.into_iter().find(|tool| tool.name == name)?;
    if seen.first() == Some(&tool) { own } else { tool_to_rmcp(&tool) }
}
