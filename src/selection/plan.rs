//! The decisions of a layer for each tool: [`Plan`].

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use foldhash::fast::RandomState;
use tokio::time::Instant;
use turbomcp_core::RequestContext;
use turbomcp_types::Tool;

pub(super) use self::ask::{Answer, Asked, Listing, answer, ask, shortened};
use self::callers::{Callers, FRESH};
use self::cell::{Cell, Lister, Reading, Updated};
use self::later::{Later, MAX_LATER};
use self::look_ups::LookUps;
pub(super) use self::look_ups::TIMEOUT;
use self::part::is_part;
#[cfg(feature = "rmcp")]
pub(crate) use self::part::mark_part;
use crate::Identity;

mod ask;
mod callers;
mod cell;
mod later;
mod look_ups;
mod part;

/// The decisions of a layer for each tool. A look-up by name takes no lock and does not allocate. Clones share the decisions.
///
/// While all callers see one definition of a tool, one decision holds for all of them. Where the definitions of two callers differ, the
/// decision for each caller follows the caller's own last listing within a minute. Callers are distinguished by their identity and
/// their rights.
///
/// If no listing has had a tool for one to two minutes, the next listing removes its decision, unless a setting names the tool. So a
/// plan has the listed tools, and at most 10,000 tools beyond those that the layer was put on, or as many as the last listing has.
pub struct Plan<T>(Arc<Tables<T>>);

/// The decision of a layer for a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<T> {
    /// The tool was listed. The layer acts on it as decided, or `None`: it does not act on it.
    Decided(Option<T>),
    /// No listing that counts for the caller has the tool.
    Unknown,
}

struct Tables<T> {
    /// The [bit](bit_of) of each tool that is named, or that the layer has ever acted on. Most layers act on a few tools, and need not
    /// look up the others.
    acted_on: AtomicU64,
    /// Whether a tool without its bit counts as one that the layer does not act on.
    is_partial: bool,
    bound: OnceLock<HashMap<Box<str>, Cell<T>, RandomState>>,
    later: Later<T>,
    /// The tools that a setting of the layer names.
    named: BTreeSet<String>,
    identity: Identity,
    hasher: RandomState,
    state: Mutex<State<T>>,
}

/// The state that changes with each listing. It is locked by listings, and by calls of a tool that varies or is
/// unknown.
struct State<T> {
    callers: Callers<T>,
    look_ups: LookUps,
    /// The number of later tools.
    later: usize,
    /// The number of listings so far.
    listings: u64,
    /// When tools were last forgotten, and the number of listings at that time.
    swept: Option<(Instant, u64)>,
}

impl<T> Clone for Plan<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Plan<T> {
    fn default() -> Self {
        Self::new(&Identity::new(), [], Unknown::Counts)
    }
}

/// How a layer treats a tool that no listing has had yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The layer looks it up.
    Counts,
    /// The layer passes its calls on, unless it may have acted on the tool before.
    LeftAlone,
}

impl<T> Plan<T> {
    /// Creates a plan for a layer whose settings name these tools.
    pub(crate) fn new<'a>(identity: &Identity, named: impl IntoIterator<Item = &'a str>, unknown: Unknown) -> Self {
        let named: BTreeSet<_> = named.into_iter().map(str::to_owned).collect();
        Self(Arc::new(Tables {
            // A named tool may be missing from the listing.
            acted_on: AtomicU64::new(named.iter().fold(0, |bits, name| bits | bit_of(name))),
            is_partial: unknown == Unknown::LeftAlone,
            bound: OnceLock::new(),
            later: Later::default(),
            named,
            identity: identity.clone(),
            hasher: RandomState::default(),
            state: Mutex::new(State {
                callers: Callers::default(),
                look_ups: LookUps::default(),
                later: 0,
                listings: 0,
                swept: None,
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller of a listing or a call, as listings distinguish callers. The plain listing is that of an anonymous
    /// caller.
    fn key(&self, ctx: &RequestContext) -> Vec<u8> {
        self.0.identity.lister(ctx)
    }

    fn lister(&self, key: &[u8]) -> Lister {
        self.0.hasher.hash_one(key).max(1)
    }

    /// Removes all decisions, because the server has announced that its tools have changed. The decision for a tool that a setting names
    /// stays until a listing changes it.
    pub fn forget(&self) {
        let mut state = self.state();
        state.callers.clear();
        self.0.bound.get().into_iter().flatten().for_each(|(_, cell)| {
            cell.forget();
        });
        state.later -= self.0.later.forget(Cell::forget);
    }
}

impl<T: Clone + PartialEq> Plan<T> {
    /// Returns the decision for a tool and its caller.
    #[inline]
    pub fn get(&self, tool: &str, ctx: &RequestContext) -> Known<T> {
        let may_act = !self.0.is_partial || self.0.acted_on.load(Ordering::Acquire) & bit_of(tool) != 0;
        if may_act { self.look_up(tool, ctx) } else { Known::Decided(None) }
    }

    fn look_up(&self, tool: &str, ctx: &RequestContext) -> Known<T> {
        match self.read(tool) {
            Some(Reading::Decided(decision)) => Known::Decided(decision),
            Some(Reading::Varies) => self.own(tool, ctx),
            Some(Reading::Forgotten) | None => Known::Unknown,
        }
    }

    /// Says whether the layer may act on a call of the tool, for any caller. It does not allocate.
    pub(crate) fn may_act_on(&self, tool: &str) -> bool {
        if self.0.is_partial && self.0.acted_on.load(Ordering::Acquire) & bit_of(tool) == 0 {
            return false;
        }
        !matches!(self.read(tool), Some(Reading::Decided(None)))
    }

    fn read(&self, tool: &str) -> Option<Reading<T>> {
        match self.0.bound.get()?.get(tool) {
            Some(cell) => Some(cell.read()),
            None => self.0.later.find(tool, Cell::read),
        }
    }

    #[cold]
    fn own(&self, tool: &str, ctx: &RequestContext) -> Known<T> {
        let own = self.state().callers.own(&self.key(ctx), tool, Instant::now());
        own.map_or(Known::Unknown, Known::Decided)
    }

    /// Returns the last decision for a tool that held for all callers.
    #[must_use]
    pub fn of_anybody(&self, tool: &str) -> Option<T> {
        match self.0.bound.get()?.get(tool) {
            Some(cell) => cell.last(),
            None => self.0.later.find(tool, Cell::last)?,
        }
    }

    /// Returns an earlier decision for a tool of this name.
    #[must_use]
    pub fn find(&self, tool: &str, is_it: impl Fn(&T) -> bool) -> Option<T> {
        self.of_anybody(tool).filter(&is_it).or_else(|| self.state().callers.find(tool, is_it))
    }

    /// Decides for each of `tools`, as they were listed to the caller of `ctx`, or in the plain listing.
    pub fn learn(&self, tools: &[Tool], ctx: Option<&RequestContext>, decide: impl Fn(&Tool) -> Option<T>) {
        let mut decided: Vec<_> = tools.iter().map(|tool| (tool.name.as_str(), decide(tool))).collect();
        let key = ctx.map(|ctx| self.key(ctx)).unwrap_or_default();
        let lister = self.lister(&key);
        let acted_on =
            decided.iter().filter(|(_, decision)| decision.is_some()).fold(0, |bits, (name, _)| bits | bit_of(name));
        // First, so that a concurrent look-up does not miss the decision that follows.
        self.0.acted_on.fetch_or(acted_on, Ordering::Release);
        let mut state = self.state();
        state.listings += 1;
        let listing = state.listings;
        let bound = self.0.bound.get_or_init(|| {
            let bind = |(name, decision)| {
                let is_named = self.0.named.contains(name);
                (Box::from(name), Cell::new(decision, lister, listing, is_named))
            };
            decided.drain(..).map(bind).collect()
        });
        let (mut added, mut varying) = (Vec::new(), Vec::new());
        for (name, decision) in decided {
            let known = match bound.get(name) {
                Some(cell) => Some(cell.update(listing, &decision, lister)),
                None => self.0.later.find(name, |cell| cell.update(listing, &decision, lister)),
            };
            match known {
                Some(Updated::Same) => {}
                Some(updated) => {
                    if updated == Updated::Varies {
                        state.callers.note_variation(listing);
                    }
                    varying.push((name, decision));
                }
                None => added.push((name, decision)),
            }
        }
        if !added.is_empty() {
            state.later += self.0.later.add(added, listing, lister, |name| self.0.named.contains(name));
        }
        let now = Instant::now();
        match ctx {
            Some(ctx) if is_part(ctx) => state.callers.note_part(&key, varying, now),
            Some(_) => state.callers.note(&key, listing, varying, now),
            None => {}
        }
        self.sweep(&mut state, now);
        if state.later > MAX_LATER.max(tools.len()) {
            let most = MAX_LATER.max(tools.len());
            // More than necessary, so that this does not happen for each new tool.
            let kept = (most - most / 8).max(tools.len());
            state.later -= self.0.later.forget_oldest(state.later - kept);
        }
    }

    /// Forgets the tools that no listing has contained for a minute.
    fn sweep(&self, state: &mut State<T>, now: Instant) {
        let (at, listings) = *state.swept.get_or_insert((now, 0));
        if now.duration_since(at) < FRESH {
            return;
        }
        state.swept = Some((now, state.listings));
        let is_gone = |cell: &Cell<T>| cell.listed() < listings && cell.forget();
        self.0.bound.get().into_iter().flatten().for_each(|(_, cell)| {
            is_gone(cell);
        });
        state.later -= self.0.later.forget(is_gone);
        state.callers.sweep(now);
    }
}

/// One of 64 bits, by the length, the first and the last byte of a name.
#[inline]
fn bit_of(tool: &str) -> u64 {
    let name = tool.as_bytes();
    let end = |byte: Option<&u8>| byte.copied().map_or(0, u32::from);
    let mixed = (name.len() as u32).wrapping_mul(31) ^ end(name.first()).wrapping_mul(7) ^ end(name.last());
    1 << (mixed % u64::BITS)
}

impl<T> Plan<T> {
    /// Returns the names of all tools that the layer acts on, for at least one caller, in alphabetical order.
    pub(crate) fn tools(&self) -> Vec<String>
    where
        T: Clone + PartialEq,
    {
        let mut tools = BTreeSet::new();
        let mut add = |name: &str, is_acted_on: bool| {
            if is_acted_on {
                tools.insert(name.to_owned());
            }
        };
        self.0.bound.get().into_iter().flatten().for_each(|(name, cell)| add(name, cell.last().is_some()));
        self.0.later.each(|name, cell| add(name, cell.last().is_some()));
        self.state().callers.each_variant(|name, decision| add(name, decision.is_some()));
        tools.into_iter().collect()
    }
}

impl<T> fmt::Debug for Plan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let later = self.state().later;
        let bound = self.0.bound.get().map_or(0, HashMap::len);
        f.debug_struct("Plan").field("bound", &bound).field("later", &later).finish()
    }
}

#[cfg(test)]
mod tests;
