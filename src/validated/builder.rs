//! The settings of the layer, and their setters.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
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

/// Ends a call with bad input at the door, with an answer that says all that is wrong. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct ValidatedTool {
    pub(super) selection: Selection,
    pub(super) settings: Arc<Settings>,
    pub(super) plan: Plan<Arc<ToolPlan>>,
}

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
