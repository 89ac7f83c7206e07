use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::{Map, Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{ServerCapabilities, Tool, ToolResult, ToolsCapabilities};

use super::engine::Told;
use super::key::Key;
use super::session::{Current, CurrentSession};
use super::store::SessionStore;
use super::{SESSION, SessionError, SessionMode};
use crate::arguments::LayerArgument;
use crate::clock::is_too_short;
use crate::middleware::impl_layer;
use crate::outcome;
use crate::selection::{Known, Plan, Rule, Unknown, bare, look_up};
use crate::{ConfigError, Middleware, scope};

const LAYER: &str = "SessionStore";

/// A session does no harm to any tool.
const RULE: Rule = Rule::every_tool(LAYER);

/// The tools that the layer adds where sessions have handles.
const OPEN: &str = "open_session";
const CLOSE: &str = "close_session";

impl SessionStore {
    fn has_handles(&self) -> bool {
        self.engine.settings.mode == SessionMode::Handle
    }

    /// Finds the session of a call and takes the handle out of its arguments.
    fn find(&self, args: &mut Value, ctx: &RequestContext) -> Result<CurrentSession, SessionError> {
        let mode = self.engine.settings.mode;
        let key = match mode {
            SessionMode::Handle => match self.take_handle(args) {
                Some(handle) => Ok(Key::of_handle(&self.engine, handle?, ctx)),
                None => Err(SessionError::None(mode)),
            },
            SessionMode::Transport | SessionMode::Principal => Key::of_call(&self.engine, ctx),
        };
        match key {
            Ok(key) => Ok(CurrentSession::Session(self.session(key))),
            Err(SessionError::None(mode)) if self.engine.settings.is_optional => Ok(CurrentSession::None(mode)),
            Err(error) => Err(error),
        }
    }

    /// What is no text cannot be a handle, and so names no session.
    fn take_handle(&self, args: &mut Value) -> Option<Result<String, SessionError>> {
        match args.as_object_mut()?.remove(&self.engine.settings.argument)? {
            Value::Null => None,
            Value::String(handle) => Some(Ok(handle)),
            _ => Some(Err(SessionError::Unknown)),
        }
    }

    /// Whether more than the name of a tool decides about it: it may have an argument of the handle's name.
    fn needs_definition(&self) -> bool {
        self.has_handles() || self.selection.asks_for_more_than_names()
    }

    /// The name of a tool that the layer acts on.
    fn decide(&self, tool: &Tool) -> Option<Arc<str>> {
        (self.selection.includes(tool, RULE) && self.fits(tool)).then(|| tool.name.as_str().into())
    }

    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        match look_up(&self.plan, self, inner, name, ctx).await.or_by_name(name, |tool| self.decide(tool)) {
            Some(tool) => Box::pin(self.within(tool, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    async fn within<H: McpHandler>(
        &self,
        tool: Arc<str>,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let current = match self.find(&mut args, ctx) {
            Ok(session) => Arc::new(Current { tool, session }),
            Err(refused) => {
                tracing::debug!(tool = name, session = "refused");
                self.count(Told::Refused);
                return Ok(McpError::from(refused).to_tool_result());
            }
        };
        scope::capture().with(current).enter(inner.call_tool(name, args, ctx)).await
    }

    fn count(&self, told: Told) {
        self.engine.count(told);
    }

    async fn open_for(&self, args: &Value, ctx: &RequestContext) -> McpResult<ToolResult> {
        if args.as_object().is_some_and(|args| !args.is_empty()) {
            let refused = McpError::invalid_params(format!("`{OPEN}` takes no arguments"));
            return Err(outcome::marked(SESSION, "arguments", refused));
        }
        let session = self.open(ctx).await?;
        let handle = session.handle().unwrap_or_default();
        let mut result = ToolResult::text(handle);
        result.structured_content = Some(json!({ &self.engine.settings.argument: handle }));
        Ok(result)
    }

    async fn close_for(&self, mut args: Value, ctx: &RequestContext) -> McpResult<ToolResult> {
        let Some(handle) = self.take_handle(&mut args) else {
            return Err(SessionError::None(SessionMode::Handle).into());
        };
        self.of_handle(ctx, handle?).end().await?;
        Ok(ToolResult::text("Session closed"))
    }

    async fn manage(&self, name: &str, args: Value, ctx: &RequestContext) -> McpResult<ToolResult> {
        let result = match name {
            OPEN => self.open_for(&args, ctx).await,
            _ => self.close_for(args, ctx).await,
        };
        Ok(result.unwrap_or_else(|error| error.to_tool_result()))
    }

    /// Adds the handle to what the tools say of themselves, and the tools that make it.
    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        if !self.has_handles() {
            return tools;
        }
        let argument = self.argument();
        for tool in tools.iter_mut().filter(|tool| self.selection.includes(tool, RULE)) {
            argument.add_to(tool);
        }
        tools.extend([self.open_tool(), self.close_tool()]);
        tools
    }

    /// Whether the tool takes a handle, if there are any: not where its author has an argument of that name, which a tool that is
    /// there at the start may not have.
    fn fits(&self, tool: &Tool) -> bool {
        let takes_handles = self.has_handles() && ![OPEN, CLOSE].contains(&tool.name.as_str());
        let is_authors = takes_handles && self.argument().is_authors(tool);
        if is_authors {
            tracing::warn!(
                layer = LAYER,
                tool = tool.name,
                "the tool has an argument of the handle's name: it has no session"
            );
        }
        !is_authors
    }

    /// The handle, as the tools take it.
    fn argument(&self) -> LayerArgument {
        let settings = &self.engine.settings;
        let argument = LayerArgument::new(&settings.argument, handle_schema(settings.is_optional));
        if settings.is_optional { argument } else { argument.required() }
    }

    fn open_tool(&self) -> Tool {
        let settings = &self.engine.settings;
        let mut kept = format!("{} after it was last used", human(settings.idle_timeout));
        if let Some(timeout) = settings.absolute_timeout {
            kept.push_str(&format!(", and for {} at most", human(timeout)));
        }
        let description = format!(
            "Opens a session, in which this server remembers what later calls need. Answers its name: give it to them as \
             `{}`. It is kept for {kept}. Close it with `{CLOSE}` when it is not needed any more.",
            settings.argument
        );
        let mut tool = Tool::new(OPEN, description);
        tool.input_schema.properties = Some(Map::new().into());
        tool.annotations = Some(annotations(false, false));
        tool
    }

    fn close_tool(&self) -> Tool {
        let argument = &self.engine.settings.argument;
        let mut tool = Tool::new(CLOSE, "Closes a session and forgets what was remembered in it.");
        // It is the tool's own: nobody takes it out.
        tool.input_schema = tool.input_schema.add_property(argument, handle_schema(false)).require_property(argument);
        tool.annotations = Some(annotations(true, true));
        tool
    }
}

fn handle_schema(is_optional: bool) -> Value {
    let whether = if is_optional { "Optional: the" } else { "The" };
    let description = format!("{whether} session that this call belongs to, as `{OPEN}` answered it");
    json!({ "type": "string", "description": description })
}

/// What the tools of the layer say of themselves.
fn annotations(destructive: bool, idempotent: bool) -> ToolAnnotations {
    ToolAnnotations {
        read_only_hint: Some(false),
        destructive_hint: Some(destructive),
        idempotent_hint: Some(idempotent),
        open_world_hint: Some(false),
        ..Default::default()
    }
}

/// In the largest unit that it is a multiple of.
fn human(time: Duration) -> String {
    let secs = time.as_secs();
    let (number, unit) = match secs {
        0 => (u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "millisecond"),
        _ if secs.is_multiple_of(86_400) => (secs / 86_400, "day"),
        _ if secs.is_multiple_of(3600) => (secs / 3600, "hour"),
        _ if secs.is_multiple_of(60) => (secs / 60, "minute"),
        _ => (secs, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

impl SessionStore {
    /// Checks the settings, as far as they do not depend on a server. The layer does so when it is put on one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for sessions that could keep nothing.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |setting, reason: &str| Err(ConfigError::invalid(LAYER, setting, reason));
        let settings = &self.engine.settings;
        if is_too_short(settings.idle_timeout) {
            return refuse("with_idle_timeout", "a session that ends at once keeps nothing: make it longer");
        }
        if settings.absolute_timeout.is_some_and(is_too_short) {
            return refuse(
                "with_absolute_timeout",
                "a session that ends at once keeps nothing: make it longer, or use `without_absolute_timeout`",
            );
        }
        if is_too_short(settings.backend_timeout) {
            return refuse("with_backend_timeout", "it must be at least a millisecond: make it longer");
        }
        if settings.max_keys == 0 {
            return refuse("with_max_keys", "a session without keys keeps nothing: allow more");
        }
        if settings.max_bytes < MIN_BYTES {
            return refuse("with_max_bytes", "not even an empty session fits: allow more");
        }
        if settings.argument.is_empty() {
            return refuse("with_argument", "an argument needs a name");
        }
        ConfigError::check_namespace(LAYER, settings.namespace.as_deref())?;
        settings.identity.check(LAYER)
    }

    /// Sessions of two servers must not mix, and a tool of the server's must not be hidden.
    fn check_server(&self, server: &str, tools: &[Tool]) -> Result<(), ConfigError> {
        let first = self.engine.shared.server.get_or_init(|| server.to_owned());
        if self.engine.settings.namespace.is_none() && first != server {
            let reason =
                format!("the store is on `{first}` already, and now on `{server}`: say whether they share sessions");
            return Err(ConfigError::invalid(LAYER, "with_namespace", reason));
        }
        if !self.has_handles() {
            return Ok(());
        }
        if let Some(tool) = tools.iter().find(|tool| [OPEN, CLOSE].contains(&tool.name.as_str())) {
            let reason = format!("the server has a tool `{}` of its own, which would be hidden: rename it", tool.name);
            return Err(ConfigError::invalid(LAYER, "with_mode", reason));
        }
        self.argument().check(LAYER, "with_argument", tools.iter().filter(|tool| self.selection.includes(tool, RULE)))
    }
}

/// What an empty session with an end takes.
const MIN_BYTES: usize = 32;

impl Middleware for SessionStore {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.check()?;
        let tools = inner.list_tools();
        self.selection.check(&tools, RULE)?;
        self.check_server(&inner.server_info().name, &tools)?;
        let plan = Plan::new(&self.engine.settings.identity, self.selection.named(), Unknown::Counts);
        let bound = Self { plan, ..self };
        bound.observe_tools(&tools, None);
        Ok(bound)
    }

    fn observe_tools(&self, tools: &[Tool], ctx: Option<&RequestContext>) {
        self.plan.learn(tools, ctx, |tool| self.decide(tool));
    }

    fn forget_definitions(&self) {
        self.plan.forget();
    }

    fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        if self.has_handles() && (name == OPEN || name == CLOSE) {
            return Either::Right(self.manage(name, args, ctx).boxed());
        }
        let decided = match self.plan.get(name, ctx) {
            Known::Decided(decision) => decision,
            Known::Unknown if self.needs_definition() && !self.selection.leaves_out(name) => {
                return Either::Right(self.call_unknown(inner, name, args, ctx).boxed());
            }
            // The layer is about every tool, whatever the tool is.
            Known::Unknown => self.decide(&bare(name)),
        };
        match decided {
            // On the heap, so that a call that the layer does not act on stays small.
            Some(tool) => Either::Right(self.within(tool, inner, name, args, ctx).boxed()),
            None => Either::Left(inner.call_tool(name, args, ctx)),
        }
    }

    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        self.advertise(inner.list_tools())
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        self.advertise(inner.list_tools_for(ctx))
    }

    fn server_capabilities<H: McpHandler>(&self, inner: &H) -> ServerCapabilities {
        let mut capabilities = inner.server_capabilities();
        if self.has_handles() {
            capabilities.tools.get_or_insert_with(ToolsCapabilities::default);
        }
        capabilities
    }
}

impl_layer!(SessionStore);
