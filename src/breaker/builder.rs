//! The settings of the layer, and their setters.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::breakers::{Breakers, Groups};
use super::handle::{Handle, Handled};
use super::plan::ToolPlan;
use crate::Identity;
use crate::circuit::{Rules, Window};
use crate::outcome::Failure;
use crate::selection::{Plan, Selection, selectors};

/// Refuses calls of tools whose backend fails, and tries it again after a pause. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct BreakerTool {
    pub(super) settings: Arc<Settings>,
    pub(super) selection: Selection,
    pub(super) plan: Plan<Arc<ToolPlan>>,
    pub(super) breakers: Breakers,
    pub(super) handled: Arc<Handled>,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) rules: Rules,
    pub(super) slow_after: Option<Duration>,
    pub(super) failure_if: Option<Predicate>,
    /// The groups, in the order in which they were added, each with the tools that it names.
    pub(super) groups: Vec<(String, Vec<String>)>,
    pub(super) emits_meta: bool,
    pub(super) identity: Identity,
}

type Predicate = Arc<dyn Fn(&Failure<'_>) -> bool + Send + Sync>;

/// The settings of a breaker by default.
const RULES: Rules =
    Rules { window: Window::calls(20), min_calls: 5, failure_rate: 0.5, pause: Duration::from_secs(5), probes: 1 };

impl BreakerTool {
    /// Creates a layer with a breaker for each tool, which opens when half of the last twenty calls have failed. See the
    /// [defaults](super#defaults).
    pub fn new() -> Self {
        let settings = Settings {
            rules: RULES,
            slow_after: None,
            failure_if: None,
            groups: Vec::new(),
            emits_meta: true,
            identity: Identity::new(),
        };
        Self {
            breakers: Breakers::new(settings.rules, Groups::default()),
            settings: Arc::new(settings),
            selection: Selection::new(),
            plan: Plan::default(),
            handled: Arc::default(),
        }
    }

    selectors!();

    /// Sets the calls by which a breaker decides whether it opens. Default: the last 20 calls.
    pub fn with_window(mut self, window: Window) -> Self {
        self.settings_mut().rules.window = window;
        self
    }

    /// Sets the share of the calls in the window whose failure opens a breaker. Default: 0.5.
    pub fn with_failure_rate(mut self, rate: f64) -> Self {
        self.settings_mut().rules.failure_rate = rate;
        self
    }

    /// Sets how many calls have to be in the window before a breaker opens. Default: 5.
    pub fn with_min_calls(mut self, calls: usize) -> Self {
        self.settings_mut().rules.min_calls = calls;
        self
    }

    /// Counts a call that has run for so long as failed, whatever its result, and also if its caller leaves. Default: none is too slow.
    ///
    /// The time in a queue further in counts, too. A call that has sent its client a request is never slow: a person takes longer than a service.
    pub fn with_slow_calls(mut self, after: Duration) -> Self {
        self.settings_mut().slow_after = Some(after);
        self
    }

    /// Sets how long a breaker stays open before it lets a probe through. Default: 5 seconds.
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.settings_mut().rules.pause = pause;
        self
    }

    /// Sets how many probes have to succeed before a breaker closes. No more are let through at the same time. Default: one.
    pub fn with_probes(mut self, probes: usize) -> Self {
        self.settings_mut().rules.probes = probes;
        self
    }

    /// Gives these tools one breaker, with this name: for tools that have one backend.
    pub fn with_group(mut self, name: impl Into<String>, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let group = (name.into(), tools.into_iter().map(Into::into).collect());
        self.settings_mut().groups.push(group);
        self
    }

    /// Counts the failures for which `predicate` returns true, instead of the temporary ones. A call that a layer further in has refused
    /// counts in no case.
    pub fn failure_if(mut self, predicate: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.settings_mut().failure_if = Some(Arc::new(predicate));
        self
    }

    /// Sets how principals are distinguished. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Adds nothing to the `_meta` of results. A refusal keeps its word and its time.
    pub fn without_meta(mut self) -> Self {
        self.settings_mut().emits_meta = false;
        self
    }

    /// Returns a handle to the breakers and counters, which stays valid after the layer is put on a server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.handled))
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl Default for BreakerTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BreakerTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerTool")
            .field("rules", &self.settings.rules)
            .field("slow_after", &self.settings.slow_after)
            .field("groups", &self.settings.groups)
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}
