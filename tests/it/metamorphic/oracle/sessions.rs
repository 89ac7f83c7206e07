//! What was kept in sessions, and who found it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Judge;
use crate::metamorphic::callers::CONNECTIONS;
use crate::metamorphic::log::{Answer, End, Execution, Made, opened};
use crate::metamorphic::plan::{Kind, SessionRoom, Setting};
use crate::metamorphic::requests::Op;

/// A session that is used at least so often lives: its use is noted every tenth of an hour.
const LIVES: Duration = Duration::from_secs(54 * 60);

/// What an empty session takes, and what one takes for its first visit and for each, at most.
const EMPTY: usize = 258;
const FIRST_VISIT: usize = 20;
const VISIT: usize = 5;

/// Who has a session: equal for executions that are in the same one.
type Name = (usize, String, Option<String>);

impl<'a> Judge<'a> {
    /// The session of an execution.
    fn session_of(&self, execution: &Execution) -> Name {
        let is = |mode| self.has(Kind::Session, mode);
        let name = match execution.handle {
            _ if is(Setting::ByHandle) => execution.handle.clone(),
            _ if is(Setting::ByPrincipal) => None,
            _ => execution.session_id.clone(),
        };
        (execution.environment, execution.owner(self.stack.identities), name)
    }

    /// No write to a session is lost, and each session is seen by whoever opened it.
    pub(super) fn sessions(&mut self) {
        let mut counts = BTreeSet::new();
        let executions = self.history.executions.iter().enumerate();
        let executions: Vec<_> = executions.filter_map(|(at, it)| Some((at, it, &it.visits.as_ref()?.by))).collect();
        for (at, execution, by) in &executions {
            self.is_kept(*at, execution, by);
            let Some(first) = by.first() else { continue };
            self.saw("a session");
            if execution.request.op == Op::Visit && !counts.insert((first, by.len())) {
                self.fault("no write to a session is lost", format!("execution {at}: {by:?} for the second time"));
            }
            let visitors = by.iter().filter_map(|by| self.history.executions.get(usize::try_from(*by).ok()?));
            // One that was dropped has not said where it was.
            let other = visitors
                .filter(|visitor| visitor.visits.is_some())
                .find(|visitor| self.session_of(visitor) != self.session_of(execution));
            if let Some(other) = other {
                let text = format!("execution {at} found what was written for {:?}", other.principal);
                self.fault("a session is seen by whoever opened it", text);
            }
        }
    }

    /// What was written before an execution begins, it finds.
    fn is_kept(&mut self, at: usize, execution: &Execution, by: &[u64]) {
        let name = self.session_of(execution);
        let lost = self.history.executions.iter().zip(0..).find(|(writer, id)| {
            writer.request.op == Op::Visit
                && writer.visits.is_some()
                && writer.read.number < execution.begun.number
                && execution.read.at.saturating_sub(writer.read.at) < LIVES
                && !by.contains(id)
                && self.session_of(writer) == name
        });
        if let Some((_, lost)) = lost {
            let text = format!("execution {at} found {by:?}, without execution {lost}");
            self.fault("what a session was told is kept", text);
        }
    }

    /// A handle is of use to whoever opened it, where it was opened, until it is closed.
    pub(super) fn handles(&mut self) {
        for (at, execution) in self.history.executions.iter().enumerate() {
            let (Some(handle), true) = (&execution.handle, execution.visits.is_some()) else { continue };
            self.saw("a session with a handle");
            let owner = execution.owner(self.stack.identities);
            if !self.openings(handle).any(|made| self.is_of(made, &owner, execution.environment)) {
                let text = format!("execution {at} of {owner:?} found {handle}");
                self.fault("a session is seen by whoever opened it", text);
            }
            let is_over = |made: &Made| is_done(made) && made.ended.number < execution.begun.number;
            if self.closings(handle).any(is_over) {
                let text = format!("execution {at} found {handle}");
                self.fault("a session that was closed is found by nobody", text);
            }
        }
    }

    /// There are never more sessions than there is room for.
    pub(super) fn session_room(&mut self) {
        let Some(SessionRoom::Sessions(most)) = self.stack.session_room.filter(|_| self.stack.has_sessions_in_memory())
        else {
            return;
        };
        let history = self.history;
        for (number, made) in history.calls.iter().enumerate() {
            let is_young = |at: Duration| made.begun.at.saturating_sub(at) < LIVES;
            let is_kept = |open: &&Made| {
                let may_be_closed = |close: &Made| close.begun.number < made.begun.number;
                open.ended.number < made.begun.number
                    && is_young(open.ended.at)
                    && opened(open).is_some_and(|handle| !self.closings(handle).any(may_be_closed))
            };
            let opened = history.calls.iter().filter(is_kept).count();
            let begun = history.executions.iter().filter(|execution| {
                execution.visits.is_some()
                    && execution.request.op == Op::Visit
                    && execution.handle.is_none()
                    && execution.read.number < made.begun.number
                    && is_young(execution.read.at)
            });
            let begun: BTreeSet<_> = begun.map(|execution| self.session_of(execution)).collect();
            if opened + begun.len() > most {
                let text = format!("there are {} when call {number} begins, of {most}", opened + begun.len());
                return self.fault("no more sessions are kept than there is room for", text);
            }
        }
    }

    /// Calls that have opened a session under this handle.
    fn openings<'b>(&'b self, handle: &'b str) -> impl Iterator<Item = &'a Made> + 'b {
        self.history.calls.iter().filter(move |made| opened(made) == Some(handle))
    }

    /// Calls that close the session with this handle, if they may.
    fn closings<'b>(&'b self, handle: &'b str) -> impl Iterator<Item = &'a Made> + 'b {
        let closes = move |made: &&Made| made.call.request.op == Op::Close && made.handle.as_deref() == Some(handle);
        self.history.calls.iter().filter(closes)
    }

    /// Whether the call is one of this caller in this environment.
    fn is_of(&self, made: &Made, owner: &str, environment: usize) -> bool {
        CONNECTIONS[made.call.connection].owner(self.stack.identities) == owner
            && self.stack.environment(made.call.server) == environment
    }

    /// Whether the caller of one call is in the other one's place.
    fn is_same_place(&self, made: &Made, other: &Made) -> bool {
        self.is_same_owner(made.call.connection, other.call.connection)
            && self.stack.environment(made.call.server) == self.stack.environment(other.call.server)
    }

    /// A session was opened, or closed.
    pub(super) fn managed(&mut self, number: usize, made: &'a Made, answer: &Answer) {
        if !self.has(Kind::Session, Setting::ByHandle) {
            return self.fault("a refusal carries a layer's mark", format!("call {number}: {answer:?}"));
        }
        if made.call.request.op == Op::Open {
            self.saw("a session that was opened");
            let handle = opened(made).unwrap_or_default();
            if self.openings(handle).count() != 1 {
                self.fault("a handle is of one session", format!("call {number} opened {handle}"));
            }
            return;
        }
        self.saw("a session that was closed");
        let handle = made.handle.as_deref().unwrap_or_default();
        if !self.openings(handle).any(|open| self.is_same_place(open, made)) {
            let text = format!("call {number} closed {handle}");
            self.fault("a session is closed by whoever opened it", text);
        }
        let is_before = |other: &Made| is_done(other) && other.ended.number < made.begun.number;
        if self.closings(handle).any(is_before) {
            self.fault("a session that was closed is found by nobody", format!("call {number} closed {handle}"));
        }
    }

    pub(super) fn has_reason_to_refuse_session(&self, made: &Made, word: &str) -> bool {
        let is = |mode| self.has(Kind::Session, mode);
        let connection = &CONNECTIONS[made.call.connection];
        let has_layer = self.layer(Kind::Session).is_some();
        match (word, made.call.request.op) {
            ("no_layer", Op::Visit | Op::Seen) => !has_layer,
            ("none", Op::Visit | Op::Seen | Op::Close) if is(Setting::ByHandle) => made.handle.is_none(),
            ("none", Op::Visit | Op::Seen) if is(Setting::ByPrincipal) => connection.principal.is_none(),
            ("none", Op::Visit | Op::Seen) => has_layer && connection.session_id.is_none(),
            ("unknown", Op::Visit | Op::Seen | Op::Close) => is(Setting::ByHandle) && !self.is_surely_open(made),
            ("no_room", Op::Visit | Op::Open) => self.may_be_full(made),
            _ => false,
        }
    }

    /// Whether the session that a call names is there for its caller, from its beginning to its end.
    fn is_surely_open(&self, made: &Made) -> bool {
        let Some(handle) = made.handle.as_deref() else { return false };
        let is_open = |open: &Made| open.ended.number < made.begun.number && self.is_same_place(open, made);
        let Some(open) = self.openings(handle).find(|open| is_open(open)) else { return false };
        let may_be_closed = |close: &Made| {
            !std::ptr::eq(close, made) && close.begun.number < made.ended.number && self.is_same_place(close, made)
        };
        made.ended.at.saturating_sub(open.ended.at) < LIVES && !self.closings(handle).any(may_be_closed)
    }

    /// Whether the caller may hold as much in sessions as is free, so that there is no room for more of them.
    fn may_be_full(&self, made: &Made) -> bool {
        let Some(room) = self.stack.session_room.filter(|_| self.stack.has_sessions_in_memory()) else { return false };
        let connection = &CONNECTIONS[made.call.connection];
        let owner = connection.owner(self.stack.identities);
        // Whoever visits one that is there takes room for bytes only.
        let is_there = made.call.request.op == Op::Visit && self.is_surely_there(made);
        let (SessionRoom::Sessions(most) | SessionRoom::Bytes(most)) = room;
        let size = |bytes: usize| if let SessionRoom::Bytes(_) = room { bytes } else { 1 };
        let wanted = match (room, is_there) {
            (SessionRoom::Sessions(_), true) => return false,
            (SessionRoom::Bytes(_), true) => VISIT,
            (_, false) => size(EMPTY + FIRST_VISIT + VISIT),
        };
        let held = self.may_be_held(made);
        let of = |held: &mut dyn Iterator<Item = &Held>| held.map(|held| size(held.bytes)).sum::<usize>();
        let all = of(&mut held.iter());
        let own = of(&mut held.iter().filter(|held| held.owner == owner));
        let beyond = |free: usize, held: usize| free.saturating_sub(held).div_ceil(2);
        let may_take = beyond(most.saturating_sub(all), own);
        let may_take = match (&connection.principal, connection.session_id) {
            (None, Some(id)) => {
                let mut of_connection =
                    held.iter().filter(|held| held.owner == owner && held.connection.as_deref() == Some(id));
                beyond(may_take, of(&mut of_connection))
            }
            _ => may_take,
        };
        may_take < wanted
    }

    /// Whether a session that is visited was there before, and is not over.
    fn is_surely_there(&self, made: &Made) -> bool {
        if self.has(Kind::Session, Setting::ByHandle) {
            return self.is_surely_open(made);
        }
        let name = self.session_of_call(made);
        self.history.executions.iter().any(|execution| {
            execution.request.op == Op::Visit
                && execution.visits.is_some()
                && execution.read.number < made.begun.number
                && made.ended.at.saturating_sub(execution.read.at) < LIVES
                && self.session_of(execution) == name
        })
    }

    /// The session of a call that gives no handle.
    fn session_of_call(&self, made: &Made) -> Name {
        let connection = &CONNECTIONS[made.call.connection];
        let by_user = self.has(Kind::Session, Setting::ByPrincipal);
        let name = connection.session_id.filter(|_| !by_user).map(str::to_owned);
        (self.stack.environment(made.call.server), connection.owner(self.stack.identities), name)
    }

    /// Sessions that may be there while a call takes place, without one that it would begin.
    fn may_be_held(&self, made: &Made) -> Vec<Held> {
        if !self.has(Kind::Session, Setting::ByHandle) {
            return self.may_be_begun(made);
        }
        let is_over = |open: &Made| {
            let is_before = |close: &Made| is_done(close) && close.ended.number < made.begun.number;
            opened(open).is_some_and(|handle| self.closings(handle).any(is_before))
        };
        let may_be_open = |open: &&Made| {
            let has_failed = matches!(&open.end, End::Answered(answer) if answer.said.is_failure());
            let is_open = open.call.request.op == Op::Open && !has_failed && !std::ptr::eq(*open, made);
            is_open && open.begun.number < made.ended.number && !is_over(open)
        };
        let held = |open: &Made| {
            let connection = &CONNECTIONS[open.call.connection];
            let visits = self.history.executions.iter().filter(|execution| {
                let may_be_here = execution.handle.is_none() || execution.handle.as_deref() == opened(open);
                execution.request.op == Op::Visit && may_be_here && may_have_visited(execution, made)
            });
            Held {
                owner: connection.owner(self.stack.identities),
                connection: connection.session_id.map(str::to_owned),
                bytes: EMPTY + FIRST_VISIT + VISIT * visits.count(),
            }
        };
        self.history.calls.iter().filter(may_be_open).map(held).collect()
    }

    /// Sessions that begin with what is written to them.
    fn may_be_begun(&self, made: &Made) -> Vec<Held> {
        let mut begun = BTreeMap::<Name, Held>::new();
        let visits = self
            .history
            .executions
            .iter()
            .filter(|execution| execution.request.op == Op::Visit && may_have_visited(execution, made));
        for visit in visits {
            let name = self.session_of(visit);
            let held = begun.entry(name).or_insert_with(|| Held {
                owner: visit.owner(self.stack.identities),
                connection: visit.session_id.clone(),
                bytes: EMPTY + FIRST_VISIT,
            });
            held.bytes += VISIT;
        }
        if !self.is_surely_there(made) {
            begun.remove(&self.session_of_call(made));
        }
        begun.into_values().collect()
    }
}

/// A session that may be there.
struct Held {
    owner: String,
    connection: Option<String>,
    bytes: usize,
}

/// Whether the execution may have written to its session before a call ended. One that was dropped has not said so.
fn may_have_visited(execution: &Execution, made: &Made) -> bool {
    execution.begun.number < made.ended.number && (execution.visits.is_some() || execution.said.is_none())
}

fn is_done(made: &Made) -> bool {
    matches!(&made.end, End::Answered(answer) if !answer.said.is_failure())
}
