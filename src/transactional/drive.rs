//! How a body gets its transaction: it joins one, opens a savepoint in one, or begins new ones until one does not
//! conflict.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{Attempt, Ended};
use super::current::TransactionHandle;
use super::dialect::Dialect;
use super::error::TransactionError;
use super::metrics::End;
use super::options::{Begin, Propagation};
use super::results::Results;
use super::savepoint::{join, savepoint};
use super::transactor::Transactor;
use crate::cancellation::Cancellation;
use crate::clock::later;
use crate::retry::{Judge, Verdict};
use crate::scope;

impl<DB: Dialect> Transactor<DB> {
    /// Runs `body` in a transaction. [`current`](super::current()) gives it the connection.
    ///
    /// `body` runs once for each attempt: what it does outside the database happens as often.
    ///
    /// # Errors
    ///
    /// The error of `body`, after the rollback; or a [`TransactionError`] of the transaction itself.
    pub async fn run<T, E, B, F>(&self, cancellation: &impl Cancellation, body: B) -> Result<T, E>
    where
        B: FnMut() -> F,
        F: Future<Output = Result<T, E>>,
        E: From<TransactionError>,
    {
        struct ByResult;
        impl<T, E: From<TransactionError>> Results<Result<T, E>> for ByResult {
            fn is_success(&self, result: &Result<T, E>) -> bool {
                result.is_ok()
            }
            fn failure(&self, error: TransactionError) -> Result<T, E> {
                Err(error.into())
            }
        }
        self.drive(false, cancellation, &ByResult, body).await
    }

    /// Returns whether a body that begins now gets its own transaction, and joins none.
    pub(super) fn begins_one(&self) -> bool {
        self.propagation == Propagation::RequiresNew || scope::current::<TransactionHandle<DB>>().is_none()
    }

    pub(super) async fn drive<R, B, F>(
        &self,
        read_only: bool,
        cancellation: &impl Cancellation,
        results: &impl Results<R>,
        mut body: B,
    ) -> R
    where
        B: FnMut() -> F,
        F: Future<Output = R>,
    {
        // Boxed, so that nested bodies stay small.
        let mut body = || Box::pin(body());
        let outer = match self.propagation {
            Propagation::RequiresNew => None,
            _ => scope::current::<TransactionHandle<DB>>(),
        };
        match (self.propagation, outer) {
            (Propagation::Mandatory, None) => results.failure(TransactionError::None),
            (Propagation::Nested, Some(outer)) => savepoint(&outer, results, body()).await,
            (_, Some(outer)) => join(&outer.control, results, body()).await,
            (_, None) => {
                let begin = Begin { read_only: self.begin.read_only || read_only, ..self.begin };
                let deadline = begin.timeout.map(|timeout| later(Instant::now(), timeout));
                let report = ReportOnDrop { results, is_armed: true, result: PhantomData };
                let judge = ByEnd(results);
                let attempt = Attempt { transactor: self, begin, deadline, cancellation, results };
                let driven = self
                    .policy
                    .drive(cancellation, &judge, |number| {
                        let attempted = attempt.run(body());
                        scope::capture().with(Arc::new(results.label(number))).enter(attempted)
                    })
                    .await;
                let (mut result, end) = match driven.result {
                    Ended::Done(result, end) => (result, end),
                    Ended::Conflict(_) if driven.exhausted.is_some() => {
                        (results.failure(TransactionError::Conflict { attempts: driven.attempts }), End::Conflict)
                    }
                    Ended::Conflict(result) => (result, End::Conflict),
                };
                report.disarm();
                results.note_end(Some(&result), end);
                if driven.attempts > 1 && !matches!(end, End::Conflict) {
                    results.note_attempts(&mut result, driven.attempts);
                }
                result
            }
        }
    }
}

/// Reports the end of a transaction whose caller has dropped it, or whose body has panicked.
struct ReportOnDrop<'a, R, S: Results<R>> {
    results: &'a S,
    is_armed: bool,
    result: PhantomData<fn(R)>,
}

impl<R, S: Results<R>> ReportOnDrop<'_, R, S> {
    fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl<R, S: Results<R>> Drop for ReportOnDrop<'_, R, S> {
    fn drop(&mut self) {
        if self.is_armed {
            let end = if std::thread::panicking() { End::Panicked } else { End::Cancelled };
            self.results.note_end(None, end);
        }
    }
}

/// Judges the ends of transactions for the policy that retries them.
struct ByEnd<'a, S>(&'a S);

impl<R, S: Results<R>> Judge<Ended<R>> for ByEnd<'_, S> {
    fn verdict(&self, ended: &Ended<R>) -> Option<Verdict> {
        match ended {
            Ended::Done(..) => None,
            Ended::Conflict(_) => Some(Verdict::Temporary { retry_after: None, throttled: false }),
        }
    }

    fn timed_out(&self, after: Duration) -> Ended<R> {
        Ended::Done(self.0.failure(TransactionError::TimedOut { after }), End::TimedOut)
    }

    fn will_retry(&self, attempt: u32, _: &Ended<R>, delay: Duration) {
        self.0.note_retry();
        tracing::debug!(attempt, ?delay, "a transaction conflicted with another: a new one begins");
    }

    fn may_repeat(&self) -> bool {
        self.0.may_repeat()
    }
}
