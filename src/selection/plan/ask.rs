//! Looks up a tool that no listing has contained yet.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use turbomcp_core::RequestContext;

use super::callers::{FRESH, Last};
use super::cell::Reading;
use super::look_ups::{REMEMBERED, Turn};
use super::{Plan, State};

/// The next step of a caller of an unknown tool.
pub(in crate::selection) enum Asked<T> {
    Answered(Answer<T>),
    /// Waits for the running listing. If it fails, the log has it under this id.
    Waits {
        ended: watch::Receiver<bool>,
        id: Arc<str>,
    },
    Lists(Listing<T>),
}

/// The result of a caller's listing for a tool.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::selection) enum Answer<T> {
    Listed(Option<T>),
    NotListed,
    /// It was not listed, because there were too many look-ups. Contains whether others see the tool, and the id of the
    /// log entry.
    TooMany {
        exists: bool,
        id: Arc<str>,
    },
    /// The log has it under this id.
    Failed {
        id: Arc<str>,
    },
}

/// Looks up an unknown tool, or with `anew` one whose definition the caller has not received within a minute.
pub(in crate::selection) fn ask<T: Clone + PartialEq>(
    plan: &Plan<T>,
    tool: &str,
    ctx: &RequestContext,
    anew: bool,
) -> Asked<T> {
    let (key, now) = (plan.key(ctx), Instant::now());
    let mut state = plan.state();
    let answer = answer_to(plan, &key, tool, &state);
    let last = state.callers.last(&key, REMEMBERED, if anew { FRESH } else { REMEMBERED }, now);
    // The plain listing is an anonymous caller's own listing.
    let is_own = last == Some(Last::Listed) || (anew && key.is_empty());
    if is_own || (!anew && matches!(answer, Answer::Listed(_))) {
        return Asked::Answered(answer);
    }
    if let Some(Last::Failed { id }) = last {
        return Asked::Answered(Answer::Failed { id });
    }
    match state.look_ups.turn(&key, now) {
        Turn::Wait { ended, id } => Asked::Waits { ended, id },
        Turn::List { end, running, id } => Asked::Lists(Listing { plan: plan.clone(), key, end, running, id }),
        Turn::Overdue { id } => Asked::Answered(Answer::Failed { id }),
        Turn::TooMany { id, unsaid } => {
            drop(state);
            if let Some(unsaid) = unsaid {
                let (id, tool) = (&*id, &*shortened(tool));
                tracing::warn!(id, tool, unsaid, "too many callers ask for tools that are not known");
            }
            let exists = matches!(plan.read(tool), Some(Reading::Decided(_) | Reading::Varies));
            Asked::Answered(Answer::TooMany { exists, id })
        }
    }
}

/// The knowledge about the tool after a listing.
pub(in crate::selection) fn answer<T: Clone + PartialEq>(
    plan: &Plan<T>,
    tool: &str,
    ctx: &RequestContext,
) -> Answer<T> {
    answer_to(plan, &plan.key(ctx), tool, &plan.state())
}

fn answer_to<T: Clone + PartialEq>(plan: &Plan<T>, key: &[u8], tool: &str, state: &State<T>) -> Answer<T> {
    let decision = match plan.read(tool) {
        Some(Reading::Decided(decision)) => Some(decision),
        Some(Reading::Varies) => state.callers.own(key, tool, Instant::now()),
        Some(Reading::Forgotten) | None => None,
    };
    decision.map_or(Answer::NotListed, Answer::Listed)
}

/// A running listing for a caller. Its drop wakes the waiting callers.
pub(in crate::selection) struct Listing<T> {
    plan: Plan<T>,
    key: Vec<u8>,
    end: watch::Sender<bool>,
    pub(in crate::selection) running: Arc<Semaphore>,
    /// The id of its failure in the log.
    pub(in crate::selection) id: Arc<str>,
}

impl<T> Listing<T> {
    pub(in crate::selection) fn ended(&self) -> watch::Receiver<bool> {
        self.end.subscribe()
    }

    /// Records that the tools were listed.
    pub(in crate::selection) fn succeed(self) {
        self.end.send_replace(true);
    }
}

impl<T> Drop for Listing<T> {
    fn drop(&mut self) {
        let mut state = self.plan.state();
        if !*self.end.borrow() {
            state.callers.note_failure(&self.key, Arc::clone(&self.id), Instant::now());
        }
        state.look_ups.end(&self.key);
    }
}

/// A name in the form for the log. The caller chose it, so it may have any length.
pub(in crate::selection) fn shortened(tool: &str) -> String {
    tool.chars().take(100).collect()
}
