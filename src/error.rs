use std::fmt;
use std::time::Duration;

use turbomcp_core::McpError;

use crate::clock::is_too_short;

/// A setting that cannot work, found when a layer is put on a handler. Its text names the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A layer names a tool that the server does not have.
    UnknownTool {
        /// The layer.
        layer: &'static str,
        /// The name that no tool bears.
        tool: String,
        /// The tool whose name comes closest, if one is close.
        nearest: Option<String>,
    },
    /// A layer is asked to act on a tool where its author's annotations say that this would do harm.
    UnsafeTool {
        /// The layer.
        layer: &'static str,
        /// The tool.
        tool: String,
        /// What would go wrong, and the two ways out.
        reason: &'static str,
    },
    /// A tool says of itself what cannot be checked.
    InvalidSchema {
        /// The layer.
        layer: &'static str,
        /// The tool.
        tool: String,
        /// `inputSchema` or `outputSchema`.
        schema: &'static str,
        /// Why it cannot be compiled.
        reason: String,
    },
    /// A setting has a value that means nothing.
    InvalidSetting {
        /// The layer or policy.
        layer: &'static str,
        /// The setter.
        setting: &'static str,
        /// What is wrong, and the fix.
        reason: String,
    },
    /// Something is asked of a layer before it was put on a server.
    NotLayered {
        /// The layer.
        layer: &'static str,
    },
}

impl ConfigError {
    pub(crate) fn invalid(layer: &'static str, setting: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidSetting { layer, setting, reason: reason.into() }
    }

    /// Refuses an empty namespace, which would separate nothing.
    pub(crate) fn check_namespace(layer: &'static str, namespace: Option<&str>) -> Result<(), Self> {
        match namespace {
            Some("") => {
                Err(Self::invalid(layer, "with_namespace", "the name is empty: give it a name, or remove this setting"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a bound of zero.
    pub(crate) fn check_positive<N: Default + PartialEq>(
        layer: &'static str,
        setting: &'static str,
        bound: N,
    ) -> Result<(), Self> {
        if bound == N::default() { Err(Self::invalid(layer, setting, "must be greater than zero")) } else { Ok(()) }
    }

    /// Refuses a timeout of zero, and one that timers cannot count: they count in milliseconds.
    pub(crate) fn check_timeout(layer: &'static str, setting: &'static str, timeout: Duration) -> Result<(), Self> {
        Self::check_positive(layer, setting, timeout)?;
        if is_too_short(timeout) { Err(Self::invalid(layer, setting, "must be at least 1 ms")) } else { Ok(()) }
    }

    /// Names the tool that was probably meant: at most a third of the letters differ.
    pub(crate) fn unknown_tool<'a>(layer: &'static str, tool: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let nearest = known
            .into_iter()
            .map(|name| (strsim::damerau_levenshtein(name, tool), name))
            .filter(|(distance, name)| distance * 3 <= name.chars().count().max(tool.chars().count()))
            .min()
            .map(|(_, name)| name.to_owned());
        Self::UnknownTool { layer, tool: tool.to_owned(), nearest }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTool { layer, tool, nearest } => {
                write!(f, "{layer} names the tool `{tool}`, which the server does not have: ")?;
                match nearest {
                    Some(nearest) => write!(f, "did you mean `{nearest}`?"),
                    None => write!(f, "use a name from its tool list"),
                }
            }
            Self::UnsafeTool { layer, tool, reason } => write!(f, "{layer} is asked to act on `{tool}`, {reason}"),
            Self::InvalidSchema { layer, tool, schema, reason } => {
                write!(
                    f,
                    "{layer} cannot compile the {schema} of `{tool}`: {reason}; correct it, or leave the tool out with `except`"
                )
            }
            Self::InvalidSetting { layer, setting, reason } => write!(f, "{layer}::{setting}: {reason}"),
            Self::NotLayered { layer } => {
                write!(f, "this {layer} is on no server yet: call `layer(server)` or `try_layer(server)` first")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// `configuration`, with the same text: for a start that returns an `McpResult`.
impl From<ConfigError> for McpError {
    fn from(error: ConfigError) -> Self {
        Self::configuration(error.to_string())
    }
}
