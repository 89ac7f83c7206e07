//! A server with what the examples of rmcp show: tools of each kind, prompts, resources, completions, tasks.

#![expect(deprecated, reason = "clients of older versions use sampling, roots and logs")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::{InputResponses, RequestState};
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{
    CallToolResponse, CallToolResult, CancelTaskParams, CompleteRequestParams, CompleteResult, CompletionInfo,
    ContentBlock, CreateMessageRequestParams, CreateTaskResult, CustomRequest, CustomResult, DetailedTask,
    ElicitRequest, ElicitRequestParams, ElicitationSchema, ErrorCode, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, GetTaskParams, GetTaskResult, Implementation, InputRequest, InputRequests, InputRequiredResult,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, LoggingLevel, LoggingMessageNotificationParam,
    PaginatedRequestParams, ProgressNotificationParam, Prompt, PromptArgument, PromptMessage,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents, ResourceTemplate,
    ResourceUpdatedNotificationParam, Role, SamplingMessage, ServerCapabilities, ServerConfig, SetLevelRequestParams,
    SubscribeRequestParams, Task, TaskPayload, TaskStatus, UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone)]
pub(super) struct Examples {
    counter: Arc<AtomicI32>,
    is_subscribed: Arc<AtomicBool>,
    is_cancelled: Arc<AtomicBool>,
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct Summands {
    a: i32,
    b: i32,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    sum: i32,
}

#[derive(Deserialize, JsonSchema)]
struct Failing {
    how: String,
}

const NOW: &str = "2026-12-01T00:00:00Z";

fn question(message: &str) -> ElicitRequestParams {
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.into(),
        requested_schema: ElicitationSchema::builder().required_string("name").build().expect("a schema"),
    }
}

fn failed(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

#[tool_router]
impl Examples {
    pub(super) fn new() -> Self {
        let (counter, is_subscribed, is_cancelled) = Default::default();
        Self { counter, is_subscribed, is_cancelled, tool_router: Self::tool_router() }
    }

    fn count(&self, by: i32) -> CallToolResult {
        let count = self.counter.fetch_add(by, Ordering::SeqCst) + by;
        CallToolResult::success(vec![ContentBlock::text(count.to_string())])
    }

    #[tool(description = "Increments the counter by 1")]
    async fn increment(&self) -> CallToolResult {
        self.count(1)
    }

    #[tool(description = "Decrements the counter by 1")]
    async fn decrement(&self) -> CallToolResult {
        self.count(-1)
    }

    #[tool(description = "Returns the counter")]
    async fn get_value(&self) -> CallToolResult {
        self.count(0)
    }

    #[tool(description = "Adds two numbers", annotations(read_only_hint = true))]
    async fn sum(&self, Parameters(Summands { a, b }): Parameters<Summands>) -> Json<Sum> {
        Json(Sum { sum: a + b })
    }

    #[tool(description = "Repeats what it gets")]
    async fn echo(&self, Parameters(anything): Parameters<rmcp::model::JsonObject>) -> String {
        Value::Object(anything).to_string()
    }

    #[tool(description = "Answers with content of each kind", annotations(read_only_hint = true))]
    async fn rich(&self) -> CallToolResult {
        let mut result = CallToolResult::success(vec![
            ContentBlock::text("text"),
            ContentBlock::image("aW1hZ2U=", "image/png"),
            ContentBlock::resource_link(Resource::new("file:///a", "a")),
            ContentBlock::embedded_text("file:///b", "embedded"),
        ]);
        result.structured_content = Some(json!({"a": [1, 2.5, null]}));
        result
    }

    #[tool(description = "Fails")]
    async fn fail(&self, Parameters(Failing { how }): Parameters<Failing>) -> Result<CallToolResult, ErrorData> {
        match how.as_str() {
            "params" => Err(ErrorData::invalid_params("bad parameters", Some(json!({"at": "a"})))),
            "internal" => Err(ErrorData::internal_error("broken", None)),
            "own" => Err(ErrorData::new(ErrorCode(-32050), "of my own", Some(json!([1, 2])))),
            _ => Ok(CallToolResult::error(vec![ContentBlock::text("failed")])),
        }
    }

    #[tool(description = "Asks the user for a name")]
    async fn greet_user(&self, peer: Peer<RoleServer>) -> Result<String, ErrorData> {
        let answer = peer.create_elicitation(question("Who are you?")).await.map_err(failed)?;
        Ok(format!("Hello {:?}", answer.content))
    }

    #[tool(description = "Asks the model of the client")]
    async fn ask_llm(&self, peer: Peer<RoleServer>) -> Result<String, ErrorData> {
        let message = SamplingMessage::user_text("What is the answer?");
        let answer = peer.create_message(CreateMessageRequestParams::new(vec![message], 10)).await.map_err(failed)?;
        Ok(format!("{answer:?}"))
    }

    #[tool(description = "Lists the roots of the client")]
    async fn list_roots(&self, peer: Peer<RoleServer>) -> Result<String, ErrorData> {
        Ok(format!("{:?}", peer.list_roots().await.map_err(failed)?))
    }

    #[tool(description = "Says what the client can do")]
    async fn capabilities(&self, peer: Peer<RoleServer>) -> String {
        format!("{:?}", peer.peer_info().map(|info| info.capabilities.clone()))
    }

    #[tool(description = "Reports its progress")]
    async fn process(&self, ctx: RequestContext<RoleServer>) -> Result<String, ErrorData> {
        let token = ctx.meta.get_progress_token();
        for step in 1..=5_u8 {
            if let Some(token) = &token {
                let progress = ProgressNotificationParam::new(token.clone(), step.into());
                let progress = progress.with_total(5.0).with_message(format!("step {step}"));
                ctx.peer.notify_progress(progress).await.map_err(failed)?;
            }
        }
        Ok(format!("done, and was listened to: {}", token.is_some()))
    }

    #[tool(description = "Logs")]
    async fn log(&self, peer: Peer<RoleServer>) -> Result<String, ErrorData> {
        for level in [LoggingLevel::Info, LoggingLevel::Error] {
            let log = LoggingMessageNotificationParam::new(level, json!({"said": "something"}));
            peer.notify_logging_message(log).await.map_err(failed)?;
        }
        Ok("logged".into())
    }

    #[tool(description = "Changes a resource")]
    async fn touch(&self, peer: Peer<RoleServer>) -> Result<String, ErrorData> {
        if self.is_subscribed.load(Ordering::SeqCst) {
            let updated = ResourceUpdatedNotificationParam::new("memo://text");
            peer.notify_resource_updated(updated).await.map_err(failed)?;
        }
        Ok("touched".into())
    }

    #[tool(description = "Says that all lists have changed")]
    async fn announce(&self, peer: Peer<RoleServer>) -> Result<String, ErrorData> {
        peer.notify_tool_list_changed().await.map_err(failed)?;
        peer.notify_resource_list_changed().await.map_err(failed)?;
        peer.notify_prompt_list_changed().await.map_err(failed)?;
        Ok("announced".into())
    }

    #[tool(description = "Starts a task")]
    async fn task(&self) -> CallToolResponse {
        CreateTaskResult::new(Task::new("task-1", TaskStatus::Working, NOW, NOW)).into()
    }

    #[tool(description = "Needs a size, and then a confirmation")]
    async fn order(
        &self,
        InputResponses(responses): InputResponses,
        RequestState(state): RequestState,
    ) -> CallToolResponse {
        let answer =
            |name: &str| responses.as_ref().and_then(|responses| responses.get(name)).map(|answer| json!(answer));
        let ask = |name: &str, state: String| {
            let asked = InputRequest::Elicitation(ElicitRequest::new(question(name)));
            InputRequiredResult::new(Some(InputRequests::from_iter([(name.to_owned(), asked)])), Some(state)).into()
        };
        match (state.as_deref(), answer("size"), answer("confirm")) {
            (Some("size"), Some(size), _) => {
                ask("confirm", format!("confirm {}", size["content"]["size"].as_str().unwrap_or_default()))
            }
            (Some(state), _, Some(confirmed)) => {
                CallToolResult::success(vec![ContentBlock::text(format!("{state}: {confirmed}"))]).into()
            }
            _ => ask("size", "size".into()),
        }
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Examples {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        let capabilities = ServerCapabilities::builder().enable_tools().enable_prompts().enable_resources();
        let capabilities = capabilities.enable_completions().enable_logging().enable_resources_subscribe();
        info.capabilities = capabilities.enable_tasks().build();
        info.server_info = Implementation::new("examples", "1.0.0");
        info.instructions = Some("Use them all".into());
        info
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let name = PromptArgument::new("name").with_required(true);
        Ok(ListPromptsResult::with_all_items(vec![Prompt::new("greet", Some("Greets"), Some(vec![name]))]))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name != "greet" {
            return Err(ErrorData::invalid_params("no such prompt", None));
        }
        let name = request.arguments.as_ref().and_then(|args| args.get("name")?.as_str());
        let name = name.ok_or_else(|| ErrorData::invalid_params("name is missing", Some(json!("name"))))?;
        let text = ContentBlock::text(format!("Greet {name}"));
        let mut result = GetPromptResult::new(vec![
            PromptMessage::new(Role::User, text),
            PromptMessage::new(Role::Assistant, ContentBlock::image("aW1hZ2U=", "image/png")),
        ]);
        result.description = Some("A greeting".into());
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![Resource::new("memo://text", "text")]))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(vec![ResourceTemplate::new("memo://{name}", "memo")]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let contents = match request.uri.as_str() {
            "memo://text" => ResourceContents::text("a memo", request.uri),
            "memo://blob" => ResourceContents::blob("YmxvYg==", request.uri),
            uri => return Err(ErrorData::resource_not_found("no such memo", Some(json!({"uri": uri})))),
        };
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.is_subscribed.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.is_subscribed.store(false, Ordering::SeqCst);
        Ok(())
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let names = ["Ada", "Alan", "Bob"].into_iter().filter(|name| name.starts_with(&request.argument.value));
        let found = CompletionInfo::new(names.map(str::to_owned).collect()).map_err(failed)?;
        Ok(CompleteResult::new(found))
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        match request.method.as_str() {
            "examples/custom" => Ok(CustomResult::new(json!({"got": request.params}))),
            method => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method.to_owned(), None)),
        }
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        if request.task_id != "task-1" {
            return Err(ErrorData::invalid_params("no such task", None));
        }
        let is_cancelled = self.is_cancelled.load(Ordering::SeqCst);
        let payload = if is_cancelled { TaskPayload::Cancelled } else { TaskPayload::Working };
        let task = Task::new(request.task_id, TaskStatus::Working, NOW, NOW);
        Ok(GetTaskResult::new(DetailedTask::new(task, payload)))
    }

    async fn update_task(&self, _: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn cancel_task(&self, _: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.is_cancelled.store(true, Ordering::SeqCst);
        Ok(())
    }
}
