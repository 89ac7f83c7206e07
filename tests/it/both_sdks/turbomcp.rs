//! The column of turbomcp.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mcp_patterns::explain::{Explanation, explain};
use mcp_patterns::{ConfigError, TryLayer};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use turbomcp_core::auth::Principal;
use turbomcp_core::{Cancellable, McpError, McpHandler, McpResult, McpSession, RequestContext, SessionFuture};
use turbomcp_types::{
    ClientCapabilities, Prompt, PromptResult, Resource, ResourceResult, ServerInfo, Tool, ToolResult,
};

use super::Answer;
use super::script::{Asker, Said, Script, Subscriber};

/// The script as a server.
#[derive(Clone)]
pub(super) struct End(Script);

impl McpHandler for End {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("script", "1.0.0")
    }

    fn list_tools(&self) -> Vec<Tool> {
        self.0.tools(false)
    }

    fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool> {
        self.0.tools(ctx.subject() == Some("admin"))
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, name: &'a str, args: Value, ctx: &'a RequestContext) -> McpResult<ToolResult> {
        match self.0.call(name, &args, &Asker::Turbomcp(ctx)).await {
            Said::Text(text) => Ok(ToolResult::text(text)),
            Said::Failed(error) => Ok(error.to_tool_result()),
            Said::Refused(error) => Err(error),
            Said::Unfinished(reason) => Err(reason.into_error("not yet")),
        }
    }

    async fn subscribe<'a>(&'a self, _: &'a str, ctx: &'a RequestContext) -> McpResult<()> {
        self.0.subscribe(Subscriber::Turbomcp(Box::new(ctx.clone())));
        Ok(())
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::text(uri, format!("{uri}: {}", self.0.count(uri))))
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        _: Option<Value>,
        _: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        Ok(PromptResult::user(format!("{name}: {}", self.0.count(name))))
    }
}

/// A server, and the layers around it.
pub(super) struct Server<S>(S);

/// Puts the layers around the script.
#[expect(clippy::needless_pass_by_value, reason = "the rows need their layers no more")]
pub(super) fn serve<L: TryLayer<End>>(script: &Script, layers: L) -> Server<L::Service>
where
    L::Service: McpHandler,
{
    try_serve(script, &layers).expect("the settings can work")
}

pub(super) fn try_serve<L: TryLayer<End>>(script: &Script, layers: &L) -> Result<Server<L::Service>, ConfigError> {
    Ok(Server(layers.try_layer(End(script.clone()))?))
}

impl<S: McpHandler> Server<S> {
    /// Connects a client of this user, or of an anonymous one.
    pub(super) async fn client(&self, name: &'static str) -> Client<S> {
        static CLIENTS: AtomicU64 = AtomicU64::new(0);
        // turbomcp remembers sessions by their id, and tests run in parallel.
        let session = format!("{name} {}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        let user = Arc::new(User { name, asked: Mutex::default(), heard: Mutex::default() });
        Client { stack: self.0.clone(), session, user }
    }

    /// Connects a client that continues unfinished calls.
    pub(super) async fn continuing_client(&self) -> Client<S> {
        self.client("").await
    }

    pub(super) fn explain(&self) -> Explanation {
        explain(&self.0)
    }
}

/// The user at the other end.
#[derive(Debug)]
struct User {
    name: &'static str,
    asked: Mutex<u32>,
    heard: Mutex<Vec<(String, Value)>>,
}

impl McpSession for User {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        Box::pin(async { Ok(serde_json::from_value(json!({"elicitation": {}})).ok()) })
    }

    fn call<'a>(&'a self, _: &'a str, _: Value) -> SessionFuture<'a, Value> {
        *self.asked.lock().expect("no panic") += 1;
        Box::pin(async { Ok(json!({"action": "accept", "content": {"name": self.name}})) })
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        self.heard.lock().expect("no panic").push((method.to_owned(), params));
        Box::pin(async { Ok(()) })
    }
}

#[derive(Debug, Default)]
struct Token(AtomicBool);

impl Cancellable for Token {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A connection.
pub(super) struct Client<S> {
    stack: S,
    session: String,
    user: Arc<User>,
}

/// A call under way.
pub(super) struct Running {
    answer: JoinHandle<Answer>,
    token: Arc<Token>,
}

impl Running {
    pub(super) async fn answer(self) -> Answer {
        self.answer.await.unwrap_or_else(|error| Err(McpError::internal(error.to_string())))
    }

    /// Cancels the call, as its client does.
    pub(super) async fn cancel(self) {
        self.token.0.store(true, Ordering::SeqCst);
        let _ = self.answer.await;
    }
}

impl<S: McpHandler> Client<S> {
    fn ctx(&self) -> RequestContext {
        let session: Arc<dyn McpSession> = Arc::clone(&self.user) as _;
        let ctx = RequestContext::http().with_session_id(&self.session).with_session(session);
        let ctx = ctx.with_progress_token(json!(self.session));
        if self.user.name.is_empty() { ctx } else { ctx.with_principal(Principal::new(self.user.name)) }
    }

    pub(super) async fn call(&self, tool: &'static str, args: Value) -> Answer {
        self.call_with_meta(tool, args, json!({})).await
    }

    pub(super) async fn call_with_meta(&self, tool: &'static str, args: Value, meta: Value) -> Answer {
        let mut ctx = self.ctx();
        ctx.metadata.extend(meta.as_object().cloned().unwrap_or_default());
        let answer = self.stack.call_tool(tool, args, &ctx).await;
        ctx.end_progress();
        answer
    }

    /// Starts a call.
    pub(super) async fn start(&self, tool: &'static str, args: Value) -> Running {
        let token = Arc::new(Token::default());
        let (stack, ctx) = (self.stack.clone(), self.ctx());
        let ctx = ctx.with_cancellation_token(Arc::clone(&token) as Arc<dyn Cancellable>);
        Running { answer: tokio::spawn(async move { stack.call_tool(tool, args, &ctx).await }), token }
    }

    pub(super) async fn read(&self, uri: &str) -> McpResult<ResourceResult> {
        self.stack.read_resource(uri, &self.ctx()).await
    }

    pub(super) async fn prompt(&self, name: &str) -> McpResult<PromptResult> {
        self.stack.get_prompt(name, None, &self.ctx()).await
    }

    pub(super) async fn subscribe(&self, uri: &str) {
        self.stack.subscribe(uri, &self.ctx()).await.expect("a subscription");
    }

    pub(super) async fn tools(&self) -> Vec<Tool> {
        self.stack.list_tools_for(&self.ctx())
    }

    pub(super) fn asked(&self) -> u32 {
        *self.user.asked.lock().expect("no panic")
    }

    /// The progress that the client has heard.
    pub(super) async fn progress(&self) -> Vec<f64> {
        let heard = self.user.heard.lock().expect("no panic");
        let progress = heard.iter().filter(|(method, _)| method == "notifications/progress");
        progress.filter_map(|(_, params)| params["progress"].as_f64()).collect()
    }
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("session", &self.session).finish_non_exhaustive()
    }
}
