//! Judges what happened: an answer is one that the bare server gave, or could give, *this* caller.

mod effects;
mod events;
mod freshness;
mod notices;
mod refusals;
mod sessions;
mod sharing;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::callers::CONNECTIONS;
use super::log::{Answer, End, Execution, Form, History, Made, Said};
use super::plan::{Call, Kind, Layered, Plan, Setting, Stack};
use super::requests::Op;

/// What is wrong, and in which respect.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) rule: &'static str,
    pub(super) text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) faults: Vec<Fault>,
    /// What was seen, and how often: what is never seen is not judged.
    pub(super) seen: BTreeMap<&'static str, u64>,
}

/// Judges what happened.
pub(super) fn judge(plan: &Plan, history: &History) -> Verdict {
    let mut judge = Judge { stack: &plan.stack, history, verdict: Verdict::default() };
    for (number, made) in history.calls.iter().enumerate() {
        judge.call(number, made);
    }
    judge.effects();
    judge.sessions();
    judge.handles();
    judge.session_room();
    judge.bookings();
    judge.notices();
    judge.events();
    judge.verdict
}

struct Judge<'a> {
    stack: &'a Stack,
    history: &'a History,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    fn fault(&mut self, rule: &'static str, text: impl Into<String>) {
        self.verdict.faults.push(Fault { rule, text: text.into() });
    }

    fn saw(&mut self, what: &'static str) {
        *self.verdict.seen.entry(what).or_default() += 1;
    }

    fn layer(&self, kind: Kind) -> Option<&'a Layered> {
        self.stack.layer(kind)
    }

    /// The setting of a layer, with a number.
    fn setting<T>(&self, kind: Kind, of: impl Fn(&Setting) -> Option<T>) -> Option<T> {
        self.layer(kind)?.find(of)
    }

    fn has(&self, kind: Kind, setting: Setting) -> bool {
        self.layer(kind).is_some_and(|layer| layer.has(setting))
    }

    /// The caches that keep answers to such a call, the outermost first.
    fn caches(&self, call: &Call) -> impl DoubleEndedIterator<Item = &'a Layered> + use<'a> {
        let request = call.request;
        let is_safe = !request.op.is_tool() || request.is_read_only_for(call.connection);
        let layers: &'a [Layered] = &self.stack.layers;
        // A bulk function bypasses what is further in.
        let batched = layers.iter().position(|layer| layer.kind == Kind::Batched && request.op == Op::Price);
        let asked = layers[..batched.unwrap_or(layers.len())].iter();
        asked.filter(move |layer| layer.kind == Kind::Cached && is_safe && layer.keeps(request.op))
    }

    /// Whether a cache keeps answers to such a call.
    fn is_cached(&self, call: &Call) -> bool {
        self.caches(call).next().is_some()
    }

    /// Whether calls of this kind travel together.
    fn is_batched(&self, op: Op) -> bool {
        self.layer(Kind::Batched).is_some_and(|layer| op == Op::Price || layer.has(Setting::Only(op)))
    }

    /// The layer that honours the keys of this kind, if one does.
    fn honours_keys(&self, op: Op) -> Option<&'a Layered> {
        match op {
            Op::Pay | Op::Late | Op::Varies => self.layer(Kind::Idempotent),
            Op::Book => self.layer(Kind::Transactional),
            _ => None,
        }
    }

    /// Whether the layers cannot know that callers see this tool differently: the plain definition holds until a listing says
    /// something else.
    fn is_told_too_late(made: &Made) -> bool {
        made.call.request.op == Op::Varies && !made.are_told_apart
    }

    /// Whether two connections share what the callers own.
    fn is_same_owner(&self, one: usize, other: usize) -> bool {
        let owner = |at: usize| CONNECTIONS[at].owner(self.stack.identities);
        owner(one) == owner(other)
    }

    fn execution(&self, said: &Said) -> Option<(u64, &'a Execution)> {
        let number = said.execution()?;
        Some((number, self.history.executions.get(usize::try_from(number).ok()?)?))
    }

    fn executions_of(&self, call: usize) -> impl Iterator<Item = &'a Execution> + use<'a> {
        self.history.executions.iter().filter(move |execution| execution.origin == Some(call))
    }

    fn call(&mut self, number: usize, made: &'a Made) {
        if Self::is_told_too_late(made) {
            return;
        }
        self.validation(number, made);
        match &made.end {
            End::Unending => self.fault("a call ends", format!("call {number} does not")),
            End::Dropped => self.saw("a caller who was dropped"),
            End::Panicked => {
                self.saw("a panic");
                if !self.executions_of(number).any(|execution| execution.has_panicked) {
                    self.fault(
                        "a panic is the caller's own",
                        format!("call {number} panicked, and none of its executions"),
                    );
                }
            }
            End::Answered(answer) => self.answer(number, made, answer),
        }
    }

    fn answer(&mut self, number: usize, made: &'a Made, answer: &'a Answer) {
        let Some((at, execution)) = self.execution(&answer.said) else {
            return match matches!(made.call.request.op, Op::Open | Op::Close) && !answer.said.is_failure() {
                true => self.managed(number, made, answer),
                false => self.refusal(number, made, answer),
            };
        };
        let is_as_said = execution.said.as_ref().is_some_and(|said| is_same(said, &answer.said, execution.is_bulk));
        if !is_as_said {
            let said = &execution.said;
            self.fault("an answer is one that the server gave", format!("call {number}: {answer:?}, but {said:?}"));
        }
        if !execution.request.is_same_as(&made.call.request) {
            self.fault("an answer is to what was asked", format!("call {number}: {} was asked", execution.request));
        }
        if execution.environment != self.stack.environment(made.call.server) {
            self.fault("environments share nothing", format!("call {number} got execution {at} of the other"));
        }
        let lies = execution.lied && self.checks_output();
        if lies && self.layer(Kind::Validated).is_some() {
            self.fault("an answer keeps the promise of its schema", format!("call {number}: {answer:?}"));
        }
        self.marks(number, made, answer);
        self.saw(if answer.said.is_failure() { "a failure of the server" } else { "an answer" });
        if self.executions_of(number).count() > 1 {
            self.saw("a call that was repeated");
            if self.stack.layers(Kind::Retry).count() > 1 {
                self.saw("a call that was repeated in two layers of retries");
            }
        }
        if execution.origin != Some(number) {
            self.shared(number, made, at, execution, answer);
        }
        let is_cancelled = answer.said.kind() == Some(turbomcp_core::ErrorKind::Cancelled);
        if is_cancelled && !made.call.leaves.may_cancel() {
            self.fault("nobody cancels for another", format!("call {number}: {answer:?}"));
        }
    }

    fn checks_output(&self) -> bool {
        self.layer(Kind::Validated).is_some_and(|layer| !layer.has(Setting::WithoutOutputChecks))
    }

    /// What a layer says that it did, it did.
    fn marks(&mut self, number: usize, made: &Made, answer: &Answer) {
        let own = self.executions_of(number).count();
        let keyed = answer.word("mcp-patterns/idempotency");
        let status = answer.mark("mcp-patterns/cache").and_then(|mark| mark["status"].as_str());
        let origin = self.execution(&answer.said).and_then(|(_, execution)| execution.origin);
        if status.is_some_and(|status| status != "miss") && origin == Some(number) {
            self.fault("a mark is true", format!("call {number} is no hit: {answer:?}"));
        }
        match status {
            Some("hit") => self.saw("a hit"),
            Some("stale") => self.saw("a stale hit"),
            _ => {}
        }
        if keyed == Some("replayed") && self.honours_keys(made.call.request.op).is_none() {
            self.fault("a mark is true", format!("call {number} is no replay: {answer:?}"));
        }
        if let Some(attempts) = answer.mark("mcp-patterns/attempts").and_then(Value::as_u64) {
            let is_shared = self.is_cached(&made.call) || self.is_batched(made.call.request.op);
            let counted = if self.may_be_cut(number) { own.min(2) } else { own };
            if !is_shared && keyed != Some("replayed") && (attempts as usize) < counted {
                self.fault("a mark is true", format!("call {number}: {attempts} attempts, and {own} executions"));
            }
        }
    }

    /// Whether the outer of two retries may have cut off an attempt: then it counts the attempt, and does not know how often the inner
    /// one has called.
    fn may_be_cut(&self, number: usize) -> bool {
        let mut retries = self.stack.layers(Kind::Retry);
        let (Some(outer), Some(_)) = (retries.next(), retries.next()) else { return false };
        let limit = outer.find(|it| if let Setting::AttemptTimeout(limit) = it { Some(*limit) } else { None });
        let begun = || self.executions_of(number).map(|execution| execution.begun.at);
        match (limit, begun().min(), begun().max()) {
            (Some(limit), Some(first), Some(last)) => {
                last.saturating_sub(first) >= Duration::from_millis(limit)
                    || self.executions_of(number).any(|execution| execution.ended.is_none())
            }
            _ => false,
        }
    }

    /// Whether the tool takes the arguments, as its schema says it to this caller.
    fn is_valid(&self, call: &Call) -> bool {
        let (op, keys) = (call.request.op, self.honours_keys(call.request.op));
        let takes_key = match call.request.key {
            Some(_) => keys.is_some(),
            None => !keys.is_some_and(|keys| keys.has(Setting::Required(op))),
        };
        takes_key && call.request.is_valid_for(call.connection)
    }

    /// What is not valid never reaches the server, and what is valid is not refused.
    fn validation(&mut self, number: usize, made: &Made) {
        let request = made.call.request;
        let is_checked = self
            .layer(Kind::Validated)
            .is_some_and(|layer| matches!(request.op, Op::Check | Op::Pay) || layer.has(Setting::Only(request.op)));
        let is_valid = self.is_valid(&made.call);
        if is_checked && is_valid {
            self.saw("a valid call");
        }
        if is_checked && !is_valid && self.executions_of(number).next().is_some() {
            self.fault("what is not valid is not executed", format!("call {number}: {request}"));
        }
    }
}

/// A bulk function surfaces each failure as a result.
fn is_same(said: &Said, answered: &Said, is_bulk: bool) -> bool {
    match (said, answered) {
        (Said::Failure { kind, message, .. }, answered) if is_bulk => {
            let kind = *kind;
            *answered == Said::Failure { form: Form::Result, kind, message: message.clone() }
        }
        _ => said == answered,
    }
}
