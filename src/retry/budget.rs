use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::debts::{Borrower, Debts};
use crate::ConfigError;

/// A token bucket that bounds how much retries add to the load of a service that fails for everybody.
///
/// Each call pays a part of a token in, each retry takes one out; a few tokens per second come in on their own, so that a
/// quiet server recovers. When none is left, failures are returned at once. Clones share the bucket.
///
/// Each caller has a share of it: whoever has used as much of late as is left in the bucket gets nothing more from it. A caller whose
/// calls all fail takes half of a full bucket, the next one up to half of the rest, and `n` of them come to leave `1/(n+1)` of it for
/// others (the rule of dynamic thresholds, Choudhury and Hahne, 1998). What a caller has used is paid back by what the
/// caller's own calls pay in, and is forgotten when the bucket is full. Callers who are not authenticated are told apart by their connection. Work that is for no call
/// (`&()` as its cancellation) takes what there is.
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
    debts: Debts,
}

/// Millionths of a token to the token.
const TOKEN: i64 = 1_000_000;

impl Budget {
    /// One retry for ten calls and one per second, with a burst of 100.
    pub fn new() -> Self {
        Self { ratio: 0.1, per_second: 1.0, burst: 100, bucket: Bucket::full(100) }
    }

    /// Sets how many retries each call pays for.
    pub const fn with_ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Sets how many retries per second are allowed whatever the number of calls.
    pub const fn with_retries_per_second(mut self, per_second: f64) -> Self {
        self.per_second = per_second;
        self
    }

    /// Sets how many retries can be saved up. The bucket starts full, and is a new one.
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

    /// Pays for a call.
    pub(super) fn deposit(&self, borrower: Option<Borrower<'_>>) {
        let paid = parts(self.ratio);
        self.add(paid);
        if let Some(borrower) = borrower {
            self.bucket.debts.repay(borrower, paid);
        }
    }

    /// Takes a token for a retry. False where there is none, or none for this caller.
    pub(super) fn withdraw(&self, borrower: Option<Borrower<'_>>) -> bool {
        self.refill();
        let tokens = &self.bucket.tokens;
        let take = || {
            tokens
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                    (tokens >= TOKEN).then_some(tokens - TOKEN)
                })
                .is_ok()
        };
        match borrower {
            None => take(),
            Some(borrower) => self.bucket.debts.lend(borrower, TOKEN, tokens.load(Ordering::Relaxed), take),
        }
    }

    pub(super) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        if [self.ratio, self.per_second].iter().any(|rate| !rate.is_finite() || *rate < 0.0) {
            return Err(ConfigError::invalid(
                layer,
                "with_budget",
                "a ratio or rate is below zero or no number: use `without_budget()` to retry without bounds",
            ));
        }
        Ok(())
    }

    fn refill(&self) {
        let now = Instant::now();
        let mut refilled = self.bucket.refilled.lock().unwrap_or_else(PoisonError::into_inner);
        let since = refilled.get_or_insert(now);
        let earned = parts(now.duration_since(*since).as_secs_f64() * self.per_second);
        // Time that has not earned anything yet goes on counting.
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
                self.bucket.debts.forgive();
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
            debts: Debts::default(),
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
