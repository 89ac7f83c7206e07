use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{ServerCapabilities, Tool, ToolResult, ToolsCapabilities};

use super::handle::{self, OPEN};
use super::records::Operation;
use super::session::{Current, CurrentSession};
use super::settings::LAYER;
use super::store::SessionStore;
use super::{SESSION, SessionError, SessionMode};
use crate::explain::list_for_bind;
use crate::middleware::{Target, impl_layer};
use crate::outcome;
use crate::selection::{Known, Plan, Rule, Unknown, bare, look_up, plan_methods};
use crate::{ConfigError, Middleware, scope};

/// A session is safe for every tool.
const RULE: Rule = Rule::every_tool(LAYER);

impl SessionStore {
    pub(super) fn has_handles(&self) -> bool {
        self.engine.settings.mode == SessionMode::Handle
    }

    /// Finds the session of a call and takes the handle out of its arguments.
    fn find(&self, args: &mut Value, ctx: &RequestContext) -> Result<CurrentSession, SessionError> {
        let mode = self.engine.settings.mode;
        let key = match mode {
            SessionMode::Handle => match handle::take(&self.engine.settings, args) {
                Some(handle) => Ok(self.engine.key_of_handle(handle?, ctx)),
                None => Err(SessionError::None(mode)),
            },
            SessionMode::Transport | SessionMode::Principal => self.engine.key_of_call(ctx),
        };
        if mode == SessionMode::Principal && self.engine.settings.identity.is_unknown_caller(ctx) {
            // Not even an optional session: the caller has one.
            return Err(SessionError::UnknownCaller);
        }
        match key {
            Ok(key) => Ok(CurrentSession::Session(self.session(key))),
            Err(SessionError::None(mode)) if self.engine.settings.is_optional => Ok(CurrentSession::None(mode)),
            Err(error) => Err(error),
        }
    }

    /// Whether the layer needs more than the name of a tool: it may have an argument of the handle's name.
    fn needs_definition(&self) -> bool {
        self.has_handles() || self.selection.asks_for_more_than_names()
    }

    /// Returns the name of a tool that the layer acts on.
    pub(super) fn decide(&self, tool: &Tool) -> Option<Arc<str>> {
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
                self.engine.shared.records.count(Operation::Refused);
                return Ok(McpError::from(refused).to_tool_result());
            }
        };
        scope::capture().with(current).enter(inner.call_tool(name, args, ctx)).await
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
        let Some(handle) = handle::take(&self.engine.settings, &mut args) else {
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

    /// Adds the argument of the handle to the tools, and the tools that open and close a session.
    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        if !self.has_handles() {
            return tools;
        }
        let settings = &self.engine.settings;
        let argument = handle::argument(settings);
        for tool in tools.iter_mut().filter(|tool| self.selection.includes(tool, RULE)) {
            argument.add_to(tool);
        }
        tools.extend([handle::open_tool(settings), handle::close_tool(settings)]);
        tools
    }

    /// Returns false for a tool whose author has an argument of the handle's name. At the start, such a tool is a mistake.
    fn fits(&self, tool: &Tool) -> bool {
        let takes_handles = self.has_handles() && !handle::is_own(&tool.name);
        let is_authors = takes_handles && handle::argument(&self.engine.settings).is_authors(tool);
        if is_authors {
            tracing::warn!(
                layer = LAYER,
                tool = tool.name,
                "the tool has an argument with the name of the session handle: it has no session"
            );
        }
        !is_authors
    }

    /// Refuses to mix the sessions of two servers, and to hide a tool of the server.
    fn check_server(&self, server: &str, tools: &[Tool]) -> Result<(), ConfigError> {
        let first = self.engine.shared.server.get_or_init(|| server.to_owned());
        if self.engine.settings.namespace.is_none() && first != server {
            let reason =
                format!("the store is already on `{first}`, and now also on `{server}`: set `with_namespace` on each");
            return Err(ConfigError::invalid(LAYER, "with_namespace", reason));
        }
        if !self.has_handles() {
            return Ok(());
        }
        if let Some(tool) = tools.iter().find(|tool| handle::is_own(&tool.name)) {
            let reason = format!(
                "the server has a tool `{}` of its own, which the layer would hide: rename that tool",
                tool.name
            );
            return Err(ConfigError::invalid(LAYER, "with_mode", reason));
        }
        let selected = tools.iter().filter(|tool| self.selection.includes(tool, RULE));
        handle::argument(&self.engine.settings).check(LAYER, "with_argument", selected)
    }
}

impl Middleware for SessionStore {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.check()?;
        let tools = list_for_bind(inner);
        self.selection.check(&tools, RULE)?;
        self.check_server(&inner.server_info().name, &tools)?;
        let plan = Plan::new(&self.engine.settings.identity, self.selection.named(), Unknown::Counts);
        let bound = Self { plan, ..self };
        bound.observe_tools(&tools, None);
        Ok(bound)
    }

    plan_methods!();

    fn acts_on(&self, target: Target<'_>) -> bool {
        match target {
            Target::Tool(tool) => (self.has_handles() && handle::is_own(tool)) || self.plan.may_act_on(tool),
            Target::ToolList => self.has_handles(),
            _ => false,
        }
    }

    fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        if self.has_handles() && handle::is_own(name) {
            return Either::Right(self.manage(name, args, ctx).boxed());
        }
        let decided = match self.plan.get(name, ctx) {
            Known::Decided(decision) => decision,
            Known::Unknown if self.needs_definition() && !self.selection.leaves_out(name) => {
                return Either::Right(self.call_unknown(inner, name, args, ctx).boxed());
            }
            // By its name alone: the layer is safe for every tool.
            Known::Unknown => self.decide(&bare(name)),
        };
        match decided {
            // Boxed, so that a call that the layer does not act on stays small.
            Some(tool) => Either::Right(self.within(tool, inner, name, args, ctx).boxed()),
            None => Either::Left(inner.call_tool(name, args, ctx)),
        }
    }

    async fn on_initialize<'a, H: McpHandler>(&'a self, inner: &'a H) -> McpResult<()> {
        self.engine.shared.records.backend().check_storage().await?;
        inner.on_initialize().await
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
