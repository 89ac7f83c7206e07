//! The column of rmcp.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
    ClientRequest, ContentBlock, CreateTaskResult, ElicitRequestParams, ElicitResult, ElicitationAction,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation, InputRequiredResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, PromptMessage, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, RequestMetaObject, ResourceContents, Role, ServerCapabilities,
    ServerConfig, ServerResult, SubscribeRequestParams, Task, TaskStatus,
};
use ::rmcp::service::{NotificationContext, PeerRequestOptions, RequestContext, RequestHandle, RunningService};
use ::rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient, RoleServer, ServerHandler,
    ServiceError, ServiceExt,
};
use mcp_patterns::explain::{Explanation, explain};
use mcp_patterns::outcome::Unfinished;
use mcp_patterns::rmcp_server::{Failed, Principal, RmcpStack};
use mcp_patterns::{ConfigError, RmcpServer, TryLayer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use turbomcp_core::McpResult;
use turbomcp_types::{PromptResult, ResourceResult, Tool};

use super::Answer;
use super::script::{Asker, Said, Script, Subscriber};
use crate::rmcp_answers::as_turbomcp;

/// The script as a server.
#[derive(Clone)]
pub(super) struct End(Script);

/// The name of the user at the other end.
fn name(ctx: &RequestContext<RoleServer>) -> Option<String> {
    let name = ctx.peer.peer_info()?.client_info.name.clone();
    (!name.is_empty()).then_some(name)
}

impl ServerHandler for End {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts();
        info.capabilities = capabilities.enable_tasks().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        ctx: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.0.tools(name(&ctx).as_deref() == Some("admin"));
        let tools = serde_json::from_value(serde_json::to_value(tools).expect("tools")).expect("tools");
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        ctx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let args = request.arguments.map_or(Value::Null, Value::Object);
        match self.0.call(&request.name, &args, &Asker::Rmcp(&ctx)).await {
            Said::Text(text) => Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into()),
            Said::Failed(error) => {
                ::rmcp::handler::server::tool::IntoCallToolResult::into_call_tool_result(Failed(error))
            }
            Said::Refused(error) => Err(Failed(error).into()),
            Said::Unfinished(Unfinished::Task) => {
                let (id, now) = (self.0.calls("task").to_string(), "2026-12-01T00:00:00Z");
                Ok(CreateTaskResult::new(Task::new(id, TaskStatus::Working, now, now)).into())
            }
            Said::Unfinished(_) => Ok(InputRequiredResult::from_request_state("asked").into()),
        }
    }

    async fn subscribe(&self, _: SubscribeRequestParams, ctx: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.0.subscribe(Subscriber::Rmcp(ctx.peer));
        Ok(())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let text = format!("{}: {}", request.uri, self.0.count(&request.uri));
        let mut result = ReadResourceResult::new(vec![ResourceContents::text(text, request.uri)]);
        result.ttl_ms = Some(60_000);
        Ok(result.into())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let text = ContentBlock::text(format!("{}: {}", request.name, self.0.count(&request.name)));
        Ok(GetPromptResult::new(vec![PromptMessage::new(Role::User, text)]).into())
    }
}

/// A server, and the layers around it.
pub(super) struct Server<S>(S);

/// Puts the layers around the script.
#[expect(clippy::needless_pass_by_value, reason = "the rows need their layers no more")]
pub(super) fn serve<L: TryLayer<RmcpServer<End>>>(script: &Script, layers: L) -> Server<L::Service>
where
    L::Service: RmcpStack + ServerHandler,
{
    try_serve(script, &layers).expect("the settings can work")
}

pub(super) fn try_serve<L>(script: &Script, layers: &L) -> Result<Server<L::Service>, ConfigError>
where
    L: TryLayer<RmcpServer<End>>,
{
    let server = RmcpServer::try_new(End(script.clone()))?;
    Ok(Server(layers.try_layer(server.with_principal(|ctx| Some(Principal::new(name(ctx)?))))?))
}

impl<S: RmcpStack + ServerHandler> Server<S> {
    /// Connects a client of this user, or of an anonymous one.
    pub(super) async fn client(&self, name: &'static str) -> Client {
        self.connect(name, ClientLifecycleMode::Initialize).await
    }

    /// Connects a client that continues unfinished calls: one of the version 2026-07-28.
    pub(super) async fn continuing_client(&self) -> Client {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        self.connect("", ClientLifecycleMode::Discover { preferred_versions }).await
    }

    async fn connect(&self, name: &'static str, mode: ClientLifecycleMode) -> Client {
        let (near, far) = tokio::io::duplex(1 << 16);
        let stack = self.0.clone();
        tokio::spawn(async move {
            if let Ok(running) = stack.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        let user = User { name, asked: Arc::default(), progress: Arc::default() };
        Client { service: user.clone().serve_with_lifecycle(near, mode).await.expect("a connection"), user }
    }

    /// The layers around another instance of the server.
    pub(super) fn around(&self, script: &Script) -> Self
    where
        S: RmcpStack<Server = End>,
    {
        Self(self.0.around(End(script.clone())))
    }

    pub(super) fn explain(&self) -> Explanation {
        explain(&self.0)
    }
}

/// The user at the other end.
#[derive(Clone)]
struct User {
    name: &'static str,
    asked: Arc<AtomicU32>,
    progress: Arc<Mutex<Vec<f64>>>,
}

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.client_info = Implementation::new(self.name, "1");
        info.capabilities = ClientCapabilities::builder().enable_elicitation().enable_tasks().build();
        info
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({"name": self.name})))
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().expect("no panic").push(progress.progress);
    }
}

/// A connection.
pub(super) struct Client {
    service: RunningService<RoleClient, User>,
    user: User,
}

/// A call under way.
pub(super) struct Running(RequestHandle<RoleClient>);

impl Running {
    pub(super) async fn answer(self) -> Answer {
        answer_of(self.0.await_response().await.map(|answer| match answer {
            ServerResult::CallToolResult(result) => result,
            other => panic!("no result of a tool: {other:?}"),
        }))
    }

    /// Cancels the call, as its client does.
    pub(super) async fn cancel(self) {
        self.0.cancel(None).await.expect("a connection");
    }
}

fn answer_of<A: Serialize, B: DeserializeOwned>(answer: Result<A, ServiceError>) -> McpResult<B> {
    as_turbomcp(answer.map_err(|error| match error {
        ServiceError::McpError(error) => error,
        error => panic!("no answer: {error}"),
    }))
}

fn request(tool: &'static str, args: &Value) -> CallToolRequestParams {
    let mut request = CallToolRequestParams::new(tool);
    request.arguments = args.as_object().cloned();
    request
}

impl Client {
    pub(super) async fn call(&self, tool: &'static str, args: Value) -> Answer {
        self.call_with_meta(tool, args, json!({})).await
    }

    pub(super) async fn call_with_meta(&self, tool: &'static str, args: Value, meta: Value) -> Answer {
        let mut request = request(tool, &args);
        if let Value::Object(meta) = meta {
            let mut own = RequestMetaObject::default();
            own.0.0.extend(meta);
            request.meta = Some(own);
        }
        match self.service.peer().call_tool_once(request).await {
            Ok(CallToolResponse::Complete(result)) => answer_of(Ok(result)),
            Ok(CallToolResponse::InputRequired(_)) => Err(Unfinished::InputRequired.into_error("not yet")),
            Ok(CallToolResponse::Task(_)) => Err(Unfinished::Task.into_error("not yet")),
            Ok(other) => panic!("unknown: {other:?}"),
            Err(error) => answer_of::<(), _>(Err(error)),
        }
    }

    /// Starts a call.
    pub(super) async fn start(&self, tool: &'static str, args: Value) -> Running {
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(request(tool, &args)));
        let sent = self.service.peer().send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        Running(sent.expect("a connection"))
    }

    pub(super) async fn read(&self, uri: &str) -> McpResult<ResourceResult> {
        answer_of(self.service.read_resource(ReadResourceRequestParams::new(uri)).await)
    }

    pub(super) async fn prompt(&self, name: &str) -> McpResult<PromptResult> {
        answer_of(self.service.get_prompt(GetPromptRequestParams::new(name)).await)
    }

    #[expect(deprecated, reason = "clients of older versions subscribe in this way")]
    pub(super) async fn subscribe(&self, uri: &str) {
        self.service.subscribe(SubscribeRequestParams::new(uri)).await.expect("a subscription");
    }

    /// How long the client may keep a resource, in milliseconds.
    pub(super) async fn hints(&self, uri: &str) -> Option<u64> {
        self.service.read_resource(ReadResourceRequestParams::new(uri)).await.expect("a resource").ttl_ms
    }

    pub(super) async fn tools(&self) -> Vec<Tool> {
        let tools = self.service.list_all_tools().await.expect("the tools");
        serde_json::from_value(serde_json::to_value(tools).expect("tools")).expect("tools")
    }

    pub(super) fn asked(&self) -> u32 {
        self.user.asked.load(Ordering::SeqCst)
    }

    /// The progress that the client has heard.
    pub(super) async fn progress(&self) -> Vec<f64> {
        // rmcp's client handles notifications beside answers.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.user.progress.lock().expect("no panic").clone()
    }
}
