//! Answers that no execution gave: a layer refused, and had a reason.

use super::Judge;
use crate::metamorphic::log::{Answer, Execution, Made};
use crate::metamorphic::plan::{Kind, Setting};
use crate::metamorphic::requests::Op;
use turbomcp_core::ErrorKind;

/// What a layer says for itself.
#[derive(Debug, Clone, PartialEq)]
enum Refusal<'a> {
    Validation,
    /// A word of a layer that honours keys.
    Key(&'a str),
    NoKey,
    NoStore,
    /// A word of the sessions.
    Session(&'a str),
    Transaction(&'a str),
    TimedOut(u64),
    Overloaded,
    Breaker,
    /// A word of the limits.
    Limit(&'a str),
    Aborted,
    Cancelled,
    BadOutput,
    UnknownTool,
}

impl<'a> Refusal<'a> {
    fn name(&self) -> &'static str {
        match self {
            Self::Validation => "refused: not valid",
            Self::Key("key_reused") => "refused: the key was used for another call",
            Self::Key("in_progress") => "refused: a call with the key is running",
            Self::Key("overloaded") => "refused: there is no room for the key",
            Self::Key(_) => "refused: nobody knows what became of the call with the key",
            Self::NoStore => "refused: the store of keys fails",
            Self::NoKey => "refused: there is no key",
            Self::Session("no_room") => "refused: there is no room for the session",
            Self::Session("unknown") => "refused: the session is not known",
            Self::Session(_) => "refused: there is no session",
            Self::Transaction(_) => "refused: by a transaction",
            Self::TimedOut(_) => "refused: it takes too long",
            Self::Overloaded => "refused: overloaded",
            Self::Limit("rate") => "refused: too often",
            Self::Limit(_) => "refused: too many at the same time",
            Self::Breaker => "refused: by an open breaker",
            Self::Aborted => "refused: shared work has panicked",
            Self::Cancelled => "refused: cancelled",
            Self::BadOutput => "refused: the answer breaks its promise",
            Self::UnknownTool => "refused: there is no such tool",
        }
    }

    fn of(answer: &'a Answer) -> Option<Self> {
        let kind = answer.said.kind()?;
        match answer.word("mcp-patterns/validation") {
            Some("bad_output") => return Some(Self::BadOutput),
            Some("cancelled") => return Some(Self::Cancelled),
            _ => {}
        }
        if answer.mark("mcp-patterns/validation").is_some() {
            return Some(Self::Validation);
        }
        if answer.word("mcp-patterns/breaker").is_some() {
            return Some(Self::Breaker);
        }
        match answer.word("mcp-patterns/limit") {
            Some("timed_out") => {
                let (millis, _) = answer.said.text().strip_prefix("No answer within ")?.split_once(" ms")?;
                return Some(Self::TimedOut(millis.parse().ok()?));
            }
            Some("cancelled") => return Some(Self::Cancelled),
            Some(word) => return Some(Self::Limit(word)),
            None => {}
        }
        match answer.word("mcp-patterns/idempotency") {
            Some("key_missing") => return Some(Self::NoKey),
            Some("unavailable") => return Some(Self::NoStore),
            Some("cancelled") => return Some(Self::Cancelled),
            Some(word) => return Some(Self::Key(word)),
            None => {}
        }
        if let Some(word) = answer.word("mcp-patterns/transaction") {
            return Some(Self::Transaction(word));
        }
        if let Some(word) = answer.word("mcp-patterns/session") {
            return Some(Self::Session(word));
        }
        // The server itself says so in the same words.
        if kind == ErrorKind::ToolNotFound {
            return Some(Self::UnknownTool);
        }
        let marks = ["mcp-patterns/retry", "mcp-patterns/batch", "mcp-patterns/cache"];
        match marks.into_iter().find_map(|mark| answer.reason(mark))? {
            "timed_out" => {
                let millis = answer.said.text().strip_prefix("No answer within ")?.strip_suffix(" ms")?;
                Some(Self::TimedOut(millis.parse().ok()?))
            }
            "overloaded" => Some(Self::Overloaded),
            "cancelled" => Some(Self::Cancelled),
            "aborted" => Some(Self::Aborted),
            _ => None,
        }
    }
}

impl<'a> Judge<'a> {
    pub(super) fn refusal(&mut self, number: usize, made: &'a Made, answer: &'a Answer) {
        let Some(refusal) = Refusal::of(answer) else {
            return self.fault("a refusal carries a layer's mark", format!("call {number}: {answer:?}"));
        };
        self.saw(refusal.name());
        if !self.has_reason(number, made, &refusal) {
            self.fault("a refusal has a reason", format!("call {number}: {refusal:?}, {answer:?}"));
        }
    }

    fn has_reason(&self, number: usize, made: &Made, refusal: &Refusal<'_>) -> bool {
        let request = made.call.request;
        let is_shared = self.is_cached(&made.call) || self.is_batched(request.op);
        match refusal {
            // One that is in no listing may be taken for one that is not there.
            Refusal::UnknownTool => match request.op {
                Op::Open | Op::Close => !self.has(Kind::Session, Setting::ByHandle),
                op => matches!(op, Op::Ghost | Op::Late),
            },
            Refusal::Validation => self.layer(Kind::Validated).is_some() && !self.is_valid(&made.call),
            Refusal::NoStore => request.key.is_some() && self.has(Kind::Idempotent, Setting::FaultyBackend),
            Refusal::NoKey => {
                request.key.is_none()
                    && self.honours_keys(request.op).is_some_and(|keys| keys.has(Setting::Required(request.op)))
            }
            Refusal::Session(word) => self.has_reason_to_refuse_session(made, word),
            Refusal::Key(word) => self.has_reason_to_refuse_key(number, made, word),
            Refusal::Transaction(_) => self.has_reason_for_transaction(made, refusal),
            Refusal::TimedOut(millis) => self.is_timeout(*millis),
            Refusal::Overloaded => {
                let is_bounded = |setting: &Setting| matches!(setting, Setting::MaxQueue(_)).then_some(());
                self.is_batched(request.op) && self.setting(Kind::Batched, is_bounded).is_some()
            }
            Refusal::Breaker => self.has_reason_to_be_open(request.op),
            Refusal::Limit(word) => self.has_reason_to_limit(number, word),
            Refusal::Aborted => {
                // A bulk function answers for all who travel together.
                let travels = |execution: &&Execution| execution.is_bulk && request.op == Op::Price;
                let batch = self.history.executions.iter().filter(travels);
                is_shared && self.alike(made).chain(batch).any(|execution| execution.said.is_none())
            }
            Refusal::Cancelled => made.call.leaves.may_cancel(),
            Refusal::BadOutput => self.checks_output() && self.alike(made).any(|execution| execution.lied),
        }
    }

    /// Executions of what the call asks for.
    fn alike<'b>(&'b self, made: &'b Made) -> impl Iterator<Item = &'b Execution> {
        self.history.executions.iter().filter(|execution| execution.request.is_same_as(&made.call.request))
    }

    /// Whether a layer gives up after so many milliseconds. The defaults of the cache and of batches are five minutes.
    fn is_timeout(&self, millis: u64) -> bool {
        let mut set = self.stack.layers.iter().flat_map(|layer| &layer.settings);
        let is_set = set.any(|setting| match *setting {
            Setting::LoadTimeout(timeout) | Setting::BatchTimeout(timeout) | Setting::CallTimeout(timeout) => {
                millis == timeout
            }
            // A later attempt gets what is left.
            Setting::AttemptTimeout(timeout) => millis <= timeout,
            _ => false,
        });
        is_set || millis == 300_000
    }

    /// Calls of the same caller with the same key, in this environment, that have begun before this one ended.
    fn same_key<'b>(&'b self, number: usize, made: &'b Made) -> impl Iterator<Item = (usize, &'b Made)> {
        self.history.calls.iter().enumerate().filter(move |(other, call)| {
            *other != number
                && call.call.request.op == made.call.request.op
                && call.call.request.key == made.call.request.key
                && self.stack.environment(call.call.server) == self.stack.environment(made.call.server)
                && self.is_same_owner(call.call.connection, made.call.connection)
                && call.begun.number < made.ended.number
        })
    }

    fn has_reason_to_refuse_key(&self, number: usize, made: &Made, word: &str) -> bool {
        let request = made.call.request;
        if request.key.is_none() || self.honours_keys(request.op).is_none() {
            return false;
        }
        match word {
            "overloaded" => self.stack.has_small_store,
            "key_reused" => self.same_key(number, made).any(|(_, other)| other.call.request.n != request.n),
            "in_progress" => {
                let others = self.same_key(number, made).any(|(_, other)| {
                    let is_dropped = matches!(other.end, crate::metamorphic::log::End::Dropped);
                    is_dropped || other.ended.number > made.begun.number
                });
                // An attempt that was given up runs on.
                let is_cut = |it: &Setting| matches!(it, Setting::AttemptTimeout(_) | Setting::CallTimeout(_));
                others || self.stack.layers.iter().flat_map(|layer| &layer.settings).any(is_cut)
            }
            // Somebody's call did not come to an end that proves anything: perhaps an earlier attempt of this one.
            "ambiguous" => {
                let others = self.same_key(number, made).map(|(other, _)| other).chain([number]);
                // Or its end could not be recorded.
                self.has(Kind::Idempotent, Setting::FaultyBackend)
                    || others.flat_map(|other| self.executions_of(other)).any(|execution| {
                        execution
                            .said
                            .as_ref()
                            .is_none_or(|said| said.is_failure() && !proves_nothing_happened(said.kind()))
                    })
            }
            _ => false,
        }
    }

    /// Whether so many executions have failed that a breaker opens: half of the least calls.
    fn has_reason_to_be_open(&self, op: Op) -> bool {
        use ErrorKind::{ExternalService, RateLimited, Timeout, Unavailable};
        let Some(breaker) = self.layer(Kind::Breaker) else { return false };
        let least = breaker.find(|it| if let Setting::MinCalls(calls) = it { Some(*calls) } else { None }).unwrap_or(5);
        let is_temporary = |kind| matches!(kind, Some(ExternalService | RateLimited | Timeout | Unavailable));
        let executions = self.history.executions.iter().filter(|execution| execution.request.op == op);
        let failures = executions.filter(|it| it.said.as_ref().is_some_and(|said| is_temporary(said.kind()))).count();
        // A store of keys that fails, a database, and a limit that ends calls are behind the breaker, too.
        let is_cut = |it: &Setting| matches!(it, Setting::CallTimeout(_)).then_some(());
        let has_other_reasons = op == Op::Book
            || self.has(Kind::Idempotent, Setting::FaultyBackend)
            || self.setting(Kind::Limited, is_cut).is_some();
        has_other_reasons || 2 * failures >= least
    }

    /// Whether as many calls have begun as use a rate up, or take all places. A caller may hear of the refusal of work that is shared.
    fn has_reason_to_limit(&self, number: usize, word: &str) -> bool {
        let Some(limited) = self.layer(Kind::Limited) else { return false };
        let attempts = |it: &Setting| if let Setting::MaxAttempts(n) = it { Some(*n as usize) } else { None };
        let attempts: usize = self.stack.layers(Kind::Retry).map(|retry| retry.find(attempts).unwrap_or(3)).product();
        let before =
            self.history.calls.iter().filter(|other| other.begun.number < self.history.calls[number].ended.number);
        // A batch calls one by one if it is split, and a bulk function does not call at all.
        let calls = before.count() * attempts.max(1);
        let least = |it: &Setting| match (it, word) {
            (Setting::Burst(burst), "rate") => Some(*burst as usize + 1),
            (Setting::Places(places), "busy" | "waited") => Some(*places + 1),
            _ => None,
        };
        limited.find(least).is_some_and(|least| calls >= least)
    }

    fn has_reason_for_transaction(&self, made: &Made, refusal: &Refusal<'_>) -> bool {
        let Refusal::Transaction(word) = refusal else { return false };
        let is_booking = made.call.request.op == Op::Book;
        match *word {
            "none" => is_booking && self.layer(Kind::Transactional).is_none(),
            "conflict" => is_booking,
            "cancelled" => made.call.leaves.may_cancel(),
            _ => false,
        }
    }
}

pub(super) fn proves_nothing_happened(kind: Option<ErrorKind>) -> bool {
    use ErrorKind::{InvalidParams, InvalidRequest, RateLimited, ResourceNotFound, Unavailable};
    matches!(kind, Some(Unavailable | RateLimited | ResourceNotFound | InvalidRequest | InvalidParams))
}
