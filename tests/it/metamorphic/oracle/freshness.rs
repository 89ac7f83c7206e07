//! How old an answer may be.

use std::time::Duration;

use super::Judge;
use crate::metamorphic::callers::CONNECTIONS;
use crate::metamorphic::log::{Answer, Execution, Forget, Forgotten, Made, Stamp};
use crate::metamorphic::plan::{Call, Kind, Layered, Setting, Way};
use crate::metamorphic::requests::{Op, Request};

impl Judge<'_> {
    /// The answer of an execution from before the call, out of the cache or of work that was under way.
    pub(super) fn fresh(&mut self, number: usize, made: &Made, at: u64, execution: &Execution, answer: &Answer) {
        let Some(ended) = execution.ended else { return };
        let is_batched = answer.said.is_failure() && self.is_batched(made.call.request.op);
        let ended_at = if is_batched { self.batch_ended(execution, ended) } else { ended.at };
        let age = made.begun.at.saturating_sub(ended_at);
        let caches: Vec<_> = self.caches(&made.call).collect();
        let most = if answer.said.is_failure() { failures_last(&caches, answer) } else { answers_last(&caches) };
        if !self.stack.has_database() && age > most {
            let text = format!("call {number} got execution {at}, {age:?} old: at most {most:?}");
            self.fault("an answer is no older than allowed", text);
        }
        let forgotten = self.forgotten_before(made);
        if forgotten.iter().any(|forgotten| covers(forgotten.what, &made.call.request)) {
            self.saw("an answer out of the cache after an invalidation");
        }
        if let Some(wrong) = forgotten.into_iter().find(|forgotten| {
            covers(forgotten.what, &made.call.request) && execution.read.number < forgotten.begun.number
        }) {
            let text = format!("call {number} got execution {at}, from before {wrong:?}");
            self.fault("what was invalidated is not served", text);
        }
        if answer.said.is_failure() && age > Duration::ZERO {
            self.saw("a failure that was kept");
            self.not_since_succeeded(number, made, at, execution);
        }
    }

    /// When the batch of an execution has ended: a failure is kept from the end of its load, and a load ends with its batch, at the
    /// latest with the call that it is for.
    fn batch_ended(&self, execution: &Execution, ended: Stamp) -> Duration {
        let call = execution.origin.map_or(Duration::MAX, |origin| self.history.calls[origin].ended.at);
        let batch = self.history.executions.iter().filter(|other| {
            other.request.op == execution.request.op
                && other.environment == execution.environment
                && other.begun.at == execution.begun.at
        });
        let ends = batch.map(|other| other.ended.map_or(Duration::MAX, |ended| ended.at));
        ends.max().unwrap_or(ended.at).min(call).max(ended.at)
    }

    /// A failure that was kept, although the same has succeeded since.
    fn not_since_succeeded(&mut self, number: usize, made: &Made, at: u64, failed: &Execution) {
        let mut caches = self.caches(&made.call);
        let (Some(cache), None) = (caches.next(), caches.next()) else {
            // A success that one of them has had need not have come to the other.
            return;
        };
        let sharer = |execution: &Execution| execution.sharer(self.stack.identities);
        let is_public = cache.has(Setting::PublicFor(failed.request.op));
        let is_by_session = cache.has(Setting::BySession);
        let since = self.history.executions.iter().position(|execution| {
            execution.request.is_same_as(&failed.request)
                && execution.environment == failed.environment
                && (is_public || sharer(execution) == sharer(failed))
                && (!is_by_session || execution.session_id == failed.session_id)
                && execution.said.as_ref().is_some_and(|said| !said.is_failure())
                && self.is_same_server(execution, made)
                && execution.begun.number > failed.begun.number
                && execution.ended.is_some_and(|ended| ended.at < made.begun.at)
        });
        if let Some(since) = since {
            let text = format!("call {number} got execution {at}, although execution {since} has succeeded since");
            self.fault("a success ends a failure that was kept", text);
        }
    }

    /// Each replica keeps failures of its own.
    fn is_same_server(&self, execution: &Execution, made: &Made) -> bool {
        match execution.origin {
            Some(origin) => self.history.calls[origin].call.server == made.call.server,
            None => self.stack.replicas == 1,
        }
    }

    /// All that the server of a call knew to be wrong when the call began.
    fn forgotten_before(&self, made: &Made) -> Vec<Forgotten> {
        let mut forgotten = self.history.forgotten.clone();
        for (number, write) in self.history.calls.iter().enumerate() {
            let effects = self.executions_of(number).filter_map(|execution| execution.effect);
            for begun in effects.filter(|effect| effect.number < write.ended.number) {
                let what = self.made_wrong_by(&write.call.request).into_iter();
                let (server, ended) = (write.call.server, write.ended);
                forgotten.extend(what.map(|what| Forgotten { what, only_for_nobody: false, server, begun, ended }));
            }
        }
        forgotten.extend(self.told_to_read_again());
        forgotten.retain(|forgotten| self.is_known_to(forgotten, made));
        forgotten
    }

    /// Whoever is told that a resource has changed reads at once, and finds the change.
    fn told_to_read_again(&self) -> Vec<Forgotten> {
        let told = self.history.executions.iter().filter_map(|execution| {
            let (effect, origin) = (execution.effect?, execution.origin?);
            let Call { request, connection, server, .. } = self.history.calls[origin].call;
            let notice = self.history.notices.iter().find(|notice| {
                notice.method == "notifications/resources/updated"
                    && notice.connection == connection
                    && notice.params["uri"] == request.uri()
                    && notice.at.number > effect.number
            })?;
            let what = Forget::Call(Request { op: Op::Note, ..request });
            Some(Forgotten { what, only_for_nobody: false, server, begun: effect, ended: notice.at })
        });
        told.collect()
    }

    fn is_known_to(&self, forgotten: &Forgotten, made: &Made) -> bool {
        let identities = self.stack.identities;
        let is_nobody = CONNECTIONS[made.call.connection].sharer(identities) == identities.sharer(None, None);
        let is_public = self.all_caches(made, Setting::PublicFor(made.call.request.op));
        if forgotten.only_for_nobody && !(is_nobody || is_public) {
            return false;
        }
        if matches!(forgotten.what, Forget::Topic(_)) && !self.is_tagged(made) {
            return false;
        }
        let is_before = |stamp: &Stamp| stamp.number < made.begun.number;
        if forgotten.server == made.call.server {
            return is_before(&forgotten.ended);
        }
        // Other replicas share answers only by the second level, and hear of it there.
        self.stack.environment(forgotten.server) == self.stack.environment(made.call.server)
            && self.all_caches(made, Setting::SecondLevel)
            && !self.caches(&made.call).any(|cache| cache.has(Setting::FaultyBackend))
            && self.history.settled.iter().any(|settled| settled.number > forgotten.ended.number && is_before(settled))
    }

    /// Whether each cache that keeps the answer has a setting.
    fn all_caches(&self, made: &Made, setting: Setting) -> bool {
        self.caches(&made.call).all(|cache| cache.has(setting))
    }

    /// What the caches are told that a write makes wrong: as far as each one is told that keeps it.
    fn made_wrong_by(&self, write: &Request) -> Vec<Forget> {
        if write.op == Op::Book {
            return vec![Forget::All(Op::Balance)];
        }
        if write.op != Op::Update {
            return Vec::new();
        }
        let way = |cache: &Layered| cache.find(|it| if let Setting::Invalidates(way) = it { Some(*way) } else { None });
        let are_told = |op: &Op| {
            let mut ways = self.stack.layers(Kind::Cached).filter(|cache| cache.keeps(*op)).map(way);
            ways.all(|way| if *op == Op::Greeting { way == Some(Way::Tag) } else { way.is_some() })
        };
        let read = [Op::News, Op::Mine, Op::Note, Op::Greeting].into_iter().filter(are_told);
        read.map(|op| Forget::Call(Request { op, topic: write.topic, n: 0, key: None })).collect()
    }

    /// Whether each cache that keeps the answer tags it.
    fn is_tagged(&self, made: &Made) -> bool {
        self.all_caches(made, Setting::Invalidates(Way::Tag))
    }
}

/// How old an answer may be: what one cache has from another one may be as old as both allow.
fn answers_last(caches: &[&Layered]) -> Duration {
    let lasts = |cache: &Layered| {
        let of = |of: fn(&Setting) -> Option<u64>| cache.find(of).map(Duration::from_secs);
        let ttl = of(|setting| if let Setting::Ttl(ttl) = setting { Some(*ttl) } else { None });
        let revalidated =
            of(|setting| if let Setting::StaleWhileRevalidate(time) = setting { Some(*time) } else { None });
        let if_error = of(|setting| if let Setting::StaleIfError(time) = setting { Some(*time) } else { None });
        ttl.unwrap_or(Duration::from_secs(300)) + revalidated.max(if_error).unwrap_or_default()
    };
    // What one further in keeps for a session, others do not keep.
    let of_sessions = caches.iter().rposition(|cache| cache.has(Setting::BySession));
    let keep = caches
        .iter()
        .enumerate()
        .filter(|(at, cache)| cache.has(Setting::BySession) || of_sessions.is_none_or(|inner| *at > inner));
    keep.map(|(_, cache)| lasts(cache)).sum()
}

fn failures_last(caches: &[&Layered], answer: &Answer) -> Duration {
    use turbomcp_core::ErrorKind::{ResourceNotFound, Unavailable};
    let ttl = |cache: &&Layered| {
        cache.find(
            |setting| if let Setting::NegativeTtl(ttl) = setting { Some(Duration::from_secs(*ttl)) } else { None },
        )
    };
    match answer.said.kind() {
        Some(Unavailable | ResourceNotFound) => caches.iter().filter_map(ttl).sum(),
        _ => Duration::ZERO,
    }
}

fn covers(what: Forget, request: &Request) -> bool {
    match what {
        Forget::Call(forgotten) => forgotten.is_same_as(request),
        Forget::All(op) => request.op == op,
        Forget::Topic(topic) => matches!(request.op, Op::News | Op::Mine) && request.topic == topic,
        Forget::Everything => true,
    }
}
