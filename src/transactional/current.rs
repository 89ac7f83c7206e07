use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedMappedMutexGuard, OwnedMutexGuard};

use sqlx::Pool;

use super::dialect::Dialect;
use super::error::TransactionError;
use super::hooks::Hooks;
use super::open::Open;
use crate::connections::Connections;
use crate::fault::{self, Fault};
use crate::scope::{self, Scoped};

/// How long [`current`] waits for a part of the same call to let the connection go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the connection of the transaction that the call runs in.
///
/// It derefs to the connection of sqlx: `sqlx::query(..).execute(&mut *db)`. Drop it before calling what needs it too.
///
/// A savepoint of your own (`db.begin()`) is fine. Leave the end to the layer: after a `begin_with`, a `COMMIT` or a `ROLLBACK`
/// there is no transaction any more, and what follows is done for good while the call fails, with
/// [`TransactionError::EndedEarly`].
///
/// # Errors
///
/// [`TransactionError::None`] outside a transaction on this kind of database, and in a task of its own;
/// [`TransactionError::Held`] while another part of the call keeps the connection for more than five seconds.
pub async fn current<DB: Dialect>() -> Result<Connection<DB>, TransactionError> {
    let part = scope::current::<Part<DB>>().ok_or(TransactionError::None)?;
    part.connection().await
}

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

/// Runs `hook` once the transaction is committed, after those registered before it; never if it is rolled back.
///
/// What a [`CachedTool`](crate::CachedTool) inside the transaction invalidates is invalidated before the first hook runs. The call is
/// answered when all hooks have run, or after five seconds. They run even if the caller has gone. Outside a transaction, what was done
/// is done already: `hook` is handed back to be run at once.
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

/// Runs `invalidation` once the transaction is committed, or may be: before all that is registered with [`after_commit`], and
/// whatever that does. Outside a transaction it is handed back to be run at once.
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

/// Runs `hook` once what the call did is certain: after the commit of the transaction that it is a part of, and never if that is
/// rolled back; at once where it is no part of one.
///
/// For what follows from an inner call, in a layer of your own: whether the call is inside a transaction is not the layer's to
/// know.
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

/// The connection of the current transaction. Made by [`current`].
pub struct Connection<DB: Dialect> {
    connection: OwnedMappedMutexGuard<Option<Open<DB>>, DB::Connection>,
    control: Arc<Control>,
}

impl<DB: Dialect> Deref for Connection<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl<DB: Dialect> DerefMut for Connection<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.control.uses.fetch_add(1, Ordering::AcqRel);
        &mut self.connection
    }
}

impl<DB: Dialect> fmt::Debug for Connection<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// A transaction, or a savepoint in one, as the call scope holds it.
pub(super) struct Part<DB: Dialect> {
    open: Arc<tokio::sync::Mutex<Option<Open<DB>>>>,
    connections: Arc<Connections<DB>>,
    is_read_only: bool,
    pub(super) control: Arc<Control>,
}

impl<DB: Dialect> Scoped for Part<DB> {}

impl<DB: Dialect> Part<DB> {
    pub(super) fn new(open: Open<DB>, connections: Arc<Connections<DB>>) -> Self {
        let is_read_only = open.is_read_only();
        let open = Arc::new(tokio::sync::Mutex::new(Some(open)));
        Self { open, connections, is_read_only, control: Arc::new(Control::new(DB::NAME)) }
    }

    /// The same transaction with hooks and a fate of its own.
    pub(super) fn nested(&self) -> Self {
        let connections = Arc::clone(&self.connections);
        let control = Arc::new(Control::new(DB::NAME));
        Self { open: Arc::clone(&self.open), connections, is_read_only: self.is_read_only, control }
    }

    pub(super) async fn connection(&self) -> Result<Connection<DB>, TransactionError> {
        let open = tokio::time::timeout(PATIENCE, Arc::clone(&self.open).lock_owned())
            .await
            .map_err(|_| TransactionError::Held)?;
        OwnedMutexGuard::try_map(open, |open| open.as_mut()?.connection())
            .map(|connection| Connection { connection, control: Arc::clone(&self.control) })
            .map_err(|_| TransactionError::None)
    }

    /// Takes the transaction out at its end, unless somebody still holds it.
    pub(super) fn take(&self) -> Option<Open<DB>> {
        self.open.try_lock().ok()?.take()
    }
}

/// The transactions on one pool that a call is in.
pub(crate) struct Within<DB: Dialect> {
    innermost: Arc<Part<DB>>,
    /// How many connections the call holds.
    held: usize,
    is_writer: bool,
}

/// Finds the transactions on `pool` that the call is in.
pub(crate) fn within<DB: Dialect>(pool: &Pool<DB>) -> Option<Within<DB>> {
    let mut parts = scope::all::<Part<DB>>().filter(|part| part.connections.is_of(pool));
    let innermost = parts.next()?;
    let mut opens = vec![Arc::clone(&innermost.open)];
    let mut is_writer = !innermost.is_read_only;
    for part in parts {
        is_writer |= !part.is_read_only;
        if !opens.iter().any(|open| Arc::ptr_eq(open, &part.open)) {
            opens.push(Arc::clone(&part.open));
        }
    }
    Some(Within { innermost, held: opens.len(), is_writer })
}

impl<DB: Dialect> Within<DB> {
    /// The connection of the innermost transaction.
    pub(crate) async fn connection(&self) -> Result<Connection<DB>, TransactionError> {
        self.innermost.connection().await
    }

    /// Whether what needs another connection of the pool, perhaps to write, could not end before these transactions have.
    pub(crate) fn bars(&self, writes: bool) -> bool {
        self.innermost.connections.are_all(self.held) || (DB::HAS_ONE_WRITER && self.is_writer && writes)
    }

    /// Notes an error that happened in the innermost transaction.
    pub(crate) fn note(&self, error: &sqlx::Error) {
        self.innermost.control.note(error);
    }
}

/// What the parts of a call may ask of its transaction, whatever the database.
pub(super) struct Control {
    /// The name of the database.
    pub(super) backend: &'static str,
    rollback_only: AtomicBool,
    doomed: AtomicBool,
    conflict: AtomicBool,
    /// How often the connection was used.
    uses: AtomicU64,
    /// Which use, from 1, the database may have answered with a rollback of the whole.
    undone_by: AtomicU64,
    hooks: Mutex<Hooks>,
}

impl Scoped for Control {
    fn is_transaction(&self) -> bool {
        true
    }
}

impl Control {
    fn new(backend: &'static str) -> Self {
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

    /// Notes an error that happened in the transaction.
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

    /// Whether a transaction that is no more was rolled back by the database with the last statement: nothing came after it.
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

    /// Keeps the transaction from being committed, because a part of it failed.
    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_hooks(&self) -> Hooks {
        std::mem::take(&mut self.hooks())
    }

    /// Takes over what a savepoint that was released had registered.
    pub(super) fn adopt(&self, nested: &Self) {
        self.hooks().extend(nested.take_hooks());
    }
}
