use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde::de::DeserializeOwned;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};
use validator::Validate;

use super::checks::{Check, Place};
use super::fields::fields;
use super::formats::Formats;
use super::limits::Limits;
use super::plan::{LAYER, ToolPlan};
use super::rules::{Rule, RuleContext, RuleError};
use super::typed;
use super::violation::Violation;
use super::violations::MAX_LISTED;
use crate::middleware::impl_layer;
use crate::selection::{self, Known, Plan, Selection, Unknown, look_up, look_up_own, selectors};
use crate::{ConfigError, Identity, Middleware};

/// What is valid is what it was before, so whatever is asked for is done.
const RULE: selection::Rule = selection::Rule::every_tool(LAYER);

/// Ends a call with bad input at the door, with an answer that says all that is wrong. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct ValidatedTool {
    selection: Selection,
    pub(super) settings: Arc<Settings>,
    plan: Plan<Arc<ToolPlan>>,
}

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) limits_for: BTreeMap<String, Limits>,
    pub(super) checks: Vec<Check>,
    pub(super) names: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) messages: BTreeMap<String, Message>,
    pub(super) max_violations: NonZeroUsize,
    pub(super) formats: Formats,
    pub(super) leaves_out_bad_schemas: bool,
    pub(super) fills_defaults: bool,
    pub(super) hints: bool,
    pub(super) checks_output: bool,
    allows_unlisted: bool,
    identity: Identity,
}

type Message = Arc<dyn Fn(&Violation) -> String + Send + Sync>;

impl ValidatedTool {
    /// Limits and the schema of every tool. See the [defaults](super#defaults).
    pub fn new() -> Self {
        let settings = Settings {
            limits: Limits::new(),
            limits_for: BTreeMap::new(),
            checks: Vec::new(),
            names: BTreeMap::new(),
            messages: BTreeMap::new(),
            max_violations: NonZeroUsize::new(MAX_LISTED).unwrap_or(NonZeroUsize::MIN),
            formats: Formats::all(),
            leaves_out_bad_schemas: false,
            fills_defaults: false,
            hints: true,
            checks_output: true,
            allows_unlisted: false,
            identity: Identity::new(),
        };
        Self { selection: Selection::new(), settings: Arc::new(settings), plan: Plan::default() }
    }

    selectors!();

    /// Asks a `T`, read from the arguments, whether it is valid.
    ///
    /// A tool with one parameter, which is an object, has its `T` there (`register(data: UserRegistration)`); any other has its
    /// arguments as a whole. [`typed_at`](Self::typed_at) says so itself.
    pub fn typed<T: DeserializeOwned + Validate + 'static>(self, tool: impl Into<String>) -> Self {
        let (place, fields) = (Place::Obvious, fields::<T>());
        self.check(Check::Typed { tool: tool.into(), place, fields, check: typed::check::<T> })
    }

    /// Asks a `T`, read from this parameter of the tool, whether it is valid. A call without the parameter is not asked.
    pub fn typed_at<T: DeserializeOwned + Validate + 'static>(
        self,
        tool: impl Into<String>,
        parameter: impl Into<String>,
    ) -> Self {
        let (place, fields) = (Place::Parameter(parameter.into()), fields::<T>());
        self.check(Check::Typed { tool: tool.into(), place, fields, check: typed::check::<T> })
    }

    /// Asks a rule of your own, which may look into the database, about input that is valid so far.
    ///
    /// Where its `T` is read from is told at [`typed`](Self::typed). The rules of a tool are asked at the same time, in the task of
    /// the call.
    pub fn rule<T, F>(self, tool: impl Into<String>, rule: impl Fn(T, RuleContext) -> F + Send + Sync + 'static) -> Self
    where
        T: DeserializeOwned,
        F: Future<Output = Result<(), RuleError>> + Send + 'static,
    {
        let (place, fields) = (Place::Obvious, fields::<T>());
        self.check(Check::Rule { tool: tool.into(), place, fields, rule: Rule::new(rule) })
    }

    /// Asks a rule about this parameter of the tool. A call without the parameter is not asked.
    pub fn rule_at<T, F>(
        self,
        tool: impl Into<String>,
        parameter: impl Into<String>,
        rule: impl Fn(T, RuleContext) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned,
        F: Future<Output = Result<(), RuleError>> + Send + 'static,
    {
        let (place, fields) = (Place::Parameter(parameter.into()), fields::<T>());
        self.check(Check::Rule { tool: tool.into(), place, fields, rule: Rule::new(rule) })
    }

    /// Sets what fields of Rust are called on the wire, where the schema does not tell.
    ///
    /// A name in another case is found without (`zip_code` for `zipCode`). A field of a nested struct may be given with the fields
    /// that lead to it (`address.zip`).
    pub fn with_names(
        mut self,
        tool: impl Into<String>,
        names: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let names = names.into_iter().map(|(field, name)| (field.into(), name.into()));
        self.settings_mut().names.entry(tool.into()).or_default().extend(names);
        self
    }

    /// Sets how large the arguments of a call may be.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.settings_mut().limits = limits;
        self
    }

    /// Sets how large the arguments of a call of this tool may be.
    pub fn with_limits_for(mut self, tool: impl Into<String>, limits: Limits) -> Self {
        self.settings_mut().limits_for.insert(tool.into(), limits);
        self
    }

    /// Replaces the message of the violations with this code: in other words, or in another language.
    pub fn with_message(
        mut self,
        code: impl Into<String>,
        message: impl Fn(&Violation) -> String + Send + Sync + 'static,
    ) -> Self {
        self.settings_mut().messages.insert(code.into(), Arc::new(message));
        self
    }

    /// Sets how many violations an answer lists. How many more there are is told too.
    pub fn with_max_violations(mut self, max_violations: NonZeroUsize) -> Self {
        self.settings_mut().max_violations = max_violations;
        self
    }

    /// Sets which formats are asserted, in what goes in and in what comes out.
    pub fn with_formats(mut self, formats: Formats) -> Self {
        self.settings_mut().formats = formats;
        self
    }

    /// Serves a tool whose schema cannot be compiled, and holds nothing against that schema: limits, types and rules still do their
    /// part. Each is logged as an error when the layer is put on.
    ///
    /// Otherwise, such a schema is a [`ConfigError`](crate::ConfigError).
    pub fn with_bad_schemas_left_out(mut self) -> Self {
        self.settings_mut().leaves_out_bad_schemas = true;
        self
    }

    /// Fills in the defaults of the schema before anything else sees the arguments, a cache's key included.
    ///
    /// A default that its own schema refuses is not filled in, which is logged as a warning when the layer is put on. Where what was
    /// given is valid, and is not with the defaults, it passes without them.
    pub fn with_defaults(mut self) -> Self {
        self.settings_mut().fills_defaults = true;
        self
    }

    /// Lets tools be called that no listing has, for a server that leaves tools out of its listings on purpose.
    ///
    /// Of such a tool only the name is known: its arguments are held to the limits, and to what [`typed`](Self::typed) and [`rule`](Self::rule) say. Settings may then name tools that are not listed
    /// when the server starts, such as those that only some callers see.
    pub fn allow_unlisted_tools(mut self) -> Self {
        self.settings_mut().allows_unlisted = true;
        self
    }

    /// Sets how callers are told apart where they see different schemas of one tool. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Suggests no name and no value that was probably meant.
    pub fn without_hints(mut self) -> Self {
        self.settings_mut().hints = false;
        self
    }

    /// Leaves what the tools answer unchecked.
    pub fn without_output_checks(mut self) -> Self {
        self.settings_mut().checks_output = false;
        self
    }

    fn check(mut self, check: Check) -> Self {
        self.settings_mut().checks.push(check);
        self
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    #[cfg(test)]
    pub(super) fn plan_of(&self, tool: &str) -> Option<Arc<ToolPlan>> {
        self.plan.of_anybody(tool)
    }

    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let is_allowed = self.settings.allows_unlisted || self.names(name);
        let looked_up = look_up(&self.plan, self, inner, name, ctx).await;
        match looked_up.or_refuse(name, is_allowed, |tool| self.decide(tool))? {
            Some(plan) => Box::pin(self.validate(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    /// Whether a setting names the tool.
    fn names(&self, tool: &str) -> bool {
        let settings = &self.settings;
        self.selection.names(tool)
            || settings.limits_for.contains_key(tool)
            || settings.names.contains_key(tool)
            || settings.checks.iter().any(|check| check.tool() == tool)
    }

    /// What the caller of `ctx` was told of the tool, where that is not what `plan` was made of.
    pub(super) async fn own_plan<H: McpHandler>(
        &self,
        plan: &ToolPlan,
        inner: &H,
        ctx: &RequestContext,
    ) -> Option<Arc<ToolPlan>> {
        let own = look_up_own(&self.plan, self, inner, plan.tool(), ctx).await;
        own.filter(|own| own.is_usable() && **own != *plan)
    }

    /// What was decided for the tool, unless it has changed.
    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        if !self.selection.includes(tool, RULE) {
            return None;
        }
        // A schema takes milliseconds to compile, and each listing passes here.
        if let Some(plan) = self.plan.find(&tool.name, |plan| plan.is_of(tool)) {
            return Some(plan);
        }
        Some(Arc::new(ToolPlan::new(tool, &self.settings).unwrap_or_else(|mistake| {
            tracing::warn!(%mistake, tool = tool.name, "a tool that was not there at the start cannot be validated");
            ToolPlan::unusable(tool)
        })))
    }
}

impl Default for ValidatedTool {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for ValidatedTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        let settings = &self.settings;
        settings.limits.check_settings(LAYER, "with_limits")?;
        settings.limits_for.values().try_for_each(|limits| limits.check_settings(LAYER, "with_limits_for"))?;
        settings.identity.check(LAYER)?;
        settings.formats.check_settings(LAYER, "with_formats")?;
        let tools = inner.list_tools();
        let named = settings.checks.iter().map(Check::tool).chain(settings.limits_for.keys().map(String::as_str));
        let named: Vec<_> = named.chain(settings.names.keys().map(String::as_str)).collect();
        let all_named = named.iter().copied().chain(self.selection.named());
        if !settings.allows_unlisted {
            selection::check_names(LAYER, all_named.clone(), &tools)?;
        }
        let plan = Plan::new(&settings.identity, all_named, Unknown::Counts);
        let (validated, left_out): (Vec<_>, Vec<_>) =
            tools.iter().partition(|tool| self.selection.includes(tool, RULE));
        if let Some(tool) = left_out.iter().find(|tool| named.contains(&tool.name.as_str())) {
            let reason = format!("`{}` has settings of its own, and is left out: do one of the two", tool.name);
            return Err(ConfigError::invalid(LAYER, "except", reason));
        }
        let mut plans = BTreeMap::new();
        for tool in validated {
            plans.insert(tool.name.as_str(), Arc::new(ToolPlan::new(tool, settings)?));
        }
        plan.learn(&tools, None, |tool| plans.get(tool.name.as_str()).cloned());
        Ok(Self { plan, ..self })
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
        match self.plan.get(name, ctx) {
            Known::Decided(None) => Either::Left(inner.call_tool(name, args, ctx)),
            // On the heap, so that a call that the layer does not act on stays small.
            Known::Decided(Some(plan)) => Either::Right(self.validate(plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(ValidatedTool);

impl fmt::Debug for ValidatedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatedTool")
            .field("selection", &self.selection)
            .field("limits", &self.settings.limits)
            .field("limits_for", &self.settings.limits_for)
            .field("checks", &self.settings.checks)
            .field("fills_defaults", &self.settings.fills_defaults)
            .field("hints", &self.settings.hints)
            .finish_non_exhaustive()
    }
}
