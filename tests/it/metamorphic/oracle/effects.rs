//! How often something happened.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Judge;
use crate::metamorphic::callers::CONNECTIONS;
use crate::metamorphic::log::{End, Stamp};
use crate::metamorphic::plan::{Kind, Layered, Setting};
use crate::metamorphic::requests::Op;

impl Judge<'_> {
    pub(super) fn effects(&mut self) {
        for number in 0..self.history.calls.len() {
            self.repetitions(number);
        }
        self.once_for_each_key();
    }

    /// A call is repeated only as annotations and settings allow.
    fn repetitions(&mut self, number: usize) {
        let made = &self.history.calls[number];
        let request = made.call.request;
        if Self::is_told_too_late(made) {
            return;
        }
        let honours_key = request.key.is_some() && self.honours_keys(request.op).is_some();
        let is_idempotent = request.op.is_idempotent() || request.is_read_only_for(made.call.connection);
        let may_repeat = is_idempotent || honours_key;
        let attempts = |retry: &Layered| {
            let attempts =
                |setting: &Setting| if let Setting::MaxAttempts(n) = setting { Some(*n as usize) } else { None };
            match request.op.is_tool() && (may_repeat || retry.has(Setting::AllowRepeated(request.op))) {
                true => retry.find(attempts).unwrap_or(3),
                false => 1,
            }
        };
        let is_cut = |retry: &Layered| retry.settings.iter().any(|it| matches!(it, Setting::AttemptTimeout(_)));
        let mut retries = self.stack.layers(Kind::Retry);
        let attempts = match (retries.next(), retries.next()) {
            (None, _) => 1,
            (Some(retry), None) => attempts(retry),
            // One around another one repeats what it has cut, and leaves alone what the other has repeated in vain.
            (Some(outer), Some(inner)) if is_cut(outer) || attempts(inner) == 1 => attempts(outer) * attempts(inner),
            (Some(_), Some(inner)) => attempts(inner),
        };
        // A batch that failed is split until the calls that cannot succeed are found.
        let splits = request.op == Op::Price && self.has(Kind::Batched, Setting::Splits);
        // Conflicts begin a transaction anew.
        let conflicts = if request.op == Op::Book { 20 } else { 1 };
        let most = attempts * conflicts * if splits { 8 } else { 1 };
        let executions = self.executions_of(number).count();
        if executions > most {
            let text = format!("call {number}, {request}: {executions} executions, at most {most}");
            self.fault("a call is repeated only as allowed", text);
        }
        let connection = &CONNECTIONS[made.call.connection];
        let can_be_asked = connection.has_client && connection.answers;
        let asked = self.executions_of(number).filter(|execution| can_be_asked && execution.has_questioned).count();
        let may_ask_again = |retry: &Layered| retry.has(Setting::AllowRepeatedQuestions);
        if asked > 0 {
            self.saw("a question");
        }
        if asked > 1 && !self.stack.layers(Kind::Retry).any(may_ask_again) {
            self.fault("whoever was asked is not asked again", format!("call {number}, {request}: {asked} times"));
        }
    }

    /// Each life of a key has at most one effect.
    fn once_for_each_key(&mut self) {
        let mut effects: BTreeMap<_, Vec<(Stamp, usize)>> = BTreeMap::new();
        for (at, execution) in self.history.executions.iter().enumerate() {
            let Some(made) = execution.origin.map(|origin| &self.history.calls[origin]) else { continue };
            let request = made.call.request;
            let is_kept = request.op != Op::Book || self.history.rows.contains(&(at as u64));
            let (Some(effect), Some(key), true) = (execution.effect, request.key, is_kept) else { continue };
            if self.honours_keys(request.op).is_some() && !Self::is_told_too_late(made) {
                let owner = CONNECTIONS[made.call.connection].owner(self.stack.identities);
                let environment = self.stack.environment(made.call.server);
                effects.entry((environment, owner, request.op, key)).or_default().push((effect, at));
            }
        }
        for ((_, owner, op, key), effects) in effects {
            let Some(keys) = self.honours_keys(op) else { continue };
            if keys.has(Setting::RunsAgainWhenAmbiguous) {
                continue;
            }
            let ttl = keys.find(|setting| if let Setting::KeyTtl(ttl) = setting { Some(*ttl) } else { None });
            let ttl = Duration::from_secs(ttl.unwrap_or(24 * 60 * 60));
            self.saw("a key with an effect");
            for pair in effects.windows(2) {
                let [(first, one), (second, other)] = pair else { continue };
                if second.at.saturating_sub(first.at) < ttl {
                    let text = format!("key {key} of {owner}: executions {one} and {other} both took effect");
                    self.fault("a key has one effect", text);
                }
            }
        }
    }

    /// What was answered as a success is in the database, and what failed is not.
    pub(super) fn bookings(&mut self) {
        if self.layer(Kind::Transactional).is_none() {
            return;
        }
        for (number, made) in self.history.calls.iter().enumerate() {
            if made.call.request.op != Op::Book {
                continue;
            }
            let End::Answered(answer) = &made.end else { continue };
            let Some((at, execution)) = self.execution(&answer.said) else { continue };
            let is_kept = self.history.rows.contains(&at);
            self.saw(if is_kept { "a commit" } else { "a rollback" });
            if is_kept == answer.said.is_failure() && execution.effect.is_some() {
                let text = format!("call {number}: {answer:?}, and execution {at} is in the database: {is_kept}");
                self.fault("a success is committed, and a failure is not", text);
            }
        }
        self.committed_reads();
    }

    /// Whoever reads after a booking was answered finds it.
    fn committed_reads(&mut self) {
        for (number, made) in self.history.calls.iter().enumerate() {
            let End::Answered(answer) = &made.end else { continue };
            let Some((at, execution)) = self.execution(&answer.said).filter(|_| made.call.request.op == Op::Balance)
            else {
                continue;
            };
            if answer.said.is_failure() {
                continue;
            }
            let missing = self.history.calls.iter().find_map(|booking| {
                let End::Answered(booked) = &booking.end else { return None };
                let is_before = booking.call.server == made.call.server && booking.ended.number < made.begun.number;
                let booked = booked.said.execution().filter(|_| is_before && !booked.said.is_failure())?;
                (booking.call.request.op == Op::Book && !execution.rows.contains(&booked)).then_some(booked)
            });
            if let Some(missing) = missing {
                let text = format!("call {number} got execution {at}, without execution {missing}");
                self.fault("what was committed is read", text);
            }
        }
    }
}
