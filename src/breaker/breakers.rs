//! The breakers of a layer: one for each tool or group, by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::circuit::{Change, Circuit, Reason, Rules, State};
use crate::telemetry::{Counter, Gauge, Warning};

/// The breaker of all tools that are in no listing: a client can make their names up.
pub(super) const NOT_LISTED: &str = "(not listed)";

/// One breaker, and what it reports.
#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) name: String,
    pub(super) circuit: Circuit,
    opening: Warning,
}

impl Breaker {
    fn new(name: &str, rules: Rules) -> Self {
        Self { name: name.to_owned(), circuit: Circuit::new(rules), opening: Warning::default() }
    }

    /// Logs and counts a change.
    pub(super) fn report(&self, change: Change) {
        let Change { from, to, reason, .. } = change;
        let (breaker, to_word, why) = (self.name.as_str(), to.as_str(), reason.as_str());
        let labels = [("breaker", breaker), ("to", to_word), ("reason", why)];
        Counter::new("mcp_patterns_breaker_changes_total", &labels).increment();
        match (from.refuses(), to.refuses()) {
            (false, true) => self.refusing().increment(),
            (true, false) => self.refusing().decrement(),
            _ => {}
        }
        match (reason, to) {
            (Reason::Forced | Reason::Released, _) => {
                tracing::info!(breaker, state = to_word, reason = why, "the state of a breaker was set");
            }
            (_, State::Closed) => tracing::info!(breaker, "a breaker has closed: all calls are let through again"),
            (_, State::Open) => {
                if let Some(unsaid) = self.opening.due() {
                    tracing::warn!(
                        breaker,
                        reason = why,
                        unsaid,
                        "a breaker has opened: calls are refused for a while"
                    );
                }
            }
            _ => tracing::debug!(breaker, "a breaker is half open: probes are let through"),
        }
    }

    fn refusing(&self) -> Gauge {
        Gauge::new("mcp_patterns_breaker_refusing", &[("breaker", &self.name)])
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if self.circuit.state().refuses() {
            self.refusing().decrement();
        }
    }
}

/// The group of each tool that is in one.
pub(super) type Groups = BTreeMap<String, String>;

/// The breakers of a layer. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Breakers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Rules,
    groups: Groups,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    breakers: HashMap<String, Arc<Breaker>>,
    /// With so many breakers, those are dropped that no plan has and that would refuse no call.
    drop_at: usize,
}

/// So many breakers are kept, whatever they are for: about a megabyte with the default window.
const KEPT: usize = 1_000;

impl Breakers {
    pub(super) fn new(rules: Rules, groups: Groups) -> Self {
        let table = Table { breakers: HashMap::new(), drop_at: KEPT };
        Self(Arc::new(Inner { rules, groups, table: Mutex::new(table) }))
    }

    /// Returns the breaker of a tool. It keeps its state when the tool leaves the listing for a while.
    pub(super) fn of(&self, tool: &str) -> Arc<Breaker> {
        let name = self.name(tool);
        let mut table = self.table();
        if let Some(breaker) = table.breakers.get(name) {
            return Arc::clone(breaker);
        }
        if table.breakers.len() >= table.drop_at {
            table
                .breakers
                .retain(|_, breaker| Arc::strong_count(breaker) > 1 || breaker.circuit.state() == State::Open);
            table.drop_at = (2 * table.breakers.len()).max(KEPT);
        }
        let breaker = Arc::new(Breaker::new(name, self.0.rules));
        table.breakers.insert(name.to_owned(), Arc::clone(&breaker));
        breaker
    }

    /// Returns the breaker of this tool or group, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Breaker>> {
        self.table().breakers.get(self.name(name)).cloned()
    }

    /// Returns all breakers, by name.
    pub(super) fn all(&self) -> Vec<Arc<Breaker>> {
        let mut all: Vec<_> = self.table().breakers.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Returns the group of a tool, if it is in one.
    pub(super) fn group_of(&self, tool: &str) -> Option<&str> {
        self.0.groups.get(tool).map(String::as_str)
    }

    fn name<'a>(&'a self, tool: &'a str) -> &'a str {
        self.group_of(tool).unwrap_or(tool)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
