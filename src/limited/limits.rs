//! The limits of all tools and principals of a layer, and what is used of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use turbomcp_core::RequestContext;

use super::concurrency::{Concurrency, NoPlace, Places};
use super::rate::{Rate, Used};

/// Whose calls count together for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Per {
    /// All calls of a tool, whoever makes them: this protects what is behind the tool.
    Tool,
    /// All calls of a principal, of any tool of the layer: nobody takes more than a share.
    Principal,
    /// The calls that a principal makes of one tool.
    PrincipalAndTool,
}

/// In the order in which places are taken: so no two calls wait for each other.
pub(super) const ALL: [Per; 3] = [Per::PrincipalAndTool, Per::Principal, Per::Tool];

/// The limits for one way to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) rate: Option<Rate>,
    pub(super) concurrency: Option<Concurrency>,
}

impl Limit {
    pub(super) const NONE: Self = Self { rate: None, concurrency: None };
}

/// What is used of the limits. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: [Limit; 3],
    max_principals: usize,
    began: Instant,
    used: Mutex<[Table; 3]>,
}

/// Whose call it is: a tool, and a principal by a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) tool: u64,
    pub(super) principal: u64,
}

/// What is used, by the number of a tool, of a principal, or of both.
#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry, RandomState>,
    /// What those use together who came when the table was full.
    others: Entry,
    /// No entry is looked for that could leave before this moment.
    look_at: u128,
}

#[derive(Debug, Default)]
struct Entry {
    used: Used,
    places: Option<Places>,
}

/// A call that is let through. Its places are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    _places: [Option<OwnedSemaphorePermit>; 3],
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Rate { per: Per, retry_after: Duration },
    Concurrency { per: Per, why: NoPlace },
}

/// The pause between two looks for entries that may leave a full table, in nanoseconds.
const LOOK_EVERY: u128 = 1_000_000_000;

impl Limits {
    pub(super) fn new(limits: [Limit; 3], max_principals: usize) -> Self {
        let used = Mutex::new(std::array::from_fn(|_| Table::default()));
        Self(Arc::new(Inner { limits, max_principals, began: Instant::now(), used }))
    }

    /// The time on the clock of the tables, in nanoseconds.
    fn now(&self) -> u128 {
        self.0.began.elapsed().as_nanos()
    }

    fn used(&self) -> MutexGuard<'_, [Table; 3]> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many tools and principals have an entry of their own.
    pub(super) fn entries(&self) -> usize {
        self.used().iter().map(|table| table.entries.len()).sum()
    }

    /// Lets a call through, perhaps after a wait for a place. A call that is refused, or leaves while it waits, uses nothing.
    pub(super) async fn admit(&self, caller: Caller, cost: u32, ctx: &RequestContext) -> Result<Admitted, Refused> {
        let (places, paid) = self.take_rates(caller, cost)?;
        let mut taken = [None, None, None];
        for ((per, places), taken) in ALL.into_iter().zip(places).zip(&mut taken) {
            if let Some((places, concurrency)) = places {
                let place = places.take(concurrency, ctx).await;
                *taken = Some(place.map_err(|why| Refused::Concurrency { per, why })?);
            }
        }
        paid.keep();
        Ok(Admitted { _places: taken })
    }

    /// Takes the cost of a call from each rate, or from none of them.
    fn take_rates(&self, caller: Caller, cost: u32) -> Result<(WantedPlaces, Paid<'_>), Refused> {
        let now = self.now();
        let mut wanted = [None, None, None];
        let mut refused = None;
        let mut paid = [None; 3];
        let mut used = self.used();
        for (at, per) in ALL.into_iter().enumerate() {
            let limit = self.0.limits[at];
            if limit == Limit::NONE {
                continue;
            }
            let place = used[at].place(caller.key(per), self.0.max_principals, now);
            let entry = used[at].entry(place);
            if let Some(rate) = limit.rate {
                match entry.used.take(rate, cost, now) {
                    Ok(()) => paid[at] = Some(place),
                    Err(retry_after) => {
                        refused = Some(Refused::Rate { per, retry_after });
                        break;
                    }
                }
            }
            wanted[at] = limit.concurrency.map(|concurrency| {
                let places = entry.places.get_or_insert_with(|| Places::new(concurrency));
                (places.clone(), concurrency)
            });
        }
        drop(used);
        let paid = Paid { limits: self, cost, paid };
        match refused {
            // The drop of `paid` gives back what the rates before have let through.
            Some(refused) => Err(refused),
            None => Ok((wanted, paid)),
        }
    }
}

type WantedPlaces = [Option<(Places, Concurrency)>; 3];

/// The cost of a call that has not begun yet. Its drop gives it back.
struct Paid<'a> {
    limits: &'a Limits,
    cost: u32,
    paid: [Option<At>; 3],
}

impl Paid<'_> {
    /// The call begins.
    fn keep(mut self) {
        self.paid = [None; 3];
    }
}

impl Drop for Paid<'_> {
    fn drop(&mut self) {
        if self.paid == [None; 3] {
            return;
        }
        let mut used = self.limits.used();
        for ((table, limit), paid) in used.iter_mut().zip(self.limits.0.limits).zip(self.paid) {
            if let (Some(at), Some(rate)) = (paid, limit.rate) {
                table.entry(at).used.give_back(rate, self.cost);
            }
        }
    }
}

impl Caller {
    fn key(self, per: Per) -> u64 {
        match per {
            Per::Tool => self.tool,
            Per::Principal => self.principal,
            // Both numbers are random.
            Per::PrincipalAndTool => self.tool.rotate_left(1) ^ self.principal,
        }
    }
}

/// Where a table has what a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Own(u64),
    Others,
}

impl Table {
    /// Finds a place for what this number uses. It is that of all others if the table is full of entries that still limit somebody.
    fn place(&mut self, key: u64, max: usize, now: u128) -> At {
        if self.entries.contains_key(&key) || self.entries.len() < max {
            return At::Own(key);
        }
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.entries.retain(|_, entry| !entry.is_unused(now));
        }
        if self.entries.len() < max { At::Own(key) } else { At::Others }
    }

    fn entry(&mut self, at: At) -> &mut Entry {
        match at {
            At::Own(key) => self.entries.entry(key).or_default(),
            At::Others => &mut self.others,
        }
    }
}

impl Entry {
    /// Says whether it limits nobody at the moment: a new entry would be the same.
    fn is_unused(&self, now: u128) -> bool {
        self.used.is_none(now) && self.places.as_ref().is_none_or(Places::are_all_free)
    }
}
