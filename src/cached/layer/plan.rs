//! The plan for each request: whether its answer is kept, and what it invalidates.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::answer::{Answer, Cacheable};
use super::key::{CallKey, KeyPrefix, Kind, all_key, call_key, group_key, resource_key};
use super::session::LoadFailure;
use crate::arguments::LayerArguments;
use crate::cached::ZERO;
use crate::cached::cache::Cache;
use crate::cached::cache::settings::Settings;
use crate::cached::first_level::invalidation_key::{EntryKeys, InvalidationKey};
use crate::identity::Partition;
use crate::telemetry::Counter;
use crate::{ConfigError, Identity, Scope};

/// The role of a tool that the layer acts on.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cached) enum Role {
    /// Its results are kept.
    Cached(Arc<AnswerPlan>),
    /// It invalidates results of other tools.
    Writes(Arc<Writes>, LayerArguments),
}

/// The cache of answers, with the failures for callers who wait.
pub(in crate::cached) type Results = Cache<CallKey, Answer, LoadFailure>;

/// The settings of that cache.
pub(in crate::cached) type CacheSettings = Settings<CallKey, Answer, LoadFailure>;

/// The way in which the answers of a tool, of all resources or of all prompts are kept.
#[derive(Debug)]
pub(in crate::cached) struct AnswerPlan {
    pub(in crate::cached) prefix: KeyPrefix,
    pub(in crate::cached) ttl: Duration,
    pub(in crate::cached) scope: Scope,
    pub(in crate::cached) identity: Identity,
    pub(in crate::cached) tags: Vec<KeysFn>,
    /// The arguments of inner layers, which a tag does not see.
    pub(in crate::cached) arguments: LayerArguments,
    /// Whether the cache has to [observe](crate::cached::layer::notifications) the notifications of the handler to its client.
    pub(in crate::cached) observes: bool,
    /// How long an entry lives at least, if clients are told how long they may keep an answer.
    pub(in crate::cached) hinted_ttl: Option<Duration>,
    pub(in crate::cached) hits: Counter,
    pub(in crate::cached) misses: Counter,
}

/// The identity is that of the layer, and the other fields determine the counters.
impl PartialEq for AnswerPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.prefix, self.ttl, self.scope, &self.tags, &self.arguments)
            == (&other.prefix, other.ttl, other.scope, &other.tags, &other.arguments)
    }
}

impl AnswerPlan {
    /// The key of a request, and the keys that invalidate its answer.
    pub(in crate::cached) fn entry<A: Cacheable>(
        &self,
        caller: &Partition<'_>,
        name: &str,
        args: &A::Args,
    ) -> (CallKey, EntryKeys<2>) {
        let given = A::value(args);
        let args = self.arguments.without(given);
        let of_layers = |key: &mut _| self.arguments.encode(|name| given.get(name), key);
        let (key, keys) = CallKey::new(&self.prefix, caller, name, &args, of_layers);
        if self.tags.is_empty() {
            return (key, EntryKeys::Plain(keys));
        }
        let mut keys = keys.to_vec();
        self.tags.iter().for_each(|tags| (tags.0)(name, &args, &mut keys));
        (key, EntryKeys::Tagged(keys))
    }
}

/// Computes invalidation keys from a request: its name or URI, and its arguments.
#[derive(Clone)]
pub(in crate::cached) struct KeysFn(Arc<Append>);

type Append = dyn Fn(&str, &Value, &mut Vec<InvalidationKey>) + Send + Sync;

impl KeysFn {
    pub(in crate::cached) fn tags<T>(tags: impl Fn(&str, &Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        Self(Arc::new(move |name, args, keys| {
            keys.extend(tags(name, args).into_iter().map(|tag| InvalidationKey::of_tag(tag.as_ref())));
        }))
    }

    pub(in crate::cached) fn calls<T, S>(calls: impl Fn(&Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item = (S, Value)>,
        S: AsRef<str>,
    {
        Self(Arc::new(move |_, args, keys| {
            keys.extend(calls(args).into_iter().map(|(tool, args)| call_key(Kind::Tool, tool.as_ref(), &args)));
        }))
    }

    /// The same for all.
    pub(in crate::cached) fn constant(key: InvalidationKey) -> Self {
        Self(Arc::new(move |_, _, keys| keys.push(key)))
    }

    pub(in crate::cached) fn resources<T>(uris: impl Fn(&Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        Self(Arc::new(move |_, args, keys| {
            keys.extend(uris(args).into_iter().map(|uri| resource_key(uri.as_ref())));
        }))
    }
}

impl PartialEq for KeysFn {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for KeysFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeysFn")
    }
}

/// The results that a writing tool invalidates.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cached) struct Writes {
    /// The tools whose results it invalidates, all of them.
    pub(in crate::cached) tools: Vec<String>,
    /// Whether it invalidates resources.
    pub(in crate::cached) resources: bool,
    pub(in crate::cached) others: Vec<KeysFn>,
}

impl Writes {
    pub(in crate::cached) fn keys(&self, writer: &str, args: &Value) -> Vec<InvalidationKey> {
        let mut keys: Vec<_> = self.tools.iter().map(|tool| group_key(Kind::Tool, tool)).collect();
        self.others.iter().for_each(|others| (others.0)(writer, args, &mut keys));
        keys
    }
}

/// The settings for resources or for prompts, for [`with_resources`](crate::CachedTool::with_resources) and
/// [`with_prompts`](crate::CachedTool::with_prompts).
///
/// ```
/// use std::time::Duration;
/// use mcp_patterns::{CachedTool, Scope, cached::Reads};
///
/// let pages = Reads::new()
///     .when(|uri| uri.starts_with("docs://"))
///     .with_ttl(Duration::from_secs(3600))
///     .with_scope(Scope::Public);
/// let cached = CachedTool::new().with_resources(pages).with_prompts(Reads::new());
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Reads {
    when: Option<Arc<Predicate>>,
    ttl: Option<Duration>,
    scope: Option<Scope>,
    tags: Vec<KeysFn>,
    has_hints: bool,
}

type Predicate = dyn Fn(&str) -> bool + Send + Sync;

impl Reads {
    /// Creates settings that keep all resources, or all prompts, for the ttl and in the scope of the layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps only the resources or prompts for whose URI or name `predicate` returns true.
    pub fn when(mut self, predicate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    /// Sets how long they are kept. Default: the [ttl](crate::CachedTool::with_ttl) of the layer.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets which callers share them. Default: the [scope](crate::CachedTool::with_scope) of the layer.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Tells clients how long they may keep a resource: for what remains of its time in the cache. If all callers share the resource
    /// ([`Scope::Public`]), shared caches may keep it too; else only the client itself. Hints of the server take precedence. Default: no
    /// hints but those of the server.
    ///
    /// The protocol has them since 2026-07-28, as `ttlMs` and `cacheScope` of a result, for resources and not for prompts. The results of
    /// turbomcp have no such fields, so there the entry `mcp-patterns/cache_hints` of `_meta` has them.
    ///
    /// A client that keeps a resource learns of a change only from a notification, so a write does not invalidate what it has.
    pub fn with_cache_hints(mut self) -> Self {
        self.has_hints = true;
        self
    }

    /// Tags them by their URI or name and their arguments (`null` for a resource, and for a prompt without arguments), so that they can
    /// be invalidated together, and with the results of [tools](crate::CachedTool::tag). Called again, it adds tags.
    ///
    /// ```
    /// use mcp_patterns::{CachedTool, cached::Reads};
    ///
    /// let users = Reads::new()
    ///     .with_tags(|uri, _| uri.strip_prefix("users://").map(|id| format!("user:{id}")));
    /// let cached = CachedTool::new()
    ///     .with_resources(users)
    ///     .invalidates_tags("update_user", |args| [format!("user:{}", args["id"])]);
    /// ```
    pub fn with_tags<T>(mut self, tags: impl Fn(&str, &Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.tags.push(KeysFn::tags(tags));
        self
    }

    pub(in crate::cached) fn check(&self, layer: &'static str, setting: &'static str) -> Result<(), ConfigError> {
        match self.ttl {
            Some(ttl) if ttl.is_zero() => {
                Err(ConfigError::invalid(layer, setting, format!("the ttl of its `Reads` {ZERO}")))
            }
            _ => Ok(()),
        }
    }

    pub(in crate::cached) fn has_hints(&self) -> bool {
        self.has_hints
    }

    /// The ttl and the scope, where `ttl` and `scope` are those of the layer.
    pub(in crate::cached) fn effective(&self, ttl: Duration, scope: Scope) -> (Duration, Scope) {
        (self.ttl.unwrap_or(ttl), self.scope.unwrap_or(scope))
    }

    /// The plan for the resources or prompts of one server. The settings of the cache and `scope` hold where these settings say nothing.
    pub(in crate::cached) fn plan(
        &self,
        kind: Kind,
        prefix: KeyPrefix,
        cache: &CacheSettings,
        scope: Scope,
        identity: &Identity,
    ) -> ReadPlan {
        let counter =
            |outcome| Counter::new("mcp_patterns_cache_reads_total", &[("kind", kind.word()), ("outcome", outcome)]);
        let mut tags = self.tags.clone();
        if kind == Kind::Prompt {
            tags.push(KeysFn::constant(all_key(Kind::Prompt)));
        }
        let (ttl, scope) = self.effective(cache.freshness.ttl, scope);
        let plan = AnswerPlan {
            prefix,
            ttl,
            scope,
            identity: identity.clone(),
            tags,
            arguments: LayerArguments::default(),
            observes: true,
            hinted_ttl: self.has_hints.then(|| cache.freshness.least(ttl).min(cache.idle_time.unwrap_or(ttl))),
            hits: counter("hit"),
            misses: counter("miss"),
        };
        ReadPlan { when: self.when.clone(), plan: Arc::new(plan) }
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads")
            .field("when", &self.when.is_some())
            .field("ttl", &self.ttl)
            .field("scope", &self.scope)
            .field("tags", &self.tags.len())
            .field("has_hints", &self.has_hints)
            .finish()
    }
}

/// The plan for the resources or prompts of one server.
#[derive(Clone)]
pub(in crate::cached) struct ReadPlan {
    when: Option<Arc<Predicate>>,
    plan: Arc<AnswerPlan>,
}

impl ReadPlan {
    /// The plan for this URI or name, or `None` if it is not kept.
    pub(in crate::cached) fn of(&self, name: &str) -> Option<&AnswerPlan> {
        self.when.as_ref().is_none_or(|when| when(name)).then_some(&*self.plan)
    }
}

impl fmt::Debug for ReadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPlan").finish_non_exhaustive()
    }
}
