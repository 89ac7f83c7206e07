//! The end of a stack: calls the server of rmcp.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse, InputRequiredResult,
    ReadResourceRequestParams, ReadResourceResponse,
};
use rmcp::service::RequestContext as RmcpContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{
    ListTasksResult, Prompt, PromptResult, Resource, ResourceResult, ResourceTemplate, ServerCapabilities, ServerInfo,
    Task, Tool, ToolResult, ToolsCapabilities,
};

use super::call::{Call, Continuation, seen_by_layers};
use super::connections::Connection;
use super::convert::{error_from_rmcp, prompt_from_rmcp, resource_from_rmcp, result_from_rmcp};
use super::forwarding_peer::ForwardingPeer;
use super::listing::listed_now;
use super::server::RmcpServer;
use crate::cancellation::cancelled;
use crate::outcome::Unfinished;
use crate::scope;

impl<T: ServerHandler> RmcpServer<T> {
    /// Asks the server, with the client's own peer where layers need not see what passes through it.
    async fn ask<A, F>(
        &self,
        ctx: &RequestContext,
        ask: impl FnOnce(Continuation, RmcpContext<RoleServer>) -> F,
    ) -> McpResult<A>
    where
        F: Future<Output = Result<A, ErrorData>> + Send,
    {
        let call = scope::current::<Call>();
        let call = call.as_deref();
        let continuation = call.map(|call| call.continuation.clone()).unwrap_or_default();
        let lent = Lent::new(call, ctx);
        let mut own = match (&lent.peer, call) {
            (Some(peer), call) => seen_by_layers(call, ctx, peer.peer().clone()),
            (None, Some(call)) => call.ctx.clone(),
            (None, None) => seen_by_layers(None, ctx, self.nobody.peer().clone()),
        };
        if call.is_some_and(|call| call.has_own_cancellation(ctx)) {
            return ask(continuation, own).await.map_err(error_from_rmcp);
        }
        own.ct = Default::default();
        let token = own.ct.clone();
        // A call that is dropped is cancelled, too.
        let _ended = token.clone().drop_guard();
        let asked = pin!(ask(continuation, own));
        let answer = match select(asked, pin!(cancelled(ctx))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), asked)) => {
                token.cancel();
                asked.await
            }
        };
        answer.map_err(error_from_rmcp)
    }
}

/// A peer for the time of a call, unless layers need not see what passes through it.
struct Lent<'a> {
    peer: Option<ForwardingPeer>,
    /// Gets the peer back, also if the call is dropped.
    connection: Option<&'a Connection>,
}

impl<'a> Lent<'a> {
    fn new(call: Option<&'a Call>, ctx: &RequestContext) -> Self {
        let Some(session) = ctx.session.as_ref().filter(|_| !call.is_some_and(|call| call.has_own_client(ctx))) else {
            return Self { peer: None, connection: None };
        };
        let (session, token) = (Arc::clone(session), ctx.progress_token().cloned());
        let connection = call.and_then(|call| call.connection.as_deref());
        let peer = match connection {
            Some(connection) => connection.forwarding_to(session, token),
            None => ForwardingPeer::new(session, token, None),
        };
        Self { peer: Some(peer), connection }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some((peer, connection)) = self.peer.take().zip(self.connection) {
            connection.put_back(peer);
        }
    }
}

/// The error that stands for an answer that is not complete.
fn unfinished(reason: Unfinished, message: &str, answer: &impl Serialize) -> McpError {
    match serde_json::to_value(answer) {
        Ok(answer) => reason.with_answer(message, &answer),
        Err(error) => error.into(),
    }
}

fn input_required(answer: &InputRequiredResult) -> McpError {
    unfinished(Unfinished::InputRequired, "The call needs an answer of its client first", answer)
}

fn unknown() -> McpError {
    McpError::internal("The answer is of a kind that the layers do not know: update `mcp-patterns`")
}

/// Arguments that are no object are none.
fn object(args: Value) -> Option<rmcp::model::JsonObject> {
    match args {
        Value::Object(args) => Some(args),
        _ => None,
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: ServerHandler> McpHandler for RmcpServer<T> {
    async fn call_tool<'a>(&'a self, name: &'a str, args: Value, ctx: &'a RequestContext) -> McpResult<ToolResult> {
        let asked = self.ask(ctx, |continuation, ctx| {
            let mut params = CallToolRequestParams::new(name.to_owned());
            params.arguments = object(args);
            (params.input_responses, params.request_state) = continuation;
            self.server.call_tool(params, ctx)
        });
        match asked.await? {
            CallToolResponse::Complete(result) => result_from_rmcp(result),
            CallToolResponse::InputRequired(answer) => Err(input_required(&answer)),
            CallToolResponse::Task(task) => {
                Err(unfinished(Unfinished::Task, "A task continues the call, which this client cannot follow", &task))
            }
            _ => Err(unknown()),
        }
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, ctx: &'a RequestContext) -> McpResult<ResourceResult> {
        let asked = self.ask(ctx, |continuation, ctx| {
            let mut params = ReadResourceRequestParams::new(uri);
            (params.input_responses, params.request_state) = continuation;
            self.server.read_resource(params, ctx)
        });
        match asked.await? {
            ReadResourceResponse::Complete(result) => resource_from_rmcp(result),
            ReadResourceResponse::InputRequired(answer) => Err(input_required(&answer)),
            _ => Err(unknown()),
        }
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        let asked = self.ask(ctx, |continuation, ctx| {
            let mut params = GetPromptRequestParams::new(name);
            params.arguments = args.and_then(object);
            (params.input_responses, params.request_state) = continuation;
            self.server.get_prompt(params, ctx)
        });
        match asked.await? {
            GetPromptResponse::Complete(result) => prompt_from_rmcp(result),
            GetPromptResponse::InputRequired(answer) => Err(input_required(&answer)),
            _ => Err(unknown()),
        }
    }

    fn server_info(&self) -> ServerInfo {
        let info = self.server.get_info().server_info;
        ServerInfo::new(info.name, info.version)
    }

    fn list_tools(&self) -> Vec<Tool> {
        listed_now().unwrap_or_else(|| self.tools.to_vec())
    }

    fn list_tools_for(&self, _: &RequestContext) -> Vec<Tool> {
        listed_now().or_else(|| self.looked_up()).unwrap_or_else(|| self.tools.to_vec())
    }

    fn server_capabilities(&self) -> ServerCapabilities {
        let has_tools = self.server.get_info().capabilities.tools.is_some();
        ServerCapabilities { tools: has_tools.then(ToolsCapabilities::default), ..ServerCapabilities::default() }
    }

    // rmcp's transports ask the server for everything below: see `stack`.

    fn instructions(&self) -> Option<String> {
        self.server.get_info().instructions
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_resources_for(&self, _: &RequestContext) -> Vec<Resource> {
        Vec::new()
    }

    fn list_resource_templates(&self) -> Vec<ResourceTemplate> {
        Vec::new()
    }

    fn list_resource_templates_for(&self, _: &RequestContext) -> Vec<ResourceTemplate> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    fn list_prompts_for(&self, _: &RequestContext) -> Vec<Prompt> {
        Vec::new()
    }

    fn page_size(&self) -> Option<usize> {
        None
    }

    async fn list_tasks<'a>(
        &'a self,
        _: Option<&'a str>,
        _: Option<usize>,
        _: &'a RequestContext,
    ) -> McpResult<ListTasksResult> {
        Err(only_rmcp("tasks/list"))
    }

    async fn get_task<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<Task> {
        Err(only_rmcp("tasks/get"))
    }

    async fn cancel_task<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<Task> {
        Err(only_rmcp("tasks/cancel"))
    }

    async fn get_task_result<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<Value> {
        Err(only_rmcp("tasks/result"))
    }

    async fn subscribe<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<()> {
        Err(only_rmcp("resources/subscribe"))
    }

    async fn unsubscribe<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<()> {
        Err(only_rmcp("resources/unsubscribe"))
    }

    async fn set_log_level<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<()> {
        Err(only_rmcp("logging/setLevel"))
    }

    async fn complete<'a>(&'a self, _: Value, _: &'a RequestContext) -> McpResult<Value> {
        Err(only_rmcp("completion/complete"))
    }

    async fn on_roots_list_changed<'a>(&'a self, _: &'a RequestContext) -> McpResult<()> {
        Ok(())
    }

    async fn on_initialize(&self) -> McpResult<()> {
        Ok(())
    }

    async fn on_shutdown(&self) -> McpResult<()> {
        Ok(())
    }
}

/// The error of a request that rmcp's transports bring to the server themselves.
fn only_rmcp(method: &str) -> McpError {
    McpError::capability_not_supported(format!("{method}: serve the stack with a transport of rmcp"))
}
