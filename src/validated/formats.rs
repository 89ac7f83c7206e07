use std::collections::BTreeSet;
use std::sync::Arc;

use jsonschema::{Draft, Retrieve, ValidationOptions};

use super::hints::nearest;
use super::metered::Reading;
use crate::ConfigError;

/// Every draft, since each has formats of its own.
const DRAFTS: [Draft; 5] = [Draft::Draft4, Draft::Draft6, Draft::Draft7, Draft::Draft201909, Draft::Draft202012];

/// The formats of JSON Schema, for what was probably meant.
const KNOWN: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// Which values of `format` are held against a text. The others say something of it to its reader, as all do in draft 2020-12.
///
/// # Example
///
/// ```
/// use mcp_patterns::validated::{Formats, Schema};
/// use serde_json::json;
///
/// let id = json!({"type": "string", "format": "uuid"});
/// let undashed = json!("123e4567e89b12d3a456426614174000");
/// assert!(Schema::compile(&id)?.check(&undashed).is_err());
///
/// let formats = Formats::all().except(["uuid"]);
/// assert!(Schema::compile_with(&id, &formats)?.check(&undashed).is_ok());
/// # Ok::<(), mcp_patterns::validated::SchemaError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Formats {
    asserted: bool,
    except: BTreeSet<String>,
}

impl Formats {
    /// All formats that JSON Schema defines; a name that it does not define says nothing.
    pub fn all() -> Self {
        Self { asserted: true, except: BTreeSet::new() }
    }

    /// No format.
    pub fn none() -> Self {
        Self { asserted: false, except: BTreeSet::new() }
    }

    /// Leaves formats out.
    pub fn except(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.except.extend(names.into_iter().map(Into::into));
        self
    }

    /// The options of the compiler.
    pub(super) fn options<'i>(&self) -> ValidationOptions<'i, Arc<dyn Retrieve>, Reading> {
        let options = jsonschema::options_for::<Reading>().should_validate_formats(self.asserted);
        self.except.iter().fold(options, |options, name| options.with_format(name.as_str(), |_: &str| true))
    }

    pub(super) fn check_settings(&self, layer: &'static str, setting: &'static str) -> Result<(), ConfigError> {
        let options = jsonschema::options();
        let is_known = |name: &&String| DRAFTS.iter().any(|draft| options.is_known_format(*draft, name));
        let Some(unknown) = self.except.iter().find(|name| !is_known(name)) else { return Ok(()) };
        let fix = nearest(unknown, KNOWN).map(|known| format!(": did you mean `{known}`?")).unwrap_or_default();
        let reason = format!("no format is called `{unknown}`{fix}");
        Err(ConfigError::invalid(layer, setting, reason))
    }
}

impl Default for Formats {
    fn default() -> Self {
        Self::all()
    }
}
