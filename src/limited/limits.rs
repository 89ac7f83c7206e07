//! The limits of all tools and principals of a layer, and what is used of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use turbomcp_core::RequestContext;

use super::adaptive::Ended;
use super::concurrency::{NoPlace, Place, Places};
use super::limit::{ALL, Limit, Per};
use super::plan::Call;
#[cfg(feature = "redis")]
use super::shared::{Answer, SharedRates, Wanted};
use super::table::{At, Table};
use crate::identity::share_of;

/// What is used of the limits. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Those of this process.
    limits: [Limit; 3],
    max_principals: usize,
    /// How many processes share the rates. Each of them counts a call as so many while it counts alone.
    replicas: u32,
    began: Instant,
    used: Mutex<[Table; 3]>,
    #[cfg(feature = "redis")]
    shared: Option<SharedRates>,
}

/// A call that is let through. Its places are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Admitted([Option<Place>; 3]);

impl Admitted {
    /// Says whether the end of the call moves a limit.
    pub(super) fn is_adaptive(&self) -> bool {
        self.0.iter().flatten().any(Place::is_adaptive)
    }

    /// Moves adaptive limits by the end of the call.
    pub(super) fn ended(&self, ended: Ended) {
        self.0.iter().flatten().for_each(|place| place.ended(ended));
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Rate { per: Per, retry_after: Duration },
    Concurrency { per: Per, why: NoPlace },
}

impl Limits {
    /// Limits of a process that is one of so many.
    pub(super) fn new(limits: [Limit; 3], max_principals: usize, replicas: u32) -> Self {
        let limits = limits.map(|limit| Limit {
            concurrency: limit.concurrency.map(|concurrency| concurrency.share(replicas)),
            ..limit
        });
        Self(Arc::new(Inner {
            limits,
            max_principals,
            replicas,
            began: Instant::now(),
            used: Mutex::new(std::array::from_fn(|_| Table::default())),
            #[cfg(feature = "redis")]
            shared: None,
        }))
    }

    /// Counts the rates together with other processes.
    #[cfg(feature = "redis")]
    pub(super) fn with_shared(mut self, shared: SharedRates) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.shared = Some(shared);
        }
        self
    }

    /// Returns how often the backend has failed.
    pub(super) fn backend_failures(&self) -> u64 {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared {
            return shared.failures.get();
        }
        0
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
        self.used().iter().map(Table::len).sum()
    }

    /// Returns the places of a tool, if any of its calls has used one.
    pub(super) fn places_of(&self, tool: &str) -> Option<Places> {
        let [_, _, tools] = &*self.used();
        tools.places_of(share_of(tool.as_bytes()))
    }

    /// Lets a call through, perhaps after a wait for a place. A call that is refused, or leaves while it waits, uses nothing.
    pub(super) async fn admit(&self, call: &Call<'_>) -> Result<Admitted, Refused> {
        if self.0.limits == [Limit::NONE; 3] {
            return Ok(Admitted([None, None, None]));
        }
        #[cfg(feature = "redis")]
        if let Some(shared) = self.0.shared.as_ref().filter(|shared| call.cost > 0 && shared.is_reachable()) {
            return Box::pin(self.admit_with(shared, call)).await;
        }
        let (entries, wanted) = self.enter(call, Pays::ForAll)?;
        let paid = Paid { limits: self, cost: self.cost_for_all(call), entries };
        let taken = take(wanted, call.ctx).await?;
        paid.keep();
        Ok(taken)
    }

    /// Asks for the rates last, right before the call: so nothing has to be given back over the network.
    #[cfg(feature = "redis")]
    async fn admit_with(&self, shared: &SharedRates, call: &Call<'_>) -> Result<Admitted, Refused> {
        let (entries, wanted) = self.enter(call, Pays::Nothing)?;
        let taken = take(wanted, call.ctx).await?;
        let asked_at = self.now();
        match shared.take(&self.wanted(shared, call, entries, asked_at), call.cost).await {
            Some(Answer { used, refused }) => {
                self.note(entries, asked_at, &used);
                match refused {
                    None => Ok(taken),
                    Some((per, retry_after)) => Err(Refused::Rate { per, retry_after }),
                }
            }
            None => self.enter(call, Pays::ForAll).map(|_| taken),
        }
    }

    /// Finds the entries of a call and the places that it needs, if each rate lets it through.
    fn enter(&self, call: &Call<'_>, pays: Pays) -> Result<(Entries, WantedPlaces), Refused> {
        let caller = self.caller(call);
        let cost = match pays {
            Pays::ForAll => self.cost_for_all(call),
            #[cfg(feature = "redis")]
            Pays::Nothing => u64::from(call.cost),
        };
        let now = self.now();
        let (mut entries, mut wanted, mut longest) = ([None; 3], [None, None, None], None);
        let mut used = self.used();
        for (at, (per, limit)) in ALL.into_iter().zip(self.0.limits).enumerate() {
            if limit == Limit::NONE {
                continue;
            }
            let place = used[at].place(caller.key(per), self.0.max_principals, now);
            let entry = used[at].entry(place);
            entries[at] = Some(place);
            wanted[at] = limit
                .concurrency
                .map(|concurrency| (per, entry.places.get_or_insert_with(|| Places::new(concurrency)).clone()));
            let wait = limit.rate.and_then(|rate| entry.used.wait(rate, cost, now));
            // The longest one is true for all of them.
            longest = longest.max(wait.map(|wait| (wait, per)));
        }
        if let Some((retry_after, per)) = longest {
            return Err(Refused::Rate { per, retry_after });
        }
        if matches!(pays, Pays::ForAll) {
            for ((table, limit), place) in used.iter_mut().zip(self.0.limits).zip(entries) {
                if let (Some(place), Some(rate)) = (place, limit.rate) {
                    table.entry(place).used.pay(rate, cost, now);
                }
            }
        }
        Ok((entries, wanted))
    }

    /// Asks who calls only if that counts: it takes as long as a rate.
    fn caller(&self, call: &Call<'_>) -> Caller {
        let counts_principals =
            ALL.into_iter().zip(self.0.limits).any(|(per, limit)| per != Per::Tool && limit != Limit::NONE);
        let principal = if counts_principals { call.identity.principal_of(call.ctx) } else { 0 };
        Caller { tool: call.tool.number, principal }
    }

    /// What a call costs while this process does not know what the others let through.
    fn cost_for_all(&self, call: &Call<'_>) -> u64 {
        u64::from(call.cost) * u64::from(self.0.replicas)
    }

    /// What a call wants of the rates that are shared.
    #[cfg(feature = "redis")]
    fn wanted(&self, shared: &SharedRates, call: &Call<'_>, entries: Entries, now: u128) -> Vec<Wanted> {
        let mut used = self.used();
        let rates = ALL.into_iter().zip(self.0.limits).zip(entries).enumerate();
        let wanted = rates.filter_map(|(at, ((per, limit), place))| {
            let (rate, place) = (limit.rate?, place?);
            let whose = if place == At::Others { None } else { Some(call) };
            let used = used[at].entry(place).used.ahead(now);
            Some(Wanted { key: shared.key(per, whose), per, rate, used })
        });
        wanted.collect()
    }

    /// Keeps what is used, as Redis has counted it, for calls that need not ask and for the time when it does not answer.
    ///
    /// It was so at the time of the question at the earliest, so it never appears to be more than it is.
    #[cfg(feature = "redis")]
    fn note(&self, entries: Entries, asked_at: u128, ahead: &[u128]) {
        let mut used = self.used();
        let rated = self.0.limits.iter().zip(entries).enumerate().filter(|(_, (limit, _))| limit.rate.is_some());
        for ((at, (_, place)), ahead) in rated.zip(ahead) {
            if let Some(place) = place {
                used[at].entry(place).used.note(*ahead, asked_at);
            }
        }
    }
}

/// What a call pays when it enters.
#[derive(Clone, Copy)]
enum Pays {
    /// Its cost, once for each process that shares the rates.
    ForAll,
    /// Nothing yet: Redis is asked.
    #[cfg(feature = "redis")]
    Nothing,
}

/// Where the tables have what a call uses.
type Entries = [Option<At>; 3];

type WantedPlaces = [Option<(Per, Places)>; 3];

async fn take(wanted: WantedPlaces, ctx: &RequestContext) -> Result<Admitted, Refused> {
    let mut taken = [None, None, None];
    for (wanted, taken) in wanted.into_iter().zip(&mut taken) {
        if let Some((per, places)) = wanted {
            let place = places.take(ctx).await;
            *taken = Some(place.map_err(|why| Refused::Concurrency { per, why })?);
        }
    }
    Ok(Admitted(taken))
}

/// The cost of a call that has not begun yet. Its drop gives it back.
struct Paid<'a> {
    limits: &'a Limits,
    cost: u64,
    entries: Entries,
}

impl Paid<'_> {
    /// The call begins.
    fn keep(mut self) {
        self.entries = [None; 3];
    }
}

impl Drop for Paid<'_> {
    fn drop(&mut self) {
        if self.entries == [None; 3] {
            return;
        }
        let mut used = self.limits.used();
        for ((table, limit), place) in used.iter_mut().zip(self.limits.0.limits).zip(self.entries) {
            if let (Some(place), Some(rate)) = (place, limit.rate) {
                table.entry(place).used.give_back(rate, self.cost);
            }
        }
    }
}

/// Whose call it is: a tool, and a principal by a number.
#[derive(Clone, Copy)]
struct Caller {
    tool: u64,
    principal: u64,
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
