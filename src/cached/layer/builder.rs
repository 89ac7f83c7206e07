//! The setters of [`CachedTool`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::CachedTool;
use super::answer::entry_bytes;
use super::key::CallKey;
use super::plan::{KeysFn, Reads, Results, Writes};
use crate::cached::cache::settings::{Codec, LevelSettings, cache_setters};
use crate::cached::second_level::SecondLevel;
use crate::outcome::ErrorKind;
use crate::{Identity, Scope};

impl CachedTool {
    cache_setters!(|this| this.results.settings_mut());

    /// Sets how long the results of one tool are kept.
    pub fn with_ttl_for(mut self, tool: impl Into<String>, ttl: Duration) -> Self {
        self.settings_mut().ttls.insert(tool.into(), ttl);
        self
    }

    /// Sets which callers share a result. Default: each user has separate results.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.settings_mut().scope = scope;
        self
    }

    /// Sets which callers share the results of one tool.
    pub fn with_scope_for(mut self, tool: impl Into<String>, scope: Scope) -> Self {
        self.settings_mut().scopes.insert(tool.into(), scope);
        self
    }

    /// Separates results from those of servers in another namespace on the same [second level](Self::with_second_level), such as
    /// `staging` and `production`. The name of the server separates them too. Replicas share results only if they have the same
    /// namespace.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings_mut().namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are identified. Each has separate results, for each set of rights. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Separates results from those of another version of the server.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.settings_mut().version = version.into();
        self
    }

    /// Bounds the number of results. Default: 10,000.
    pub fn with_max_entries(self, max_entries: usize) -> Self {
        self.restart(|results| results.with_max_entries(max_entries))
    }

    /// Bounds the bytes of all results: of each its JSON, its key, and half a kilobyte. Default: 64 MiB.
    ///
    /// A result counts as `max_bytes / max_entries` at least, so that this bound keeps the other one too.
    pub fn with_max_bytes(self, max_bytes: usize) -> Self {
        self.restart(|results| results.with_max_bytes(max_bytes, entry_bytes))
    }

    /// Returns, but does not keep, a result above `max_result_bytes`, its key and half a kilobyte included. Default: 1 MiB.
    pub fn with_max_result_bytes(self, max_result_bytes: usize) -> Self {
        self.set_results(|results| results.with_max_item_bytes(max_result_bytes))
    }

    /// Adds nothing to the `_meta` of results.
    pub fn without_meta(mut self) -> Self {
        self.settings_mut().emit_meta = false;
        self
    }

    /// Keeps failures of these kinds for `ttl`: up to 1,000, in this process. A later success replaces one. Use it for failures that
    /// are answers, such as [`ErrorKind::ResourceNotFound`]. A refusal of a layer further in is not kept: it is no answer of the tool.
    ///
    /// With a second level, a failure is served for no longer than the [first level's ttl](Self::with_first_level_ttl), like a result.
    pub fn with_negative_ttl(self, kinds: impl IntoIterator<Item = ErrorKind>, ttl: Duration) -> Self {
        let kinds: Vec<_> = kinds.into_iter().collect();
        self.set_results(|results| {
            results.with_negative_ttl(ttl, move |load_failure| {
                let failure = load_failure.failure().filter(|failure| !failure.is_turned_away());
                failure.and_then(|failure| failure.kind()).is_some_and(|kind| kinds.contains(&kind))
            })
        })
    }

    /// Shares results with other replicas of the server through `level`. See [a second level](crate::cached#a-second-level).
    pub fn with_second_level(self, level: impl SecondLevel) -> Self {
        let level = LevelSettings {
            level: Arc::new(level),
            name: "answers".to_owned(),
            codec: Codec {
                key: |key: &CallKey, to| to.write_all(key.as_bytes()),
                encode: |answer| serde_json::to_vec(answer).ok(),
                decode: |bytes| serde_json::from_slice(bytes).ok(),
            },
        };
        self.restart(|results| results.with_level(level))
    }

    /// Keeps resources too. See [resources and prompts](crate::cached#resources-and-prompts).
    pub fn with_resources(mut self, resources: Reads) -> Self {
        self.settings_mut().resources = Some(resources);
        self
    }

    /// Keeps prompts too, by name and arguments. See [resources and prompts](crate::cached#resources-and-prompts).
    pub fn with_prompts(mut self, prompts: Reads) -> Self {
        self.settings_mut().prompts = Some(prompts);
        self
    }

    /// Tags the results of a tool by its arguments, so that they can be invalidated together with those of other tools, with
    /// [resources and prompts](crate::cached::Reads::with_tags).
    ///
    /// Arguments that mean the same need the same tag: `7` and `7.0` are the same call, but `format!` writes two texts. A tool that takes
    /// an integer refuses the second, so that nothing is kept for it.
    ///
    /// ```
    /// use mcp_patterns::CachedTool;
    ///
    /// let cached = CachedTool::new()
    ///     .tag("get_user", |args| [format!("user:{}", args["id"])])
    ///     .tag("list_orders", |args| [format!("user:{}", args["user_id"])])
    ///     .invalidates_tags("update_user", |args| [format!("user:{}", args["id"])]);
    /// ```
    pub fn tag<T>(mut self, tool: impl Into<String>, tags: impl Fn(&Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.settings_mut().tags.entry(tool.into()).or_default().push(KeysFn::tags(move |_, args| tags(args)));
        self
    }

    /// Invalidates all results of these tools when the tool `writer` is called. See [invalidation](crate::cached#invalidation).
    pub fn invalidates(
        mut self,
        writer: impl Into<String>,
        tools: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.writes_mut(writer).tools.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Invalidates all results, resources and prompts with these [tags](Self::tag) when the tool `writer` is called.
    pub fn invalidates_tags<T>(
        mut self,
        writer: impl Into<String>,
        tags: impl Fn(&Value) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.writes_mut(writer).others.push(KeysFn::tags(move |_, args| tags(args)));
        self
    }

    /// Invalidates the results of these calls, for all callers, when the tool `writer` is called.
    ///
    /// ```
    /// use mcp_patterns::CachedTool;
    /// use serde_json::json;
    ///
    /// let cached = CachedTool::new()
    ///     .invalidates_calls("rename_user", |args| [("get_user", json!({"id": args["id"]}))]);
    /// ```
    pub fn invalidates_calls<T, S>(
        mut self,
        writer: impl Into<String>,
        calls: impl Fn(&Value) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: IntoIterator<Item = (S, Value)>,
        S: AsRef<str>,
    {
        self.writes_mut(writer).others.push(KeysFn::calls(calls));
        self
    }

    /// Invalidates these resources, for all callers, when the tool `writer` is called. It needs
    /// [`with_resources`](Self::with_resources).
    ///
    /// ```
    /// use mcp_patterns::{CachedTool, cached::Reads};
    ///
    /// let cached = CachedTool::new()
    ///     .with_resources(Reads::new())
    ///     .invalidates_resources("rename_user", |args| [format!("users://{}", args["id"])]);
    /// ```
    pub fn invalidates_resources<T>(
        mut self,
        writer: impl Into<String>,
        uris: impl Fn(&Value) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        let writes = self.writes_mut(writer);
        writes.resources = true;
        writes.others.push(KeysFn::resources(uris));
        self
    }

    fn writes_mut(&mut self, writer: impl Into<String>) -> &mut Writes {
        Arc::make_mut(self.settings_mut().writes.entry(writer.into()).or_default())
    }

    fn set_results(mut self, set: impl FnOnce(Results) -> Results) -> Self {
        self.results = set(self.results);
        self
    }

    /// Changes settings that the state of the cache is created from.
    fn restart(self, set: impl FnOnce(Results) -> Results) -> Self {
        let mut changed = self.set_results(set);
        changed.slot.follow(&changed.results);
        changed
    }
}
