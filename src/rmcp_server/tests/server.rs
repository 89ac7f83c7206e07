//! The server and the clients of the tests.

#![expect(deprecated, reason = "log messages, which clients of the older versions get")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::{InputResponses, RequestState};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock,
    CreateTaskResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema,
    Implementation, InputRequest, InputRequests, InputRequiredResult, LoggingLevel, LoggingMessageNotificationParam,
    ProgressNotificationParam, ProtocolVersion, ResourceUpdatedNotificationParam, ServerCapabilities, ServerConfig,
    Task, TaskStatus,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::{IntoTransport, Transport};
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, Peer, RoleClient, RoleServer, ServerHandler,
    ServiceExt, schemars, tool, tool_handler, tool_router,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use turbomcp_core::McpError;

use crate::rmcp_server::Failed;

/// What a test observes of the server.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) calls: AtomicU32,
    /// Lets calls of `wait` end.
    pub(super) open: Notify,
    pub(super) cancelled: AtomicU32,
}

impl Seen {
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
pub(super) struct Tools {
    pub(super) seen: Arc<Seen>,
    /// The name of the instance.
    pub(super) name: &'static str,
    tool_router: ToolRouter<Self>,
}

fn who_are_you() -> ElicitRequestParams {
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: "Who are you?".into(),
        requested_schema: ElicitationSchema::builder().required_string("name").build().unwrap(),
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
pub(super) struct City {
    pub(super) city: String,
}

#[tool_router]
impl Tools {
    pub(super) fn new() -> Self {
        Self::named("only")
    }

    pub(super) fn named(name: &'static str) -> Self {
        Self { seen: Arc::default(), name, tool_router: Self::tool_router() }
    }

    fn count(&self) -> u32 {
        self.seen.calls.fetch_add(1, Ordering::SeqCst) + 1
    }

    #[tool(description = "Reads the weather", annotations(read_only_hint = true))]
    async fn weather(&self, Parameters(City { city }): Parameters<City>) -> String {
        format!("{city}: {} by {}", self.count(), self.name)
    }

    #[tool(description = "Writes something")]
    async fn write(&self, Parameters(City { city }): Parameters<City>) -> String {
        format!("{city} written: {}", self.count())
    }

    #[tool(description = "Fails twice for a temporary reason", annotations(read_only_hint = true))]
    async fn flaky(&self) -> Result<String, Failed> {
        match self.count() {
            1 | 2 => Err(Failed(McpError::unavailable("down"))),
            count => Ok(format!("up at call {count}")),
        }
    }

    #[tool(description = "Reports progress, fails once, and reports again", annotations(read_only_hint = true))]
    async fn progress(&self, ctx: RequestContext<RoleServer>) -> Result<String, Failed> {
        let count = self.count();
        let token = ctx.meta.get_progress_token();
        for step in 1..=3 {
            if let Some(token) = &token {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step));
                ctx.peer.notify_progress(progress).await.map_err(|error| McpError::internal(error.to_string()))?;
            }
        }
        if count == 1 { Err(Failed(McpError::unavailable("down"))) } else { Ok(format!("done at call {count}")) }
    }

    #[tool(description = "Asks the user for a name", annotations(read_only_hint = true))]
    async fn ask(&self, peer: Peer<RoleServer>) -> Result<String, ErrorData> {
        self.count();
        self.seen.open.notified().await;
        let answer = peer.create_elicitation(who_are_you()).await;
        let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(format!("Hello {}", answer.content.unwrap_or_default()["name"].as_str().unwrap_or_default()))
    }

    #[tool(description = "Asks the user, and waits for a moment", annotations(read_only_hint = true))]
    async fn impatient(&self, peer: Peer<RoleServer>) -> String {
        self.count();
        match peer.create_elicitation_with_timeout(who_are_you(), Some(Duration::from_millis(20))).await {
            Ok(answer) => format!("{answer:?}"),
            Err(_) => {
                self.seen.open.notified().await;
                "no answer".into()
            }
        }
    }

    #[tool(description = "Waits", annotations(read_only_hint = true))]
    async fn wait(&self, ctx: RequestContext<RoleServer>) -> String {
        let count = self.count();
        // The call is dropped, but not a task that it has spawned.
        let (seen, cancelled) = (Arc::clone(&self.seen), ctx.ct.clone());
        let noticed = tokio::spawn(async move {
            cancelled.cancelled().await;
            seen.cancelled.fetch_add(1, Ordering::SeqCst);
        });
        self.seen.open.notified().await;
        noticed.abort();
        format!("opened: {count}")
    }

    #[tool(description = "Reports an update after its call has ended", annotations(read_only_hint = true))]
    async fn later(&self, ctx: RequestContext<RoleServer>) -> String {
        let seen = Arc::clone(&self.seen);
        let token = ctx.meta.get_progress_token();
        tokio::spawn(async move {
            seen.open.notified().await;
            if let Some(token) = token {
                let _ = ctx.peer.notify_progress(ProgressNotificationParam::new(token, 700.0)).await;
            }
            let _ = ctx.peer.notify_resource_updated(ResourceUpdatedNotificationParam::new("lib://later")).await;
        });
        format!("call {}", self.count())
    }

    #[tool(description = "Waits, and logs", annotations(read_only_hint = true))]
    async fn noisy(&self, peer: Peer<RoleServer>) -> String {
        let count = self.count();
        self.seen.open.notified().await;
        let log = LoggingMessageNotificationParam::new(LoggingLevel::Warning, json!("private"));
        let _ = peer.notify_logging_message(log).await;
        format!("call {count}")
    }

    #[tool(description = "Waits, and needs a name then", annotations(read_only_hint = true))]
    async fn slow_input(&self, RequestState(state): RequestState) -> CallToolResponse {
        let count = self.count();
        if state.is_some() {
            return CallToolResult::success(vec![ContentBlock::text(state.unwrap_or_default())]).into();
        }
        self.seen.open.notified().await;
        InputRequiredResult::from_request_state(format!("state {count}")).into()
    }

    #[tool(description = "Needs a name first", annotations(read_only_hint = true, idempotent_hint = true))]
    async fn input(
        &self,
        InputResponses(responses): InputResponses,
        RequestState(state): RequestState,
    ) -> Result<CallToolResponse, Failed> {
        let count = self.count();
        match (responses.as_ref().and_then(|responses| responses.get("name")), state.as_deref()) {
            (Some(answer), Some("asked")) => {
                let name = answer["content"]["name"].as_str().unwrap_or_default();
                Ok(CallToolResult::success(vec![ContentBlock::text(format!("{name} at call {count}"))]).into())
            }
            _ => {
                let question = InputRequest::Elicitation(ElicitRequest::new(who_are_you()));
                let requests = InputRequests::from_iter([("name".to_owned(), question)]);
                Ok(InputRequiredResult::new(Some(requests), Some("asked".into())).into())
            }
        }
    }

    #[tool(description = "Starts a task", annotations(idempotent_hint = true))]
    async fn task(&self) -> CallToolResponse {
        let id = format!("task-{}", self.count());
        let now = "2026-12-01T00:00:00Z";
        CreateTaskResult::new(Task::new(id, TaskStatus::Working, now, now)).into()
    }

    #[tool(description = "Has an error code of its own", annotations(read_only_hint = true))]
    async fn coded(&self) -> Result<String, ErrorData> {
        Err(ErrorData::new(rmcp::model::ErrorCode(-32050), "mine", Some(json!({"detail": self.count()}))))
    }

    #[tool(description = "Answers with all kinds of content", annotations(read_only_hint = true))]
    async fn rich(&self) -> CallToolResult {
        self.count();
        let mut link = rmcp::model::Resource::new("file:///a", "a");
        link.size = Some(7);
        let mut result = CallToolResult::success(vec![
            ContentBlock::text("text"),
            ContentBlock::image("aW1hZ2U=", "image/png"),
            ContentBlock::resource_link(link),
            ContentBlock::embedded_text("file:///b", "embedded"),
        ]);
        result.structured_content = Some(json!({"a": [1, 2.5, null]}));
        result
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().enable_tasks().build();
        info.server_info = Implementation::new("tools", "1.0.0");
        info
    }
}

/// A client with a user who has a name.
#[derive(Clone)]
pub(super) struct User {
    name: &'static str,
    pub(super) asked: Arc<AtomicU32>,
    /// How many questions were cancelled.
    pub(super) cancelled: Arc<AtomicU32>,
    pub(super) updates: Arc<AtomicU32>,
    pub(super) logs: Arc<AtomicU32>,
    progress: mpsc::UnboundedSender<f64>,
}

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.capabilities = ClientCapabilities::builder().enable_elicitation().enable_tasks().build();
        info
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        ctx: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.name == "Nobody" {
            ctx.ct.cancelled().await;
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({"name": self.name})))
    }

    async fn on_resource_updated(&self, _: ResourceUpdatedNotificationParam, _: NotificationContext<RoleClient>) {
        self.updates.fetch_add(1, Ordering::SeqCst);
    }

    async fn on_logging_message(&self, _: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        self.logs.fetch_add(1, Ordering::SeqCst);
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let _ = self.progress.send(progress.progress);
    }
}

/// A connected client.
pub(super) struct Client {
    pub(super) service: RunningService<RoleClient, User>,
    pub(super) user: User,
    pub(super) progress: mpsc::UnboundedReceiver<f64>,
}

impl Client {
    /// Connects a client to the stack.
    pub(super) async fn connect<S: ServerHandler + Clone>(stack: &S, name: &'static str) -> Self {
        Self::connect_as(stack, name, ClientLifecycleMode::Initialize).await
    }

    /// Connects a client of the version 2026-07-28, which needs no handshake.
    pub(super) async fn connect_without_handshake<S: ServerHandler + Clone>(stack: &S, name: &'static str) -> Self {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        Self::connect_as(stack, name, ClientLifecycleMode::Discover { preferred_versions }).await
    }

    async fn connect_as<S: ServerHandler + Clone>(stack: &S, name: &'static str, mode: ClientLifecycleMode) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let stack = stack.clone();
        tokio::spawn(async move {
            if let Ok(running) = stack.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        Self::start(near, name, mode).await
    }

    /// Connects a client over this transport.
    pub(super) async fn over<T: Transport<RoleClient> + 'static>(transport: T, name: &'static str) -> Self {
        Self::start(transport, name, ClientLifecycleMode::Initialize).await
    }

    async fn start<T, E, A>(transport: T, name: &'static str, mode: ClientLifecycleMode) -> Self
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (sender, progress) = mpsc::unbounded_channel();
        let user = User {
            name,
            asked: Arc::default(),
            cancelled: Arc::default(),
            updates: Arc::default(),
            logs: Arc::default(),
            progress: sender,
        };
        let service = user.clone().serve_with_lifecycle(transport, mode).await.unwrap();
        Self { service, user, progress }
    }

    pub(super) async fn call(&self, tool: &'static str, args: Value) -> Result<CallToolResult, rmcp::ServiceError> {
        self.service.call_tool(request(tool, args)).await
    }

    /// Calls a tool that answers with a text.
    pub(super) async fn text(&self, tool: &'static str, args: Value) -> String {
        text(&self.call(tool, args).await.unwrap())
    }
}

pub(super) fn request(tool: &'static str, args: Value) -> CallToolRequestParams {
    let mut request = CallToolRequestParams::new(tool);
    request.arguments = match args {
        Value::Object(args) => Some(args),
        _ => None,
    };
    request
}

pub(super) fn text(result: &CallToolResult) -> String {
    result.content.first().and_then(|block| block.as_text()).map(|text| text.text.clone()).unwrap_or_default()
}

/// Waits until `condition` holds: it must become true without more input.
pub(super) async fn until(condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("the condition becomes true");
}
