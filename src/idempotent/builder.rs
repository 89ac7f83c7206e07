//! The setters of the layer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use super::bounded::BoundedBackend;
use super::claims::Claims;
use super::held_claim::Terms;
use crate::Identity;
use crate::idempotency_keys::{Handle, Idempotency, KeyCounts, KeySpace};
use crate::outcome::Failure;
use crate::selection::{Plan, Selection, naming_selectors};

/// Makes a call with a key take effect once, wherever the effect is. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct IdempotentTool {
    pub(super) claims: Claims,
    pub(super) selection: Selection,
    pub(super) is_selected: bool,
    pub(super) allows_unlisted: bool,
    pub(super) not_executed: Option<Predicate>,
    pub(super) emit_meta: bool,
    pub(super) space: Arc<KeySpace>,
    pub(super) plan: Plan<Arc<KeyCounts>>,
    pub(super) handle: Handle,
}

/// Decides which failures prove that a call took no effect.
pub(super) type Predicate = Arc<dyn Fn(&Failure<'_>) -> bool + Send + Sync>;

impl IdempotentTool {
    /// Creates a layer for the tools that you name, with claims and answers in `backend`. See the [defaults](super#defaults).
    pub fn new(backend: impl Backend) -> Self {
        let terms = Terms {
            backend: BoundedBackend::new(backend, Duration::from_secs(2)),
            lease: Duration::from_secs(30),
            takes_over: false,
            idempotency: Arc::default(),
        };
        let claims = Claims { terms, wait: Duration::from_secs(5) };
        Self {
            claims,
            selection: Selection::new(),
            is_selected: false,
            allows_unlisted: false,
            not_executed: None,
            emit_meta: true,
            space: Arc::default(),
            plan: Plan::default(),
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

    /// Sets where calls carry their keys, how long answers are kept, and which tools need a key.
    pub fn with_idempotency(mut self, idempotency: Idempotency) -> Self {
        self.claims.terms.idempotency = Arc::new(idempotency);
        self
    }

    /// Separates the keys from those of servers in another namespace on the same backend, such as `staging` and `production`. The server's
    /// name separates them as well. Replicas share keys only if they have the same namespace.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.space).namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are distinguished. Each caller has keys of their own. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        Arc::make_mut(&mut self.space).identity = identity;
        self
    }

    /// Sets how long a claim counts as running after its owner last renewed it. At least 1 ms. While a tool runs, its claim is renewed
    /// three times as often. Default: 30 seconds.
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.claims.terms.lease = lease;
        self
    }

    /// Sets how long a call waits for another one with its key that runs. With a wait of zero it returns `in_progress` at once. Default: 5
    /// seconds.
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.claims.wait = wait;
        self
    }

    /// Bounds each step of the backend. At least 1 ms. Default: 2 seconds.
    pub fn with_backend_timeout(mut self, timeout: Duration) -> Self {
        self.claims.terms.backend.timeout = timeout;
        self
    }

    /// Replaces the rule that says which failures prove that the call [took no effect](Failure::is_not_executed). After such a failure, the
    /// same key may try again.
    ///
    /// If the rule returns false for a call without an effect, its key is stuck until you
    /// [resolve](crate::idempotency_keys::Handle::resolve) it. If it returns true for a call with an effect, the effect happens twice.
    pub fn with_not_executed(mut self, not_executed: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.not_executed = Some(Arc::new(not_executed));
        self
    }

    /// Makes an ambiguous call again, although it may have taken effect.
    ///
    /// For tools that may run twice, and use keys to save work. If a process stops for longer than the lease and then continues, its call
    /// runs at the same time as the call that took over.
    pub fn run_again_when_ambiguous(mut self) -> Self {
        self.claims.terms.takes_over = true;
        self
    }

    /// Does not mark an answer as a replay in its `_meta`. Ambiguous calls, and answers that were not recorded, are still marked.
    pub fn without_meta(mut self) -> Self {
        self.emit_meta = false;
        self
    }

    /// Returns the handle that lists and resolves ambiguous calls. It stays valid after the layer has moved into a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(super) fn idempotency(&self) -> &Arc<Idempotency> {
        &self.claims.terms.idempotency
    }

    pub(super) fn backend_name(&self) -> &'static str {
        self.claims.terms.backend.name()
    }
}

impl fmt::Debug for IdempotentTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotentTool")
            .field("selection", &self.selection)
            .field("idempotency", self.idempotency())
            .field("space", &self.space)
            .field("lease", &self.claims.terms.lease)
            .field("wait", &self.claims.wait)
            .field("backend_timeout", &self.claims.terms.backend.timeout)
            .field("takes_over", &self.claims.terms.takes_over)
            .finish_non_exhaustive()
    }
}
