//! A server that implements the whole trait, gives distinguishable answers and records its requests.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{
    ListTasksResult, Prompt, PromptResult, Resource, ResourceResult, ResourceTemplate, ServerCapabilities, ServerInfo,
    Task, TaskStatus, Tool, ToolResult,
};

/// A tool that layers act on.
pub(super) const READ_ONLY: &str = "read";

#[derive(Clone, Debug, Default)]
pub(super) struct Everything {
    is_broken: bool,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Everything {
    /// A server in which every fallible method fails.
    pub(super) fn broken() -> Self {
        Self { is_broken: true, ..Self::default() }
    }

    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").clone()
    }

    pub(super) fn forget(&self) {
        self.heard.lock().expect("no panic").clear();
    }

    fn hear(&self, what: impl Into<String>) {
        self.heard.lock().expect("no panic").push(what.into());
    }

    /// Records the request and its caller.
    fn asked<T>(&self, what: &str, ctx: &RequestContext, answer: impl FnOnce(&str) -> T) -> McpResult<T> {
        let caller = format!("{what} for {:?} in {:?}", ctx.subject(), ctx.session_id());
        self.done(&caller).map(|()| answer(&caller))
    }

    fn done(&self, what: &str) -> McpResult<()> {
        self.hear(what);
        if self.is_broken {
            return Err(McpError::unavailable(format!("{what} is broken")));
        }
        Ok(())
    }

    /// The public entries, and one more for a caller with a session.
    fn listed<T>(&self, what: &str, ctx: Option<&RequestContext>, item: impl Fn(&str) -> T) -> Vec<T> {
        self.hear(format!("{what} for {:?}", ctx.map(RequestContext::session_id)));
        let private = ctx.is_some_and(|ctx| ctx.session_id().is_some());
        ["one", "two", "three"].into_iter().chain(private.then_some("private")).map(item).collect()
    }

    fn tools(&self, ctx: Option<&RequestContext>) -> Vec<Tool> {
        let annotations = ToolAnnotations { read_only_hint: Some(true), ..Default::default() };
        let mut tools = self.listed("tools", ctx, |name| Tool::new(name, "a tool"));
        tools[0] = Tool { annotations: Some(annotations), ..Tool::new(READ_ONLY, "reads") };
        tools[1] = Tool::new("write", "writes");
        tools
    }

    fn resources(&self, ctx: Option<&RequestContext>) -> Vec<Resource> {
        self.listed("resources", ctx, |name| Resource::new(format!("file:///{name}"), name))
    }

    fn templates(&self, ctx: Option<&RequestContext>) -> Vec<ResourceTemplate> {
        self.listed("templates", ctx, |name| ResourceTemplate::new(format!("file:///{name}/{{id}}"), name))
    }

    fn prompts(&self, ctx: Option<&RequestContext>) -> Vec<Prompt> {
        self.listed("prompts", ctx, |name| Prompt::new(name, "a prompt"))
    }
}

fn task(id: &str, status: TaskStatus, message: &str) -> Task {
    Task {
        task_id: id.to_owned(),
        status,
        status_message: Some(message.to_owned()),
        created_at: "2025-11-25T00:00:00Z".to_owned(),
        last_updated_at: "2025-11-25T00:00:01Z".to_owned(),
        ttl: Some(60_000),
        poll_interval: Some(500),
    }
}

#[deny(clippy::missing_trait_methods)]
impl McpHandler for Everything {
    fn server_info(&self) -> ServerInfo {
        self.hear("server_info");
        ServerInfo::new("everything", "1.2.3")
    }

    fn instructions(&self) -> Option<String> {
        self.hear("instructions");
        Some("Ask for anything.".to_owned())
    }

    fn server_capabilities(&self) -> ServerCapabilities {
        self.hear("server_capabilities");
        let capabilities = json!({
            "tools": { "listChanged": true },
            "resources": { "subscribe": true, "listChanged": true },
            "prompts": { "listChanged": false },
            "logging": {},
            "completions": {},
            "tasks": { "list": {}, "cancel": {}, "requests": { "tools": { "call": {} } } },
            "experimental": { "everything": { "really": true } },
        });
        serde_json::from_value(capabilities).expect("capabilities")
    }

    fn list_tools(&self) -> Vec<Tool> {
        self.tools(None)
    }

    fn list_resources(&self) -> Vec<Resource> {
        self.resources(None)
    }

    fn list_resource_templates(&self) -> Vec<ResourceTemplate> {
        self.templates(None)
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        self.prompts(None)
    }

    fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool> {
        self.tools(Some(ctx))
    }

    fn list_resources_for(&self, ctx: &RequestContext) -> Vec<Resource> {
        self.resources(Some(ctx))
    }

    fn list_resource_templates_for(&self, ctx: &RequestContext) -> Vec<ResourceTemplate> {
        self.templates(Some(ctx))
    }

    fn list_prompts_for(&self, ctx: &RequestContext) -> Vec<Prompt> {
        self.prompts(Some(ctx))
    }

    fn page_size(&self) -> Option<usize> {
        self.hear("page_size");
        Some(2)
    }

    async fn call_tool<'a>(&'a self, name: &'a str, args: Value, ctx: &'a RequestContext) -> McpResult<ToolResult> {
        self.asked(&format!("call_tool {name} {args}"), ctx, |heard| ToolResult::text(heard))
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, ctx: &'a RequestContext) -> McpResult<ResourceResult> {
        self.asked(&format!("read_resource {uri}"), ctx, |heard| ResourceResult::text(uri, heard))
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        self.asked(&format!("get_prompt {name} {args:?}"), ctx, |heard| PromptResult::user(heard))
    }

    async fn list_tasks<'a>(
        &'a self,
        cursor: Option<&'a str>,
        limit: Option<usize>,
        ctx: &'a RequestContext,
    ) -> McpResult<ListTasksResult> {
        self.asked(&format!("list_tasks {cursor:?} {limit:?}"), ctx, |heard| ListTasksResult {
            tasks: vec![task("listed", TaskStatus::Working, heard)],
            next_cursor: Some("page 3".to_owned()),
            meta: None,
        })
    }

    async fn get_task<'a>(&'a self, task_id: &'a str, ctx: &'a RequestContext) -> McpResult<Task> {
        self.asked(&format!("get_task {task_id}"), ctx, |heard| task(task_id, TaskStatus::Completed, heard))
    }

    async fn cancel_task<'a>(&'a self, task_id: &'a str, ctx: &'a RequestContext) -> McpResult<Task> {
        self.asked(&format!("cancel_task {task_id}"), ctx, |heard| task(task_id, TaskStatus::Cancelled, heard))
    }

    async fn get_task_result<'a>(&'a self, task_id: &'a str, ctx: &'a RequestContext) -> McpResult<Value> {
        self.asked(&format!("get_task_result {task_id}"), ctx, |heard| json!({ "result": heard }))
    }

    async fn subscribe<'a>(&'a self, uri: &'a str, ctx: &'a RequestContext) -> McpResult<()> {
        self.asked(&format!("subscribe {uri}"), ctx, |_| ())
    }

    async fn unsubscribe<'a>(&'a self, uri: &'a str, ctx: &'a RequestContext) -> McpResult<()> {
        self.asked(&format!("unsubscribe {uri}"), ctx, |_| ())
    }

    async fn set_log_level<'a>(&'a self, level: &'a str, ctx: &'a RequestContext) -> McpResult<()> {
        self.asked(&format!("set_log_level {level}"), ctx, |_| ())
    }

    async fn complete<'a>(&'a self, params: Value, ctx: &'a RequestContext) -> McpResult<Value> {
        let typed = params["argument"]["value"].clone();
        self.asked(&format!("complete {typed}"), ctx, |_| json!({ "completion": { "values": ["Ada", "Alan"] } }))
    }

    async fn on_roots_list_changed<'a>(&'a self, ctx: &'a RequestContext) -> McpResult<()> {
        self.asked("on_roots_list_changed", ctx, |_| ())
    }

    async fn on_initialize(&self) -> McpResult<()> {
        self.done("on_initialize")
    }

    async fn on_shutdown(&self) -> McpResult<()> {
        self.done("on_shutdown")
    }
}
