//! The life of a claim: made, held while its call runs, and ended in one of three ways whatever happens.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use turbomcp_core::McpError;

use super::backend::{Claim, Claimed, Owner, Store, StoreError, StoreFuture};
use crate::cancellation::{Cancellation, cancelled};
use crate::clock::later;
use crate::idempotency_keys::{self, CallKey, Idempotency, Resolved};
use crate::masked::{CallLabel, error_id};
use crate::scope;
use crate::telemetry::{Outage, Over, Warning};

/// How claims are made and kept.
#[derive(Clone)]
pub(super) struct Claims {
    pub(super) store: Arc<dyn Store>,
    pub(super) lease: Duration,
    pub(super) wait: Duration,
    /// For each step of the store.
    pub(super) timeout: Duration,
    pub(super) takes_over: bool,
    pub(super) idempotency: Arc<Idempotency>,
    pub(super) warnings: Arc<Warnings>,
}

/// What is said of a store that fails.
#[derive(Default)]
pub(super) struct Warnings {
    outage: Outage,
    renewing: Warning,
    ending: Warning,
}

/// What a call found under its key.
pub(super) enum Found {
    /// Nothing: the call is to be made.
    Nothing(Held),
    Other,
    Running,
    Answer(String),
    /// For so long.
    Ambiguous(Duration),
    /// It was ambiguous for too long: this refusal is its answer from now on.
    Unresolved(McpError),
    /// The caller went away while it waited.
    Cancelled,
}

/// The pauses between the looks at a call that is running.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How many times its time a claim may take before it is given up. Nobody waits for it any more, but until it is known to be
/// made or not it cannot be taken back.
const PATIENCE: u32 = 5;

/// The pauses before the attempts to end a claim in a store that fails.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

impl Claims {
    /// Claims a call, or waits for what another call with its key comes to.
    pub(super) async fn claim(
        &self,
        call: &Arc<CallKey>,
        cancellation: &impl Cancellation,
    ) -> Result<Found, StoreError> {
        let end = later(Instant::now(), self.wait);
        let mut pause = FIRST_PAUSE;
        while !cancellation.is_cancelled() {
            match self.look(call).await? {
                Found::Running => {}
                Found::Ambiguous(age) if self.ends_after(age) => {
                    let id = error_id();
                    let refusal = call.unresolved(&id);
                    if self.end_for_good(call, &refusal).await? {
                        let (label, backend) = (CallLabel::current(), self.store.name());
                        let (key_hash, attempt) = (call.hash(), label.attempt);
                        tracing::warn!(
                            id,
                            tool = call.tool,
                            key_hash = key_hash.as_str(),
                            attempt,
                            backend,
                            "the outcome of a call was not found out in time"
                        );
                        return Ok(Found::Unresolved(refusal));
                    }
                    // Somebody has resolved it meanwhile: there is more to be found.
                    continue;
                }
                found => return Ok(found),
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Found::Running);
            }
            select(Box::pin(sleep(pause.min(left))), Box::pin(cancelled(cancellation))).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        Ok(Found::Cancelled)
    }

    fn ends_after(&self, age: Duration) -> bool {
        self.idempotency.final_refusal_after().is_some_and(|after| age >= after)
    }

    /// Has an ambiguous call answered with a refusal from now on. False if it is not ambiguous any more.
    async fn end_for_good(&self, call: &CallKey, refusal: &McpError) -> Result<bool, StoreError> {
        let Some(refusal) = idempotency_keys::to_record(&Ok(refusal.to_tool_result()), None) else {
            return Err(StoreError::unavailable("a refusal cannot be written"));
        };
        let step = || self.store.resolve(&call.id, Some(&refusal), self.idempotency.ttl());
        Ok(self.attempt(self.timeout, step).await? == Resolved::Yes)
    }

    /// Claims a call in a task of its own: a caller who leaves half-way leaves no claim behind, since what arrives for nobody is
    /// dropped, and so released.
    async fn look(&self, call: &Arc<CallKey>) -> Result<Found, StoreError> {
        let (found, arrives) = oneshot::channel();
        let held = Held::new(self.clone(), Arc::clone(call));
        // A store in the database of a transaction has to know that the call is inside it.
        tokio::spawn(scope::capture().enter(async move {
            let _ = found.send(held.look().await);
        }));
        match timeout(self.timeout, arrives).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(StoreError::unavailable("the runtime shuts down")),
            Err(_) => {
                let error = StoreError::unavailable("no answer in time");
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Takes a step of a store that may hang, or panic.
    async fn attempt<'a, T>(
        &self,
        limit: Duration,
        step: impl FnOnce() -> StoreFuture<'a, T>,
    ) -> Result<T, StoreError> {
        let done = match timeout(limit, AssertUnwindSafe(async { step().await }).catch_unwind()).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(StoreError::unavailable("the store panicked")),
            Err(_) => Err(StoreError::unavailable("no answer in time")),
        };
        match &done {
            Err(error @ StoreError::Unavailable(_)) => self.failed(error),
            Ok(_) | Err(StoreError::Full) => {
                if let Some(Over { after_ms, failures }) = self.warnings.outage.worked() {
                    tracing::info!(after_ms, failures, "the store of idempotency keys works again");
                }
            }
        }
        done
    }

    fn failed(&self, error: &StoreError) {
        if let Some(unsaid) = self.warnings.outage.failed() {
            tracing::warn!(%error, unsaid, "the store of idempotency keys fails");
        }
    }
}

/// A claim of this process. Dropped, it is released if its call was not begun, and abandoned if it was.
pub(super) struct Held {
    claims: Claims,
    call: Arc<CallKey>,
    token: String,
    stage: Stage,
    runtime: Handle,
}

enum Stage {
    Claimed,
    Begun { _heartbeat: Heartbeat },
    Over,
}

/// How a claim ends.
enum End {
    Complete { record: String, ttl: Duration },
    Release,
    Abandon,
}

/// Whether the end of a claim is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Yes,
    /// It is, but there was no room for the answer.
    WithoutAnswer,
    /// The claim is somebody else's by now.
    Lost,
    /// The store fails.
    Unknown,
}

impl Held {
    fn new(claims: Claims, call: Arc<CallKey>) -> Self {
        Self { claims, call, token: token(), stage: Stage::Claimed, runtime: Handle::current() }
    }

    async fn look(mut self) -> Result<Found, StoreError> {
        let claim = Claim {
            id: &self.call.id,
            fingerprint: &self.call.fingerprint,
            tool: &self.call.tool,
            key: &self.call.key,
            caller: &self.call.origin.caller,
            connection: self.call.origin.anonymous_connection(),
            token: &self.token,
            lease: self.claims.lease,
            kept_for: self.claims.idempotency.kept_for(),
            takes_over: self.claims.takes_over,
        };
        let limit = self.claims.timeout.saturating_mul(PATIENCE);
        let claimed = self.claims.attempt(limit, || self.claims.store.claim(claim)).await;
        let found = match claimed {
            Ok(Claimed::New) => return Ok(Found::Nothing(self)),
            Ok(Claimed::Other) => Found::Other,
            Ok(Claimed::Running) => Found::Running,
            Ok(Claimed::Done(record)) => Found::Answer(record),
            Ok(Claimed::Ambiguous { age }) => Found::Ambiguous(age),
            Err(StoreError::Full) => {
                self.stage = Stage::Over;
                return Err(StoreError::Full);
            }
            // The claim may have been made all the same. It is released by the drop.
            Err(error) => return Err(error),
        };
        self.stage = Stage::Over;
        Ok(found)
    }

    /// Notes that from here on nobody knows what has been done, and keeps the lease up.
    pub(super) fn begin(&mut self) {
        let (claims, call, token) = (self.claims.clone(), Arc::clone(&self.call), self.token.clone());
        let beats = self.runtime.spawn(async move {
            let pause = (claims.lease / 3).max(Duration::from_millis(1));
            let owner = Owner { id: &call.id, token: &token };
            loop {
                sleep(pause).await;
                match claims.attempt(claims.timeout, || claims.store.renew(owner, claims.lease)).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let key_hash = call.hash();
                        let (tool, key_hash) = (&call.tool, key_hash.as_str());
                        tracing::warn!(tool, key_hash, "the claim of a running call was taken away");
                        return;
                    }
                    Err(error) => {
                        if let Some(unsaid) = claims.warnings.renewing.due() {
                            tracing::warn!(%error, tool = call.tool, unsaid, "a lease was not renewed");
                        }
                    }
                }
            }
        });
        self.stage = Stage::Begun { _heartbeat: Heartbeat(beats) };
    }

    pub(super) async fn complete(self, record: String, ttl: Duration) -> Ended {
        self.end(End::Complete { record, ttl }).await
    }

    pub(super) async fn release(self) -> Ended {
        self.end(End::Release).await
    }

    pub(super) async fn abandon(self) -> Ended {
        self.end(End::Abandon).await
    }

    /// Ends the claim in a task of its own, which goes on when the caller has left, or has waited long enough.
    async fn end(self, end: End) -> Ended {
        let patience = self.claims.timeout;
        let runtime = self.runtime.clone();
        let ended = runtime.spawn(self.end_here(end));
        match timeout(patience, ended).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) | Err(_) => Ended::Unknown,
        }
    }

    async fn end_here(mut self, mut end: End) -> Ended {
        let mut ended = Ended::Unknown;
        let mut is_short = false;
        for pause in PAUSES {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let mut step = self.step(&end).await;
            if matches!(step, Err(StoreError::Full)) {
                (is_short, end) = (true, end.without_answer());
                step = self.step(&end).await;
            }
            match step {
                Ok(true) => ended = if is_short { Ended::WithoutAnswer } else { Ended::Yes },
                Ok(false) => ended = Ended::Lost,
                Err(error) => {
                    if let Some(unsaid) = self.claims.warnings.ending.due() {
                        tracing::warn!(%error, tool = self.call.tool, unsaid, "{end} failed");
                    }
                }
            }
            if ended != Ended::Unknown {
                break;
            }
        }
        // What could not be ended is ambiguous once its lease is over.
        self.stage = Stage::Over;
        ended
    }

    async fn step(&self, end: &End) -> Result<bool, StoreError> {
        let (store, owner) = (&self.claims.store, Owner { id: &self.call.id, token: &self.token });
        let step = || match end {
            End::Complete { record, ttl } => store.complete(owner, record, *ttl),
            End::Release => store.release(owner),
            End::Abandon => store.abandon(owner),
        };
        self.claims.attempt(self.claims.timeout, step).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let end = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return,
            Stage::Claimed => End::Release,
            Stage::Begun { .. } => {
                let key_hash = self.call.hash();
                let (tool, key_hash) = (&self.call.tool, key_hash.as_str());
                tracing::warn!(tool, key_hash, "a call was dropped, its outcome is not known");
                End::Abandon
            }
        };
        let held = Self {
            claims: self.claims.clone(),
            call: Arc::clone(&self.call),
            token: std::mem::take(&mut self.token),
            stage: Stage::Over,
            runtime: self.runtime.clone(),
        };
        self.runtime.spawn(held.end_here(end));
    }
}

impl End {
    /// The same, as far as there is room for it.
    fn without_answer(self) -> Self {
        match self {
            Self::Complete { ttl, .. } => Self::Complete { record: idempotency_keys::record_without_answer(), ttl },
            Self::Release | Self::Abandon => self,
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Complete { .. } => "recording an answer",
            Self::Release => "releasing a claim",
            Self::Abandon => "marking a claim as ambiguous",
        })
    }
}

/// A task that ends with its owner.
struct Heartbeat(JoinHandle<()>);

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// 128 random bits. The keys of `RandomState` come from the system's randomness, each pair once.
fn token() -> String {
    let half = || RandomState::new().hash_one(());
    format!("{:016x}{:016x}", half(), half())
}
