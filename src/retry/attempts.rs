//! The loop of attempts, and what their results mean for the next one.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use turbomcp_core::McpError;

use super::usage::Caller;
use super::{Jitter, RetryPolicy};
use crate::cancellation::{Cancellation, cancelled};
use crate::clock::{CENTURY, share};
use crate::outcome::{Failure, RETRY, marked, timed_out};

/// What a result means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Another attempt would fail too.
    Permanent,
    /// The same call may succeed later.
    #[non_exhaustive]
    Temporary {
        /// The time that the failing service asks callers to wait.
        retry_after: Option<Duration>,
        /// Whether the failure asks for less load. Delays then start higher.
        throttled: bool,
    },
}

/// An error that says whether another attempt may succeed. [`McpError`](turbomcp_core::McpError) implements it.
///
/// Later versions may add methods that have a default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whether another attempt may succeed",
    note = "map it to `turbomcp::McpError`, whose kind says so, or implement `mcp_patterns::retry::Retryable` for your own type"
)]
pub trait Retryable: Sized {
    /// Returns whether another attempt may succeed.
    fn verdict(&self) -> Verdict;

    /// Creates the error of an attempt that took longer than the [attempt timeout](RetryPolicy::with_attempt_timeout).
    fn timed_out(after: Duration) -> Self;
}

impl Retryable for McpError {
    fn verdict(&self) -> Verdict {
        Verdict::of(&Failure::of_error(self), Failure::is_temporary)
    }

    fn timed_out(after: Duration) -> Self {
        marked(RETRY, "timed_out", timed_out(after))
    }
}

impl Verdict {
    /// Creates the verdict that another attempt may succeed, after `retry_after` if the failing service asks for that.
    #[must_use]
    pub const fn temporary(retry_after: Option<Duration>) -> Self {
        Self::Temporary { retry_after, throttled: false }
    }

    /// Creates the verdict that another attempt may succeed and that the failing service asks for less load.
    #[must_use]
    pub const fn throttled(retry_after: Option<Duration>) -> Self {
        Self::Temporary { retry_after, throttled: true }
    }

    /// Classifies a failure: an exhausted one is permanent, and so is an unfinished call. Any other is what `is_temporary` says.
    pub(super) fn of<'a>(failure: &Failure<'a>, is_temporary: impl Fn(&Failure<'a>) -> bool) -> Self {
        if failure.is_exhausted() || failure.unfinished().is_some() || !is_temporary(failure) {
            Self::Permanent
        } else {
            Self::Temporary { retry_after: failure.retry_after(), throttled: failure.is_throttling() }
        }
    }
}

/// Why there is no further attempt after a temporary failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Attempts,
    Deadline,
    Budget,
    Cancelled,
    Asked,
}

impl Exhausted {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::Cancelled => "cancelled",
            Self::Asked => "asked",
        }
    }
}

/// The result of the last attempt, and how many there were.
pub(crate) struct LastAttempt<R> {
    pub(crate) result: R,
    pub(crate) attempts: u32,
    pub(crate) exhausted: Option<Exhausted>,
}

/// Classifies the results of attempts.
pub(crate) trait Judge<R>: Sync {
    /// Returns `None` for a success.
    fn verdict(&self, result: &R) -> Option<Verdict>;
    fn timed_out(&self, after: Duration) -> R;
    fn will_retry(&self, attempt: u32, result: &R, delay: Duration);

    /// Whether another attempt is allowed, whatever the results so far.
    fn may_repeat(&self) -> bool {
        true
    }
}

/// Classifies a result by its error.
pub(crate) struct ByError;

impl<T, E: Retryable> Judge<Result<T, E>> for ByError {
    fn verdict(&self, result: &Result<T, E>) -> Option<Verdict> {
        result.as_ref().err().map(Retryable::verdict)
    }

    fn timed_out(&self, after: Duration) -> Result<T, E> {
        Err(E::timed_out(after))
    }

    fn will_retry(&self, attempt: u32, _: &Result<T, E>, delay: Duration) {
        tracing::debug!(attempt, ?delay, "retrying");
    }
}

impl RetryPolicy {
    /// Calls `attempt` until it succeeds, fails permanently, or the policy allows no further attempt, and returns the last result.
    ///
    /// `attempt` gets the number of the attempt, from 1. A `cancellation` (the tool's `&RequestContext`, or `&()`) ends
    /// a wait between two attempts within 50 ms; then the last failure is returned.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, unchanged.
    pub async fn run<T, E, A, F>(&self, cancellation: &impl Cancellation, attempt: A) -> Result<T, E>
    where
        A: FnMut(u32) -> F,
        F: Future<Output = Result<T, E>>,
        E: Retryable,
    {
        self.drive(cancellation, &ByError, attempt).await.result
    }

    pub(crate) async fn drive<R, A, F>(
        &self,
        cancellation: &impl Cancellation,
        judge: &impl Judge<R>,
        mut attempt: A,
    ) -> LastAttempt<R>
    where
        A: FnMut(u32) -> F,
        F: Future<Output = R>,
    {
        let started = Instant::now();
        let mut delays = None;
        let mut attempts = 0;
        let caller = cancellation.call().map(|ctx| Caller { identity: &self.identity, ctx });
        if let Some(budget) = &self.budget {
            budget.deposit(caller);
        }
        loop {
            attempts += 1;
            let result = match self.attempt_timeout(started, attempts) {
                None => attempt(attempts).await,
                Some(after) => timeout(after, attempt(attempts)).await.unwrap_or_else(|_| judge.timed_out(after)),
            };
            let (retry_after, throttled) = match judge.verdict(&result) {
                Some(Verdict::Temporary { retry_after, throttled }) => (retry_after, throttled),
                None | Some(Verdict::Permanent) => return LastAttempt { result, attempts, exhausted: None },
            };
            let delays = delays.get_or_insert_with(|| self.delays.as_ref().map(|delays| delays.start()));
            let delay = match delays {
                None => Some(self.delay(attempts, throttled && retry_after.is_none())),
                Some(delays) => delays.next(),
            }
            // The failing service gets the time that it asked for; the delay on top keeps its callers apart.
            .map(|delay| delay.saturating_add(retry_after.unwrap_or_default()).min(CENTURY));
            let next = match delay {
                _ if attempts >= self.max_attempts => Err(Exhausted::Attempts),
                None => Err(Exhausted::Attempts),
                _ if !judge.may_repeat() => Err(Exhausted::Asked),
                _ if cancellation.is_cancelled() => Err(Exhausted::Cancelled),
                // A service that asks for a century does not want another call, even without a deadline.
                Some(delay)
                    if retry_after.is_some_and(|asked| asked >= CENTURY)
                        || self
                            .deadline
                            .is_some_and(|deadline| started.elapsed().saturating_add(delay) >= deadline) =>
                {
                    Err(Exhausted::Deadline)
                }
                _ if self.budget.as_ref().is_some_and(|budget| !budget.withdraw(caller)) => Err(Exhausted::Budget),
                Some(delay) => Ok(delay),
            };
            let exhausted = match next {
                Ok(delay) => {
                    judge.will_retry(attempts, &result, delay);
                    let cancelled =
                        timeout(delay, cancelled(cancellation)).await.is_ok() || cancellation.is_cancelled();
                    cancelled.then_some(Exhausted::Cancelled)
                }
                Err(exhausted) => Some(exhausted),
            };
            if exhausted.is_some() {
                return LastAttempt { result, attempts, exhausted };
            }
        }
    }

    /// The deadline shortens the timeout of later attempts, not of the first one.
    fn attempt_timeout(&self, started: Instant, attempt: u32) -> Option<Duration> {
        let timeout = self.attempt_timeout?;
        Some(match self.deadline {
            Some(deadline) if attempt > 1 => timeout.min(deadline.saturating_sub(started.elapsed())),
            _ => timeout,
        })
    }

    fn delay(&self, attempts: u32, throttled: bool) -> Duration {
        let base = if throttled { self.throttled_delay } else { self.base_delay };
        let exponent = i32::try_from(attempts - 1).unwrap_or(i32::MAX);
        let whole = Duration::try_from_secs_f64(base.as_secs_f64() * self.factor.powi(exponent))
            .map_or(self.max_delay, |delay| delay.min(self.max_delay));
        match self.jitter {
            Jitter::None => whole,
            Jitter::Full if throttled => share(whole, 0.5 + self.random.unit() / 2.0),
            Jitter::Full => share(whole, self.random.unit()),
        }
    }
}
