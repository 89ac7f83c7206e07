use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Claim, Claimed, Owner, Store, StoreError, StoreFuture};
use crate::clock::later;
use crate::idempotency_keys::{AmbiguousCall, AmbiguousCalls, Page, Resolved};
use crate::shares::{Holder, Room, Shares};

/// Keeps claims and answers in this process. Clones share them.
///
/// They end with the process: a call that runs while it is killed is not known to be ambiguous afterwards. Where that matters,
/// or where there are several replicas, use another store.
///
/// No claim is ever dropped, and no answer before its time. What there is room for is shared instead: a caller may hold as much as
/// is free, so one alone fills half of the store, and each further one up to half of what is left. Callers who are not
/// authenticated are one caller, of whose share each connection has a part by the same rule. A call for which there is no room is
/// refused with `server_overloaded`; an answer for which there is none is not kept, but its call is not made again.
#[derive(Clone)]
#[must_use]
pub struct MemoryStore {
    table: Arc<Mutex<Table>>,
}

const MAX: Room = Room { entries: 100_000, bytes: 256 << 20 };

/// What a record takes beside its answer, about: its id, its fingerprint and its place in the tables.
const RECORD_BYTES: usize = 512;

/// What a claim takes, so that there is room for an answer of some size, and for a word of its end instead of a larger one.
const CLAIM_BYTES: usize = RECORD_BYTES + (2 << 10);

/// How many expired answers a claim clears away, so that they go faster than new ones come.
const CLEARED: usize = 2;

struct Table {
    shares: Shares,
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
    holder: Holder,
    bytes: usize,
}

enum State {
    Running { until: Instant },
    Abandoned { since: Instant },
    Done { record: String, expires_at: Instant },
}

impl MemoryStore {
    /// Creates a store for up to 100,000 claims and answers of 256 MiB.
    pub fn new() -> Self {
        let table = Table {
            shares: Shares::new(MAX),
            entries: HashMap::new(),
            answers: BTreeSet::new(),
            next_look: Instant::now(),
        };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// Bounds the number of claims and answers together, of all callers.
    pub fn with_max_records(self, max_records: usize) -> Self {
        self.table().shares.max.entries = max_records;
        self
    }

    /// Bounds the bytes of claims and answers together, of all callers. A claim takes 2.5 KiB, and an answer what is beyond that.
    pub fn with_max_bytes(self, max_bytes: usize) -> Self {
        self.table().shares.max.bytes = max_bytes;
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
            self.drop_expired(now);
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
        let holder = self.room(claim, now).ok_or(StoreError::Full)?;
        let entry = Entry {
            fingerprint: claim.fingerprint.to_owned(),
            tool: claim.tool.to_owned(),
            key: claim.key.to_owned(),
            kept_for: claim.kept_for,
            token: Some(claim.token.to_owned()),
            state: running,
            holder,
            bytes: CLAIM_BYTES,
        };
        self.entries.insert(claim.id.into(), entry);
        Ok(Claimed::New)
    }

    /// Takes room for a claim, if need be that of all that has expired.
    fn room(&mut self, claim: &Claim<'_>, now: Instant) -> Option<Holder> {
        let room = Room { entries: 1, bytes: CLAIM_BYTES };
        self.shares.take(claim.caller, claim.connection, room).or_else(|| {
            while self.drop_expired(now) {}
            self.drop_ended_claims(now);
            self.shares.take(claim.caller, claim.connection, room)
        })
    }

    fn complete(&mut self, owner: Owner<'_>, record: &str, expires_at: Instant) -> Result<bool, StoreError> {
        let Some(entry) = self.entries.get_mut(owner.id).filter(|entry| entry.token.as_deref() == Some(owner.token))
        else {
            return Ok(false);
        };
        if let State::Done { record: known, .. } = &entry.state {
            return Ok(known == record);
        }
        entry.answer(record, expires_at, &mut self.shares)?;
        self.answers.insert((expires_at, owner.id.into()));
        Ok(true)
    }

    fn resolve(&mut self, id: &str, record: Option<&str>, now: Instant, ttl: Duration) -> Result<Resolved, StoreError> {
        let Some(entry) = self.entries.get_mut(id) else { return Ok(Resolved::Unknown) };
        match &entry.state {
            _ if entry.is_expired(now) => return Ok(Resolved::Unknown),
            State::Running { until } if *until > now => return Ok(Resolved::Running),
            State::Done { .. } => return Ok(Resolved::Answered),
            State::Running { .. } | State::Abandoned { .. } => {}
        }
        match record {
            None => self.remove(id),
            Some(record) => {
                let expires_at = later(now, ttl);
                entry.answer(record, expires_at, &mut self.shares)?;
                entry.token = None;
                self.answers.insert((expires_at, id.into()));
            }
        }
        Ok(Resolved::Yes)
    }

    /// The claim of this owner, as long as it has no answer.
    fn claimed(&mut self, owner: Owner<'_>) -> Option<&mut Entry> {
        self.entries
            .get_mut(owner.id)
            .filter(|entry| entry.token.as_deref() == Some(owner.token) && !matches!(entry.state, State::Done { .. }))
    }

    fn remove(&mut self, id: &str) {
        let Some((id, entry)) = self.entries.remove_entry(id) else { return };
        self.shares.give_back(&entry.holder, Room { entries: 1, bytes: entry.bytes });
        if let State::Done { expires_at, .. } = entry.state {
            self.answers.remove(&(expires_at, id));
        }
    }

    /// Drops the answer that expired first. False if none has.
    fn drop_expired(&mut self, now: Instant) -> bool {
        let expired = self.answers.first().filter(|(expires_at, _)| *expires_at <= now);
        let Some(id) = expired.map(|(_, id)| Arc::clone(id)) else { return false };
        self.remove(&id);
        true
    }

    /// Drops the claims that are kept no longer. Each look takes all of them, so it is taken once a second at most.
    fn drop_ended_claims(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = later(now, Duration::from_secs(1));
        let has_ended = |(_, entry): &(_, &Entry)| !matches!(entry.state, State::Done { .. }) && entry.is_expired(now);
        let ended: Vec<_> = self.entries.iter().filter(has_ended).map(|(id, _)| Arc::clone(id)).collect();
        ended.iter().for_each(|id| self.remove(id));
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
        found.sort_unstable_by_key(|(id, ..)| Arc::clone(id));
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
}

impl Entry {
    /// Keeps an answer, if there is room for it.
    fn answer(&mut self, record: &str, expires_at: Instant, shares: &mut Shares) -> Result<(), StoreError> {
        let bytes = CLAIM_BYTES.max(RECORD_BYTES + record.len());
        if !shares.grow(&self.holder, bytes - self.bytes) {
            return Err(StoreError::Full);
        }
        self.bytes = bytes;
        self.state = State::Done { record: record.to_owned(), expires_at };
        Ok(())
    }
}

impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

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
        Box::pin(ready(completed))
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
        Box::pin(ready(resolved))
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
            .field("max_records", &table.shares.max.entries)
            .field("max_bytes", &table.shares.max.bytes)
            .finish()
    }
}
