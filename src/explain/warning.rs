//! The mistakes that make no setting invalid, and yet a stack do something else than was meant.

use std::fmt;

use turbomcp_core::McpError;

use super::description::Role;
use super::text::quoted;

/// A mistake in a stack. Its text says what is wrong, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A layer acts on no tool, resource or prompt.
    #[non_exhaustive]
    Idle {
        /// The layer.
        layer: String,
        /// Why it acts on nothing.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// A setting names tools that the layer does not act on.
    #[non_exhaustive]
    Unused {
        /// The layer.
        layer: String,
        /// The setter.
        setting: &'static str,
        /// The tools, as the layer lists them.
        tools: Vec<String>,
        /// What to do.
        fix: &'static str,
    },
    /// Two layers are in the wrong order, for the tools that both act on.
    #[non_exhaustive]
    WrongOrder {
        /// The outer layer.
        outside: String,
        /// The inner layer, which belongs outside.
        inside: String,
        /// The tools, as the outer layer lists them.
        tools: Vec<String>,
        /// The harm.
        reason: &'static str,
    },
    /// Two layers do the same for one tool.
    #[non_exhaustive]
    Repeated {
        /// The outer layer.
        outside: String,
        /// The inner layer.
        inside: String,
        /// The role that both have.
        role: Role,
        /// The tools, as the outer layer lists them.
        tools: Vec<String>,
        /// The harm.
        reason: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |tools: &[String]| quoted(tools.iter().map(String::as_str));
        match self {
            Self::Idle { layer, reason, fix } => {
                write!(f, "{layer} acts on no tool, resource or prompt: {reason}. To change this, {fix}.")
            }
            Self::Unused { layer, setting, tools, fix } => {
                let tools = quoted(tools);
                write!(
                    f,
                    "{layer}::{setting} has no effect on {tools}: the layer does not act there. To change this, {fix}."
                )
            }
            Self::WrongOrder { outside, inside, tools, reason } => {
                let tools = quoted(tools);
                write!(f, "{outside} is outside {inside} for {tools}: {reason}. Put {inside} outside {outside}.")
            }
            Self::Repeated { outside, inside, role, tools, reason } => {
                let tools = quoted(tools);
                write!(
                    f,
                    "{outside} and, inside it, {inside} both have the role {role} for {tools}: {reason}. Remove one of \
                     them, or let each act on tools of its own."
                )
            }
        }
    }
}

/// The warnings about a stack, as an error: by [`Explanation::strict`](super::Explanation::strict).
///
/// Its `Debug` output is the text of the warnings: a `main` that returns it ends with sentences.
#[derive(Clone, PartialEq, Eq)]
pub struct StrictError {
    warnings: Vec<Warning>,
}

impl StrictError {
    pub(super) fn new(warnings: Vec<Warning>) -> Self {
        Self { warnings }
    }

    /// Returns the warnings.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.warnings.iter().try_for_each(|warning| {
            write!(f, "{separator}{warning}")?;
            separator = "\n";
            Ok(())
        })
    }
}

/// A `main` that returns an error prints this.
impl fmt::Debug for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StrictError {}

/// Creates a `configuration` error with the same text, for a `main` that returns an `McpResult`.
impl From<StrictError> for McpError {
    fn from(error: StrictError) -> Self {
        Self::configuration(error.to_string())
    }
}
