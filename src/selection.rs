//! Which tools a layer acts on, and how it remembers that.
//!
//! The author's own annotations decide ([`Hints`]), the three selectors `only`, `except` and `when` narrow or replace that
//! ([`Selection`]), and the answer is worked out once per tool and looked up by name from then on ([`Plan`]).
//!
//! A tool that was in no listing yet is looked up in the listing of whoever calls it. A layer that protects (validation,
//! transactions, idempotency keys) refuses a tool that this does not have either; any other layer leaves it alone.

mod look_up;
mod plan;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use turbomcp_types::Tool;

#[cfg(feature = "validated")]
pub(crate) use self::look_up::look_up_own;
pub(crate) use self::look_up::{bare, look_up};
pub(crate) use self::plan::Unknown;
pub use self::plan::{Known, Plan};
use crate::ConfigError;
pub use crate::hints::Hints;

/// When a layer may act on a tool without being told that it is safe.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    layer: &'static str,
    is_safe: fn(&Tool) -> bool,
    otherwise: &'static str,
}

impl Rule {
    /// Creates the rule of `layer`, which acts by default on the tools that `is_safe` returns true for.
    ///
    /// `layer` is its name in error texts. `otherwise` ends the error text of a tool that is not safe: what would go wrong, and
    /// the two ways out.
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

/// The selectors of a layer: which tools it acts on, by name or by what they are.
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
    /// Selects every tool for which the layer is safe.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects these tools instead of those that are safe by their annotations. Given twice, both sets are selected.
    pub fn only(&mut self, tools: impl IntoIterator<Item = impl Into<String>>) {
        Arc::make_mut(&mut self.0).only.get_or_insert_default().extend(tools.into_iter().map(Into::into));
    }

    /// Leaves these tools out.
    pub fn except(&mut self, tools: impl IntoIterator<Item = impl Into<String>>) {
        Arc::make_mut(&mut self.0).except.extend(tools.into_iter().map(Into::into));
    }

    /// Selects the tools for which `predicate` is true instead of those that are safe by their annotations.
    ///
    /// With [`only`](Self::only), both must select a tool.
    pub fn when(&mut self, predicate: impl Fn(&Tool) -> bool + Send + Sync + 'static) {
        Arc::make_mut(&mut self.0).when = Some(Arc::new(predicate));
    }

    /// Selects these tools too, and vouches that the layer is safe for them.
    pub fn opt_in(&mut self, tools: impl IntoIterator<Item = impl Into<String>>) {
        Arc::make_mut(&mut self.0).opted_in.extend(tools.into_iter().map(Into::into));
    }

    /// The tools that a selector names.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.only.iter().flatten().chain(&self.0.except).chain(&self.0.opted_in).map(String::as_str)
    }

    /// Says whether a tool of this name is not selected, whatever else it is.
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

    /// Whether a tool matters that is not known, to a layer that protects: where only named ones are selected, no other does.
    pub(crate) fn unknown(&self) -> Unknown {
        if self.0.only.is_some() { Unknown::LeftAlone } else { Unknown::Counts }
    }

    /// Says whether the selection depends on more than the name of a tool, for a layer that is safe for all.
    pub(crate) fn asks_for_more_than_names(&self) -> bool {
        self.0.when.is_some()
    }

    /// Checks that every name is borne by a tool and that every tool asked for is safe.
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownTool`] or [`ConfigError::UnsafeTool`].
    pub fn check(&self, tools: &[Tool], rule: Rule) -> Result<(), ConfigError> {
        check_names(rule.layer, self.named(), tools)?;
        self.check_safety(tools, rule)
    }

    /// Checks that every tool asked for is safe.
    pub(crate) fn check_safety(&self, tools: &[Tool], rule: Rule) -> Result<(), ConfigError> {
        match tools.iter().find(|tool| self.asks_for(tool, rule) && !self.may_have(tool, rule)) {
            Some(tool) => {
                Err(ConfigError::UnsafeTool { layer: rule.layer, tool: tool.name.clone(), reason: rule.otherwise })
            }
            None => Ok(()),
        }
    }

    /// Decides whether the layer acts on `tool`: it is asked to, and it is safe.
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

/// Checks that each of `names` is borne by one of `tools`.
///
/// # Errors
///
/// [`ConfigError::UnknownTool`] with the nearest name there is.
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
        /// Acts on these tools and no others. Called twice, both sets count.
        pub fn only(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.selection.only(tools);
            self
        }

        /// Leaves these tools alone.
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

/// The selectors of a layer that acts on no tool until it is told to: it has a `selection`, and notes in `is_selected` that
/// something was said. Without `every_write` for a layer that is not about effects.
macro_rules! naming_selectors {
    () => {
        $crate::selection::naming_selectors!(without every_write);

        /// Acts on every tool that is not read-only.
        pub fn every_write(self) -> Self {
            self.when(|tool| !$crate::selection::Hints::of(tool).read_only)
        }
    };
    (without every_write) => {
        /// Acts on these tools and no others. Called twice, both sets count.
        pub fn only(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.is_selected = true;
            self.selection.only(tools);
            self
        }

        /// Leaves these tools alone.
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
