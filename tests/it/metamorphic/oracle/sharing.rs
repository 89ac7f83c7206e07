//! Who may have the answer of somebody else's execution.

use std::time::Duration;

use super::Judge;
use crate::metamorphic::callers::CONNECTIONS;
use crate::metamorphic::log::{Answer, End, Execution, Made};
use crate::metamorphic::plan::{Kind, Setting};
use crate::metamorphic::requests::Op;

impl<'a> Judge<'a> {
    /// An answer that does not come from an execution of the call's own.
    pub(super) fn shared(
        &mut self,
        number: usize,
        made: &'a Made,
        at: u64,
        execution: &'a Execution,
        answer: &'a Answer,
    ) {
        let op = made.call.request.op;
        let is_replayed = made.call.request.key.is_some() && self.honours_keys(op).is_some();
        let is_read = made.call.request.is_read_only_for(made.call.connection);
        let (is_cached, is_batched) = (self.is_cached(&made.call), self.is_batched(op));
        // A key does not make another call of what changes nothing: the cache may have the answer to one with another key, or
        // none, or to one whose record has expired.
        let key = execution.origin.and_then(|origin| self.history.calls[origin].call.request.key);
        let is_no_replay = key != made.call.request.key || self.outlives_key(made, execution);
        if op.takes_key() && !(is_read && is_cached && is_no_replay) && (is_replayed || !is_read) {
            return self.replayed(number, made, at, execution, answer);
        }
        if !is_cached && !is_batched {
            return self.fault("an answer is not shared unless a layer shares", format!("call {number}: {answer:?}"));
        }
        self.sharers(number, made, at, execution);
        if execution.has_asked {
            let asked = execution.origin.map(|origin| self.history.calls[origin].call.connection);
            if asked != Some(made.call.connection) {
                let text = format!("call {number} got execution {at}, of call {:?}", execution.origin);
                self.fault("what a client was asked is for its connection", text);
            }
        }
        self.saw(if is_cached {
            "an answer out of the cache, or of a load of others"
        } else {
            "an answer of a call of others"
        });
        if self.caches(&made.call).count() > 1 {
            self.saw("an answer out of one of two caches");
        }
        if is_cached {
            self.fresh(number, made, at, execution, answer);
        } else if made.begun.at.saturating_sub(execution.ended.map_or(Duration::MAX, |end| end.at)) > Duration::ZERO {
            self.fault("without a cache, an answer is of now", format!("call {number} got execution {at}"));
        }
    }

    /// Whether the execution ended so long before the call that the record of its key has expired.
    fn outlives_key(&self, made: &Made, execution: &Execution) -> bool {
        let age = made.begun.at.saturating_sub(execution.ended.map_or(Duration::ZERO, |ended| ended.at));
        age > self.key_ttl(made.call.request.op)
    }

    fn key_ttl(&self, op: Op) -> Duration {
        let ttl = |setting: &Setting| if let Setting::KeyTtl(ttl) = setting { Some(*ttl) } else { None };
        let ttl = self.honours_keys(op).and_then(|keys| keys.find(ttl));
        Duration::from_secs(ttl.unwrap_or(24 * 60 * 60))
    }

    /// Whether the caller may have the answer of this execution, by the scopes.
    fn sharers(&mut self, number: usize, made: &Made, at: u64, execution: &Execution) {
        let op = made.call.request.op;
        let public = Setting::PublicFor(op);
        let connection = &CONNECTIONS[made.call.connection];
        let identities = self.stack.identities;
        let is_same_caller = connection.sharer(identities) == execution.sharer(identities);
        let may_differ = self.caches(&made.call).any(|cache| cache.has(public))
            || (self.is_batched(op) && self.has(Kind::Batched, public));
        if !is_same_caller && !may_differ {
            let from =
                execution.principal.as_ref().map(|principal| (&principal.subject, &principal.claims, &principal.roles));
            let text = format!("call {number} of {} got execution {at} of {from:?}", connection.name);
            return self.fault("an answer is shared only by callers who are the same, with the same rights", text);
        }
        // The innermost cache decides: what it keeps for one session, no other cache keeps for more.
        let innermost = self.caches(&made.call).next_back();
        let is_by_session = innermost.is_some_and(|cache| cache.has(Setting::BySession)) && !self.is_batched(op);
        // A call that has no session opens none: what it reads is nobody's.
        let is_kept = made.begun.at > execution.ended.map_or(Duration::MAX, |ended| ended.at);
        let opened = op == Op::Seen && self.layer(Kind::Session).is_some() && execution.visits.is_some();
        if (is_by_session || opened) && !self.is_same_session(made, execution, is_by_session) {
            let text = format!("call {number} of {} got execution {at} of {:?}", connection.name, execution.session_id);
            self.fault("what depends on a session is for this session", text);
        } else if opened && is_kept && !self.caches(&made.call).any(|cache| cache.has(Setting::BySession)) {
            self.fault("what depends on a session is not kept", format!("call {number} got execution {at}"));
        }
    }

    fn is_same_session(&self, made: &Made, execution: &Execution, by_scope: bool) -> bool {
        let connection = &CONNECTIONS[made.call.connection];
        let is_same_transport = execution.session_id.as_deref() == connection.session_id;
        // A connection without a session of its own has that of its handle.
        let has_handle = self.has(Kind::Session, Setting::ByHandle) && made.handle.is_some();
        let is_same_handle = has_handle && execution.handle == made.handle;
        let is_same_id = is_same_transport && (execution.session_id.is_some() || is_same_handle);
        let identities = self.stack.identities;
        let is_same_owner = connection.owner(identities) == execution.owner(identities);
        // A session that belongs to the user, or has a handle, is the same on all connections, if nothing else is.
        let by_user = self.has(Kind::Session, Setting::ByPrincipal) && !by_scope;
        let by_handle = self.has(Kind::Session, Setting::ByHandle) && !by_scope;
        is_same_owner && if by_handle { execution.handle == made.handle } else { is_same_id || by_user }
    }

    /// The answer to a call that was made before, with the same key.
    fn replayed(&mut self, number: usize, made: &Made, at: u64, execution: &Execution, answer: &Answer) {
        let request = made.call.request;
        let Some(keys) = self.honours_keys(request.op) else {
            return self.fault("an answer is not shared unless a layer shares", format!("call {number}: {answer:?}"));
        };
        let Some(origin) = execution.origin.map(|origin| &self.history.calls[origin]) else {
            return self.fault("a replay is of a call", format!("call {number} got execution {at}"));
        };
        self.saw("a replay");
        if request.key.is_none() || origin.call.request.key != request.key {
            let text = format!(
                "call {number}, with {:?}, got execution {at}, with {:?}",
                request.key, origin.call.request.key
            );
            self.fault("a replay has the same key", text);
        }
        if !self.is_same_owner(made.call.connection, origin.call.connection) {
            let of = |made: &Made| CONNECTIONS[made.call.connection].name;
            let text = format!("call {number} of {} got execution {at} of {}", of(made), of(origin));
            self.fault("a replay is the caller's own answer", text);
        }
        if self.outlives_key(made, execution) {
            self.fault(
                "a replay is within its ttl",
                format!("call {number} got execution {at}, {:?}", execution.ended),
            );
        }
        if answer.said.is_failure() && !keys.has(Setting::RecordsFailures) {
            self.fault("failures are not replayed", format!("call {number}: {answer:?}"));
        }
        let tells = !keys.has(Setting::WithoutMeta);
        // One that is a hit as well was somebody's own answer once.
        let is_hit = self.is_cached(&made.call);
        if tells && !is_hit && answer.word("mcp-patterns/idempotency") != Some("replayed") {
            self.fault("a mark is true", format!("call {number} is a replay, and does not say so: {answer:?}"));
        }
        let [first, mine] = [origin, made].map(|made| CONNECTIONS[made.call.connection].session_id);
        let is_elsewhere = answer.mark("mcp-patterns/other-connection").is_some();
        if tells && !is_hit && is_elsewhere != (first.is_some() && first != mine) {
            self.fault("a mark is true", format!("call {number}, of session {mine:?}, first of {first:?}: {answer:?}"));
        }
        // Whoever was told something else first, was told wrong.
        let first = self.history.calls.iter().take(number).find(|other| {
            let is_same = other.call.request == request && other.call.server == made.call.server;
            is_same
                && other.call.connection == made.call.connection
                && other.begun.at.saturating_add(self.key_ttl(request.op)) > made.ended.at
        });
        if let Some(End::Answered(first)) = first.map(|first| &first.end)
            && first.said.execution().is_some()
            && !first.said.is_failure()
            && first.said != answer.said
        {
            self.fault("a replay is the first answer", format!("call {number}: {answer:?}, first {first:?}"));
        }
    }
}
