//! The server inside: it logs each execution, and each answer names the execution that it comes from.

mod acts;
mod caller;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mcp_patterns::batched;
use serde_json::{Value, json};
use tokio::task::yield_now;
use tokio::time::sleep;
use turbomcp_core::{ErrorKind, McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{
    Prompt, PromptResult, Resource, ResourceResult, ServerCapabilities, ServerInfo, Tool, ToolResult, ToolsCapabilities,
};

pub(super) use self::caller::Caller;
use super::callers::CONNECTIONS;
use super::log::{Execution, Form, Log, Said};
use super::plan::{Behaviour, Outcome};
use super::requests::{DEFINITIONS, Op, Request, WAYS_TO_ASK, is_viewer};

/// A database that `Book` writes to in the transaction of its call, and `Balance` reads.
pub(super) trait Books: Send + Sync {
    fn write(&self, execution: u64) -> BoxFuture<'static, McpResult<()>>;
    fn read(&self) -> BoxFuture<'static, McpResult<Vec<u64>>>;
}

/// A server with tools of every kind. Clones are the same server.
#[derive(Clone)]
pub(super) struct World(Arc<Inner>);

struct Inner {
    environment: usize,
    log: Arc<Log>,
    behaviours: Vec<Behaviour>,
    versions: [AtomicU64; 4],
    books: Option<Arc<dyn Books>>,
    has_late: AtomicBool,
}

/// Ends an execution in the log, also one that is dropped.
struct Running<'a> {
    inner: &'a Inner,
    id: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let ended = self.inner.log.stamp();
        let has_panicked = std::thread::panicking();
        self.note(|execution| {
            execution.ended.get_or_insert(ended);
            execution.has_panicked |= has_panicked;
        });
    }
}

impl Running<'_> {
    fn note(&self, note: impl FnOnce(&mut Execution)) {
        if let Some(execution) = self.inner.log.executions().get_mut(self.id as usize) {
            note(execution);
        }
    }

    /// A resource and a prompt fail in one form only.
    fn form(&self, form: Form) -> Form {
        let op = self.inner.log.executions()[self.id as usize].request.op;
        if op.is_tool() { form } else { Form::Error }
    }

    fn end(&self, said: Said) {
        let ended = self.inner.log.stamp();
        self.note(|execution| {
            execution.said = Some(said);
            execution.ended = Some(ended);
        });
    }

    fn fail(&self, form: Form, error: McpError) -> Failed {
        let form = self.form(form);
        let kind = Some(error.kind);
        self.end(Said::Failure { form, kind, message: error.message.clone() });
        Failed { form, error: Ok(error) }
    }
}

/// A failure, with the form in which the server surfaces it.
pub(super) struct Failed {
    form: Form,
    /// Without a kind, it is only a text.
    error: Result<McpError, String>,
}

impl Failed {
    fn into_tool(self) -> McpResult<ToolResult> {
        match (self.form, self.error) {
            (_, Err(text)) => Ok(ToolResult::error(text)),
            (Form::Error, Ok(error)) => Err(error),
            (Form::Result, Ok(error)) => Ok(error.to_tool_result()),
        }
    }

    pub(super) fn into_error(self) -> McpError {
        self.error.unwrap_or_else(McpError::internal)
    }

    /// Whether it is no result of a tool.
    pub(super) fn is_error(&self) -> bool {
        self.form == Form::Error && self.error.is_ok()
    }

    pub(super) fn into_text(self) -> Result<McpError, String> {
        self.error
    }
}

impl World {
    pub(super) fn new(
        environment: usize,
        log: Arc<Log>,
        behaviours: Vec<Behaviour>,
        books: Option<Arc<dyn Books>>,
    ) -> Self {
        let (versions, has_late) = (Default::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { environment, log, behaviours, versions, books, has_late }))
    }

    pub(super) fn add_late(&self) {
        self.0.has_late.store(true, Ordering::SeqCst);
    }

    /// The bulk function of `Price`.
    pub(super) async fn prices(self, calls: Vec<batched::Call>) -> McpResult<Vec<McpResult<ToolResult>>> {
        let answers = calls.iter().map(|call| async {
            let request = Request::of(Op::Price, &call.args);
            self.0.execute(request, &Caller::Turbomcp(&call.ctx), true).await.map(|(text, _)| ToolResult::text(text))
        });
        let answers = futures_util::future::join_all(answers).await;
        Ok(answers.into_iter().map(|answer| answer.or_else(Failed::into_tool)).collect())
    }

    /// Makes an answer to a request, whatever SDK it came through.
    pub(super) async fn answer(
        &self,
        request: Request,
        caller: &Caller<'_>,
    ) -> Result<(String, Option<Value>), Failed> {
        self.0.execute(request, caller, false).await
    }

    /// Whether there is such a tool now.
    pub(super) fn has(&self, op: Op) -> bool {
        match op {
            Op::Book | Op::Balance => self.0.books.is_some(),
            Op::Late => self.0.has_late.load(Ordering::SeqCst),
            _ => true,
        }
    }

    fn tools(&self, ctx: Option<&RequestContext>) -> Vec<Tool> {
        let definitions = &DEFINITIONS[usize::from(!is_viewer(ctx.and_then(RequestContext::principal)))];
        definitions.iter().filter(|(op, _)| self.has(*op)).map(|(_, tool)| tool.clone()).collect()
    }
}

impl Inner {
    fn begin(&self, request: Request, caller: &Caller<'_>, is_bulk: bool) -> (Running<'_>, Behaviour) {
        let now = self.log.stamp();
        let mut executions = self.log.executions();
        let id = executions.len() as u64;
        executions.push(Execution {
            request,
            environment: self.environment,
            origin: caller.origin(),
            principal: caller.principal().cloned(),
            session_id: caller.session_id(),
            is_bulk,
            begun: now,
            read: now,
            effect: None,
            ended: None,
            said: None,
            has_panicked: false,
            has_asked: false,
            has_questioned: false,
            lied: false,
            progress: Vec::new(),
            visits: None,
            handle: None,
            rows: Vec::new(),
        });
        (Running { inner: self, id }, self.behaviours.get(id as usize).copied().unwrap_or_default())
    }

    /// Answers with a text and the structured content.
    async fn execute(
        &self,
        request: Request,
        caller: &Caller<'_>,
        is_bulk: bool,
    ) -> Result<(String, Option<Value>), Failed> {
        let (running, behaviour) = self.begin(request, caller, is_bulk);
        if request.op.most(caller.is_viewer()).is_some_and(|most| !(1..=most).contains(&request.n)) {
            return Err(running.fail(Form::Result, running.error(ErrorKind::InvalidParams, "n is out of range")));
        }
        self.report(&running, caller, 1).await;
        wait(behaviour.millis / 2).await;
        self.end_if(&running, behaviour.outcome, true)?;
        // Half a minute.
        let mut waits = if behaviour.outcome == Outcome::Hangs { 3_000 } else { 0 };
        while waits > 0 && !caller.is_cancelled() {
            sleep(Duration::from_millis(10)).await;
            waits -= 1;
        }
        if caller.is_cancelled() {
            return Err(running.fail(Form::Result, running.error(ErrorKind::Cancelled, "cancelled")));
        }
        let detail = match self.act(&running, request, caller).await {
            Ok(detail) => detail,
            Err(error) => return Err(running.fail(Form::Result, error)),
        };
        self.report(&running, caller, 2).await;
        wait(behaviour.millis.div_ceil(2)).await;
        self.report(&running, caller, 3).await;
        self.end_if(&running, behaviour.outcome, false)?;
        let text = format!("execution {}: {detail}", running.id);
        let structured = (request.op == Op::Check).then(|| match behaviour.outcome {
            Outcome::Lies => json!({"n": "a lie"}),
            _ => json!({"n": request.n}),
        });
        running.note(|execution| execution.lied = structured.is_some() && behaviour.outcome == Outcome::Lies);
        running.end(Said::Text(text.clone()));
        Ok((text, structured))
    }

    async fn report(&self, running: &Running<'_>, caller: &Caller<'_>, step: u32) {
        let is_slow = self.log.executions()[running.id as usize].request.op == Op::Slow;
        if is_slow {
            running.note(|execution| execution.progress.push(step.into()));
            caller.report(step.into(), 3.0).await;
        }
    }

    fn end_if(&self, running: &Running<'_>, outcome: Outcome, is_early: bool) -> Result<(), Failed> {
        match outcome {
            Outcome::Panics { early } if early == is_early => {
                // Without the hook, which would print it.
                std::panic::resume_unwind(Box::new("a tool panics"));
            }
            Outcome::Fails { kind, form, early, hints } if early == is_early => Err(match kind {
                Some(kind) => {
                    let error = running.error(kind, "it fails");
                    let hint = |error: McpError| error.with_data(json!({"retryAfterMs": 30}));
                    running.fail(form, if hints { hint(error) } else { error })
                }
                None => {
                    let (form, message) = (running.form(Form::Result), format!("execution {}: it fails", running.id));
                    let kind = (form == Form::Error).then_some(ErrorKind::Internal);
                    running.end(Said::Failure { form, kind, message: message.clone() });
                    Failed { form, error: Err(message) }
                }
            }),
            _ => Ok(()),
        }
    }
}

impl Running<'_> {
    fn error(&self, kind: ErrorKind, text: &str) -> McpError {
        McpError::new(kind, format!("execution {}: {text}", self.id))
    }
}

async fn wait(millis: u64) {
    if millis == 0 {
        yield_now().await;
    } else {
        sleep(Duration::from_millis(millis)).await;
    }
}

/// Whether a tool that answers by asking has asked, or looked at what the client can do.
fn depends_on_client(request: &Request, caller: &Caller<'_>) -> bool {
    match WAYS_TO_ASK[usize::from(request.n) % WAYS_TO_ASK.len()] {
        "not" => false,
        "capabilities" => caller.is_seen_to_read_capabilities(),
        _ => request.op == Op::Ask,
    }
}

/// Whether a person sees the question, if the client can be asked at all.
fn asks_a_person(request: &Request) -> bool {
    matches!(WAYS_TO_ASK[usize::from(request.n) % WAYS_TO_ASK.len()], "elicit" | "spawned" | "sample")
}

/// The connection whose context a bare server would have seen.
pub(super) fn context(connection: usize) -> RequestContext {
    let connection = &CONNECTIONS[connection];
    let ctx = if connection.is_http { RequestContext::http() } else { RequestContext::stdio() };
    match &connection.principal {
        Some(principal) => ctx.with_principal(principal.clone()),
        None => ctx,
    }
}

impl McpHandler for World {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("world", "1.0.0")
    }

    // The default would list the tools for each request.
    fn server_capabilities(&self) -> ServerCapabilities {
        let tools = Some(ToolsCapabilities { list_changed: Some(true) });
        ServerCapabilities { tools, ..Default::default() }
    }

    fn list_tools(&self) -> Vec<Tool> {
        self.tools(None)
    }

    fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool> {
        self.tools(Some(ctx))
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, name: &'a str, args: Value, ctx: &'a RequestContext) -> McpResult<ToolResult> {
        let op = Op::TOOLS.into_iter().find(|op| op.name() == name);
        let op = op.ok_or_else(|| McpError::tool_not_found(name))?;
        match self.answer(Request::of(op, &args), &Caller::Turbomcp(ctx)).await {
            Ok((text, structured)) => Ok(ToolResult { structured_content: structured, ..ToolResult::text(text) }),
            Err(failed) => failed.into_tool(),
        }
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, ctx: &'a RequestContext) -> McpResult<ResourceResult> {
        let topic = uri.strip_prefix("note://").and_then(|topic| topic.parse().ok());
        let topic = topic.ok_or_else(|| McpError::resource_not_found(uri))?;
        let request = Request { op: Op::Note, topic, n: 0, key: None };
        match self.answer(request, &Caller::Turbomcp(ctx)).await {
            Ok((text, _)) => Ok(ResourceResult::text(uri, text)),
            Err(failed) => Err(failed.into_error()),
        }
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        if name != Op::Greeting.name() {
            return Err(McpError::prompt_not_found(name));
        }
        match self.answer(Request::of(Op::Greeting, &args.unwrap_or_default()), &Caller::Turbomcp(ctx)).await {
            Ok((text, _)) => Ok(PromptResult::user(text)),
            Err(failed) => Err(failed.into_error()),
        }
    }
}
