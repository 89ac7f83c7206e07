use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpError, McpResult, RequestContext};
use turbomcp_types::Tool;

use super::source::{MAX_KEY_CHARS, key_invalid};
use super::{CallKey, IDEMPOTENCY, KeyCounts, KeySource, KeySpace, call};
use crate::ConfigError;
use crate::arguments::{LayerArgument, LayerArguments};
use crate::identity::UNREAD_CREDENTIALS;
use crate::outcome;

const SETTINGS: &str = "Idempotency";

/// The settings of a layer for idempotency keys.
#[derive(Debug, Clone)]
#[must_use]
pub struct Idempotency {
    source: KeySource,
    ttl: Duration,
    required: Required,
    version: String,
    records_failures: bool,
    min_key_length: usize,
    final_refusal_after: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Required {
    All,
    Tools(BTreeSet<String>),
}

impl Idempotency {
    /// Creates settings for an optional argument `idempotency_key`, with answers that are kept for 24 hours.
    pub fn new() -> Self {
        Self {
            source: KeySource::Argument("idempotency_key".into()),
            ttl: Duration::from_secs(24 * 60 * 60),
            required: Required::Tools(BTreeSet::new()),
            version: String::new(),
            records_failures: false,
            min_key_length: 1,
            final_refusal_after: None,
        }
    }

    /// Sets where a call carries its key.
    pub fn with_source(mut self, source: KeySource) -> Self {
        self.source = source;
        self
    }

    /// Sets how long an answer is kept. After that, the key is new again. At least 1 ms. Default: 24 hours.
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

    /// Separates the keys from those of another version of the server.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Keeps failures too: a further call with the key gets the same failure instead of another try. The refusal of a layer further in, such
    /// as a limit, is not kept: it is no answer of the tool.
    pub fn recording_failures(mut self) -> Self {
        self.records_failures = true;
        self
    }

    /// Refuses keys of fewer characters: a caller could guess them, or two callers could choose the same. A UUID has 36 characters.
    ///
    /// From 1 to 255. Default: 1.
    pub fn with_min_key_length(mut self, chars: usize) -> Self {
        self.min_key_length = chars;
        self
    }

    pub(crate) fn source(&self) -> &KeySource {
        &self.source
    }

    /// Ends an ambiguous call with a final refusal if it was not [resolved](super::Handle::resolve) for this long. The refusal is the answer
    /// to the key for its [ttl](Self::with_ttl), like any other answer. Then the key is new again. The call is never made under a key that
    /// has got the refusal. At least 1 ms.
    ///
    /// Default: an ambiguous call stays ambiguous, and in the backend, until it is resolved.
    pub fn with_final_refusal_after(mut self, time: Duration) -> Self {
        self.final_refusal_after = Some(time);
        self
    }

    pub(crate) fn final_refusal_after(&self) -> Option<Duration> {
        self.final_refusal_after
    }

    /// How long a claim without an answer is kept after the end of its lease. `None`: for ever.
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

    /// The tools that a setting names.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> + Clone {
        match &self.required {
            Required::All => None,
            Required::Tools(tools) => Some(tools.iter().map(String::as_str)),
        }
        .into_iter()
        .flatten()
    }

    /// Checks the settings. A layer does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_timeout(SETTINGS, "with_ttl", self.ttl)?;
        ConfigError::check_positive(SETTINGS, "with_min_key_length", self.min_key_length)?;
        if self.min_key_length > MAX_KEY_CHARS {
            let reason = format!("must be at most {MAX_KEY_CHARS}, the length of the longest key");
            return Err(ConfigError::invalid(SETTINGS, "with_min_key_length", reason));
        }
        if let Some(after) = self.final_refusal_after {
            ConfigError::check_timeout(SETTINGS, "with_final_refusal_after", after)?;
        }
        let (KeySource::Argument(name) | KeySource::Metadata(name) | KeySource::Header(name)) = &self.source;
        if name.is_empty() {
            let reason = "the name is empty: name an argument, a metadata entry or a header";
            return Err(ConfigError::invalid(SETTINGS, "with_source", reason));
        }
        Ok(())
    }

    /// Checks the settings, also against the tools, of which only some take a key.
    pub(crate) fn check_for(
        &self,
        layer: &'static str,
        tools: &[Tool],
        takes_key: impl Fn(&Tool) -> bool,
    ) -> Result<(), ConfigError> {
        self.check()?;
        let is_required = |tool: &&Tool| self.named().any(|name| name == tool.name);
        if let Some(tool) = tools.iter().filter(is_required).find(|tool| !takes_key(tool)) {
            let reason = format!(
                "`{}` takes no key, since {layer} does not act on it, or it is annotated `read_only`: add it to `{layer}::only`, or \
                 remove it here",
                tool.name
            );
            return Err(ConfigError::invalid(SETTINGS, "required_for", reason));
        }
        match self.argument(false) {
            Some(argument) => argument.check(layer, "with_idempotency", tools.iter().filter(|tool| takes_key(tool))),
            None => Ok(()),
        }
    }

    /// Adds the key to the schema and the `_meta` of a tool, unless the tool has an argument of that name.
    pub(crate) fn advertise(&self, tool: &mut Tool) {
        if let Some(argument) = self.argument(self.is_required(&tool.name))
            && !argument.add_to(tool)
        {
            return;
        }
        tool.meta.get_or_insert_default().insert(IDEMPOTENCY.to_owned(), self.source.advertised());
    }

    /// The counters of a tool that takes a key. `None` if the tool itself has an argument of that name, which
    /// [`check_for`](Self::check_for) refuses for the tools that exist at the start.
    pub(crate) fn counts(&self, layer: &'static str, tool: &Tool) -> Option<KeyCounts> {
        let own = self.argument(false);
        if own.as_ref().is_some_and(|own| own.is_authors(tool)) {
            tracing::warn!(layer, tool = tool.name, "the tool has an argument of the key's name: it takes no key");
            return None;
        }
        let others = LayerArguments::of(tool);
        let others = own.map_or_else(|| others.clone(), |own| others.except(own.name()));
        Some(KeyCounts::new(tool, others))
    }

    /// The key as an argument, if it is one. The answer of a read-only tool does not depend on it.
    fn argument(&self, is_required: bool) -> Option<LayerArgument> {
        let KeySource::Argument(name) = &self.source else { return None };
        let argument = LayerArgument::new(name, self.key_schema(is_required)).not_in_keys();
        Some(if is_required { argument.required() } else { argument })
    }

    /// Takes the key out of a call. The arguments of `others`, the inner layers, do not change its fingerprint.
    pub(crate) fn key(
        &self,
        space: &KeySpace,
        tool: &str,
        others: &LayerArguments,
        args: &mut Value,
        ctx: &RequestContext,
    ) -> McpResult<Option<CallKey>> {
        let key = match self.source.take(args, ctx)? {
            Some(key) if key.len() < self.min_key_length => {
                return Err(key_invalid(format!(
                    "The idempotency key is too short: send a random UUID, or other random text of at least {} characters",
                    self.min_key_length
                )));
            }
            Some(key) => key,
            None if self.is_required(tool) => {
                let reason = format!("`{tool}` needs an idempotency key: {}", self.source.wanted());
                return Err(outcome::marked(IDEMPOTENCY, "key_missing", McpError::invalid_params(reason)));
            }
            None => return Ok(None),
        };
        if space.identity.is_unknown_caller(ctx) {
            let reason = format!("An idempotency key belongs to its caller: {UNREAD_CREDENTIALS}");
            let error = McpError::new(outcome::ErrorKind::Configuration, reason);
            return Err(outcome::marked(IDEMPOTENCY, "unknown_caller", error));
        }
        space.warn_if_shared(tool, ctx);
        Ok(Some(CallKey::new(space, &self.version, tool, key, &others.without(args), ctx)))
    }

    fn key_schema(&self, required: bool) -> Value {
        let whether = if required { "Required." } else { "Optional." };
        json!({
            "type": "string",
            "minLength": self.min_key_length,
            "maxLength": MAX_KEY_CHARS,
            "pattern": "^[A-Za-z0-9._:-]+$",
            "description": format!(
                "{whether} Makes sure that this call takes effect once. Make a new random UUID for each new intention. If the answer \
                 is lost or says that the outcome is unknown, call again with the same UUID and the same arguments: you get the \
                 first answer, and nothing happens twice."
            ),
        })
    }

    /// Writes for an explanation where a call of the tool carries its key.
    pub(crate) fn key_in_words(&self, tool: &str) -> String {
        let source = match &self.source {
            KeySource::Argument(name) => format!("argument {name}"),
            KeySource::Metadata(name) => format!("metadata {name}"),
            KeySource::Header(name) => format!("header {name}"),
        };
        if self.is_required(tool) { format!("{source} (required)") } else { source }
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
