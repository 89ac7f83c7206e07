use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};
use validator::Validate;

use super::VALIDATION;
use super::limits::Limits;
use super::plan::{Check, LAYER, Outcome, Place, ToolPlan};
use super::rules::{self, Rule, RuleContext, RuleError};
use super::typed;
use super::violation::{Found, MAX_LISTED, Violation, Violations};
use crate::cancellation::cancelled;
use crate::middleware::impl_layer;
use crate::outcome;
use crate::selection::{self, Plan, Selection, selectors};
use crate::{ConfigError, Middleware};

/// What is valid is what it was before, so whatever is asked for is done.
const RULE: selection::Rule = selection::Rule { layer: LAYER, is_safe: |_| true, otherwise: "" };

/// Ends a call with bad input at the door, with an answer that says all that is wrong. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct ValidatedTool {
    selection: Selection,
    settings: Arc<Settings>,
    plan: Plan<Arc<ToolPlan>>,
}

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) limits_for: BTreeMap<String, Limits>,
    pub(super) checks: Vec<Check>,
    pub(super) names: BTreeMap<String, BTreeMap<String, String>>,
    messages: BTreeMap<String, Message>,
    max_violations: NonZeroUsize,
    pub(super) fills_defaults: bool,
    hints: bool,
    pub(super) checks_output: bool,
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
            fills_defaults: false,
            hints: true,
            checks_output: true,
        };
        Self { selection: Selection::new(), settings: Arc::new(settings), plan: Plan::default() }
    }

    selectors!();

    /// Asks a `T`, read from the arguments, whether it is valid.
    ///
    /// A tool with one parameter, which is an object, has its `T` there (`register(data: UserRegistration)`); any other has its
    /// arguments as a whole. [`typed_at`](Self::typed_at) says so itself.
    pub fn typed<T: DeserializeOwned + Validate + 'static>(self, tool: impl Into<String>) -> Self {
        self.check(Check::Typed { tool: tool.into(), place: Place::Obvious, check: typed::check::<T> })
    }

    /// Asks a `T`, read from this parameter of the tool, whether it is valid. A call without the parameter is not asked.
    pub fn typed_at<T: DeserializeOwned + Validate + 'static>(
        self,
        tool: impl Into<String>,
        parameter: impl Into<String>,
    ) -> Self {
        self.check(Check::Typed {
            tool: tool.into(),
            place: Place::Parameter(parameter.into()),
            check: typed::check::<T>,
        })
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
        self.check(Check::Rule { tool: tool.into(), place: Place::Obvious, rule: Rule::new(rule) })
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
        let place = Place::Parameter(parameter.into());
        self.check(Check::Rule { tool: tool.into(), place, rule: Rule::new(rule) })
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

    /// Fills in the defaults of the schema before anything else sees the arguments, a cache's key included.
    pub fn with_defaults(mut self) -> Self {
        self.settings_mut().fills_defaults = true;
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
        self.plan.get(tool)
    }

    /// What was decided for the tool, unless it has changed.
    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        if !self.selection.includes(tool, RULE) {
            return None;
        }
        // A schema takes milliseconds to compile, and each listing passes here.
        if let Some(plan) = self.plan.get(&tool.name).filter(|plan| plan.is_of(tool)) {
            return Some(plan);
        }
        Some(Arc::new(ToolPlan::new(tool, &self.settings).unwrap_or_else(|mistake| {
            tracing::warn!(%mistake, tool = tool.name, "a tool that was not there at the start cannot be validated");
            ToolPlan::unusable(tool)
        })))
    }

    async fn validate<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        if !plan.is_usable() {
            plan.count(Outcome::Refused);
            let reason = format!("`{name}` cannot be called: its schema is not one that can be checked");
            return Ok(McpError::internal(reason).to_tool_result());
        }
        if let Err(violations) = self.admit(&plan, &mut args) {
            return Ok(self.refuse(&plan, violations));
        }
        if plan.has_rules() {
            // On the heap, so that a call without rules does not carry them along.
            if let Some(answer) = Box::pin(self.ask_rules(&plan, &args, ctx)).await {
                return Ok(answer);
            }
        }
        plan.count(Outcome::Valid);
        self.release(&plan, inner.call_tool(name, args, ctx).await)
    }

    /// Checks what can be checked without asking anybody.
    fn admit(&self, plan: &ToolPlan, args: &mut Value) -> Result<(), Violations> {
        if args.is_null() {
            *args = Value::Object(Map::new());
        }
        plan.limits.check(args)?;
        let mut found = Found::new(self.settings.max_violations.get());
        plan.find(args, &mut found);
        found.into_result()
    }

    /// Asks the rules, and returns the answer if the call ends here.
    async fn ask_rules(&self, plan: &ToolPlan, args: &Value, ctx: &RequestContext) -> Option<ToolResult> {
        let mut found = Found::new(self.settings.max_violations.get());
        let asked = {
            let asked = pin!(rules::ask(plan.rules(args), plan.tool(), ctx, &mut found));
            match select(pin!(cancelled(ctx)), asked).await {
                Either::Left(((), _)) => Err(McpError::cancelled("The call was cancelled; nothing was done")),
                Either::Right((asked, _)) => asked,
            }
        };
        match (asked, found.into_result()) {
            (Ok(()), Ok(())) => None,
            (Ok(()), Err(violations)) => Some(self.refuse(plan, violations)),
            (Err(error), _) => {
                plan.count(Outcome::RuleFailed);
                Some(error.to_tool_result())
            }
        }
    }

    /// The answer to a call that is not made.
    fn refuse(&self, plan: &ToolPlan, mut violations: Violations) -> ToolResult {
        plan.count(Outcome::Refused);
        for violation in violations.iter_mut() {
            if !self.settings.hints {
                violation.drop_hint();
            }
            if let Some(message) = self.settings.messages.get(violation.code()) {
                violation.replace_message(message(violation));
            }
        }
        McpError::from(violations).to_tool_result()
    }

    /// Checks what the tool answers. That is the server's to keep, so the caller learns no more than that it did not.
    fn release(&self, plan: &ToolPlan, result: McpResult<ToolResult>) -> McpResult<ToolResult> {
        if outcome::failure(&result).is_some() {
            return result;
        }
        let Ok(Some(content)) = result.as_ref().map(|result| result.structured_content.as_ref()) else { return result };
        let Err(violations) = plan.check_output(content) else { return result };
        let id = rules::error_id();
        plan.count(Outcome::BadOutput);
        tracing::error!(tool = plan.tool(), id, %violations, "a tool's answer does not match its output schema");
        let error = McpError::internal(format!("The tool's answer was not what it must be (error {id})"));
        Ok(error.with_data(json!({ VALIDATION: "bad_output" })).to_tool_result())
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
        let tools = inner.list_tools();
        self.selection.check(&tools, RULE)?;
        let named = settings.checks.iter().map(Check::tool).chain(settings.limits_for.keys().map(String::as_str));
        let named: Vec<_> = named.chain(settings.names.keys().map(String::as_str)).collect();
        selection::check_names(LAYER, named.iter().copied(), &tools)?;
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
        let plan = Plan::default();
        plan.learn(&tools, |tool| plans.get(tool.name.as_str()).cloned());
        Ok(Self { plan, ..self })
    }

    fn observe_tools(&self, tools: &[Tool]) {
        self.plan.learn(tools, |tool| self.decide(tool));
    }

    fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        match self.plan.get(name) {
            None => Either::Left(inner.call_tool(name, args, ctx)),
            Some(plan) => Either::Right(self.validate(plan, inner, name, args, ctx)),
        }
    }
}

impl_layer!(ValidatedTool);

/// `invalid_params`: a sentence for each violation, and the list in the error's data, under [`VALIDATION`].
impl From<Violations> for McpError {
    fn from(violations: Violations) -> Self {
        Self::invalid_params(violations.to_string()).with_data(json!({ VALIDATION: violations.to_json() }))
    }
}

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
