//! The tools that a layer acts on.
//!
//! The author's annotations decide ([`Hints`]). The three selectors `only`, `except` and `when` narrow or replace them
//! ([`Selection`]). The layer decides once per tool, and then looks the decision up by name ([`Plan`]).
//!
//! A tool that no listing has had yet is looked up in the listing of its caller. If that listing does not have it either, a layer that
//! protects (validation, transactions, idempotency keys) refuses the call, and any other layer passes it on.

mod look_up;
mod plan;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use turbomcp_types::Tool;

#[cfg(feature = "rmcp")]
pub(crate) use self::look_up::LookUp;
#[cfg(feature = "validated")]
pub(crate) use self::look_up::look_up_own;
pub(crate) use self::look_up::{bare, look_up};
pub(crate) use self::plan::Unknown;
#[cfg(feature = "rmcp")]
pub(crate) use self::plan::mark_part;
pub use self::plan::{Known, Plan};
use crate::ConfigError;
pub use crate::hints::Hints;

/// The rule by which a layer acts on a tool that no setting names.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    layer: &'static str,
    is_safe: fn(&Tool) -> bool,
    otherwise: &'static str,
}

impl Rule {
    /// Creates the rule of `layer`, which acts by default on the tools that `is_safe` returns true for.
    ///
    /// `layer` is its name in error texts. `otherwise` ends the error text of a tool that is not safe: the harm, and the two ways to
    /// avoid it.
    #[must_use]
    pub const fn new(layer: &'static str, is_safe: fn(&Tool) -> bool, otherwise: &'static str) -> Self {
        Self { layer, is_safe, otherwise }
    }

    /// Creates the rule of a layer that is safe for every tool.
    #[must_use]
    pub const fn every_tool(layer: &'static str) -> Self {
        Self::new(layer, |_| true, "")
    }
}

type Predicate = Arc<dyn Fn(&Tool) -> bool + Send + Sync>;

/// The selectors of a layer: the tools that it acts on, by name or by a predicate.
#[derive(Debug, Clone, Default)]
pub struct Selection(Arc<Selectors>);

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Clone, Default)]
struct Selectors {
    only: Option<BTreeSet<String>>,
    except: BTreeSet<String>,
    when: Option<Predicate>,
    opted_in: BTreeSet<String>,
}

impl Selection {
    /// Creates a selection of every tool for which the layer is safe.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects these tools instead of those that are safe by their annotations. Given twice, both sets are selected.
    pub fn only(&mut self, tools: impl IntoIterator<Item = impl Into<String>>) {
        Arc::make_mut(&mut self.0).only.get_or_insert_default().extend(tools.into_iter().map(Into::into));
    }

    /// Excludes these tools.
    pub fn except(&mut self, tools: impl IntoIterator<Item = impl Into<String>>) {
        Arc::make_mut(&mut self.0).except.extend(tools.into_iter().map(Into::into));
    }

    /// Selects the tools for which `predicate` is true instead of those that are safe by their annotations.
    ///
    /// With [`only`](Self::only), both must select a tool.
    pub fn when(&mut self, predicate: impl Fn(&Tool) -> bool + Send + Sync + 'static) {
        Arc::make_mut(&mut self.0).when = Some(Arc::new(predicate));
    }

    /// Also selects these tools, and declares the layer safe for them.
    pub fn opt_in(&mut self, tools: impl IntoIterator<Item = impl Into<String>>) {
        Arc::make_mut(&mut self.0).opted_in.extend(tools.into_iter().map(Into::into));
    }

    /// Returns the tools that a selector names.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.only.iter().flatten().chain(&self.0.except).chain(&self.0.opted_in).map(String::as_str)
    }

    /// Says whether no tool of this name can be selected.
    pub(crate) fn leaves_out(&self, tool: &str) -> bool {
        let selectors = &self.0;
        selectors.except.contains(tool)
            || !selectors.opted_in.contains(tool) && selectors.only.as_ref().is_some_and(|only| !only.contains(tool))
    }

    /// Says whether a selector other than `except` names the tool.
    pub(crate) fn names(&self, tool: &str) -> bool {
        let selectors = &self.0;
        selectors.opted_in.contains(tool) || selectors.only.as_ref().is_some_and(|only| only.contains(tool))
    }

    /// Returns how a layer that protects treats an unknown tool: where only named tools are selected, it passes others on.
    pub(crate) fn unknown(&self) -> Unknown {
        if self.0.only.is_some() { Unknown::LeftAlone } else { Unknown::Counts }
    }

    /// Says whether the selection depends on more than the name of a tool, for a layer that is safe for all.
    pub(crate) fn asks_for_more_than_names(&self) -> bool {
        self.0.when.is_some()
    }

    /// Says whether the default leaves the tool out because it is not safe for the layer.
    pub(crate) fn is_unsafe(&self, tool: &Tool, rule: Rule) -> bool {
        let selectors = &self.0;
        let is_default = selectors.only.is_none() && selectors.when.is_none();
        is_default && !selectors.except.contains(&tool.name) && !self.may_have(tool, rule)
    }

    /// Returns why no listed tool is selected, and what to do, for a layer whose default selects none for this `reason`.
    pub(crate) fn why_idle(&self, reason: &'static str, fix: &'static str) -> (String, &'static str) {
        let selectors = &self.0;
        let reason = match (&selectors.only, &selectors.when) {
            (Some(_), Some(_)) => "none of the tools in `only` meets the condition that selects tools",
            (Some(_), None) => "none of the tools in `only` is listed",
            (None, Some(_)) => "no listed tool meets the condition that selects tools",
            (None, None) => reason,
        };
        let fix = if selectors.only.is_some() || selectors.when.is_some() { "change the selectors" } else { fix };
        let reason = if selectors.except.is_empty() {
            reason.to_owned()
        } else {
            format!("{reason}, apart from those in `except`")
        };
        (reason, fix)
    }

    /// Checks that a tool exists for every name, and that the layer is safe for every selected tool.
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownTool`] or [`ConfigError::UnsafeTool`].
    pub fn check(&self, tools: &[Tool], rule: Rule) -> Result<(), ConfigError> {
        check_names(rule.layer, self.named(), tools)?;
        self.check_safety(tools, rule)
    }

    /// Checks that the layer is safe for every selected tool.
    pub(crate) fn check_safety(&self, tools: &[Tool], rule: Rule) -> Result<(), ConfigError> {
        match tools.iter().find(|tool| self.asks_for(tool, rule) && !self.may_have(tool, rule)) {
            Some(tool) => {
                Err(ConfigError::UnsafeTool { layer: rule.layer, tool: tool.name.clone(), reason: rule.otherwise })
            }
            None => Ok(()),
        }
    }

    /// Returns true if the layer acts on `tool`: the tool is selected, and the layer is safe for it.
    #[must_use]
    pub fn includes(&self, tool: &Tool, rule: Rule) -> bool {
        self.asks_for(tool, rule) && self.may_have(tool, rule)
    }

    /// Says whether [`opt_in`](Self::opt_in) names the tool.
    #[must_use]
    pub fn is_opted_in(&self, tool: &Tool) -> bool {
        self.0.opted_in.contains(&tool.name)
    }

    fn asks_for(&self, tool: &Tool, rule: Rule) -> bool {
        let selectors = &self.0;
        let named = || selectors.only.as_ref().is_none_or(|only| only.contains(&tool.name));
        let chosen = || selectors.when.as_ref().is_none_or(|when| when(tool));
        let by_default = || selectors.only.is_some() || selectors.when.is_some() || (rule.is_safe)(tool);
        !selectors.except.contains(&tool.name) && (self.is_opted_in(tool) || (named() && chosen() && by_default()))
    }

    fn may_have(&self, tool: &Tool, rule: Rule) -> bool {
        (rule.is_safe)(tool) || self.is_opted_in(tool)
    }
}

impl fmt::Debug for Selectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selectors")
            .field("only", &self.only)
            .field("except", &self.except)
            .field("when", &self.when.is_some())
            .field("opted_in", &self.opted_in)
            .finish()
    }
}

/// Checks that each of `names` is the name of one of `tools`.
///
/// # Errors
///
/// [`ConfigError::UnknownTool`], with the most similar name.
pub fn check_names<'a>(
    layer: &'static str,
    names: impl IntoIterator<Item = &'a str>,
    tools: &[Tool],
) -> Result<(), ConfigError> {
    match names.into_iter().find(|name| !tools.iter().any(|tool| tool.name == *name)) {
        Some(name) => Err(ConfigError::unknown_tool(layer, name, tools.iter().map(|tool| tool.name.as_str()))),
        None => Ok(()),
    }
}

/// The three selectors, the same on every layer that has a `selection`.
macro_rules! selectors {
    () => {
        /// Acts only on these tools. A second call adds its tools.
        pub fn only(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.selection.only(tools);
            self
        }

        /// Excludes these tools.
        pub fn except(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.selection.except(tools);
            self
        }

        /// Acts on the tools for which `predicate` is true. With [`only`](Self::only), both must select a tool.
        pub fn when(mut self, predicate: impl Fn(&turbomcp_types::Tool) -> bool + Send + Sync + 'static) -> Self {
            self.selection.when(predicate);
            self
        }
    };
}
pub(crate) use selectors;

/// The methods of a layer that has a `plan`: it `decide`s for each tool that is listed, and has a `description`.
macro_rules! plan_methods {
    () => {
        fn observe_tools(&self, tools: &[turbomcp_types::Tool], ctx: Option<&turbomcp_core::RequestContext>) {
            self.plan.learn(tools, ctx, |tool| self.decide(tool));
        }

        fn describe(&self, tools: &[turbomcp_types::Tool]) -> $crate::explain::Description {
            self.description(tools)
        }

        fn forget_definitions(&self) {
            self.plan.forget();
        }
    };
}
pub(crate) use plan_methods;

/// The selectors of a layer that acts on no tool by default: it has a `selection`, and `is_selected` records that a
/// selector was called. Without `every_write` for a layer that does not concern effects.
macro_rules! naming_selectors {
    () => {
        $crate::selection::naming_selectors!(without every_write);

        /// Acts on every tool that is not read-only.
        pub fn every_write(self) -> Self {
            self.when(|tool| !$crate::selection::Hints::of(tool).read_only)
        }
    };
    (without every_write) => {
        /// Acts only on these tools. A second call adds its tools.
        pub fn only(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.is_selected = true;
            self.selection.only(tools);
            self
        }

        /// Excludes these tools.
        pub fn except(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.selection.except(tools);
            self
        }

        /// Acts on the tools for which `predicate` is true. With [`only`](Self::only), both must select a tool.
        pub fn when(mut self, predicate: impl Fn(&turbomcp_types::Tool) -> bool + Send + Sync + 'static) -> Self {
            self.is_selected = true;
            self.selection.when(predicate);
            self
        }
    };
}
pub(crate) use naming_selectors;
