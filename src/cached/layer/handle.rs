//! The handle, which controls a layer.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use serde_json::Value;
use turbomcp_core::McpHandler;

use super::anonymous_call::{AnonymousCall, Purpose};
use super::answer::{Failed, prompt_args};
use super::key::{Kind, all_key, call_key, group_key, resource_key};
use super::plan::{AnswerPlan, Results, Role};
use super::settings::LAYER;
use crate::cached::cache::stats::Stats;
use crate::cached::cache::warm::{self, NotWarmed, Warmed};
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::outcome;
use crate::selection::{Plan, check_names};
use crate::{ConfigError, Scope};

/// Controls a [`CachedTool`](crate::cached::CachedTool) and returns its counters. Cheap to clone.
///
/// An invalidation takes effect at once: a result that is being computed is neither kept nor served to later callers.
///
/// A handle stays valid whatever setter is called on the layer after it was taken. It keeps no server alive, so that a server may keep a
/// handle of its own cache. If the layer is put on several servers, it controls the one that it was put on last.
#[derive(Clone)]
pub struct Handle {
    /// The cache of the layer when the handle was taken.
    results: Results,
    link: Arc<HandleLink>,
}

impl Handle {
    /// The cache that the layer has now.
    fn results(&self) -> Results {
        match self.server() {
            Some(server) => server.results.clone(),
            None => self.last_link().results.as_ref().unwrap_or(&self.results).clone(),
        }
    }

    /// The server that the layer was put on last.
    fn server(&self) -> Option<Arc<Server>> {
        let mut link = &self.link;
        loop {
            let server = link.server.load().upgrade();
            if server.is_some() {
                return server;
            }
            link = link.next.get()?;
        }
    }

    fn last_link(&self) -> &HandleLink {
        let mut link = &*self.link;
        while let Some(next) = link.next.get() {
            link = next;
        }
        link
    }

    /// Invalidates the result of one call, for all callers.
    pub fn invalidate(&self, tool: &str, args: &Value) {
        self.results().loader.invalidate(&[call_key(Kind::Tool, tool, args)]);
        self.note(tool);
    }

    /// Invalidates the results of all calls of a tool.
    pub fn invalidate_tool(&self, tool: &str) {
        self.results().loader.invalidate(&[group_key(Kind::Tool, tool)]);
        self.note(tool);
    }

    /// Invalidates a [resource](crate::cached::CachedTool::with_resources), for all callers.
    ///
    /// A notification through the context of a call that passed the cache (`ctx.notify_resource_updated(uri)`) [does this by
    /// itself](crate::cached#resources-and-prompts). A server that notifies through a session that it got elsewhere calls this before:
    /// the client reads again at once.
    ///
    /// URIs that differ only in escapes and case (`users://a%20b`, `users://A b`) are invalidated together.
    pub fn invalidate_resource(&self, uri: &str) {
        self.results().loader.invalidate(&[resource_key(uri)]);
        tracing::debug!("invalidated a resource");
    }

    /// Invalidates all resources.
    pub fn invalidate_resources(&self) {
        self.results().loader.invalidate(&[all_key(Kind::Resource)]);
        tracing::debug!("invalidated all resources");
    }

    /// Invalidates a [prompt](crate::cached::CachedTool::with_prompts) with these arguments (`{}` for none), for all callers.
    pub fn invalidate_prompt_with(&self, name: &str, args: &Value) {
        self.results().loader.invalidate(&[call_key(Kind::Prompt, name, prompt_args(args))]);
        tracing::debug!(prompt = name, "invalidated a prompt");
    }

    /// Invalidates a prompt with any arguments.
    pub fn invalidate_prompt(&self, name: &str) {
        self.results().loader.invalidate(&[group_key(Kind::Prompt, name)]);
        tracing::debug!(prompt = name, "invalidated a prompt");
    }

    /// Invalidates all prompts.
    pub fn invalidate_prompts(&self) {
        self.results().loader.invalidate(&[all_key(Kind::Prompt)]);
        tracing::debug!("invalidated all prompts");
    }

    /// Invalidates all results, resources and prompts with this [tag](crate::cached::CachedTool::tag).
    pub fn invalidate_tag(&self, tag: &str) {
        self.results().loader.invalidate(&[InvalidationKey::of_tag(tag)]);
        tracing::debug!("invalidated by tag");
    }

    /// Invalidates everything.
    pub fn clear(&self) {
        self.results().clear();
        tracing::debug!("cache cleared");
    }

    /// Waits until the second level, if there is one, has received all invalidations so far; no longer than one of its steps may
    /// take.
    pub async fn synced(&self) {
        self.results().synced().await;
    }

    /// Makes these calls now, up to `concurrency` at a time, and keeps their results.
    ///
    /// The calls have no user: warm tools whose results are [`Scope::Public`](crate::Scope::Public), or a server without
    /// authentication. See [warming](crate::cached#warming).
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] before the first call if the layer is on no server yet, `concurrency` is zero, or a tool is unknown or not
    /// cached.
    pub async fn warm<T: AsRef<str>>(
        &self,
        calls: impl IntoIterator<Item = (T, Value)>,
        concurrency: usize,
    ) -> Result<Warmed, ConfigError> {
        let bound = self.server().ok_or(ConfigError::NotLayered { layer: LAYER })?;
        let concurrency = warm::check(LAYER, concurrency)?;
        let calls: Vec<_> = calls
            .into_iter()
            .map(|(tool, args)| Ok((tool.as_ref().to_owned(), bound.anonymous_plan("warm", tool.as_ref())?, args)))
            .collect::<Result<_, ConfigError>>()?;
        let calls = calls.into_iter().map(|(tool, plan, args)| {
            let (bound, results) = (&bound, &bound.results);
            async move {
                let call = bound.source.call(results, &plan, &tool, args.clone(), Purpose::Warm).await;
                call.map_err(|Failed(result)| {
                    let error = outcome::failure(&result).map(|failure| failure.message().to_owned());
                    NotWarmed { key: format!("{tool} {args}"), error: error.unwrap_or_default() }
                })
            }
        });
        Ok(bound.results.warm_with(&(), calls, concurrency).await)
    }

    /// Makes a call now and replaces the result that is kept, which is served until then. Returns true if the call succeeded. A
    /// failure is logged, and the old result stays.
    ///
    /// Like the calls of [`warm`](Self::warm), the call has no user.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] before the call if the layer is on no server yet, or if the tool is unknown or not cached.
    pub async fn refresh(&self, tool: &str, args: Value) -> Result<bool, ConfigError> {
        let bound = self.server().ok_or(ConfigError::NotLayered { layer: LAYER })?;
        let plan = bound.anonymous_plan("refresh", tool)?;
        match bound.source.call(&bound.results, &plan, tool, args, Purpose::Refresh).await {
            Ok(_) => Ok(true),
            Err(Failed(result)) => {
                let failure = outcome::failure(&result);
                tracing::warn!(tool, error = failure.map(|failure| failure.message()), "not refreshed");
                Ok(false)
            }
        }
    }

    /// Returns the names of the tools that the layer acts on, for at least one caller: those whose results it keeps, and those whose
    /// calls invalidate. Empty as long as the layer is on no server.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        self.server().map(|server| server.plan.tools()).unwrap_or_default()
    }

    /// Returns the counters of the cache.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.results().stats()
    }

    /// Logs an invalidation. One that has no effect probably has a misspelt name.
    fn note(&self, tool: &str) {
        match self.server() {
            Some(bound) if !matches!(bound.plan.of_anybody(tool), Some(Role::Cached(_))) => {
                tracing::warn!(tool, "invalidated a tool that is not cached");
            }
            _ => tracing::debug!(tool, "invalidated"),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("results", &self.results()).finish()
    }
}

/// The link between a layer and its handles: one for each cache that the layer has had.
#[derive(Default)]
struct HandleLink {
    /// Weak, since the server may keep a handle.
    server: ArcSwap<Weak<Server>>,
    /// The cache of the layer, unless it is the one of the handle.
    results: Option<Results>,
    /// Set when a setter has given the layer another cache.
    next: OnceLock<Arc<HandleLink>>,
}

/// The end of the layer: it keeps the server for its handles.
#[derive(Clone, Default)]
pub(in crate::cached) struct HandleSlot {
    link: Arc<HandleLink>,
    server: Option<Arc<Server>>,
}

impl HandleSlot {
    pub(in crate::cached) fn handle(&self, results: &Results) -> Handle {
        Handle { results: results.clone(), link: Arc::clone(&self.link) }
    }

    /// Lets the handles so far follow the layer to another cache. A clone of the layer that has been put on a server keeps them.
    pub(in crate::cached) fn follow(&mut self, results: &Results) {
        let next = Arc::new(HandleLink { results: Some(results.clone()), ..HandleLink::default() });
        // The first setter wins: later ones are those of another clone.
        let _ = self.link.next.set(Arc::clone(&next));
        self.link = next;
    }

    /// Notes the server that the layer is on.
    pub(in crate::cached) fn bind(&mut self, handler: impl McpHandler, plan: Plan<Role>, results: Results) {
        let server = Arc::new(Server { source: Box::new(handler), plan, results });
        self.link.server.store(Arc::new(Arc::downgrade(&server)));
        self.server = Some(server);
    }
}

struct Server {
    source: Box<dyn AnonymousCall>,
    plan: Plan<Role>,
    results: Results,
}

impl Server {
    /// The plan of a tool that is called without a user.
    fn anonymous_plan(&self, method: &'static str, tool: &str) -> Result<Arc<AnswerPlan>, ConfigError> {
        let reason = match self.plan.of_anybody(tool) {
            Some(Role::Cached(plan)) if plan.scope == Scope::Session => {
                format!("results of `{tool}` are kept for each session, and this call has no session: leave it out")
            }
            Some(Role::Cached(plan)) => return Ok(plan),
            Some(Role::Writes(..)) | None => {
                check_names(LAYER, [tool], &self.source.tools())?;
                format!("`{tool}` is not cached: leave it out")
            }
        };
        Err(ConfigError::invalid(LAYER, method, reason))
    }
}
