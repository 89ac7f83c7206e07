//! The state of the server, and its record of the calls that reached it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp_patterns::SessionStore;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use turbomcp::RequestContext;

/// The outcomes of calls with one key.
#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
pub(crate) struct Observed {
    started: i32,
    /// The tool saw its cancellation.
    cancelled: i32,
    finished: i32,
    /// The tool's future was dropped while it waited.
    dropped: i32,
}

/// Shared by all clones of the server.
#[derive(Debug, Clone)]
pub(crate) struct State {
    observed: Arc<Mutex<HashMap<String, Observed>>>,
    total: Arc<AtomicI64>,
    note: Arc<Mutex<String>>,
    pub(crate) sessions: SessionStore,
}

impl Default for State {
    fn default() -> Self {
        Self {
            observed: Arc::default(),
            total: Arc::default(),
            note: Arc::new(Mutex::new("nothing yet".to_owned())),
            sessions: SessionStore::in_memory().with_namespace("driven"),
        }
    }
}

impl State {
    pub(crate) fn add(&self, amount: i64) -> i64 {
        self.total.fetch_add(amount, Ordering::SeqCst) + amount
    }

    pub(crate) fn total(&self) -> i64 {
        self.total.load(Ordering::SeqCst)
    }

    pub(crate) fn note(&self) -> String {
        lock(&self.note).clone()
    }

    pub(crate) fn set_note(&self, note: String) {
        *lock(&self.note) = note;
    }

    pub(crate) fn observed(&self, key: &str) -> Observed {
        lock(&self.observed).get(key).copied().unwrap_or_default()
    }

    /// Records that a call has started, and later its end.
    pub(crate) fn start(&self, key: &str) -> Running {
        self.change(key, |observed| observed.started += 1);
        Running { state: self.clone(), key: key.to_owned(), has_ended: false }
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Observed)) {
        change(lock(&self.observed).entry(key.to_owned()).or_default());
    }
}

/// A call that is running. One that is dropped is counted as such.
#[derive(Debug)]
pub(crate) struct Running {
    state: State,
    key: String,
    has_ended: bool,
}

impl Running {
    /// Returns how often calls with this key have started, including this one.
    pub(crate) fn number(&self) -> i32 {
        self.state.observed(&self.key).started
    }

    pub(crate) fn cancelled(self) {
        self.end(|observed| observed.cancelled += 1);
    }

    pub(crate) fn finished(self) {
        self.end(|observed| observed.finished += 1);
    }

    fn end(mut self, change: impl FnOnce(&mut Observed)) {
        self.has_ended = true;
        self.state.change(&self.key, change);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.state.change(&self.key, |observed| observed.dropped += 1);
        }
    }
}

/// The subject, the tenant and the roles of a caller.
pub(crate) fn caller(ctx: &RequestContext) -> String {
    let tenant = ctx.principal().and_then(|principal| principal.claims.get("tenant_id"));
    let tenant = tenant.and_then(Value::as_str).unwrap_or("no tenant");
    format!("{} of {tenant}, roles: {}", ctx.subject().unwrap_or("nobody"), ctx.roles().join(" "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
