//! The setters of the layer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;

use super::dialect::Dialect;
use super::keyed_call::KeyedCalls;
use super::plan::ToolPlan;
use super::records;
use super::transactor::Transactor;
use crate::Identity;
use crate::idempotency_keys::{Handle, Idempotency, KeySpace};
use crate::selection::{Plan, Selection, naming_selectors};

/// Runs a tool in a transaction that is committed if the tool succeeds. See the [manual](super).
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct TransactionalTool<DB: Dialect> {
    pub(super) transactor: Transactor<DB>,
    pub(super) selection: Selection,
    pub(super) is_selected: bool,
    pub(super) allows_unlisted: bool,
    pub(super) idempotency: Option<Arc<Idempotency>>,
    pub(super) wait: Duration,
    pub(super) emit_meta: bool,
    pub(super) space: Arc<KeySpace>,
    pub(super) plan: Plan<Arc<ToolPlan>>,
    pub(super) keyed_calls: Arc<KeyedCalls>,
    pub(super) handle: Handle,
}

impl<DB: Dialect> TransactionalTool<DB> {
    /// Creates a layer for the tools that you name, on a pool or with the settings of a [`Transactor`]. See the [defaults](super#defaults).
    pub fn new(transactor: impl Into<Transactor<DB>>) -> Self {
        Self {
            transactor: transactor.into(),
            selection: Selection::new(),
            is_selected: false,
            allows_unlisted: false,
            idempotency: None,
            wait: Duration::from_secs(5),
            emit_meta: true,
            space: Arc::default(),
            plan: Plan::default(),
            keyed_calls: Arc::default(),
            handle: Handle::default(),
        }
    }

    naming_selectors!();

    /// Allows calls of tools that are in no listing, for a server that leaves tools out of its listings on purpose.
    ///
    /// Only the name of such a tool is known, so it counts as not read-only. Settings may then name tools that are not listed when the
    /// server starts, such as those that only some callers see.
    pub fn allow_unlisted_tools(mut self) -> Self {
        self.allows_unlisted = true;
        self
    }

    /// Makes a call with a key take effect once: its answer is recorded in the same transaction.
    ///
    /// The table must exist: see [`ensure_schema`](Self::ensure_schema).
    pub fn with_idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = Some(Arc::new(idempotency));
        self
    }

    /// Separates the [keys](Self::with_idempotency) from those of servers in another namespace on the same table, such as `staging` and
    /// `production`. The server's name separates them as well. Replicas share keys only if they have the same namespace.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.space).namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are distinguished. Each caller has [keys](Self::with_idempotency) of their own. Give all layers the same
    /// [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        Arc::make_mut(&mut self.space).identity = identity;
        self
    }

    /// Sets how long a call waits for another one with its key that runs in this process. With a wait of zero it returns `in_progress` at
    /// once. If the other call runs in another process, it waits in the database, for as long as the
    /// [transaction may take](Transactor::with_timeout). Default: 5 seconds.
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Adds nothing to the `_meta` of an answer: neither that it took several transactions, nor that it is a replay. Errors keep their
    /// reasons.
    pub fn without_meta(mut self) -> Self {
        self.emit_meta = false;
        self
    }

    /// Returns the handle that lists and resolves ambiguous calls. It stays valid after the layer has moved into a stack. Here a call is
    /// ambiguous if its tool has [ended the transaction](super::TransactionError::EndedEarly) by itself.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Creates the [table](super::IDEMPOTENCY_SCHEMA) of idempotency records, unless it exists.
    ///
    /// # Errors
    ///
    /// The error of the database, or [`sqlx::Error::Io`] if it does not answer within a minute.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        records::ensure_schema(pool).await
    }

    /// Deletes the expired records, 500 at a time, and returns how many it has deleted. It leaves those that a call holds for the next
    /// time; on SQLite these are all records while another connection writes.
    ///
    /// # Errors
    ///
    /// The error of the database.
    pub async fn sweep(pool: &Pool<DB>) -> Result<u64, sqlx::Error> {
        records::sweep(pool).await
    }
}

impl<DB: Dialect> Clone for TransactionalTool<DB> {
    fn clone(&self) -> Self {
        Self {
            transactor: self.transactor.clone(),
            selection: self.selection.clone(),
            is_selected: self.is_selected,
            allows_unlisted: self.allows_unlisted,
            idempotency: self.idempotency.clone(),
            wait: self.wait,
            emit_meta: self.emit_meta,
            space: Arc::clone(&self.space),
            plan: self.plan.clone(),
            keyed_calls: Arc::clone(&self.keyed_calls),
            handle: self.handle.clone(),
        }
    }
}

impl<DB: Dialect> fmt::Debug for TransactionalTool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalTool")
            .field("transactor", &self.transactor)
            .field("selection", &self.selection)
            .field("idempotency", &self.idempotency)
            .field("space", &self.space)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
