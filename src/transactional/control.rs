//! Requests of a call to its transaction, on any database: roll it back, or run a function after its commit.

use std::future::Future;
#[cfg(feature = "cached")]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;

use super::error::TransactionError;
use super::hooks::Hooks;
use crate::fault::{self, Fault};
use crate::scope::{self, Scoped};

/// Rolls the transaction back at its end, whatever the tool returns.
///
/// # Errors
///
/// [`TransactionError::None`] outside a transaction.
pub fn set_rollback_only() -> Result<(), TransactionError> {
    let control = scope::current::<Control>().ok_or(TransactionError::None)?;
    control.rollback_only.store(true, Ordering::Release);
    Ok(())
}

/// Runs `hook` once the transaction is committed, after the hooks registered before it. If the transaction is rolled back, it never runs.
///
/// The invalidations of a [`CachedTool`](crate::CachedTool) inside the transaction run before the first hook. The call returns when all
/// hooks have run, or after five seconds. They run even if the caller has left.
///
/// # Errors
///
/// Outside a transaction, it returns `hook`: everything is already done, so run it at once.
pub fn after_commit<H, F>(hook: H) -> Result<(), H>
where
    H: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    match scope::current::<Control>() {
        Some(control) => {
            control.hooks().after_commit.push(Box::new(move || hook().boxed()));
            Ok(())
        }
        None => Err(hook),
    }
}

/// Runs `invalidation` once the transaction is committed, or may be: before the hooks of [`after_commit`], and whatever they do. Outside a
/// transaction it returns `invalidation`, to be run at once.
#[cfg(feature = "cached")]
pub(crate) fn invalidate_after_commit<I, F>(invalidation: I) -> Result<(), I>
where
    I: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    match scope::current::<Control>() {
        Some(control) => {
            control.hooks().invalidations.push(Arc::new(move || invalidation().boxed()));
            Ok(())
        }
        None => Err(invalidation),
    }
}

/// Runs `hook` once the effects of the call are certain: inside a transaction after its commit, and never if it is rolled back; outside a
/// transaction at once.
///
/// Use it in a layer of your own for consequences of an inner call: the layer need not know whether the call is inside a transaction.
///
/// # Example
///
/// ```
/// use mcp_patterns::{Layered, Middleware, outcome, transactional};
/// use serde_json::Value;
/// # use turbomcp::{McpHandler, McpResult, RequestContext, ToolResult};
///
/// /// Rings a bell after each call that took effect.
/// #[derive(Clone)]
/// struct Bell(fn(String));
///
/// impl Middleware for Bell {
///     async fn call_tool<'a, H: McpHandler>(
///         &'a self, inner: &'a H, name: &'a str, args: Value, ctx: &'a RequestContext,
///     ) -> McpResult<ToolResult> {
///         let result = inner.call_tool(name, args, ctx).await;
///         if outcome::failure(&result).is_none() {
///             let (ring, tool) = (self.0, name.to_owned());
///             transactional::after_commit_or_now(move || async move { ring(tool) }).await;
///         }
///         result
///     }
/// }
/// ```
pub async fn after_commit_or_now<H, F>(hook: H)
where
    H: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    if let Err(hook) = after_commit(hook) {
        hook().await;
    }
}

/// The requests of a call to its transaction, on any database.
pub(super) struct Control {
    /// The name of the database.
    pub(super) backend: &'static str,
    rollback_only: AtomicBool,
    doomed: AtomicBool,
    conflict: AtomicBool,
    /// How often the connection was used.
    uses: AtomicU64,
    /// The use, from 1, that the database may have answered with a rollback of the whole transaction.
    undone_by: AtomicU64,
    hooks: Mutex<Hooks>,
}

impl Scoped for Control {
    fn is_transaction(&self) -> bool {
        true
    }
}

impl Control {
    pub(super) fn new(backend: &'static str) -> Self {
        Self {
            backend,
            rollback_only: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            conflict: AtomicBool::new(false),
            uses: AtomicU64::new(0),
            undone_by: AtomicU64::new(0),
            hooks: Mutex::default(),
        }
    }

    /// Records one more use of the connection.
    pub(super) fn note_use(&self) {
        self.uses.fetch_add(1, Ordering::AcqRel);
    }

    /// Records an error of the transaction.
    pub(super) fn note(&self, error: &sqlx::Error) -> Fault {
        let fault = fault::of_sql(error).fault;
        if fault == Fault::Conflict {
            self.conflict.store(true, Ordering::Release);
        }
        if fault::may_undo_transaction(error) {
            self.undone_by.store(self.uses.load(Ordering::Acquire), Ordering::Release);
        }
        fault
    }

    /// Returns whether the database rolled the transaction back with its last statement, so that no statement followed.
    pub(super) fn was_undone(&self) -> bool {
        let undone_by = self.undone_by.load(Ordering::Acquire);
        undone_by > 0 && undone_by == self.uses.load(Ordering::Acquire)
    }

    pub(super) fn has_conflict(&self) -> bool {
        self.conflict.load(Ordering::Acquire)
    }

    pub(super) fn note_conflict(&self) {
        self.conflict.store(true, Ordering::Release);
    }

    pub(super) fn is_rollback_only(&self) -> bool {
        self.rollback_only.load(Ordering::Acquire)
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }

    /// Prevents the commit of the transaction, because a part of it failed.
    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_hooks(&self) -> Hooks {
        std::mem::take(&mut self.hooks())
    }

    /// Takes over the hooks of a released savepoint.
    pub(super) fn adopt(&self, nested: &Self) {
        self.hooks().extend(nested.take_hooks());
    }
}
