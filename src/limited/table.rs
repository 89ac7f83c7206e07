//! What is used of a limit, by tool or principal, in bounded memory.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::concurrency::Places;
use super::rate::Used;

/// What is used, by the number of a tool, of a principal, or of both.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<u64, Entry, RandomState>,
    /// What those use together who came when the table was full.
    others: Entry,
    /// No entry is looked for that could leave before this moment.
    look_at: u128,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) used: Used,
    pub(super) places: Option<Places>,
}

/// The pause between two looks for entries that may leave a full table, in nanoseconds.
const LOOK_EVERY: u128 = 1_000_000_000;

/// Where a table has what a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Own(u64),
    Others,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the places of an entry, if it has some.
    pub(super) fn places_of(&self, key: u64) -> Option<Places> {
        self.entries.get(&key)?.places.clone()
    }

    /// Finds a place for what this number uses. It is that of all others if the table is full of entries that still limit somebody.
    pub(super) fn place(&mut self, key: u64, max: usize, now: u128) -> At {
        if self.entries.contains_key(&key) || self.entries.len() < max {
            return At::Own(key);
        }
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.entries.retain(|_, entry| !entry.is_unused(now));
        }
        if self.entries.len() < max { At::Own(key) } else { At::Others }
    }

    pub(super) fn entry(&mut self, at: At) -> &mut Entry {
        match at {
            At::Own(key) => self.entries.entry(key).or_default(),
            At::Others => &mut self.others,
        }
    }
}

impl Entry {
    /// Says whether it limits nobody at the moment: a new entry would be the same.
    fn is_unused(&self, now: u128) -> bool {
        self.used.ahead(now) == 0 && self.places.as_ref().is_none_or(Places::are_all_free)
    }
}
