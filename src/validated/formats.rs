use std::collections::BTreeSet;
use std::sync::Arc;

use jsonschema::{Draft, Retrieve, ValidationOptions};

use super::hints::nearest;
use super::metered::Reading;

/// All drafts, since each has its own formats.
const DRAFTS: [Draft; 5] = [Draft::Draft4, Draft::Draft6, Draft::Draft7, Draft::Draft201909, Draft::Draft202012];

/// The formats of JSON Schema, for hints.
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

/// The values of `format` that are asserted. The others only annotate, as all do in draft 2020-12.
///
/// # Example
///
/// ```
/// use mcp_patterns::validated::{Formats, Schema};
/// use serde_json::json;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let id = json!({"type": "string", "format": "uuid"});
/// let undashed = json!("123e4567e89b12d3a456426614174000");
/// assert!(Schema::compile(&id)?.check(&undashed).is_err());
///
/// let formats = Formats::all().except(["uuid"]);
/// assert!(Schema::compile_with(&id, &formats)?.check(&undashed).is_ok());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Formats {
    asserted: bool,
    except: BTreeSet<String>,
}

impl Formats {
    /// Asserts all formats that JSON Schema defines. A name that it does not define has no effect.
    pub fn all() -> Self {
        Self { asserted: true, except: BTreeSet::new() }
    }

    /// Asserts no format.
    pub fn none() -> Self {
        Self { asserted: false, except: BTreeSet::new() }
    }

    /// Excludes these formats.
    pub fn except(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.except.extend(names.into_iter().map(Into::into));
        self
    }

    /// The options of the compiler.
    pub(super) fn options<'i>(&self) -> ValidationOptions<'i, Arc<dyn Retrieve>, Reading> {
        let options = jsonschema::options_for::<Reading>().should_validate_formats(self.asserted);
        self.except.iter().fold(options, |options, name| options.with_format(name.as_str(), |_: &str| true))
    }

    /// Returns an error text if a name that is left out is not the name of a format.
    pub(super) fn check(&self) -> Result<(), String> {
        let options = jsonschema::options();
        let is_known = |name: &&String| DRAFTS.iter().any(|draft| options.is_known_format(*draft, name));
        let Some(unknown) = self.except.iter().find(|name| !is_known(name)) else { return Ok(()) };
        let fix = nearest(unknown, KNOWN).map(|known| format!(": did you mean `{known}`?")).unwrap_or_default();
        Err(format!("there is no format `{unknown}`{fix}"))
    }
}

impl Default for Formats {
    fn default() -> Self {
        Self::all()
    }
}
