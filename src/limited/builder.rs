//! The settings of the layer, and their setters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use turbomcp_types::ServerInfo;

use super::concurrency::Concurrency;
use super::handle::{Handle, Handled};
use super::limit::{ALL, Limit, Per};
use super::limits::Limits;
use super::plan::ToolPlan;
use super::rate::Rate;
#[cfg(feature = "redis")]
use super::redis::RedisBackend;
#[cfg(feature = "redis")]
use super::shared::SharedRates;
use crate::Identity;
use crate::selection::{Plan, Selection, selectors};

/// Limits the time, the number and the rate of calls. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct LimitedTool {
    pub(super) settings: Arc<Settings>,
    pub(super) selection: Selection,
    pub(super) plan: Plan<Arc<ToolPlan>>,
    pub(super) limits: Limits,
    pub(super) handled: Arc<Handled>,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) timeout: Option<Duration>,
    /// In the order of [`ALL`].
    pub(super) limits: [Limit; 3],
    pub(super) costs: BTreeMap<String, Cost>,
    pub(super) max_principals: usize,
    pub(super) replicas: Option<u32>,
    #[cfg(feature = "redis")]
    pub(super) backend: Option<RedisBackend>,
    pub(super) identity: Identity,
}

/// What a call of a tool takes from a rate.
#[derive(Clone)]
pub(super) enum Cost {
    Fixed(u32),
    Of(Arc<dyn Fn(&Value) -> u32 + Send + Sync>),
}

impl Cost {
    pub(super) fn of(&self, args: &Value) -> u32 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Of(cost) => cost(args),
        }
    }
}

/// How many principals have an entry of their own by default: about a megabyte.
pub(super) const MAX_PRINCIPALS: usize = 10_000;

impl LimitedTool {
    /// Creates a layer for every tool. It limits nothing yet, which is an error: give it a timeout or a limit.
    pub fn new() -> Self {
        let settings = Settings {
            timeout: None,
            limits: [Limit::NONE; 3],
            costs: BTreeMap::new(),
            max_principals: MAX_PRINCIPALS,
            replicas: None,
            #[cfg(feature = "redis")]
            backend: None,
            identity: Identity::new(),
        };
        Self {
            limits: Limits::new(settings.limits, settings.max_principals, 1),
            settings: Arc::new(settings),
            selection: Selection::new(),
            plan: Plan::default(),
            handled: Arc::default(),
        }
    }

    selectors!();

    /// Ends a call that has run for so long. The time in a queue does not count.
    ///
    /// A tool that is not read-only may have had its effect: the error says so.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.settings_mut().timeout = Some(timeout);
        self
    }

    /// Limits how often calls are made. A second call with the same `per` replaces the rate.
    pub fn with_rate(mut self, per: Per, rate: Rate) -> Self {
        self.limit_mut(per).rate = Some(rate);
        self
    }

    /// Limits how many calls run at the same time. A second call with the same `per` replaces the limit.
    pub fn with_concurrency(mut self, per: Per, concurrency: Concurrency) -> Self {
        self.limit_mut(per).concurrency = Some(concurrency);
        self
    }

    /// Counts each call of a tool as so many for all rates. Zero: it does not count. Default: one.
    pub fn with_cost(mut self, tool: impl Into<String>, calls: u32) -> Self {
        self.settings_mut().costs.insert(tool.into(), Cost::Fixed(calls));
        self
    }

    /// Counts a call of a tool as so many for all rates as the function says of its arguments.
    ///
    /// They are as the client has sent them, unless a [`ValidatedTool`](crate::guide::validation) is further out.
    pub fn with_cost_by(
        mut self,
        tool: impl Into<String>,
        cost: impl Fn(&Value) -> u32 + Send + Sync + 'static,
    ) -> Self {
        self.settings_mut().costs.insert(tool.into(), Cost::Of(Arc::new(cost)));
        self
    }

    /// Sets how many principals, tools, or pairs of both have an entry of their own. Default: 10,000.
    ///
    /// If the table is full, those leave who are not limited at the moment. If it is still full, newcomers share one entry.
    pub fn with_max_principals(mut self, principals: usize) -> Self {
        self.settings_mut().max_principals = principals;
        self
    }

    /// Shares the limits among so many processes: each lets its part through. Default: the limits are those of one process.
    ///
    /// A concurrency is divided, and rounded down. Each call counts for a rate as if each process had made one. If the number changes,
    /// set the highest one.
    pub fn with_replicas(mut self, replicas: u32) -> Self {
        self.settings_mut().replicas = Some(replicas);
        self
    }

    /// Counts the rates of all processes together in Redis, in one round trip for each call. Set
    /// [`with_replicas`](Self::with_replicas), too: each process lets its part through while Redis does not answer.
    ///
    /// A concurrency stays divided: a place in Redis would outlive the process that holds it.
    #[cfg(feature = "redis")]
    pub fn with_backend(mut self, backend: RedisBackend) -> Self {
        self.settings_mut().backend = Some(backend);
        self
    }

    /// Sets how principals are distinguished. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Returns a handle to the counters, which stays valid after the layer is put on a server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.handled))
    }

    /// The limits of the layer on this server.
    pub(super) fn limits_on(&self, server: &ServerInfo) -> Limits {
        let settings = &self.settings;
        let limits = Limits::new(settings.limits, settings.max_principals, settings.replicas.unwrap_or(1));
        #[cfg(feature = "redis")]
        if let Some(backend) = &settings.backend {
            let named = self.selection.named();
            return limits.with_shared(SharedRates::new(backend.clone(), &server.name, &settings.limits, named));
        }
        let _ = server;
        limits
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    fn limit_mut(&mut self, per: Per) -> &mut Limit {
        let [both, principal, tool] = &mut self.settings_mut().limits;
        match per {
            Per::PrincipalAndTool => both,
            Per::Principal => principal,
            Per::Tool => tool,
        }
    }
}

impl Settings {
    /// The limits with what they count.
    pub(super) fn limits(&self) -> impl Iterator<Item = (Per, Limit)> {
        ALL.into_iter().zip(self.limits)
    }

    pub(super) fn has_rate(&self) -> bool {
        self.limits.iter().any(|limit| limit.rate.is_some())
    }
}

impl Default for LimitedTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LimitedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedTool")
            .field("timeout", &self.settings.timeout)
            .field("limits", &self.settings.limits)
            .field("costs", &self.settings.costs.keys())
            .field("max_principals", &self.settings.max_principals)
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}
