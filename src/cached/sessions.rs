//! Whose answer it is when the handler opened its session: nobody's in another one.

use std::future::Future;
use std::time::Duration;

use turbomcp_core::{McpError, McpResult};

use super::answer::{Answer, Cacheable, Failed, note};
use super::call::Status;
use super::error::LoadError;
use super::shared::Source;
use crate::Scope;
use crate::outcome::{self, Failure};
use crate::scope::{self, Witness};
use crate::shared::SessionOfCall;

/// The end of a load that is not kept.
#[derive(Debug, Clone)]
pub(super) enum Unkept {
    /// The answer is a failure.
    Failed(McpResult<Answer>),
    /// There is no answer. Where that is told again, this is how long ago it was.
    Unanswered(McpError, Option<Duration>),
    /// The handler opened its session, and the answers of this scope are for others too.
    OfSession(McpResult<Answer>, SessionOfCall),
}

impl Unkept {
    /// Returns what went wrong, if that is no matter of sessions.
    pub(super) fn failure(&self) -> Option<Failure<'_>> {
        match self {
            Self::Failed(answer) => Answer::failure(answer),
            Self::Unanswered(error, _) => Some(Failure::of_error(error)),
            Self::OfSession(..) => None,
        }
    }

    /// What all get who wait for it, in the form in which the kind fails.
    pub(super) fn failed<A: Cacheable>(self) -> Failed<A> {
        let (error, age) = match self {
            Self::Failed(answer) | Self::OfSession(answer, _) => return Failed(Answer::open(answer)),
            Self::Unanswered(error, age) => (error, age),
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
pub(super) fn judged(
    answer: McpResult<Answer>,
    scope: Scope,
    witness: &Witness,
    session: SessionOfCall,
) -> Result<Answer, Unkept> {
    if scope != Scope::Session && witness.saw_a_session() {
        return Err(Unkept::OfSession(answer, session));
    }
    match Answer::failure(&answer) {
        None => answer.map_err(|error| Unkept::Failed(Err(error))),
        Some(_) => Err(Unkept::Failed(answer)),
    }
}

/// Hands an answer to a caller in the session that it depends on.
pub(super) fn of_own_session<A: Cacheable>(answer: McpResult<Answer>) -> Result<(A, Source), Failed<A>> {
    // An outer cache has not seen the handler open the session, if it was asked for somebody else.
    scope::session_opened();
    loaded(answer)
}

/// Asks for what is the caller's alone.
pub(super) async fn unshared<A: Cacheable>(
    asked: impl Future<Output = McpResult<A>>,
) -> Result<(A, Source), Failed<A>> {
    loaded(asked.await.map(Cacheable::into_answer))
}

fn loaded<A: Cacheable>(answer: McpResult<Answer>) -> Result<(A, Source), Failed<A>> {
    let is_failure = Answer::failure(&answer).is_some();
    match Answer::open(answer) {
        Ok(answer) if !is_failure => Ok((answer, Source::Load)),
        failed => Err(Failed(failed)),
    }
}

impl LoadError for Unkept {
    fn timed_out(after: Duration) -> Self {
        Self::Unanswered(outcome::timed_out(after), None)
    }

    fn lost() -> Self {
        Self::Unanswered(LoadError::lost(), None)
    }

    fn cancelled() -> Self {
        Self::Unanswered(<McpError as LoadError>::cancelled(), None)
    }

    fn allows_stale(&self) -> bool {
        // A value that is of no session is not what the handler says now.
        self.failure().is_some_and(|failure| failure.is_outage())
    }

    fn told_again(self, age: Duration) -> Self {
        match self {
            Self::Failed(mut answer) => {
                note(&mut answer, Answer::meta, outcome::CACHE, Status::told_again(age));
                Self::Failed(answer)
            }
            Self::Unanswered(error, _) => Self::Unanswered(error, Some(age)),
            of_session @ Self::OfSession(..) => of_session,
        }
    }
}
