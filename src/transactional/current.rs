use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::timeout;

use super::control::Control;
use super::dialect::Dialect;
use super::error::TransactionError;
use super::open::Open;
use crate::connections::Connections;
use crate::scope::{self, Scoped};

/// How long [`current`] waits for another part of the same call to drop the connection.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the connection of the transaction that the call runs in.
///
/// It derefs to the connection of sqlx: `sqlx::query(..).execute(&mut *db)`. Drop it before you call other code that needs it.
///
/// You may use savepoints of your own (`db.begin()`). Only the layer may end the transaction: after a `begin_with`, a `COMMIT` or a
/// `ROLLBACK` there is no transaction any more. Everything that follows is kept, and the call fails, with
/// [`TransactionError::EndedEarly`].
///
/// # Errors
///
/// [`TransactionError::None`] outside a transaction on this kind of database, and in a spawned task;
/// [`TransactionError::Held`] if another part of the call holds the connection for more than five seconds.
pub async fn current<DB: Dialect>() -> Result<Connection<DB>, TransactionError> {
    let part = scope::current::<TransactionHandle<DB>>().ok_or(TransactionError::None)?;
    part.connection().await
}

/// The connection of the current transaction. [`current`] returns it.
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
        self.control.note_use();
        &mut self.connection
    }
}

impl<DB: Dialect> fmt::Debug for Connection<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// A transaction, or a savepoint in one, as the call scope holds it.
pub(super) struct TransactionHandle<DB: Dialect> {
    open: Arc<Mutex<Option<Open<DB>>>>,
    connections: Arc<Connections<DB>>,
    is_read_only: bool,
    pub(super) control: Arc<Control>,
}

impl<DB: Dialect> Scoped for TransactionHandle<DB> {}

impl<DB: Dialect> TransactionHandle<DB> {
    pub(super) fn new(open: Open<DB>, connections: Arc<Connections<DB>>) -> Self {
        let is_read_only = open.is_read_only();
        let open = Arc::new(Mutex::new(Some(open)));
        Self { open, connections, is_read_only, control: Arc::new(Control::new(DB::NAME)) }
    }

    /// The same transaction, with its own hooks and its own end.
    pub(super) fn nested(&self) -> Self {
        let connections = Arc::clone(&self.connections);
        let control = Arc::new(Control::new(DB::NAME));
        Self { open: Arc::clone(&self.open), connections, is_read_only: self.is_read_only, control }
    }

    pub(super) async fn connection(&self) -> Result<Connection<DB>, TransactionError> {
        let locked = timeout(HOLDER_TIMEOUT, Arc::clone(&self.open).lock_owned()).await;
        let open = locked.map_err(|_| TransactionError::Held)?;
        OwnedMutexGuard::try_map(open, |open| open.as_mut()?.connection())
            .map(|connection| Connection { connection, control: Arc::clone(&self.control) })
            .map_err(|_| TransactionError::None)
    }

    /// Takes the transaction out at its end. `None` if a part of the call still holds its connection.
    pub(super) fn take(&self) -> Option<Open<DB>> {
        self.open.try_lock().ok()?.take()
    }
}

/// The transactions on one pool that a call is in.
pub(crate) struct Within<DB: Dialect> {
    innermost: Arc<TransactionHandle<DB>>,
    /// How many connections the call holds.
    held: usize,
    is_writer: bool,
}

/// Finds the transactions on `pool` that the call is in.
pub(crate) fn within<DB: Dialect>(pool: &Pool<DB>) -> Option<Within<DB>> {
    let mut parts = scope::all::<TransactionHandle<DB>>().filter(|part| part.connections.is_of(pool));
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

    /// Returns whether work that needs another connection of the pool, perhaps to write, would wait for the end of
    /// these transactions.
    pub(crate) fn bars(&self, writes: bool) -> bool {
        self.innermost.connections.are_all(self.held) || (DB::HAS_ONE_WRITER && self.is_writer && writes)
    }

    /// Records an error of the innermost transaction.
    pub(crate) fn note(&self, error: &sqlx::Error) {
        self.innermost.control.note(error);
    }
}
