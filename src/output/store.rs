//! The answers that are kept whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use turbomcp_core::RequestContext;
use turbomcp_types::ToolResult;

use super::resource::{Id, contents};
use super::spill::{ENTRY_BYTES, Spill};
use crate::clock::later;
use crate::{Identity, Scope};

/// Whose answer it is.
pub(super) struct Owner {
    /// The caller and its rights. Only a call with the same ones reads the answer.
    pub(super) partition: Vec<u8>,
    /// The number of the caller whose share of the store is used.
    pub(super) share: u64,
}

impl Owner {
    /// The caller of a call. `None` for one that shares nothing.
    pub(super) fn of(identity: &Identity, ctx: &RequestContext) -> Option<Self> {
        let caller = identity.partition(Scope::Principal, ctx)?;
        let mut partition = Vec::with_capacity(caller.size_hint());
        caller.encode_with_rights(&mut partition);
        Some(Self { partition, share: identity.share_of(ctx) })
    }
}

/// The answers that are kept whole, in memory. Clones share them.
#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

struct Inner {
    spill: Spill,
    secret: [u8; 32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Id, Entry, RandomState>,
    /// The entries in the order in which they end.
    ends: BTreeSet<(Instant, Id)>,
    bytes: usize,
    /// The bytes of each share.
    shares: HashMap<u64, usize, RandomState>,
}

struct Entry {
    partition: Vec<u8>,
    share: u64,
    bytes: usize,
    end: Instant,
    /// As JSON, so that the bytes are those in memory.
    contents: Arc<str>,
}

impl Store {
    /// Creates an empty store, with a secret from the system.
    pub(super) fn new(spill: Spill) -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self(Arc::new(Inner { spill, secret, state: Mutex::default() })))
    }

    /// Keeps an answer, unless there is no room. The same answer of the same caller has one entry, which stays from now on.
    pub(super) fn keep(&self, owner: Owner, answer: &ToolResult) -> Option<Id> {
        let Owner { partition, share } = owner;
        let contents: Arc<str> = serde_json::to_string(&contents(answer)).ok()?.into();
        let id = self.identify(&partition, &contents);
        let bytes = contents.len() + partition.len() + ENTRY_BYTES;
        let now = Instant::now();
        let end = later(now, self.0.spill.ttl);
        let mut state = self.state();
        let state = &mut *state;
        state.remove_ended(now);
        if let Some(entry) = state.entries.get_mut(&id) {
            state.ends.remove(&(entry.end, id));
            entry.end = end;
            state.ends.insert((end, id));
            return Some(id);
        }
        let used = state.shares.get(&share).copied().unwrap_or_default();
        if state.bytes.saturating_add(bytes) > self.0.spill.max_bytes
            || used.saturating_add(bytes) > self.0.spill.share()
        {
            return None;
        }
        state.bytes += bytes;
        *state.shares.entry(share).or_default() += bytes;
        state.ends.insert((end, id));
        state.entries.insert(id, Entry { partition, share, bytes, end, contents });
        Some(id)
    }

    /// Returns the contents of a kept answer, if it is that of the caller. An answer of another caller is like none.
    pub(super) fn read(&self, id: Id, partition: &[u8]) -> Option<Arc<str>> {
        let mut state = self.state();
        state.remove_ended(Instant::now());
        let entry = state.entries.get(&id).filter(|entry| entry.partition == partition)?;
        Some(Arc::clone(&entry.contents))
    }

    /// Returns the number of kept answers, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let mut state = self.state();
        state.remove_ended(Instant::now());
        (state.entries.len(), state.bytes)
    }

    /// Equal answers of one caller have the same id, so that a replay or a hit of a cache further in takes no more room.
    fn identify(&self, partition: &[u8], contents: &str) -> Id {
        let hash = Sha256::new()
            .chain_update(self.0.secret)
            .chain_update(partition.len().to_be_bytes())
            .chain_update(partition)
            .chain_update(contents)
            .finalize();
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, byte)| *to = byte);
        Id(u128::from_be_bytes(id))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove_ended(&mut self, now: Instant) {
        while let Some((end, id)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, id));
            let Some(entry) = self.entries.remove(&id) else { continue };
            self.bytes -= entry.bytes;
            if let Some(used) = self.shares.get_mut(&entry.share) {
                *used -= entry.bytes;
                if *used == 0 {
                    self.shares.remove(&entry.share);
                }
            }
        }
    }
}
