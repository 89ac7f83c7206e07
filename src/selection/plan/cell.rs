//! What was decided for one tool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

/// What was decided for a tool when it was seen first, and what has been decided since.
///
/// It is read without a lock. Whoever changes it holds the lock of the [callers](super::callers).
pub(super) struct Cell<T> {
    state: AtomicU8,
    first: Option<T>,
    now: ArcSwapOption<T>,
    /// Who has listed the tool so far, if that is only one.
    lister: AtomicU64,
    /// The number of the last listing that it was in.
    listed: AtomicU64,
    /// A setting names the tool: what was decided for it is never forgotten.
    is_named: bool,
}

/// A cell as it is read.
pub(super) enum Reading<T> {
    /// The same for all callers.
    Decided(Option<T>),
    /// Two callers were told different things. Each has an own definition.
    Varies,
    Forgotten,
}

/// What an update found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Updated {
    /// All callers see the same definition.
    Same,
    /// Another caller sees another one. That was not known.
    Varies,
    /// That was known.
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

    /// The number of the last listing that it was in.
    pub(super) fn listed(&self) -> u64 {
        if self.is_named { u64::MAX } else { self.listed.load(Ordering::Relaxed) }
    }

    pub(super) fn varies(&self) -> bool {
        self.state.load(Ordering::Acquire) == VARIES
    }

    /// Forgets what was decided, and says whether it did. That callers see different definitions is remembered: whoever is
    /// seen first afterwards must not decide for all.
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

    /// What was decided last for all callers, also where it is not the same for all any more.
    pub(super) fn last(&self) -> Option<T> {
        match (self.state.load(Ordering::Acquire), self.now.load().as_deref()) {
            (FORGOTTEN, _) => None,
            (FIRST, _) | (_, None) => self.first.clone(),
            (_, now) => now.cloned(),
        }
    }

    /// Notes what was decided from the listing of `lister`.
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
            // Another caller was told something else.
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
