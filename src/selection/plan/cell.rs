//! The decision for one tool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

/// The first decision for a tool, and the later ones.
///
/// It is read without a lock. A change needs the lock of the [callers](super::callers).
pub(super) struct Cell<T> {
    state: AtomicU8,
    first: Option<T>,
    now: ArcSwapOption<T>,
    /// The only caller who has listed the tool so far, if there is only one.
    lister: AtomicU64,
    /// The number of the last listing that contained it.
    listed: AtomicU64,
    /// A setting names the tool: its decision is never forgotten.
    is_named: bool,
}

/// The content of a cell for a reader.
pub(super) enum Reading<T> {
    /// The same for all callers.
    Decided(Option<T>),
    /// Two callers received different definitions. Each has its own.
    Varies,
    Forgotten,
}

/// The result of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Updated {
    /// All callers see the same definition.
    Same,
    /// Another caller sees another definition. This was not known before.
    Varies,
    /// Another caller sees another definition. This was known.
    Varied,
}

/// A lister, by the hash of its key.
pub(super) type Lister = u64;

/// No single lister.
const SEVERAL: Lister = 0;

const FIRST: u8 = 0;
const NOW: u8 = 1;
const VARIES: u8 = 2;
const FORGOTTEN: u8 = 3;

impl<T> Cell<T> {
    pub(super) fn new(first: Option<T>, lister: Lister, listing: u64, is_named: bool) -> Self {
        Self {
            state: AtomicU8::new(FIRST),
            first,
            now: ArcSwapOption::empty(),
            lister: AtomicU64::new(lister),
            listed: AtomicU64::new(listing),
            is_named,
        }
    }

    /// The number of the last listing that contained it.
    pub(super) fn listed(&self) -> u64 {
        if self.is_named { u64::MAX } else { self.listed.load(Ordering::Relaxed) }
    }

    pub(super) fn varies(&self) -> bool {
        self.state.load(Ordering::Acquire) == VARIES
    }

    /// Forgets the decision, and returns whether there was one. It remembers that callers see different definitions:
    /// the first caller afterwards must not decide for all.
    pub(super) fn forget(&self) -> bool {
        let forgets = !self.is_named && !self.varies();
        if forgets {
            self.state.store(FORGOTTEN, Ordering::Release);
            self.now.store(None);
        }
        forgets
    }
}

impl<T: Clone + PartialEq> Cell<T> {
    #[inline]
    pub(super) fn read(&self) -> Reading<T> {
        match self.state.load(Ordering::Acquire) {
            FIRST => Reading::Decided(self.first.clone()),
            NOW => Reading::Decided(self.now.load().as_deref().cloned()),
            VARIES => Reading::Varies,
            _ => Reading::Forgotten,
        }
    }

    /// The last decision for all callers, also if it no longer holds for all.
    pub(super) fn last(&self) -> Option<T> {
        match (self.state.load(Ordering::Acquire), self.now.load().as_deref()) {
            (FORGOTTEN, _) => None,
            (FIRST, _) | (_, None) => self.first.clone(),
            (_, now) => now.cloned(),
        }
    }

    /// Records the decision from the listing of `lister`.
    pub(super) fn update(&self, listing: u64, decision: &Option<T>, lister: Lister) -> Updated {
        self.listed.fetch_max(listing, Ordering::Relaxed);
        let before = self.lister.load(Ordering::Relaxed);
        match self.read() {
            Reading::Varies => return Updated::Varied,
            Reading::Decided(known) if known == *decision => {
                if before != lister {
                    self.lister.store(SEVERAL, Ordering::Relaxed);
                }
            }
            // Another caller received another definition.
            Reading::Decided(_) if before != lister => {
                self.state.store(VARIES, Ordering::Release);
                return Updated::Varies;
            }
            Reading::Decided(_) | Reading::Forgotten => {
                self.now.store(decision.clone().map(Arc::new));
                self.state.store(NOW, Ordering::Release);
                self.lister.store(lister, Ordering::Relaxed);
            }
        }
        Updated::Same
    }
}
