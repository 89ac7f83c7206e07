//! The settings of the gateway: a small TOML file.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the upstream server is.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Address {
    /// Started as a child process: a program and its arguments.
    Command(Vec<String>),
    /// Reached over HTTP.
    Url(String),
}

/// The file. A part that is missing is a layer that is left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) upstream: Address,
    #[serde(default)]
    pub(crate) validated: bool,
    pub(crate) cached: Option<Cached>,
    pub(crate) retried: Option<Retried>,
    pub(crate) limited: Option<Limited>,
    pub(crate) audited: Option<Audited>,
}

/// Tools whose answers are kept for a while, for each caller apart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cached {
    pub(crate) tools: Vec<String>,
    pub(crate) seconds: u64,
}

/// Tools that are called again after a temporary failure.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retried {
    pub(crate) tools: Vec<String>,
    pub(crate) attempts: u32,
}

/// The limits of each tool.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limited {
    pub(crate) calls_per_minute: u32,
    pub(crate) at_once: usize,
    pub(crate) timeout_seconds: u64,
}

/// Where each call is recorded, and which of its arguments.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Audited {
    pub(crate) file: PathBuf,
    /// By tool: JSON pointers, such as "/message".
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, Vec<String>>,
}

impl Settings {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let settings: Self = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        match &settings.upstream {
            Address::Command(command) if command.is_empty() => Err("upstream.command is empty: name a program".into()),
            _ => Ok(settings),
        }
    }
}
