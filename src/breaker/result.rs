//! What the result of a call says about what is behind its tool.

use std::time::Duration;

use turbomcp_core::RequestContext;

use super::builder::Settings;
use crate::circuit::Failed;
use crate::outcome::{ErrorKind, Failure};
use crate::questions::Questions;

/// A call that has ended, or whose caller has left.
pub(super) struct Ended<'a> {
    /// `None` for a success.
    pub(super) failure: Option<Failure<'a>>,
    pub(super) after: Duration,
    pub(super) needed_client: bool,
    pub(super) is_cancelled: bool,
}

impl<'a> Ended<'a> {
    pub(super) fn new(
        failure: Option<Failure<'a>>,
        after: Duration,
        questions: Option<&Questions>,
        ctx: &RequestContext,
    ) -> Self {
        let needed_client = questions.is_some_and(Questions::needed_the_client);
        Self { failure, after, needed_client, is_cancelled: ctx.is_cancelled() }
    }

    /// Returns whether what is behind the tool works, or `None` if the result says nothing about it.
    pub(super) fn says(&self, settings: &Settings) -> Option<Result<(), Failed>> {
        if self.failure.is_some_and(|failure| failure.is_turned_away()) {
            return None;
        }
        match self.failure {
            Some(failure) if self.counts(&failure, settings) => Some(Err(Failed::Failure)),
            _ if self.is_slow(settings) => Some(Err(Failed::Slow)),
            Some(_) => None,
            None => Some(Ok(())),
        }
    }

    /// Says whether the call took too long. A person takes longer than a service.
    pub(super) fn is_slow(&self, settings: &Settings) -> bool {
        !self.needed_client && settings.slow_after.is_some_and(|limit| self.after >= limit)
    }

    fn counts(&self, failure: &Failure<'_>, settings: &Settings) -> bool {
        // The client may be the one that did not answer.
        let is_of_client =
            self.needed_client && matches!(failure.kind(), Some(ErrorKind::Timeout | ErrorKind::Transport));
        let counts = match &settings.failure_if {
            Some(failure_if) => failure_if(failure),
            None => failure.is_temporary(),
        };
        counts && !is_of_client && !self.is_cancelled && failure.unfinished().is_none()
    }
}
