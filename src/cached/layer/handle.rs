use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::answer::{Cacheable, Failed, prompt_args};
use super::call::{AnswerPlan, Results, call_and_keep, get_or_call};
use super::key::{Kind, all_key, call_key, group_key, resource_key};
use super::{LAYER, Role};
use crate::cached::cache::loader::Source;
use crate::cached::cache::stats::Stats;
use crate::cached::cache::warm::{self, NotWarmed, Warmed};
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::identity::Partition;
use crate::outcome;
use crate::selection::{Plan, check_names};
use crate::{ConfigError, Scope};

/// Controls a [`CachedTool`](crate::cached::CachedTool) and tells how it is doing. Cheap to clone.
///
/// Invalidations hold at once: also a result that is being computed is neither kept nor served to anyone who asks later.
///
/// It keeps no server alive, so that a server may have a handle to its own cache.
#[derive(Clone)]
pub struct Handle {
    results: Results,
    bound: Weak<ArcSwapOption<Server>>,
}

impl Handle {
    pub(in crate::cached) fn new(results: &Results, bound: &Bound) -> Self {
        Self { results: results.clone(), bound: Arc::downgrade(&bound.0) }
    }

    fn server(&self) -> Option<Arc<Server>> {
        self.bound.upgrade()?.load_full()
    }

    /// Forgets the result of one call, whoever made it.
    pub fn invalidate(&self, tool: &str, args: &Value) {
        self.results.invalidate_keys(&[call_key(Kind::Tool, tool, args)]);
        self.note(tool);
    }

    /// Forgets the results of all calls of a tool.
    pub fn invalidate_tool(&self, tool: &str) {
        self.results.invalidate_keys(&[group_key(Kind::Tool, tool)]);
        self.note(tool);
    }

    /// Forgets a [resource](crate::cached::CachedTool::with_resources), whoever has read it.
    ///
    /// What a server tells the client of a call that passed the cache (`ctx.notify_resource_updated(uri)`) [does this by
    /// itself](crate::cached#resources-and-prompts). By a session of its own, it forgets before it tells: who is told reads again, and must
    /// not read what was kept.
    ///
    /// URIs that differ only in escapes and case (`users://a%20b`, `users://A b`) are forgotten together.
    pub fn invalidate_resource(&self, uri: &str) {
        self.results.invalidate_keys(&[resource_key(uri)]);
        tracing::debug!("invalidated a resource");
    }

    /// Forgets all resources.
    pub fn invalidate_resources(&self) {
        self.results.invalidate_keys(&[all_key(Kind::Resource)]);
        tracing::debug!("invalidated all resources");
    }

    /// Forgets a [prompt](crate::cached::CachedTool::with_prompts) with these arguments (`{}`, where there are none), whoever has got it.
    pub fn invalidate_prompt_with(&self, name: &str, args: &Value) {
        self.results.invalidate_keys(&[call_key(Kind::Prompt, name, prompt_args(args))]);
        tracing::debug!(prompt = name, "invalidated a prompt");
    }

    /// Forgets a prompt, whatever its arguments.
    pub fn invalidate_prompt(&self, name: &str) {
        self.results.invalidate_keys(&[group_key(Kind::Prompt, name)]);
        tracing::debug!(prompt = name, "invalidated a prompt");
    }

    /// Forgets all prompts.
    pub fn invalidate_prompts(&self) {
        self.results.invalidate_keys(&[all_key(Kind::Prompt)]);
        tracing::debug!("invalidated all prompts");
    }

    /// Forgets all results, resources and prompts with this [tag](crate::cached::CachedTool::tag).
    pub fn invalidate_tag(&self, tag: &str) {
        self.results.invalidate_keys(&[InvalidationKey::of_tag(tag)]);
        tracing::debug!("invalidated by tag");
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.results.clear();
        tracing::debug!("cache cleared");
    }

    /// Waits until the second level, if there is one, knows of all invalidations so far; no longer than one of its steps may
    /// take.
    pub async fn synced(&self) {
        self.results.synced().await;
    }

    /// Makes these calls now, up to `concurrency` at a time, so that later ones find their results.
    ///
    /// They are made without a user: warm tools whose results are [`Scope::Public`](crate::Scope::Public), or for a server
    /// without authentication. See [how a warm-up goes](crate::cached#warming).
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] before any call is made: the layer is on no server yet, `concurrency` is zero, or a tool is unknown
    /// or not cached.
    pub async fn warm<T: AsRef<str>>(
        &self,
        calls: impl IntoIterator<Item = (T, Value)>,
        concurrency: usize,
    ) -> Result<Warmed, ConfigError> {
        let bound = self.server().ok_or(ConfigError::NotLayered { layer: LAYER })?;
        let concurrency = warm::check(LAYER, concurrency)?;
        let calls: Vec<_> = calls
            .into_iter()
            .map(|(tool, args)| Ok((tool.as_ref().to_owned(), bound.plan_for_nobody("warm", tool.as_ref())?, args)))
            .collect::<Result<_, ConfigError>>()?;
        let calls = calls.into_iter().map(|(tool, plan, args)| {
            let (bound, results) = (&bound, &self.results);
            async move {
                let call = bound.source.call(results, &plan, &tool, args.clone(), Freshly::OrKept).await;
                call.map_err(|Failed(result)| {
                    let error = outcome::failure(&result).map(|failure| failure.message().to_owned());
                    NotWarmed { key: format!("{tool} {args}"), error: error.unwrap_or_default() }
                })
            }
        });
        Ok(self.results.warm_with(&(), calls, concurrency).await)
    }

    /// Makes a call now and keeps its result in place of the one there is, which is served until then. Says whether it did: a
    /// call that fails is logged and leaves the old result where it is.
    ///
    /// Like [`warm`](Self::warm), it makes the call without a user.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] before the call is made: the layer is on no server yet, or the tool is unknown or not cached.
    pub async fn refresh(&self, tool: &str, args: Value) -> Result<bool, ConfigError> {
        let bound = self.server().ok_or(ConfigError::NotLayered { layer: LAYER })?;
        let plan = bound.plan_for_nobody("refresh", tool)?;
        match bound.source.call(&self.results, &plan, tool, args, Freshly::Called).await {
            Ok(_) => Ok(true),
            Err(Failed(result)) => {
                let failure = outcome::failure(&result);
                tracing::warn!(tool, error = failure.map(|failure| failure.message()), "not refreshed");
                Ok(false)
            }
        }
    }

    /// Says how the cache is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.results.stats()
    }

    /// Logs an invalidation; one that can have no effect is probably a misspelt name.
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
        f.debug_struct("Handle").field("results", &self.results).finish()
    }
}

/// The server that the layer was put on last, for handles, which do not know its type.
#[derive(Clone, Default)]
pub(in crate::cached) struct Bound(Arc<ArcSwapOption<Server>>);

struct Server {
    source: Box<dyn CallForAnybody>,
    plan: Plan<Role>,
}

impl Server {
    /// The plan of a tool that is called without a user.
    fn plan_for_nobody(&self, method: &'static str, tool: &str) -> Result<Arc<AnswerPlan>, ConfigError> {
        let reason = match self.plan.of_anybody(tool) {
            Some(Role::Cached(plan)) if plan.scope == Scope::Session => {
                format!("results of `{tool}` are kept per session, and there is none yet")
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

impl Bound {
    pub(in crate::cached) fn set(&self, handler: impl McpHandler, plan: Plan<Role>) {
        self.0.store(Some(Arc::new(Server { source: Box::new(handler), plan })));
    }
}

/// Whether a call is made although its result is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshly {
    Called,
    OrKept,
}

/// Makes a call of nobody in particular.
trait CallForAnybody: Send + Sync {
    fn tools(&self) -> Vec<Tool>;

    fn call<'a>(
        &'a self,
        results: &'a Results,
        plan: &'a AnswerPlan,
        tool: &'a str,
        args: Value,
        freshly: Freshly,
    ) -> Pin<Box<dyn Future<Output = Result<Source, Failed>> + Send + 'a>>;
}

impl<H: McpHandler> CallForAnybody for H {
    fn tools(&self) -> Vec<Tool> {
        self.list_tools()
    }

    fn call<'a>(
        &'a self,
        results: &'a Results,
        plan: &'a AnswerPlan,
        tool: &'a str,
        args: Value,
        freshly: Freshly,
    ) -> Pin<Box<dyn Future<Output = Result<Source, Failed>> + Send + 'a>> {
        Box::pin(async move {
            let ctx = RequestContext::new();
            let caller = plan.identity.partition(plan.scope, &ctx).unwrap_or(Partition::Everybody);
            let call = match freshly {
                Freshly::OrKept => get_or_call::<ToolResult, _>(results, plan, &caller, self, tool, args, &ctx).await,
                Freshly::Called => call_and_keep::<ToolResult, _>(results, plan, &caller, self, tool, args, &ctx).await,
            };
            match call? {
                (_, Source::Own) => {
                    let reason = "the answer depends on a client or a session, so that it is not kept";
                    Err(Failed(ToolResult::of_error(McpError::invalid_request(reason))))
                }
                (_, source) => Ok(source),
            }
        })
    }
}
