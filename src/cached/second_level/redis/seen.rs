//! The numbers of Redis that this process has seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cached::second_level::Generation;

/// Redis keeps numbers as floats, which are exact up to here: microseconds until the year 2255.
pub(super) const MAX_NUMBER: u64 = 1 << 53;

/// The highest epoch and number that this process has seen. A shard that is behind has lost its last writes.
#[derive(Default)]
pub(super) struct Seen {
    epoch: AtomicU64,
    number: AtomicU64,
}

impl Seen {
    pub(super) fn now(&self) -> Generation {
        Generation::new(self.epoch.load(Ordering::SeqCst), self.number.load(Ordering::SeqCst))
    }

    pub(super) fn note(&self, generation: Generation) {
        self.epoch.fetch_max(generation.epoch, Ordering::SeqCst);
        self.note_number(generation.number);
    }

    pub(super) fn note_number(&self, number: u64) {
        self.number.fetch_max(number, Ordering::SeqCst);
    }
}

pub(super) fn unseen(shards: u16) -> Arc<[Seen]> {
    (0..shards.max(1)).map(|_| Seen::default()).collect()
}
