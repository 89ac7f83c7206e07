use std::fmt;
use std::time::Duration;

use turbomcp_core::McpError;

use crate::clock::is_too_short;

/// A setting that cannot work, found when a layer is put on a server. Its text says what is wrong and what to do.
///
/// Its `Debug` output is the same text: a `main` that returns it ends with a sentence.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A layer names a tool that the server does not have.
    #[non_exhaustive]
    UnknownTool {
        /// The layer.
        layer: &'static str,
        /// The name that no tool has.
        tool: String,
        /// The tool with the most similar name, if one is similar.
        nearest: Option<String>,
    },
    /// A layer is to act on a tool, but the annotations of the tool's author say that this would do harm.
    #[non_exhaustive]
    UnsafeTool {
        /// The layer.
        layer: &'static str,
        /// The tool.
        tool: String,
        /// The harm, and the two ways to avoid it.
        reason: &'static str,
    },
    /// The schema of a tool cannot be compiled.
    #[non_exhaustive]
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
    /// A setting has a value that cannot work.
    #[non_exhaustive]
    InvalidSetting {
        /// The layer or policy.
        layer: &'static str,
        /// The setter.
        setting: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The database has no table for the records of a layer. It is found when the server starts, or at the first call.
    #[non_exhaustive]
    MissingTable {
        /// The backend.
        backend: &'static str,
        /// The table.
        table: &'static str,
        /// The function that creates the table.
        create: &'static str,
    },
    /// A layer is used before it was put on a server.
    #[non_exhaustive]
    NotLayered {
        /// The layer.
        layer: &'static str,
    },
}

impl ConfigError {
    /// Creates an [`InvalidSetting`](Self::InvalidSetting) for the setter `setting` of `layer`. The `reason` says what is wrong and what
    /// to do.
    #[must_use]
    pub fn invalid(layer: &'static str, setting: &'static str, reason: impl Into<String>) -> Self {
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
    pub(crate) fn check_positive<N: Copy + Default + PartialEq>(
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

    /// Suggests the tool that was probably meant: at most a third of the letters differ.
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
                    "{layer} cannot compile the {schema} of `{tool}`: {reason}; correct it, or exclude the tool with `except`"
                )
            }
            Self::InvalidSetting { layer, setting, reason } => write!(f, "{layer}::{setting}: {reason}"),
            Self::MissingTable { backend, table, create } => {
                write!(f, "{backend}: the database has no table `{table}`: call `{create}` before the server starts")
            }
            Self::NotLayered { layer } => {
                write!(f, "this {layer} is not on a server yet: call `layer(server)` or `try_layer(server)` first")
            }
        }
    }
}

/// A `main` that returns an error prints this.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// Creates a `configuration` error with the same text, for a `main` that returns an `McpResult`.
impl From<ConfigError> for McpError {
    fn from(error: ConfigError) -> Self {
        Self::configuration(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `main` prints what it returns with `Debug`.
    #[test]
    fn a_main_that_returns_an_invalid_setting_ends_with_a_sentence() {
        let error = ConfigError::invalid("RetryTool", "with_max_attempts", "must be greater than zero");
        let returned: Box<dyn std::error::Error> = error.into();
        assert_eq!(format!("{returned:?}"), "RetryTool::with_max_attempts: must be greater than zero");
    }
}
