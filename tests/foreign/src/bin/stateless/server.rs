//! The fixtures. Tools that only answer are annotated read-only, also those that ask first: an answer that asks is kept by no layer.

use futures_util::future::ready;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::{InputResponses, RequestState};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CacheScope, CallToolResponse, CallToolResult, CancelTaskParams, ClientCapabilities, CompleteRequestParams,
    CompleteResult, CompletionInfo, ContentBlock, GetPromptRequestParams, GetPromptResponse, GetTaskParams,
    GetTaskResult, Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    PaginatedRequestParams, ProgressNotificationParam, Prompt, PromptArgument, ReadResourceRequestParams,
    ReadResourceResponse, Resource, ResourceTemplate, ServerCapabilities, ServerConfig, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::json;

use crate::content::{self, text};
use crate::questions::{Answers, Rounds, answerable, ask, elicit, roots, sample, two_rounds};
use crate::tasks;

#[derive(Clone)]
pub(crate) struct Fixtures {
    tasks: TaskManager,
    rounds: Rounds,
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Seconds {
    seconds: Option<f64>,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Region {
    #[schemars(extend("x-mcp-header" = "Region"))]
    region: String,
}

/// The suite expects a definition of this name.
#[derive(Deserialize, schemars::JsonSchema)]
#[schemars(rename = "address")]
struct Address {
    street: Option<String>,
    city: Option<String>,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Person {
    name: Option<String>,
    address: Option<Address>,
}

type Answer = Result<CallToolResponse, ErrorData>;

#[tool_router]
impl Fixtures {
    pub(crate) fn new() -> Self {
        Self { tasks: TaskManager::new(), rounds: Rounds::new(), tool_router: Self::tool_router() }
    }

    #[tool(description = "Answers a text", annotations(read_only_hint = true))]
    fn test_simple_text(&self) -> CallToolResult {
        text("This is a simple text response for testing.")
    }

    #[tool(description = "Answers an image", annotations(read_only_hint = true))]
    fn test_image_content(&self) -> CallToolResult {
        CallToolResult::success(vec![content::image()])
    }

    #[tool(description = "Answers a sound", annotations(read_only_hint = true))]
    fn test_audio_content(&self) -> CallToolResult {
        CallToolResult::success(vec![content::audio()])
    }

    #[tool(description = "Answers a resource", annotations(read_only_hint = true))]
    fn test_embedded_resource(&self) -> CallToolResult {
        CallToolResult::success(vec![content::embedded("test://embedded-resource")])
    }

    #[tool(description = "Answers a text, an image and a resource", annotations(read_only_hint = true))]
    fn test_multiple_content_types(&self) -> CallToolResult {
        let shown = ContentBlock::text("Multiple content types test:");
        CallToolResult::success(vec![shown, content::image(), content::embedded("test://mixed-content-resource")])
    }

    #[tool(description = "Fails", annotations(read_only_hint = true))]
    fn test_error_handling(&self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text("This tool intentionally returns an error for testing")])
    }

    #[tool(description = "Reports progress three times", annotations(idempotent_hint = true))]
    async fn test_tool_with_progress(&self, ctx: RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        if let Some(token) = ctx.meta.get_progress_token() {
            for step in [0.0, 50.0, 100.0] {
                let progress = ProgressNotificationParam::new(token.clone(), step).with_total(100.0);
                let sent = ctx.peer.notify_progress(progress).await;
                sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            }
        }
        Ok(text("Progress was reported"))
    }

    #[tool(description = "Takes an argument that is also a header", annotations(read_only_hint = true))]
    fn test_headers(&self, Parameters(Region { region }): Parameters<Region>) -> CallToolResult {
        text(region)
    }

    #[tool(description = "Has a schema with definitions", annotations(read_only_hint = true))]
    fn json_schema_2020_12_tool(&self, Parameters(Person { name, address }): Parameters<Person>) -> CallToolResult {
        let place = address.and_then(|address| address.city.or(address.street));
        text(format!("{} of {}", name.as_deref().unwrap_or("nobody"), place.as_deref().unwrap_or("nowhere")))
    }

    #[tool(description = "Needs a client that elicits", annotations(read_only_hint = true))]
    fn test_missing_capability(&self, ctx: RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        match ctx.client_capabilities().is_some_and(|capabilities| capabilities.elicitation.is_some()) {
            true => Ok(text("The client elicits")),
            false => Err(ErrorData::missing_required_client_capability(
                ClientCapabilities::builder().enable_elicitation().build(),
            )),
        }
    }

    #[tool(description = "Logs to clients that want it: to none of this protocol", annotations(read_only_hint = true))]
    fn test_logging_tool(&self) -> CallToolResult {
        text("Nothing was logged")
    }

    #[tool(description = "Asks for a name", annotations(read_only_hint = true))]
    fn test_streaming_elicitation(&self, InputResponses(answers): InputResponses) -> Answer {
        self.test_input_required_result_elicitation(InputResponses(answers))
    }

    #[tool(description = "Asks for a name", annotations(read_only_hint = true))]
    fn test_input_required_result_elicitation(&self, InputResponses(answers): InputResponses) -> Answer {
        match Answers(answers).text("user_name", "name") {
            Some(name) => Ok(text(format!("Hello, {name}!")).into()),
            None => Ok(ask([("user_name", elicit("What is your name?", "name", "string"))], None)?.into()),
        }
    }

    #[tool(description = "Asks the client's model", annotations(read_only_hint = true))]
    fn test_input_required_result_sampling(&self, InputResponses(answers): InputResponses) -> Answer {
        match Answers(answers).text("capital_question", "text") {
            Some(answer) => Ok(text(answer).into()),
            None => Ok(ask([("capital_question", sample("What is the capital of France?", 100))], None)?.into()),
        }
    }

    #[tool(description = "Asks for the client's folders", annotations(read_only_hint = true))]
    fn test_input_required_result_list_roots(&self, InputResponses(answers): InputResponses) -> Answer {
        match Answers(answers).field("client_roots", "roots") {
            Some(roots) => Ok(text(roots.to_string()).into()),
            None => Ok(ask([("client_roots", crate::questions::roots())], None)?.into()),
        }
    }

    #[tool(description = "Asks, and keeps a state", annotations(read_only_hint = true))]
    fn test_input_required_result_request_state(
        &self,
        InputResponses(answers): InputResponses,
        RequestState(state): RequestState,
    ) -> Answer {
        match (self.rounds.round(state.as_deref())?, Answers(answers).field("confirm", "ok")) {
            (Some(_), Some(_)) => Ok(text("state-ok").into()),
            _ => {
                let confirm = elicit("Please confirm", "ok", "boolean");
                Ok(ask([("confirm", confirm)], self.rounds.state("confirm"))?.into())
            }
        }
    }

    #[tool(description = "Asks, and refuses a state that was changed", annotations(read_only_hint = true))]
    fn test_input_required_result_tampered_state(&self, answers: InputResponses, state: RequestState) -> Answer {
        self.test_input_required_result_request_state(answers, state)
    }

    #[tool(description = "Asks for three things at once", annotations(read_only_hint = true))]
    fn test_input_required_result_multiple_inputs(
        &self,
        InputResponses(answers): InputResponses,
        RequestState(state): RequestState,
    ) -> Answer {
        let answers = Answers(answers);
        let name = answers.text("user_name", "name");
        let (greeting, folders) = (answers.text("greeting", "text"), answers.field("client_roots", "roots"));
        match (self.rounds.round(state.as_deref())?, name, greeting, folders) {
            (Some(_), Some(name), Some(greeting), Some(folders)) => {
                Ok(text(format!("{greeting} {name}, {folders}")).into())
            }
            _ => {
                let questions = [
                    ("user_name", elicit("What is your name?", "name", "string")),
                    ("greeting", sample("Generate a greeting", 50)),
                    ("client_roots", roots()),
                ];
                Ok(ask(questions, self.rounds.state("all"))?.into())
            }
        }
    }

    #[tool(description = "Asks twice", annotations(read_only_hint = true))]
    fn test_input_required_result_multi_round(
        &self,
        InputResponses(answers): InputResponses,
        RequestState(state): RequestState,
    ) -> Answer {
        two_rounds(&self.rounds, &Answers(answers), state.as_deref())
    }

    #[tool(description = "Asks what the client can answer", annotations(read_only_hint = true))]
    fn test_input_required_result_capabilities(&self, ctx: RequestContext<RoleServer>) -> Answer {
        answerable(&ctx.client_capabilities().unwrap_or_default())
    }

    #[tool(description = "Greets", annotations(read_only_hint = true))]
    fn greet(&self, Parameters(Named { name }): Parameters<Named>) -> CallToolResult {
        text(format!("Hello, {}!", name.as_deref().unwrap_or("nobody")))
    }

    #[tool(description = "Computes, as a task where the client can follow one")]
    async fn slow_compute(
        &self,
        Parameters(Seconds { seconds }): Parameters<Seconds>,
        ctx: RequestContext<RoleServer>,
    ) -> CallToolResponse {
        let seconds = seconds.unwrap_or(1.0).clamp(0.0, 60.0);
        match tasks::can_follow(&ctx) {
            true => tasks::start(&self.tasks, |task| tasks::slow(task, seconds)),
            false => text("Computed").into(),
        }
    }

    #[tool(description = "A task that fails")]
    async fn failing_job(&self, ctx: RequestContext<RoleServer>) -> Answer {
        tasks::must_follow(&ctx)?;
        Ok(tasks::start(&self.tasks, |_| tasks::failing()))
    }

    #[tool(description = "A task that breaks")]
    async fn protocol_error_job(&self, ctx: RequestContext<RoleServer>) -> Answer {
        tasks::must_follow(&ctx)?;
        Ok(tasks::start(&self.tasks, |_| tasks::breaking()))
    }

    #[tool(description = "A task that asks")]
    async fn confirm_delete(&self, ctx: RequestContext<RoleServer>) -> Answer {
        tasks::must_follow(&ctx)?;
        Ok(tasks::start(&self.tasks, tasks::confirmed))
    }

    #[tool(description = "A task that asks two questions at once")]
    async fn multi_input(&self, ctx: RequestContext<RoleServer>) -> Answer {
        tasks::must_follow(&ctx)?;
        Ok(tasks::start(&self.tasks, tasks::several))
    }

    #[tool(description = "Asks for a name, and continues as a task")]
    async fn test_tool_with_task(
        &self,
        InputResponses(answers): InputResponses,
        ctx: RequestContext<RoleServer>,
    ) -> Answer {
        tasks::must_follow(&ctx)?;
        match Answers(answers).text("user_name", "name").map(str::to_owned) {
            Some(name) => Ok(tasks::start(&self.tasks, |_| ready(Ok(text(format!("Hello, {name}!")))))),
            None => {
                let name = elicit("What is your name?", "name", "string");
                Ok(ask([("user_name", name)], self.rounds.state("name"))?.into())
            }
        }
    }
}

fn prompts() -> Vec<Prompt> {
    let argument = |name: &str| PromptArgument::new(name).with_description("A text").with_required(true);
    let described = |name: &str, description: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(|name| argument(name)).collect();
        Prompt::new(name, Some(description), Some(arguments))
    };
    vec![
        described("test_simple_prompt", "A prompt", &[]),
        described("test_prompt_with_arguments", "A prompt with arguments", &["arg1", "arg2"]),
        described("test_prompt_with_embedded_resource", "A prompt with a resource", &["resourceUri"]),
        described("test_prompt_with_image", "A prompt with an image", &[]),
        described("test_input_required_result_prompt", "A prompt that asks", &[]),
    ]
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_prompts()
            .enable_resources()
            .enable_tasks()
            .enable_tools()
            .build();
        let mut info = ServerConfig::new(capabilities);
        info.server_info = Implementation::new("mcp-patterns-conformance", "1.0.0");
        info
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let listed = ListPromptsResult::with_all_items(prompts());
        Ok(listed.with_ttl_ms(0).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let argument = |name: &str| {
            let arguments = request.arguments.as_ref();
            arguments.and_then(|arguments| arguments.get(name)?.as_str()).unwrap_or_default()
        };
        Ok(match request.name.as_str() {
            "test_simple_prompt" => content::prompt(None, "This is a simple prompt for testing.").into(),
            "test_prompt_with_arguments" => {
                let (one, other) = (argument("arg1"), argument("arg2"));
                content::prompt(None, format!("Prompt with arguments: arg1='{one}', arg2='{other}'")).into()
            }
            "test_prompt_with_embedded_resource" => {
                let shown = content::embedded(argument("resourceUri"));
                content::prompt(Some(shown), "Please process the embedded resource above.").into()
            }
            "test_prompt_with_image" => {
                content::prompt(Some(content::image()), "Please analyze the image above.").into()
            }
            "test_input_required_result_prompt" => {
                match Answers(request.input_responses).text("user_context", "context") {
                    Some(context) => content::prompt(None, format!("Use {context}")).into(),
                    None => {
                        let context = elicit("What context should the prompt use?", "context", "string");
                        ask([("user_context", context)], None)?.into()
                    }
                }
            }
            other => return Err(ErrorData::invalid_params(format!("There is no prompt '{other}'"), None)),
        })
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resources = vec![
            Resource::new("test://static-text", "static-text").with_mime_type("text/plain"),
            Resource::new("test://static-binary", "static-binary").with_mime_type("image/png"),
        ];
        let listed = ListResourcesResult::with_all_items(resources);
        Ok(listed.with_ttl_ms(0).with_cache_scope(CacheScope::Public))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let templates = vec![ResourceTemplate::new("test://template/{id}/data", "template")];
        let listed = ListResourceTemplatesResult::with_all_items(templates);
        Ok(listed.with_ttl_ms(0).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match content::resource(&request.uri) {
            Some(read) => Ok(read.with_ttl_ms(60_000).with_cache_scope(CacheScope::Public).into()),
            None => Err(ErrorData::invalid_params("Resource not found", Some(json!({ "uri": request.uri })))),
        }
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values = CompletionInfo::with_all_values(vec!["paris".into(), "park".into()]);
        values.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
