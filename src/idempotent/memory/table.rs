//! The claims and answers in memory, and the room that they take.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::later;
use crate::idempotency_keys::{AmbiguousCall, AmbiguousCalls, Page, Resolved};
use crate::idempotent::backend::{BackendError, Claim, Claimed, Owner};
use crate::shares::{Holder, Room, Shares};

/// The approximate size of a record without its answer: its id, its fingerprint and its entries in the tables.
const RECORD_BYTES: usize = 512;

/// The bytes of a claim. They include room for a small answer, or for a record without its answer.
const CLAIM_BYTES: usize = RECORD_BYTES + (2 << 10);

/// How many expired answers a claim drops, so that they are dropped faster than new ones come.
const CLEARED: usize = 2;

pub(super) struct Table {
    pub(super) shares: Shares,
    entries: HashMap<Arc<str>, Entry>,
    /// The answers, in the order of their expiry.
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

impl Entry {
    /// Returns the time since which the outcome of the call is unknown.
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
    pub(super) fn new(max: Room) -> Self {
        Self { shares: Shares::new(max), entries: HashMap::new(), answers: BTreeSet::new(), next_look: Instant::now() }
    }

    /// Returns how many claims and answers there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn claim(&mut self, claim: &Claim<'_>, now: Instant) -> Result<Claimed, BackendError> {
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
        let holder = self.room(claim, now).ok_or(BackendError::Full)?;
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

    /// Takes room for a claim. If there is none, it first drops everything that has expired.
    fn room(&mut self, claim: &Claim<'_>, now: Instant) -> Option<Holder> {
        let room = Room { entries: 1, bytes: CLAIM_BYTES };
        self.shares.take(claim.caller, claim.connection, room).or_else(|| {
            while self.drop_expired(now) {}
            self.drop_ended_claims(now);
            self.shares.take(claim.caller, claim.connection, room)
        })
    }

    pub(super) fn complete(
        &mut self,
        owner: Owner<'_>,
        record: &str,
        expires_at: Instant,
    ) -> Result<bool, BackendError> {
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

    pub(super) fn resolve(
        &mut self,
        id: &str,
        record: Option<&str>,
        now: Instant,
        ttl: Duration,
    ) -> Result<Resolved, BackendError> {
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

    /// Renews a lease. Returns false if the claim is no longer the owner's, was abandoned or has its answer.
    pub(super) fn renew(&mut self, owner: Owner<'_>, lease: Duration, now: Instant) -> bool {
        self.claimed(owner).is_some_and(|entry| match &mut entry.state {
            State::Running { until } => {
                *until = later(now, lease);
                true
            }
            State::Abandoned { .. } | State::Done { .. } => false,
        })
    }

    pub(super) fn release(&mut self, owner: Owner<'_>) -> bool {
        let is_claimed = self.claimed(owner).is_some();
        if is_claimed {
            self.remove(owner.id);
        }
        is_claimed
    }

    pub(super) fn abandon(&mut self, owner: Owner<'_>, now: Instant) -> bool {
        let abandoned = self.claimed(owner).map(|entry| {
            if let State::Running { .. } = entry.state {
                entry.state = State::Abandoned { since: now };
            }
        });
        abandoned.is_some()
    }

    /// Returns the claim of this owner, as long as it has no answer.
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

    /// Drops the answer that expired first. Returns false if none has expired.
    fn drop_expired(&mut self, now: Instant) -> bool {
        let expired = self.answers.first().filter(|(expires_at, _)| *expires_at <= now);
        let Some(id) = expired.map(|(_, id)| Arc::clone(id)) else { return false };
        self.remove(&id);
        true
    }

    /// Drops the claims that are no longer kept. It looks at all of them, so it runs once a second at most.
    fn drop_ended_claims(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = later(now, Duration::from_secs(1));
        let has_ended = |(_, entry): &(_, &Entry)| !matches!(entry.state, State::Done { .. }) && entry.is_expired(now);
        let ended: Vec<_> = self.entries.iter().filter(has_ended).map(|(id, _)| Arc::clone(id)).collect();
        ended.iter().for_each(|id| self.remove(id));
    }

    pub(super) fn list(&self, page: &Page<'_>, now: Instant) -> AmbiguousCalls {
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
    fn answer(&mut self, record: &str, expires_at: Instant, shares: &mut Shares) -> Result<(), BackendError> {
        let bytes = CLAIM_BYTES.max(RECORD_BYTES + record.len());
        if !shares.grow(&self.holder, bytes - self.bytes) {
            return Err(BackendError::Full);
        }
        self.bytes = bytes;
        self.state = State::Done { record: record.to_owned(), expires_at };
        Ok(())
    }
}
