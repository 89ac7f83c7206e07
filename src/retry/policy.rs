use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Budget, Delays};
use crate::clock::is_too_short;
use crate::explain::time;
use crate::{ConfigError, Identity};

/// How often and when a failed operation is retried.
///
/// See the [manual](super#example-inside-a-tool) for its use inside a tool, and [`RetryTool`](super::RetryTool) for the
/// layer that applies it to whole tool calls.
#[derive(Clone)]
#[must_use]
pub struct RetryPolicy {
    pub(super) max_attempts: u32,
    pub(super) base_delay: Duration,
    pub(super) throttled_delay: Duration,
    pub(super) factor: f64,
    pub(super) max_delay: Duration,
    pub(super) jitter: Jitter,
    pub(super) delays: Option<Arc<dyn Delays>>,
    pub(super) deadline: Option<Duration>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) budget: Option<Budget>,
    pub(super) identity: Identity,
    pub(super) random: Random,
}

/// How much of a delay is random, so that callers that failed together do not retry together.
///
/// See ["Exponential Backoff And Jitter"](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// A random part of the delay, from zero to the whole. From half to the whole if the failure asks for less load, so that no call
    /// is repeated at once.
    #[default]
    Full,
    /// The whole delay, each time.
    None,
}

impl RetryPolicy {
    /// Creates a policy of three attempts with full jitter. See the [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            max_attempts: 3,
            base_delay: Duration::from_millis(50),
            throttled_delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(20),
            jitter: Jitter::Full,
            delays: None,
            deadline: Some(Duration::from_secs(30)),
            attempt_timeout: None,
            budget: Some(Budget::new()),
            identity: Identity::new(),
            random: Random(None),
        }
    }

    /// Checks the settings. A [`RetryTool`](super::RetryTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for no attempts, a delay of zero, a factor below 1, a deadline or timeout below one
    /// millisecond, or a budget whose numbers are negative or not finite.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_as("RetryTool")
    }

    /// The maximum number of attempts, the first one included.
    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Writes the delays for an explanation.
    pub(super) fn delays_in_words(&self) -> String {
        match self.delays {
            Some(_) => "custom".to_owned(),
            None => format!("{} × {}, at most {}", time(self.base_delay), self.factor, time(self.max_delay)),
        }
    }

    /// Checks the settings of a policy that belongs to a layer.
    pub(crate) fn check_as(&self, layer: &'static str) -> Result<(), ConfigError> {
        let refuse = |setting, reason| Err(ConfigError::invalid(layer, setting, reason));
        if self.max_attempts == 0 {
            return refuse("with_max_attempts", "must be greater than zero");
        }
        for (setting, delay) in [
            ("with_base_delay", self.base_delay),
            ("with_throttled_delay", self.throttled_delay),
            ("with_max_delay", self.max_delay),
        ] {
            if delay.is_zero() {
                return refuse(setting, "must be greater than zero");
            }
        }
        if !self.factor.is_finite() || self.factor < 1.0 {
            return refuse("with_factor", "must be a finite number of at least 1");
        }
        if self.deadline.is_some_and(is_too_short) {
            return refuse("with_deadline", "must be at least 1 ms; `with_max_attempts(1)` disables retries");
        }
        if self.attempt_timeout.is_some_and(is_too_short) {
            return refuse("with_attempt_timeout", "must be at least 1 ms; remove this setting for no limit");
        }
        self.identity.check(layer)?;
        self.budget.as_ref().map_or(Ok(()), |budget| budget.check(layer))
    }
}

/// The setters that the policy and the layer share.
macro_rules! policy_setters {
    (|$this:ident| $policy:expr) => {
        /// Sets the maximum number of attempts, the first one included. One means no retries.
        pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
            let $this = &mut self;
            $policy.max_attempts = max_attempts;
            self
        }

        /// Sets the delay before the second attempt, before jitter. It grows by the [factor](Self::with_factor) from there.
        pub fn with_base_delay(mut self, delay: std::time::Duration) -> Self {
            let $this = &mut self;
            $policy.base_delay = delay;
            self
        }

        /// Sets the delay before the second attempt, before jitter, if the failure asks for less load without saying for how long.
        pub fn with_throttled_delay(mut self, delay: std::time::Duration) -> Self {
            let $this = &mut self;
            $policy.throttled_delay = delay;
            self
        }

        /// Sets the factor by which each delay is longer than the one before.
        pub fn with_factor(mut self, factor: f64) -> Self {
            let $this = &mut self;
            $policy.factor = factor;
            self
        }

        /// Sets the longest delay, before jitter. A server's `retryAfterMs` may be longer.
        pub fn with_max_delay(mut self, delay: std::time::Duration) -> Self {
            let $this = &mut self;
            $policy.max_delay = delay;
            self
        }

        /// Sets how much of a delay is random.
        pub fn with_jitter(mut self, jitter: $crate::retry::Jitter) -> Self {
            let $this = &mut self;
            $policy.jitter = jitter;
            self
        }

        /// Takes the delays from `delays` instead of computing them. After the last delay there is no further attempt.
        ///
        /// Any closure that returns an `Iterator<Item = Duration>` can be used.
        pub fn with_delays(mut self, delays: impl $crate::retry::Delays) -> Self {
            let $this = &mut self;
            $policy.delays = Some(std::sync::Arc::new(delays));
            self
        }

        /// Sets how long after the beginning of the first attempt another may begin, its delay included.
        ///
        /// A running attempt is not cut short: for that, set an [attempt timeout](Self::with_attempt_timeout).
        pub fn with_deadline(mut self, deadline: std::time::Duration) -> Self {
            let $this = &mut self;
            $policy.deadline = Some(deadline);
            self
        }

        /// Removes the deadline.
        pub fn without_deadline(mut self) -> Self {
            let $this = &mut self;
            $policy.deadline = None;
            self
        }

        /// Drops an attempt that takes longer than `timeout`, which is a temporary failure. Attempts after the first one get at most the
        /// rest of the deadline.
        ///
        /// Inside an `IdempotentTool`, a call with a key continues: the next attempt waits for it, and nothing is done twice.
        pub fn with_attempt_timeout(mut self, timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $policy.attempt_timeout = Some(timeout);
            self
        }

        /// Sets the budget, which several policies may share.
        pub fn with_budget(mut self, budget: $crate::retry::Budget) -> Self {
            let $this = &mut self;
            $policy.budget = Some(budget);
            self
        }

        /// Sets how callers are distinguished: each has a share of the [budget](Self::with_budget), and may see other annotations of a
        /// tool than others do. Give all layers the same [`Identity`](crate::Identity).
        pub fn with_identity(mut self, identity: $crate::Identity) -> Self {
            let $this = &mut self;
            $policy.identity = identity;
            self
        }

        /// Removes the budget: retries are not limited by their number.
        pub fn without_budget(mut self) -> Self {
            let $this = &mut self;
            $policy.budget = None;
            self
        }

        /// Makes the jitter repeatable, for tests.
        pub fn with_seed(mut self, seed: u64) -> Self {
            let $this = &mut self;
            $policy.random = $crate::retry::policy::Random::seeded(seed);
            self
        }
    };
}
pub(super) use policy_setters;

impl RetryPolicy {
    policy_setters!(|this| this);
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("max_attempts", &self.max_attempts)
            .field("base_delay", &self.base_delay)
            .field("throttled_delay", &self.throttled_delay)
            .field("factor", &self.factor)
            .field("max_delay", &self.max_delay)
            .field("jitter", &self.jitter)
            .field("own_delays", &self.delays.is_some())
            .field("deadline", &self.deadline)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("budget", &self.budget)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The source of jitter: the thread's generator, or one with a seed.
#[derive(Clone)]
pub(super) struct Random(Option<Arc<Mutex<fastrand::Rng>>>);

impl Random {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Some(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))))
    }

    /// Returns a number from 0 to 1, 1 excluded.
    pub(super) fn unit(&self) -> f64 {
        match &self.0 {
            None => fastrand::f64(),
            Some(seeded) => seeded.lock().unwrap_or_else(PoisonError::into_inner).f64(),
        }
    }
}
