use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};
use turbomcp_core::{McpError, McpResult, RequestContext};
use turbomcp_types::Tool;

use super::source::MAX_KEY_CHARS;
use super::{CallKey, IDEMPOTENCY, KeySource, KeySpace, call};
use crate::ConfigError;
use crate::clock::is_too_short;

/// How a layer deals with idempotency keys.
#[derive(Debug, Clone)]
#[must_use]
pub struct Idempotency {
    source: KeySource,
    ttl: Duration,
    required: Required,
    version: String,
    records_failures: bool,
    final_refusal_after: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Required {
    All,
    Tools(BTreeSet<String>),
}

impl Idempotency {
    /// An optional argument `idempotency_key`, remembered for 24 hours.
    pub fn new() -> Self {
        Self {
            source: KeySource::Argument("idempotency_key".into()),
            ttl: Duration::from_secs(24 * 60 * 60),
            required: Required::Tools(BTreeSet::new()),
            version: String::new(),
            records_failures: false,
            final_refusal_after: None,
        }
    }

    /// Sets where the key is found.
    pub fn with_source(mut self, source: KeySource) -> Self {
        self.source = source;
        self
    }

    /// Sets how long an answer is remembered. A key that comes later is a new one.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Refuses calls without a key.
    pub fn required(mut self) -> Self {
        self.required = Required::All;
        self
    }

    /// Refuses calls of these tools without a key.
    pub fn required_for(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let tools = tools.into_iter().map(Into::into);
        match &mut self.required {
            Required::All => {}
            Required::Tools(required) => required.extend(tools),
        }
        self
    }

    /// Keeps keys apart from those of another version of the server.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Remembers failures too: the same key then gets the same failure, instead of another try.
    pub fn recording_failures(mut self) -> Self {
        self.records_failures = true;
        self
    }

    /// Ends an ambiguous call that nobody has [resolved](super::Handle::resolve) for so long with a refusal that is final: it is the
    /// answer to the key for its [ttl](Self::with_ttl), as any answer would be, and then the key is a new one. The call is never made
    /// under a key for which that was told.
    ///
    /// Default: an ambiguous call stays ambiguous until somebody resolves it, and so stays in the store.
    pub fn with_final_refusal_after(mut self, time: Duration) -> Self {
        self.final_refusal_after = Some(time);
        self
    }

    pub(crate) fn final_refusal_after(&self) -> Option<Duration> {
        self.final_refusal_after
    }

    /// How long a claim without an answer is kept after its lease is over: for ever, unless it ends by itself.
    pub(crate) fn kept_for(&self) -> Option<Duration> {
        self.final_refusal_after.map(|time| time.saturating_add(self.ttl))
    }

    pub(crate) fn space_id(&self, space: &KeySpace) -> String {
        call::space_id(space, &self.version)
    }

    pub(crate) fn caller_id(&self, space: &KeySpace, ctx: &RequestContext) -> String {
        call::caller_id(space, &self.version, ctx)
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) fn records_failures(&self) -> bool {
        self.records_failures
    }

    /// The tools that are named in a setting.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        match &self.required {
            Required::All => None,
            Required::Tools(tools) => Some(tools.iter().map(String::as_str)),
        }
        .into_iter()
        .flatten()
    }

    pub(crate) fn check(&self, layer: &'static str, tools: &[Tool]) -> Result<(), ConfigError> {
        if is_too_short(self.ttl) {
            return Err(ConfigError::invalid(
                layer,
                "with_idempotency",
                "a ttl below a millisecond remembers nothing: make it longer",
            ));
        }
        if self.final_refusal_after.is_some_and(is_too_short) {
            let reason = "a final refusal after less than a millisecond leaves nobody time to find out: make it longer";
            return Err(ConfigError::invalid(layer, "with_final_refusal_after", reason));
        }
        let (KeySource::Argument(name) | KeySource::Metadata(name) | KeySource::Header(name)) = &self.source;
        if name.is_empty() {
            return Err(ConfigError::invalid(layer, "with_idempotency", "the key's source has no name"));
        }
        if let KeySource::Argument(name) = &self.source
            && let Some(tool) = tools.iter().find(|tool| properties(tool).is_some_and(|all| all.contains_key(name)))
        {
            let reason = format!("`{}` has an argument `{name}` of its own: name another one", tool.name);
            return Err(ConfigError::invalid(layer, "with_idempotency", reason));
        }
        crate::selection::check_names(layer, self.named(), tools)
    }

    /// Adds the key to what a tool says of itself.
    pub(crate) fn advertise(&self, tool: &mut Tool) {
        let required = self.is_required(&tool.name);
        let source = match &self.source {
            KeySource::Argument(name) => {
                let properties = tool.input_schema.properties.get_or_insert_with(|| json!({}));
                if let Some(properties) = properties.as_object_mut() {
                    properties.insert(name.clone(), key_schema(required));
                }
                if required {
                    tool.input_schema.required.get_or_insert_default().push(name.clone());
                }
                json!({ "argument": name })
            }
            KeySource::Metadata(name) => json!({ "metadata": name }),
            KeySource::Header(name) => json!({ "header": name }),
        };
        tool.meta.get_or_insert_default().insert(IDEMPOTENCY.to_owned(), source);
    }

    /// Takes the key out of a call.
    pub(crate) fn key(
        &self,
        space: &KeySpace,
        tool: &str,
        args: &mut Value,
        ctx: &RequestContext,
    ) -> McpResult<Option<CallKey>> {
        let key = match self.source.take(args, ctx)? {
            Some(key) => key,
            None if self.is_required(tool) => {
                let reason = format!("`{tool}` needs an idempotency key: {}", self.source.wanted());
                return Err(McpError::invalid_params(reason));
            }
            None => return Ok(None),
        };
        Ok(Some(CallKey::new(space, &self.version, tool, key, args, ctx)))
    }

    fn is_required(&self, tool: &str) -> bool {
        match &self.required {
            Required::All => true,
            Required::Tools(tools) => tools.contains(tool),
        }
    }
}

impl Default for Idempotency {
    fn default() -> Self {
        Self::new()
    }
}

fn key_schema(required: bool) -> Value {
    let mut schema = Map::new();
    schema.insert("type".into(), "string".into());
    schema.insert("minLength".into(), 1.into());
    schema.insert("maxLength".into(), MAX_KEY_CHARS.into());
    schema.insert("pattern".into(), "^[A-Za-z0-9._:-]+$".into());
    let whether = if required { "Required." } else { "Optional." };
    schema.insert(
        "description".into(),
        format!(
            "{whether} Makes sure that this call takes effect once. Choose a new random value for each new intention. If the \
             answer is lost or says that the outcome is unknown, call again with the same value and the same arguments: you get \
             the first answer, and nothing happens twice."
        )
        .into(),
    );
    Value::Object(schema)
}

fn properties(tool: &Tool) -> Option<&Map<String, Value>> {
    tool.input_schema.properties.as_ref()?.as_object()
}
