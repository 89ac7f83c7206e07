//! The settings of the layer, and their setters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::FutureExt;
use turbomcp_core::McpError;
use turbomcp_types::IntoToolResult;

use super::batcher::Batcher;
use super::call::{self, BatchItem, Calls};
use super::handle::{BoundPlan, Handle};
use super::plan::{Bulk, Call, ToolPlan};
use super::results::IntoResults;
use super::settings::{ItemFn, batch_setters};
use crate::selection::{Plan, Selection, naming_selectors};
use crate::{Identity, Scope};

/// Combines concurrent calls of a tool into one. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct BatchedTool {
    pub(super) calls: Calls,
    pub(super) selection: Selection,
    pub(super) is_selected: bool,
    pub(super) settings: Arc<Settings>,
    pub(super) plan: Plan<Arc<ToolPlan>>,
    /// The plan of the server that the layer was put on last, for its handles.
    pub(super) bound: BoundPlan,
    /// Servers that run with this layer.
    pub(super) running: Arc<AtomicUsize>,
}

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) bulks: BTreeMap<String, Bulk>,
    pub(super) scope: Scope,
    pub(super) scopes: BTreeMap<String, Scope>,
    pub(super) batch_key: Option<ItemFn<Call, String>>,
    pub(super) splits: bool,
    pub(super) repeatable: BTreeSet<String>,
    pub(super) drain_timeout: Duration,
    pub(super) emits_meta: bool,
}

impl BatchedTool {
    /// Creates a layer that sends up to 64 calls in a batch, for the tools that you name, for each user separately. See the
    /// [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            calls: Batcher::new(call::answer)
                .with_groups(|item: &BatchItem| item.group.clone())
                .with_instruments(|item| Arc::clone(&item.plan.instruments))
                // A client that was asked is not asked again.
                .split_failed_batches_of(|item| item.plan.splits && !item.work.has_asked()),
            selection: Selection::new(),
            is_selected: false,
            settings: Arc::new(Settings {
                bulks: BTreeMap::new(),
                scope: Scope::default(),
                scopes: BTreeMap::new(),
                batch_key: None,
                splits: false,
                repeatable: BTreeSet::new(),
                drain_timeout: Duration::from_secs(5),
                emits_meta: true,
            }),
            plan: Plan::default(),
            bound: BoundPlan::default(),
            running: Arc::default(),
        }
    }

    /// Acts on this tool: `bulk` answers its calls instead of the tool.
    ///
    /// `bulk` gets the calls and returns a result for each, in their order: a `Vec<McpResult<T>>`, or a `McpResult` of that, whose
    /// error goes to all calls. `T` is the return type of a tool: a [`ToolResult`](turbomcp_types::ToolResult), a text, a number. Of
    /// equal calls it gets [one if the tool is read-only](super#equal-calls), and each if it is not.
    pub fn with_bulk<F, T>(
        mut self,
        tool: impl Into<String>,
        bulk: impl Fn(Vec<Call>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output: IntoResults<T, McpError>> + Send + 'static,
        T: IntoToolResult,
    {
        let bulk: Bulk = Arc::new(move |calls| {
            bulk(calls)
                .map(|answers| {
                    let results = answers.into_results()?;
                    Ok(results.into_iter().map(|result| result.map(T::into_tool_result)).collect())
                })
                .boxed()
        });
        self.settings_mut().bulks.insert(tool.into(), bulk);
        self
    }

    naming_selectors!(without every_write);

    /// Acts on these tools too, although concurrent equal calls then share one effect.
    pub fn allow_skipped_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.is_selected = true;
        self.selection.opt_in(tools);
        self
    }

    batch_setters!(|this| this.calls.settings_mut());

    /// Limits the total weight of the calls of a batch. A call that is heavier than `max_weight` is sent alone.
    pub fn with_max_weight(mut self, max_weight: u64, weigh: impl Fn(&Call) -> u64 + Send + Sync + 'static) -> Self {
        self.calls = self.calls.with_max_weight(max_weight, move |item| weigh(&item.call));
        self
    }

    /// Sets whose calls may share a batch: by default only those of the same user.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.settings_mut().scope = scope;
        self
    }

    /// Sets whose calls of this tool may share a batch.
    pub fn with_scope_for(mut self, tool: impl Into<String>, scope: Scope) -> Self {
        self.settings_mut().scopes.insert(tool.into(), scope);
        self
    }

    /// Sets how callers and their rights are distinguished. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.calls = self.calls.with_identity(identity);
        self
    }

    /// Puts only calls with the same key into one batch, such as calls for the same shard.
    pub fn with_batch_key<K: Into<String>>(mut self, key: impl Fn(&Call) -> K + Send + Sync + 'static) -> Self {
        self.settings_mut().batch_key = Some(Arc::new(move |call| key(call).into()));
        self
    }

    /// Splits a batch that failed as a whole into halves, repeatedly, until the calls that cannot succeed are found: for tools
    /// that are annotated read-only or idempotent. A batch that failed for a temporary reason is not split.
    pub fn split_failed_batches(mut self) -> Self {
        self.settings_mut().splits = true;
        self
    }

    /// [Splits](Self::split_failed_batches) batches of these tools too, although their calls may then take effect twice.
    pub fn allow_repeated_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let settings = self.settings_mut();
        settings.splits = true;
        settings.repeatable.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Sets how long a server that stops waits for the answers to waiting calls. Calls that are left then get an error.
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings_mut().drain_timeout = timeout;
        self
    }

    /// Adds nothing to the `_meta` of successful results.
    pub fn without_meta(mut self) -> Self {
        self.settings_mut().emits_meta = false;
        self
    }

    /// Returns a handle to the counters of the layer, which stays valid after the layer has moved into a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { calls: self.calls.clone(), bound: Arc::clone(&self.bound) }
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl Default for BatchedTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BatchedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("BatchedTool")
            .field("calls", &self.calls)
            .field("bulks", &settings.bulks.keys())
            .field("selection", &self.selection)
            .field("scope", &settings.scope)
            .field("scopes", &settings.scopes)
            .field("identity", self.calls.identity())
            .field("splits", &settings.splits)
            .field("drain_timeout", &settings.drain_timeout)
            .finish_non_exhaustive()
    }
}
