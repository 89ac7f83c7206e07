//! Loads whose answer is not kept: failures, answers that depend on a session, and calls that ask a client.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use turbomcp_core::{McpError, McpResult};

use super::answer::{Answer, Cacheable, Failed, Status, note};
use crate::Scope;
use crate::cached::cache::error::LoadError;
use crate::cached::cache::load::Source;
use crate::outcome::{self, Failure};
use crate::shared_work::{SessionOfCall, Work, session_opened};

/// A load that ended without an answer that may be kept.
#[derive(Debug, Clone)]
pub(in crate::cached) enum LoadFailure {
    /// The answer is a failure.
    Failed(McpResult<Answer>),
    /// No reply comes. If the failure was kept, this is its age.
    Unanswered(McpError, Option<Duration>),
    /// The handler opened its session, and the scope shares answers between sessions.
    OfSession(McpResult<Answer>, SessionOfCall),
    /// The handler has asked the client of the caller who began it, and the call belongs to that caller from then on.
    OfClient(OwnCall),
}

/// A call that one caller continues.
#[derive(Clone)]
pub(in crate::cached) struct OwnCall(Arc<Mutex<Option<Call>>>);

type Call = BoxFuture<'static, McpResult<Answer>>;

impl OwnCall {
    pub(in crate::cached) fn new(call: Call) -> Self {
        Self(Arc::new(Mutex::new(Some(call))))
    }

    /// Takes the call. Only the first caller gets it.
    pub(in crate::cached) fn take(&self) -> Option<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for OwnCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCall").finish_non_exhaustive()
    }
}

impl LoadFailure {
    /// Returns the failure, unless the answer only depends on a session or a client.
    pub(in crate::cached) fn failure(&self) -> Option<Failure<'_>> {
        match self {
            Self::Failed(answer) => Answer::failure(answer),
            Self::Unanswered(error, _) => Some(Failure::of_error(error)),
            Self::OfSession(..) | Self::OfClient(_) => None,
        }
    }

    /// The failure for all callers who wait, in the form of this kind.
    pub(in crate::cached) fn failed<A: Cacheable>(self) -> Failed<A> {
        let (error, age) = match self {
            Self::Failed(answer) | Self::OfSession(answer, _) => return Failed(Answer::open(answer)),
            Self::Unanswered(error, age) => (error, age),
            Self::OfClient(_) => (LoadError::aborted(), None),
        };
        let mut failed = A::of_error(error);
        if let Some(age) = age {
            note(&mut failed, A::meta, outcome::CACHE, Status::of_kept_failure(age));
        }
        Failed(failed)
    }
}

/// Judges the answer of a load: an answer that depends on a session is not kept for others, and a failure is not kept as an answer.
#[expect(clippy::result_large_err, reason = "the end of a load is stored as it is")]
pub(in crate::cached) fn judged(
    answer: McpResult<Answer>,
    scope: Scope,
    work: &Work,
    session: SessionOfCall,
) -> Result<Answer, LoadFailure> {
    // What comes of an unfinished call is for the client of the caller who began it, too.
    if work.has_asked() || Answer::failure(&answer).is_some_and(|failure| failure.unfinished().is_some()) {
        return Err(LoadFailure::OfClient(OwnCall::new(async { answer }.boxed())));
    }
    if scope != Scope::Session && work.has_opened_session() {
        return Err(LoadFailure::OfSession(answer, session));
    }
    match Answer::failure(&answer) {
        None => answer.map_err(|error| LoadFailure::Failed(Err(error))),
        Some(_) => Err(LoadFailure::Failed(answer)),
    }
}

/// Returns an answer to a caller in the session that it depends on.
pub(in crate::cached) fn of_own_session<A: Cacheable>(answer: McpResult<Answer>) -> Result<(A, Source), Failed<A>> {
    // If the handler was called for another caller, an outer cache has not seen it open the session.
    session_opened();
    own(answer)
}

/// Asks for an answer that is for one caller alone.
pub(in crate::cached) async fn unshared<A: Cacheable>(
    asked: impl Future<Output = McpResult<A>>,
) -> Result<(A, Source), Failed<A>> {
    own(asked.await.map(Cacheable::into_answer))
}

/// Returns an answer to the one caller that it is for.
pub(in crate::cached) fn own<A: Cacheable>(answer: McpResult<Answer>) -> Result<(A, Source), Failed<A>> {
    let is_failure = Answer::failure(&answer).is_some();
    match Answer::open(answer) {
        Ok(answer) if !is_failure => Ok((answer, Source::Own)),
        failed => Err(Failed(failed)),
    }
}

impl LoadError for LoadFailure {
    fn timed_out(after: Duration) -> Self {
        Self::Unanswered(<McpError as LoadError>::timed_out(after), None)
    }

    fn aborted() -> Self {
        Self::Unanswered(LoadError::aborted(), None)
    }

    fn cancelled() -> Self {
        Self::Unanswered(<McpError as LoadError>::cancelled(), None)
    }

    fn allows_stale(&self) -> bool {
        // A stale value of no session and no client does not replace an answer that depends on one.
        self.failure().is_some_and(|failure| failure.is_outage())
    }

    fn with_age(self, age: Duration) -> Self {
        match self {
            Self::Failed(mut answer) => {
                note(&mut answer, Answer::meta, outcome::CACHE, Status::of_kept_failure(age));
                Self::Failed(answer)
            }
            Self::Unanswered(error, _) => Self::Unanswered(error, Some(age)),
            own @ (Self::OfSession(..) | Self::OfClient(_)) => own,
        }
    }
}
