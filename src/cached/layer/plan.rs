//! The settings of [`CachedTool`] for resources and prompts, which it keeps on request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::call::AnswerPlan;
use super::invalidation::Domains;
use super::key::{KeyPrefix, Kind, all_key};
use super::{CachedTool, LAYER};
use crate::arguments::LayerArguments;
use crate::telemetry::Counter;
use crate::{ConfigError, Identity, Scope};

/// What the layer was told of resources, or of prompts.
#[derive(Clone)]
pub(in crate::cached) struct Reads {
    kind: Kind,
    are_kept: bool,
    when: Option<Arc<Predicate>>,
    ttl: Option<Duration>,
    scope: Option<Scope>,
    tags: Vec<Domains>,
    /// Made when the layer is put on a server.
    plan: Option<Arc<AnswerPlan>>,
}

type Predicate = dyn Fn(&str) -> bool + Send + Sync;

impl Reads {
    pub(in crate::cached) fn new(kind: Kind) -> Self {
        Self { kind, are_kept: false, when: None, ttl: None, scope: None, tags: Vec::new(), plan: None }
    }

    pub(in crate::cached) fn are_kept(&self) -> bool {
        self.are_kept
    }

    /// How what has this URI or name is kept; `None` where it is not.
    pub(in crate::cached) fn plan(&self, name: &str) -> Option<&AnswerPlan> {
        let plan = self.plan.as_deref()?;
        self.when.as_ref().is_none_or(|when| when(name)).then_some(plan)
    }

    /// Checks the settings. `are_written` where tools that write name what is kept here.
    pub(in crate::cached) fn check(&self, are_written: bool) -> Result<(), ConfigError> {
        let (setting, ttl) = match self.kind {
            Kind::Prompt => ("with_prompts", "with_prompt_ttl"),
            _ => ("with_resources", "with_resource_ttl"),
        };
        let is_told = self.when.is_some() || self.ttl.is_some() || self.scope.is_some() || !self.tags.is_empty();
        if !self.are_kept && (is_told || are_written) {
            let word = self.kind.word();
            let reason = format!(
                "{word}s are not kept without it, and what is said of them is for nothing: add it, or leave that out"
            );
            return Err(ConfigError::invalid(LAYER, setting, reason));
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            let reason = "a ttl of zero keeps nothing: leave it out, or make it longer";
            return Err(ConfigError::invalid(LAYER, ttl, reason));
        }
        Ok(())
    }

    /// Notes which server they are of, and what holds where nothing else was said.
    pub(in crate::cached) fn bind(&mut self, prefix: KeyPrefix, ttl: Duration, scope: Scope, identity: &Identity) {
        let counter = |outcome| {
            Counter::new("mcp_patterns_cache_reads_total", &[("kind", self.kind.word()), ("outcome", outcome)])
        };
        let mut tags = self.tags.clone();
        if self.kind == Kind::Prompt {
            tags.push(Domains::constant(all_key(Kind::Prompt)));
        }
        self.plan = self.are_kept.then(|| {
            Arc::new(AnswerPlan {
                prefix,
                ttl: self.ttl.unwrap_or(ttl),
                scope: self.scope.unwrap_or(scope),
                identity: identity.clone(),
                tags,
                arguments: LayerArguments::default(),
                hears: true,
                hits: counter("hit"),
                misses: counter("miss"),
            })
        });
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads")
            .field("are_kept", &self.are_kept)
            .field("when", &self.when.is_some())
            .field("ttl", &self.ttl)
            .field("scope", &self.scope)
            .field("tags", &self.tags.len())
            .finish()
    }
}

impl CachedTool {
    /// Keeps what is read of resources too: of all, unless [`when_resource`](Self::when_resource) says which. See
    /// [what that means](crate::cached#resources-and-prompts).
    pub fn with_resources(mut self) -> Self {
        self.settings_mut().resources.are_kept = true;
        self
    }

    /// Keeps the resources only for whose URI `predicate` is true.
    pub fn when_resource(mut self, predicate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.settings_mut().resources.when = Some(Arc::new(predicate));
        self
    }

    /// Sets how long resources are kept, if not as long as the results of tools.
    pub fn with_resource_ttl(mut self, ttl: Duration) -> Self {
        self.settings_mut().resources.ttl = Some(ttl);
        self
    }

    /// Sets who shares resources, if not those who share the results of tools.
    pub fn with_resource_scope(mut self, scope: Scope) -> Self {
        self.settings_mut().resources.scope = Some(scope);
        self
    }

    /// Tags resources by their URIs, so that they can be invalidated together, and with the results of [tools](Self::tag).
    ///
    /// ```
    /// # use mcp_patterns::CachedTool;
    /// let cached = CachedTool::new()
    ///     .with_resources()
    ///     .tag_resources(|uri| uri.strip_prefix("users://").map(|id| format!("user:{id}")))
    ///     .invalidates_tags("update_user", |args| [format!("user:{}", args["id"])]);
    /// ```
    pub fn tag_resources<T>(mut self, tags: impl Fn(&str) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.settings_mut().resources.tags.push(Domains::tags(move |uri, _: &Value| tags(uri)));
        self
    }

    /// Keeps prompts too, by name and arguments: all, unless [`when_prompt`](Self::when_prompt) says which. See
    /// [what that means](crate::cached#resources-and-prompts).
    pub fn with_prompts(mut self) -> Self {
        self.settings_mut().prompts.are_kept = true;
        self
    }

    /// Keeps the prompts only for whose name `predicate` is true.
    pub fn when_prompt(mut self, predicate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.settings_mut().prompts.when = Some(Arc::new(predicate));
        self
    }

    /// Sets how long prompts are kept, if not as long as the results of tools.
    pub fn with_prompt_ttl(mut self, ttl: Duration) -> Self {
        self.settings_mut().prompts.ttl = Some(ttl);
        self
    }

    /// Sets who shares prompts, if not those who share the results of tools.
    pub fn with_prompt_scope(mut self, scope: Scope) -> Self {
        self.settings_mut().prompts.scope = Some(scope);
        self
    }

    /// Tags prompts by their names and arguments (`null`, where there are none), as [`tag`](Self::tag) does the results of tools.
    pub fn tag_prompts<T>(mut self, tags: impl Fn(&str, &Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.settings_mut().prompts.tags.push(Domains::tags(tags));
        self
    }
}
