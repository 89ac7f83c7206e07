use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::store::{Claim, Claimed, Owner, Store, StoreError, StoreFuture};
use crate::clock::later;
use crate::idempotency::{AmbiguousCall, AmbiguousCalls, Page, Resolved};

/// Keeps claims and answers in this process. Clones share them.
///
/// They end with the process: a call that runs while it is killed is not known to be ambiguous afterwards. Where that matters,
/// or where there are several replicas, use another store.
#[derive(Clone)]
#[must_use]
pub struct MemoryStore {
    table: Arc<Mutex<Table>>,
}

const MAX_RECORDS: usize = 100_000;

/// How many expired answers a claim clears away, so that they go faster than new ones come.
const CLEARED: usize = 2;

struct Table {
    max_records: usize,
    entries: HashMap<Arc<str>, Entry>,
    /// The answers, those first that expire first.
    answers: BTreeSet<(Instant, Arc<str>)>,
    next_look: Instant,
}

struct Entry {
    fingerprint: String,
    tool: String,
    key: String,
    kept_for: Option<Duration>,
    token: Option<String>,
    state: State,
}

enum State {
    Running { until: Instant },
    Abandoned { since: Instant },
    Done { record: String, expires_at: Instant },
}

impl MemoryStore {
    /// Up to 100,000 claims and answers.
    pub fn new() -> Self {
        let table = Table {
            max_records: MAX_RECORDS,
            entries: HashMap::new(),
            answers: BTreeSet::new(),
            next_look: Instant::now(),
        };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// Bounds the number of claims and answers together.
    ///
    /// Where there is no room for a new claim, the answer that would expire first is dropped, and a repetition of its call runs
    /// again. Claims are not dropped: a store full of them refuses new ones.
    pub fn with_max_records(self, max_records: usize) -> Self {
        self.table().max_records = max_records;
        self
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Since when nobody knows whether the call took effect.
    fn ambiguous_since(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Running { until } => (until <= now).then_some(until),
            State::Abandoned { since } => Some(since),
            State::Done { .. } => None,
        }
    }

    fn is_expired(&self, now: Instant) -> bool {
        match (&self.state, self.kept_for) {
            (State::Done { expires_at, .. }, _) => *expires_at <= now,
            (State::Running { until: since } | State::Abandoned { since }, Some(kept_for)) => {
                later(*since, kept_for) <= now
            }
            (_, None) => false,
        }
    }
}

impl Table {
    fn claim(&mut self, claim: &Claim<'_>, now: Instant) -> Result<Claimed, StoreError> {
        for _ in 0..CLEARED {
            if self.answers.first().is_some_and(|(expires_at, _)| *expires_at <= now) {
                self.drop_answer();
            }
        }
        let running = State::Running { until: later(now, claim.lease) };
        if let Some(entry) = self.entries.get_mut(claim.id) {
            if !entry.is_expired(now) {
                if entry.fingerprint != claim.fingerprint {
                    return Ok(Claimed::Other);
                }
                match &entry.state {
                    State::Done { record, .. } => return Ok(Claimed::Done(record.clone())),
                    _ if entry.token.as_deref() == Some(claim.token) => {}
                    State::Running { until } if *until > now => return Ok(Claimed::Running),
                    _ if claim.takes_over => {}
                    _ => {
                        let since = entry.ambiguous_since(now).unwrap_or(now);
                        return Ok(Claimed::Ambiguous { age: now.saturating_duration_since(since) });
                    }
                }
                entry.kept_for = claim.kept_for;
                entry.token = Some(claim.token.to_owned());
                entry.state = running;
                return Ok(Claimed::New);
            }
            self.remove(claim.id);
        }
        while self.entries.len() >= self.max_records {
            if !self.drop_answer() && !self.drop_ended_claims(now) {
                return Err(StoreError::Full);
            }
        }
        let entry = Entry {
            fingerprint: claim.fingerprint.to_owned(),
            tool: claim.tool.to_owned(),
            key: claim.key.to_owned(),
            kept_for: claim.kept_for,
            token: Some(claim.token.to_owned()),
            state: running,
        };
        self.entries.insert(claim.id.into(), entry);
        Ok(Claimed::New)
    }

    fn complete(&mut self, owner: Owner<'_>, record: &str, expires_at: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(owner.id).filter(|entry| entry.token.as_deref() == Some(owner.token))
        else {
            return false;
        };
        if let State::Done { record: known, .. } = &entry.state {
            return known == record;
        }
        entry.state = State::Done { record: record.to_owned(), expires_at };
        self.answers.insert((expires_at, owner.id.into()));
        true
    }

    fn resolve(&mut self, id: &str, record: Option<&str>, now: Instant, ttl: Duration) -> Resolved {
        let Some(entry) = self.entries.get_mut(id) else { return Resolved::Unknown };
        match &entry.state {
            _ if entry.is_expired(now) => return Resolved::Unknown,
            State::Running { until } if *until > now => return Resolved::Running,
            State::Done { .. } => return Resolved::Answered,
            State::Running { .. } | State::Abandoned { .. } => {}
        }
        match record {
            None => self.remove(id),
            Some(record) => {
                let expires_at = later(now, ttl);
                entry.token = None;
                entry.state = State::Done { record: record.to_owned(), expires_at };
                self.answers.insert((expires_at, id.into()));
            }
        }
        Resolved::Yes
    }

    /// The claim of this owner, as long as it has no answer.
    fn claimed(&mut self, owner: Owner<'_>) -> Option<&mut Entry> {
        self.entries
            .get_mut(owner.id)
            .filter(|entry| entry.token.as_deref() == Some(owner.token) && !matches!(entry.state, State::Done { .. }))
    }

    fn remove(&mut self, id: &str) {
        if let Some((id, Entry { state: State::Done { expires_at, .. }, .. })) = self.entries.remove_entry(id) {
            self.answers.remove(&(expires_at, id));
        }
    }

    /// Drops the claims that are kept no longer. Each look takes all of them, so it is taken once a second at most.
    fn drop_ended_claims(&mut self, now: Instant) -> bool {
        if now < self.next_look {
            return false;
        }
        self.next_look = later(now, Duration::from_secs(1));
        let before = self.entries.len();
        // Expired answers are dropped in order, and have to be known by their order until then.
        self.entries.retain(|_, entry| matches!(entry.state, State::Done { .. }) || !entry.is_expired(now));
        self.entries.len() < before
    }

    fn list(&self, page: &Page<'_>, now: Instant) -> AmbiguousCalls {
        let mut found: Vec<_> = self
            .entries
            .iter()
            .filter(|(id, entry)| {
                id.starts_with(page.space) && page.after.is_none_or(|after| ***id > *after) && !entry.is_expired(now)
            })
            .filter_map(|(id, entry)| Some((id, entry, entry.ambiguous_since(now)?)))
            .collect();
        found.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let is_last = found.len() <= page.limit;
        found.truncate(page.limit);
        let next = found.last().filter(|_| !is_last).map(|(id, ..)| id.to_string());
        let calls = found.into_iter().map(|(id, entry, since)| AmbiguousCall {
            id: id.to_string(),
            tool: entry.tool.clone(),
            key: entry.key.clone(),
            age: now.saturating_duration_since(since),
        });
        AmbiguousCalls { calls: calls.collect(), next }
    }

    fn drop_answer(&mut self) -> bool {
        self.answers.pop_first().is_some_and(|(_, id)| self.entries.remove(&id).is_some())
    }
}

impl Store for MemoryStore {
    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed> {
        Box::pin(ready(self.table().claim(&claim, Instant::now())))
    }

    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool> {
        let mut table = self.table();
        let renewed = table.claimed(owner).is_some_and(|entry| match &mut entry.state {
            State::Running { until } => {
                *until = later(Instant::now(), lease);
                true
            }
            State::Abandoned { .. } | State::Done { .. } => false,
        });
        Box::pin(ready(Ok(renewed)))
    }

    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool> {
        let completed = self.table().complete(owner, record, later(Instant::now(), ttl));
        Box::pin(ready(Ok(completed)))
    }

    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        let mut table = self.table();
        let is_claimed = table.claimed(owner).is_some();
        if is_claimed {
            table.remove(owner.id);
        }
        Box::pin(ready(Ok(is_claimed)))
    }

    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        let mut table = self.table();
        let abandoned = table.claimed(owner).map(|entry| {
            if let State::Running { .. } = entry.state {
                entry.state = State::Abandoned { since: Instant::now() };
            }
        });
        Box::pin(ready(Ok(abandoned.is_some())))
    }

    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved> {
        let resolved = self.table().resolve(id, record, Instant::now(), ttl);
        Box::pin(ready(Ok(resolved)))
    }

    fn ambiguous<'a>(&'a self, page: Page<'a>) -> StoreFuture<'a, AmbiguousCalls> {
        let listed = self.table().list(&page, Instant::now());
        Box::pin(ready(Ok(listed)))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        f.debug_struct("MemoryStore")
            .field("records", &table.entries.len())
            .field("max_records", &table.max_records)
            .finish()
    }
}
