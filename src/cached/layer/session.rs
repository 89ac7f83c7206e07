//! Whose answer it is when the handler opened its session, or asked a client: nobody's in another session, and nobody else's at all.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use turbomcp_core::{McpError, McpResult};

use super::answer::{Answer, Cacheable, Failed, note};
use super::call::Status;
use crate::Scope;
use crate::cached::cache::error::LoadError;
use crate::cached::cache::loader::Source;
use crate::outcome::{self, Failure};
use crate::shared_work::{SessionOfCall, Work, session_opened};

/// The end of a load that is not kept.
#[derive(Debug, Clone)]
pub(in crate::cached) enum Unkept {
    /// The answer is a failure.
    Failed(McpResult<Answer>),
    /// There is no answer. Where that is told again, this is how long ago it was.
    Unanswered(McpError, Option<Duration>),
    /// The handler opened its session, and the answers of this scope are for others too.
    OfSession(McpResult<Answer>, SessionOfCall),
    /// The handler has asked the client of the caller who began it, and the call is that caller's own from then on.
    OfClient(OwnCall),
}

/// A call that one caller goes on with.
#[derive(Clone)]
pub(in crate::cached) struct OwnCall(Arc<Mutex<Option<Call>>>);

type Call = BoxFuture<'static, McpResult<Answer>>;

impl OwnCall {
    pub(in crate::cached) fn new(call: Call) -> Self {
        Self(Arc::new(Mutex::new(Some(call))))
    }

    /// Takes the call, which is there once.
    pub(in crate::cached) fn take(&self) -> Option<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for OwnCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCall").finish_non_exhaustive()
    }
}

impl Unkept {
    /// Returns what went wrong, if that is no matter of sessions or clients.
    pub(in crate::cached) fn failure(&self) -> Option<Failure<'_>> {
        match self {
            Self::Failed(answer) => Answer::failure(answer),
            Self::Unanswered(error, _) => Some(Failure::of_error(error)),
            Self::OfSession(..) | Self::OfClient(_) => None,
        }
    }

    /// What all get who wait for it, in the form in which the kind fails.
    pub(in crate::cached) fn failed<A: Cacheable>(self) -> Failed<A> {
        let (error, age) = match self {
            Self::Failed(answer) | Self::OfSession(answer, _) => return Failed(Answer::open(answer)),
            Self::Unanswered(error, age) => (error, age),
            Self::OfClient(_) => (LoadError::lost(), None),
        };
        let mut failed = A::of_error(error);
        if let Some(age) = age {
            note(&mut failed, A::meta, outcome::CACHE, Status::told_again(age));
        }
        Failed(failed)
    }
}

/// Judges the end of a load: what depends on a session is not kept for others, and failures are not kept as answers.
#[expect(clippy::result_large_err, reason = "the end of a load is stored as it is")]
pub(in crate::cached) fn judged(
    answer: McpResult<Answer>,
    scope: Scope,
    work: &Work,
    session: SessionOfCall,
) -> Result<Answer, Unkept> {
    if work.has_asked() {
        return Err(Unkept::OfClient(OwnCall::new(async { answer }.boxed())));
    }
    if scope != Scope::Session && work.has_opened_session() {
        return Err(Unkept::OfSession(answer, session));
    }
    match Answer::failure(&answer) {
        None => answer.map_err(|error| Unkept::Failed(Err(error))),
        Some(_) => Err(Unkept::Failed(answer)),
    }
}

/// Hands an answer to a caller in the session that it depends on.
pub(in crate::cached) fn of_own_session<A: Cacheable>(answer: McpResult<Answer>) -> Result<(A, Source), Failed<A>> {
    // An outer cache has not seen the handler open the session, if it was asked for somebody else.
    session_opened();
    own(answer)
}

/// Asks for what is the caller's alone.
pub(in crate::cached) async fn unshared<A: Cacheable>(
    asked: impl Future<Output = McpResult<A>>,
) -> Result<(A, Source), Failed<A>> {
    own(asked.await.map(Cacheable::into_answer))
}

/// Hands an answer to the one caller that it is for.
pub(in crate::cached) fn own<A: Cacheable>(answer: McpResult<Answer>) -> Result<(A, Source), Failed<A>> {
    let is_failure = Answer::failure(&answer).is_some();
    match Answer::open(answer) {
        Ok(answer) if !is_failure => Ok((answer, Source::Own)),
        failed => Err(Failed(failed)),
    }
}

impl LoadError for Unkept {
    fn timed_out(after: Duration) -> Self {
        Self::Unanswered(<McpError as LoadError>::timed_out(after), None)
    }

    fn lost() -> Self {
        Self::Unanswered(LoadError::lost(), None)
    }

    fn cancelled() -> Self {
        Self::Unanswered(<McpError as LoadError>::cancelled(), None)
    }

    fn allows_stale(&self) -> bool {
        // A value that is of no session, and no client's, is not what the handler says now.
        self.failure().is_some_and(|failure| failure.is_outage())
    }

    fn told_again(self, age: Duration) -> Self {
        match self {
            Self::Failed(mut answer) => {
                note(&mut answer, Answer::meta, outcome::CACHE, Status::told_again(age));
                Self::Failed(answer)
            }
            Self::Unanswered(error, _) => Self::Unanswered(error, Some(age)),
            own @ (Self::OfSession(..) | Self::OfClient(_)) => own,
        }
    }
}
