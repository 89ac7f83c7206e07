use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::usage::{Caller, Usage};
use crate::ConfigError;

/// A token bucket that limits how much load retries add to a service that fails for all callers.
///
/// Each call adds a part of a token, each retry takes one; a few tokens per second are added too, so that a quiet server
/// recovers. If the bucket is empty, failures are returned at once. Clones share the bucket.
///
/// Each caller has a share of it: a caller whose recent usage is as large as the rest of the bucket gets no more tokens. A caller whose
/// calls all fail takes half of a full bucket, the next one up to half of the rest, and `n` such callers leave `1/(n+1)` of it to
/// others (the rule of dynamic thresholds, Choudhury and Hahne, 1998). The caller's own calls reduce its usage, and a full bucket
/// resets it. Callers who are not authenticated are distinguished by their connection. Work without a caller (`&()` as its
/// cancellation) may take all tokens.
///
/// The ratio follows "a per-client retry budget" of the [Site Reliability Engineering book][sre]: retries add a tenth to the
/// load instead of tripling it.
///
/// [sre]: https://sre.google/sre-book/handling-overload/
#[derive(Clone)]
#[must_use]
pub struct Budget {
    ratio: f64,
    per_second: f64,
    burst: u32,
    bucket: Arc<Bucket>,
}

struct Bucket {
    /// Millionths of a token.
    tokens: AtomicI64,
    refilled: Mutex<Option<Instant>>,
    usage: Usage,
}

/// Millionths of a token to the token.
const TOKEN: i64 = 1_000_000;

impl Budget {
    /// Creates a budget of one retry for ten calls and one per second, with a burst of 100.
    pub fn new() -> Self {
        Self { ratio: 0.1, per_second: 1.0, burst: 100, bucket: Bucket::full(100) }
    }

    /// The rates, for an explanation.
    pub(super) fn in_words(&self) -> String {
        format!("{} for each call and {} per second, burst {}", self.ratio, self.per_second, self.burst)
    }

    /// Sets how many retries each call adds.
    pub const fn with_ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Sets how many retries are added per second, whatever the number of calls.
    pub const fn with_retries_per_second(mut self, per_second: f64) -> Self {
        self.per_second = per_second;
        self
    }

    /// Sets how many retries can be saved up. This creates a new bucket, which is full.
    pub fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self.bucket = Bucket::full(burst);
        self
    }

    /// Returns how many retries the bucket holds.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.refill();
        u32::try_from(self.bucket.tokens.load(Ordering::Relaxed) / TOKEN).unwrap_or(0)
    }

    /// Adds what a call pays.
    pub(super) fn deposit(&self, caller: Option<Caller<'_>>) {
        let paid = parts(self.ratio);
        self.add(paid);
        if let Some(caller) = caller {
            self.bucket.usage.credit(caller, paid);
        }
    }

    /// Takes a token for a retry. Returns false if there is none, or none for this caller.
    pub(super) fn withdraw(&self, caller: Option<Caller<'_>>) -> bool {
        self.refill();
        let tokens = &self.bucket.tokens;
        let take = || {
            tokens
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                    (tokens >= TOKEN).then_some(tokens - TOKEN)
                })
                .is_ok()
        };
        match caller {
            None => take(),
            Some(caller) => self.bucket.usage.charge(caller, TOKEN, tokens.load(Ordering::Relaxed), take),
        }
    }

    pub(super) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        if [self.ratio, self.per_second].iter().any(|rate| !rate.is_finite() || *rate < 0.0) {
            return Err(ConfigError::invalid(
                layer,
                "with_budget",
                "the ratio and the rate must be finite numbers of at least 0; `without_budget` removes the limit",
            ));
        }
        Ok(())
    }

    fn refill(&self) {
        let now = Instant::now();
        let mut refilled = self.bucket.refilled.lock().unwrap_or_else(PoisonError::into_inner);
        let since = refilled.get_or_insert(now);
        let earned = parts(now.duration_since(*since).as_secs_f64() * self.per_second);
        // Time that has not yet added a part of a token is kept for the next time.
        if earned > 0 {
            *since = now;
            drop(refilled);
            self.add(earned);
        }
    }

    fn add(&self, added: i64) {
        let full = i64::from(self.burst) * TOKEN;
        let bucket = &self.bucket.tokens;
        // A full bucket, the usual case, is only read.
        if bucket.load(Ordering::Relaxed) < full {
            let before = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                Some(tokens.saturating_add(added).min(full))
            });
            if before.is_ok_and(|before| before.saturating_add(added) >= full) {
                self.bucket.usage.reset();
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a float saturates, and the bucket is bounded")]
fn parts(tokens: f64) -> i64 {
    (tokens * TOKEN as f64) as i64
}

impl Bucket {
    fn full(burst: u32) -> Arc<Self> {
        Arc::new(Self {
            tokens: AtomicI64::new(i64::from(burst) * TOKEN),
            refilled: Mutex::new(None),
            usage: Usage::default(),
        })
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("ratio", &self.ratio)
            .field("per_second", &self.per_second)
            .field("burst", &self.burst)
            .field("available", &self.available())
            .finish()
    }
}
