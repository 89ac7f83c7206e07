//! The settings of the layer, and their setters.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use validator::Validate;

use super::fields::fields;
use super::formats::Formats;
use super::limits::Limits;
use super::plan::ToolPlan;
use super::rules::{Rule, RuleContext, RuleError};
use super::settings::{Check, Place, Settings};
use super::typed;
use super::violation::Violation;
use super::violations::MAX_LISTED;
use crate::Identity;
use crate::selection::{Plan, Selection, selectors};

/// Rejects a call with invalid arguments, with every violation listed. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct ValidatedTool {
    pub(super) selection: Selection,
    pub(super) settings: Arc<Settings>,
    pub(super) plan: Plan<Arc<ToolPlan>>,
}

impl ValidatedTool {
    /// Creates a layer that checks limits and the schema of every tool. See the [defaults](super#defaults).
    pub fn new() -> Self {
        let settings = Settings {
            limits: Limits::new(),
            limits_for: BTreeMap::new(),
            checks: Vec::new(),
            names: BTreeMap::new(),
            messages: BTreeMap::new(),
            max_violations: MAX_LISTED,
            formats: Formats::all(),
            allows_invalid_schemas: false,
            fills_defaults: false,
            hints: true,
            checks_output: true,
            allows_unlisted: false,
            identity: Identity::new(),
        };
        Self { selection: Selection::new(), settings: Arc::new(settings), plan: Plan::default() }
    }

    selectors!();

    /// Reads a `T` from the arguments of the tool, and validates it.
    ///
    /// If the tool has exactly one parameter and that is an object, the `T` is read from this parameter (`register(data:
    /// UserRegistration)`); otherwise from the arguments as a whole. [`typed_at`](Self::typed_at) names the parameter.
    pub fn typed<T: DeserializeOwned + Validate + 'static>(self, tool: impl Into<String>) -> Self {
        let (place, fields) = (Place::Inferred, fields::<T>());
        self.check(Check::Typed { tool: tool.into(), place, fields, check: typed::check::<T> })
    }

    /// Reads a `T` from this parameter of the tool, and validates it. A call without the parameter is not checked.
    pub fn typed_at<T: DeserializeOwned + Validate + 'static>(
        self,
        tool: impl Into<String>,
        parameter: impl Into<String>,
    ) -> Self {
        let (place, fields) = (Place::Parameter(parameter.into()), fields::<T>());
        self.check(Check::Typed { tool: tool.into(), place, fields, check: typed::check::<T> })
    }

    /// Checks input that is valid so far with a rule of your own, which may query the database.
    ///
    /// Its `T` is read as for [`typed`](Self::typed). The rules of a tool run concurrently, in the task of the call.
    pub fn rule<T, F>(self, tool: impl Into<String>, rule: impl Fn(T, RuleContext) -> F + Send + Sync + 'static) -> Self
    where
        T: DeserializeOwned,
        F: Future<Output = Result<(), RuleError>> + Send + 'static,
    {
        let (place, fields) = (Place::Inferred, fields::<T>());
        self.check(Check::Rule { tool: tool.into(), place, fields, rule: Rule::new(rule) })
    }

    /// Checks this parameter of the tool with a rule. A call without the parameter is not checked.
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

    /// Sets the name on the wire of a field of a tool's type, where the schema does not have it.
    ///
    /// A name in another case is found without this setting (`zip_code` for `zipCode`). The field of a nested struct may be given as
    /// the path to it (`address.zip`).
    pub fn with_name(mut self, tool: impl Into<String>, field: impl Into<String>, name: impl Into<String>) -> Self {
        self.settings_mut().names.entry(tool.into()).or_default().insert(field.into(), name.into());
        self
    }

    /// Sets the limits on the size of the arguments.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.settings_mut().limits = limits;
        self
    }

    /// Sets the limits on the size of the arguments of this tool.
    pub fn with_limits_for(mut self, tool: impl Into<String>, limits: Limits) -> Self {
        self.settings_mut().limits_for.insert(tool.into(), limits);
        self
    }

    /// Replaces the message of violations with this code, for example by one in another language.
    pub fn with_message(
        mut self,
        code: impl Into<String>,
        message: impl Fn(&Violation) -> String + Send + Sync + 'static,
    ) -> Self {
        self.settings_mut().messages.insert(code.into(), Arc::new(message));
        self
    }

    /// Sets how many violations an answer lists. It has the number of further ones too.
    pub fn with_max_violations(mut self, max_violations: usize) -> Self {
        self.settings_mut().max_violations = max_violations;
        self
    }

    /// Sets which formats are asserted, in arguments and in results.
    pub fn with_formats(mut self, formats: Formats) -> Self {
        self.settings_mut().formats = formats;
        self
    }

    /// Serves tools whose schema cannot be compiled, without that schema: limits, types and rules still apply. Each such schema is
    /// logged as an error when the layer is put on.
    ///
    /// Without this setting, such a schema is a [`ConfigError`](crate::ConfigError).
    pub fn allow_invalid_schemas(mut self) -> Self {
        self.settings_mut().allows_invalid_schemas = true;
        self
    }

    /// Fills in the defaults of the schema before anything else sees the arguments, the key of a cache included.
    ///
    /// A default that does not match its own schema is not filled in, and is logged as a warning when the layer is put on. If the
    /// arguments are valid without the defaults and invalid with them, they pass without them.
    pub fn with_defaults(mut self) -> Self {
        self.settings_mut().fills_defaults = true;
        self
    }

    /// Allows calls of tools that are in no listing, for a server that hides tools from its listings on purpose.
    ///
    /// Only the name of such a tool is known: its arguments are checked by the limits, [`typed`](Self::typed) and
    /// [`rule`](Self::rule). Settings may then name tools that are not listed when the server starts, such as those that only some
    /// callers see.
    pub fn allow_unlisted_tools(mut self) -> Self {
        self.settings_mut().allows_unlisted = true;
        self
    }

    /// Sets how callers are distinguished who see different schemas of one tool. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Removes the hints: no answer suggests a name or a value that was probably meant.
    pub fn without_hints(mut self) -> Self {
        self.settings_mut().hints = false;
        self
    }

    /// Does not check the results of tools.
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
}

impl Default for ValidatedTool {
    fn default() -> Self {
        Self::new()
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
