//! What depends on what: the tags of reading tools, and what writing tools make wrong.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
#[cfg(feature = "transactional")]
use futures_util::future::Either;
use serde_json::Value;

use super::CachedTool;
use super::call::Results;
use super::key::{Kind, call_key, group_key, resource_key};
use crate::cached::first_level::invalidation_key::{EntryKeys, InvalidationKey};

/// Invalidation keys that follow from a request: its name or URI, and its arguments.
#[derive(Clone)]
pub(in crate::cached) struct Domains(Arc<Append>);

type Append = dyn Fn(&str, &Value, &mut Vec<InvalidationKey>) + Send + Sync;

impl Domains {
    pub(in crate::cached) fn tags<T>(tags: impl Fn(&str, &Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        Self(Arc::new(move |name, args, keys| {
            keys.extend(tags(name, args).into_iter().map(|tag| InvalidationKey::of_tag(tag.as_ref())));
        }))
    }

    fn calls<T>(calls: impl Fn(&Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item = (&'static str, Value)>,
    {
        Self(Arc::new(move |_, args, keys| {
            keys.extend(calls(args).into_iter().map(|(tool, args)| call_key(Kind::Tool, tool, &args)));
        }))
    }

    /// The same for all.
    pub(in crate::cached) fn constant(key: InvalidationKey) -> Self {
        Self(Arc::new(move |_, _, keys| keys.push(key)))
    }

    fn resources<T>(uris: impl Fn(&Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        Self(Arc::new(move |_, args, keys| {
            keys.extend(uris(args).into_iter().map(|uri| resource_key(uri.as_ref())));
        }))
    }
}

impl PartialEq for Domains {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Domains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Domains")
    }
}

impl EntryKeys<2> {
    pub(in crate::cached) fn of_call(keys: [InvalidationKey; 2], tags: &[Domains], name: &str, args: &Value) -> Self {
        if tags.is_empty() {
            return Self::Plain(keys);
        }
        let mut keys = keys.to_vec();
        tags.iter().for_each(|tags| (tags.0)(name, args, &mut keys));
        Self::Tagged(keys)
    }
}

/// What a tool that writes makes wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cached) struct Writes {
    /// The tools all of whose results it makes wrong.
    pub(in crate::cached) tools: Vec<String>,
    /// Whether it names resources.
    pub(in crate::cached) resources: bool,
    others: Vec<Domains>,
}

impl Writes {
    pub(in crate::cached) fn of(&self, writer: &str, args: &Value) -> Vec<InvalidationKey> {
        let mut keys: Vec<_> = self.tools.iter().map(|tool| group_key(Kind::Tool, tool)).collect();
        self.others.iter().for_each(|others| (others.0)(writer, args, &mut keys));
        keys
    }
}

/// What a call of a tool that writes makes wrong. Dropped before its end, the call may have taken effect.
pub(in crate::cached) struct Dirt(Option<(Results, Vec<InvalidationKey>)>);

impl Dirt {
    pub(in crate::cached) fn new(results: &Results, keys: Vec<InvalidationKey>) -> Self {
        Self(Some((results.clone(), keys)))
    }

    /// The call took no effect.
    pub(in crate::cached) fn never_mind(mut self) {
        self.0 = None;
    }

    /// The call has succeeded, or may have taken effect although it failed. What it made wrong is forgotten now or, within a
    /// transaction, once that is committed.
    pub(in crate::cached) async fn forget(mut self) {
        let Some(forget) = self.forgetting() else { return };
        self.0 = None;
        #[cfg(feature = "transactional")]
        let Err(forget) = crate::transactional::invalidate_after_commit(forget) else { return };
        forget().await;
    }

    /// It is wrong already. It is forgotten now and, within a transaction, once more when that is committed: until then, others load
    /// what there was before.
    pub(in crate::cached) async fn forget_now(mut self) {
        let Some(forget) = self.forgetting() else { return };
        self.0 = None;
        #[cfg(feature = "transactional")]
        let forget = Arc::new(forget);
        #[cfg(feature = "transactional")]
        drop(crate::transactional::invalidate_after_commit({
            let forget = Arc::clone(&forget);
            move || forget()
        }));
        forget().await;
    }

    /// Makes the call. What it makes wrong is forgotten when a transaction in it is committed, too: before the hooks of that, which
    /// may tell others to read again.
    #[cfg(feature = "transactional")]
    pub(in crate::cached) fn around<C: Future>(&self, call: C) -> impl Future<Output = C::Output> {
        match self.forgetting() {
            Some(forget) => Either::Left(crate::transactional::invalidating(forget, call)),
            None => Either::Right(call),
        }
    }

    #[cfg(not(feature = "transactional"))]
    #[expect(clippy::unused_self, reason = "it has a use with transactions")]
    pub(in crate::cached) fn around<C: Future>(&self, call: C) -> C {
        call
    }

    /// Forgets what the call made wrong, as often as it is called, and waits until the second level knows.
    fn forgetting(&self) -> Option<impl Fn() -> BoxFuture<'static, ()> + Send + Sync + use<>> {
        let (results, keys) = self.0.clone()?;
        Some(move || {
            let (results, keys) = (results.clone(), keys.clone());
            async move {
                results.invalidate_keys(&keys);
                results.synced().await;
            }
            .boxed()
        })
    }
}

impl Drop for Dirt {
    fn drop(&mut self) {
        if let Some((results, keys)) = &self.0 {
            results.invalidate_keys(keys);
        }
    }
}

impl CachedTool {
    /// Tags the results of a tool, by its arguments, so that they can be invalidated together with those of other tools,
    /// with [resources](Self::tag_resources) and with [prompts](Self::tag_prompts).
    ///
    /// Arguments that mean the same are to give the same tag: `7` and `7.0` make the same call, but `format!` writes them as two texts.
    /// A tool that takes an integer refuses the second, and keeps nothing of it.
    ///
    /// ```
    /// # use mcp_patterns::CachedTool;
    /// let cached = CachedTool::new()
    ///     .tag("get_user", |args| [format!("user:{}", args["id"])])
    ///     .tag("list_orders", |args| [format!("user:{}", args["user_id"])])
    ///     .invalidates_tags("update_user", |args| [format!("user:{}", args["id"])]);
    /// ```
    pub fn tag<T>(mut self, tool: impl Into<String>, tags: impl Fn(&Value) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.settings_mut().tags.entry(tool.into()).or_default().push(Domains::tags(move |_, args| tags(args)));
        self
    }

    /// Says that a tool which writes makes all results of these tools wrong. See [what that means](crate::cached#invalidation).
    pub fn invalidates(
        mut self,
        writer: impl Into<String>,
        tools: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.writes_mut(writer).tools.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Says that a tool which writes makes all results with these [tags](Self::tag) wrong, and all resources and prompts with them.
    pub fn invalidates_tags<T>(
        mut self,
        writer: impl Into<String>,
        tags: impl Fn(&Value) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        self.writes_mut(writer).others.push(Domains::tags(move |_, args| tags(args)));
        self
    }

    /// Says that a tool which writes makes the results of these calls wrong, whoever made them.
    ///
    /// ```
    /// # use mcp_patterns::CachedTool;
    /// # use serde_json::json;
    /// let cached = CachedTool::new().invalidates_calls("rename_user", |args| [("get_user", json!({"id": args["id"]}))]);
    /// ```
    pub fn invalidates_calls<T>(
        mut self,
        writer: impl Into<String>,
        calls: impl Fn(&Value) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: IntoIterator<Item = (&'static str, Value)>,
    {
        self.writes_mut(writer).others.push(Domains::calls(calls));
        self
    }

    /// Says that a tool which writes makes these resources wrong, whoever reads them, where
    /// [resources are kept](Self::with_resources).
    ///
    /// ```
    /// # use mcp_patterns::CachedTool;
    /// let cached = CachedTool::new()
    ///     .with_resources()
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
        writes.others.push(Domains::resources(uris));
        self
    }

    fn writes_mut(&mut self, writer: impl Into<String>) -> &mut Writes {
        Arc::make_mut(self.settings_mut().writes.entry(writer.into()).or_default())
    }
}
