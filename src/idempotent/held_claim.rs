//! A claim of this process: it is renewed while its call runs, and always ended in one of three ways.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use turbomcp_core::McpError;

use super::backend::{BackendError, Claim, Claimed, Owner};
use super::bounded::BoundedBackend;
use crate::idempotency_keys::{self, CallKey, Idempotency};

/// The terms of claims.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) backend: BoundedBackend,
    pub(super) lease: Duration,
    pub(super) takes_over: bool,
    pub(super) idempotency: Arc<Idempotency>,
}

/// The state that a call found under its key.
pub(super) enum Found {
    /// Nothing: this call runs the tool.
    Nothing(HeldClaim),
    Other,
    Running,
    Answer(String),
    /// For this long.
    Ambiguous(Duration),
    /// It was ambiguous for too long: from now on this refusal is its answer.
    Unresolved(McpError),
    /// The caller left while it waited.
    Cancelled,
}

/// How many times the backend's timeout a claim may take before it is abandoned. Its call waits no longer, but a claim
/// cannot be taken back before it is known whether it was made.
const CLAIM_TIMEOUTS: u32 = 5;

/// The pauses before the attempts to end a claim in a backend that fails.
const END_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

/// A claim of this process. Its drop releases it if its call had not begun, and abandons it if it had.
pub(super) struct HeldClaim {
    terms: Terms,
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

/// Whether the backend has recorded the end of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Yes,
    /// It has, but without the answer, for which there was no room.
    WithoutAnswer,
    /// The claim now has another owner.
    Lost,
    /// The backend fails.
    Unknown,
}

impl HeldClaim {
    pub(super) fn new(terms: Terms, call: Arc<CallKey>) -> Self {
        Self { terms, call, token: token(), stage: Stage::Claimed, runtime: Handle::current() }
    }

    /// Claims the call, if it is new.
    pub(super) async fn claim(mut self) -> Result<Found, BackendError> {
        let claim = Claim {
            id: &self.call.id,
            fingerprint: &self.call.fingerprint,
            tool: &self.call.tool,
            key: &self.call.key,
            caller: &self.call.origin.caller,
            connection: self.call.origin.anonymous_connection(),
            token: &self.token,
            lease: self.terms.lease,
            kept_for: self.terms.idempotency.kept_for(),
            takes_over: self.terms.takes_over,
        };
        let backend = &self.terms.backend;
        let limit = backend.timeout.saturating_mul(CLAIM_TIMEOUTS);
        let claimed = backend.attempt_within(limit, || backend.get().claim(claim)).await;
        let found = match claimed {
            Ok(Claimed::New) => return Ok(Found::Nothing(self)),
            Ok(Claimed::Other) => Found::Other,
            Ok(Claimed::Running) => Found::Running,
            Ok(Claimed::Done(record)) => Found::Answer(record),
            Ok(Claimed::Ambiguous { age }) => Found::Ambiguous(age),
            Err(BackendError::Full) => {
                self.stage = Stage::Over;
                return Err(BackendError::Full);
            }
            // The claim may have been made anyway. The drop releases it.
            Err(error) => return Err(error),
        };
        self.stage = Stage::Over;
        Ok(found)
    }

    /// Records that the call may have an effect from here on, and renews the lease until the claim ends.
    pub(super) fn begin(&mut self) {
        let (terms, call, token) = (self.terms.clone(), Arc::clone(&self.call), self.token.clone());
        let beats = self.runtime.spawn(async move {
            let pause = (terms.lease / 3).max(Duration::from_millis(1));
            let owner = Owner { id: &call.id, token: &token };
            let backend = &terms.backend;
            loop {
                sleep(pause).await;
                match backend.attempt(|| backend.get().renew(owner, terms.lease)).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let key_hash = call.hash();
                        let (tool, key_hash) = (&call.tool, key_hash.as_str());
                        tracing::warn!(tool, key_hash, "the claim of a running call was taken away");
                        return;
                    }
                    Err(error) => {
                        if let Some(unsaid) = backend.warnings.renewing.due() {
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

    /// Ends the claim in its own task, which continues if the caller has left or stops waiting.
    async fn end(self, end: End) -> Ended {
        let limit = self.terms.backend.timeout;
        let runtime = self.runtime.clone();
        let ended = runtime.spawn(self.end_here(end));
        match timeout(limit, ended).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) | Err(_) => Ended::Unknown,
        }
    }

    async fn end_here(mut self, mut end: End) -> Ended {
        let mut ended = Ended::Unknown;
        let mut is_short = false;
        for pause in END_PAUSES {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let mut step = self.step(&end).await;
            if matches!(step, Err(BackendError::Full)) {
                (is_short, end) = (true, end.without_answer());
                step = self.step(&end).await;
            }
            match step {
                Ok(true) => ended = if is_short { Ended::WithoutAnswer } else { Ended::Yes },
                Ok(false) => ended = Ended::Lost,
                Err(error) => {
                    if let Some(unsaid) = self.terms.backend.warnings.ending.due() {
                        tracing::warn!(%error, tool = self.call.tool, unsaid, "{end} failed");
                    }
                }
            }
            if ended != Ended::Unknown {
                break;
            }
        }
        // A claim that could not be ended is ambiguous once its lease has ended.
        self.stage = Stage::Over;
        ended
    }

    async fn step(&self, end: &End) -> Result<bool, BackendError> {
        let (backend, owner) = (&self.terms.backend, Owner { id: &self.call.id, token: &self.token });
        let step = || match end {
            End::Complete { record, ttl } => backend.get().complete(owner, record, *ttl),
            End::Release => backend.get().release(owner),
            End::Abandon => backend.get().abandon(owner),
        };
        backend.attempt(step).await
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        let end = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return,
            Stage::Claimed => End::Release,
            Stage::Begun { .. } => {
                let key_hash = self.call.hash();
                let (tool, key_hash) = (&self.call.tool, key_hash.as_str());
                tracing::warn!(tool, key_hash, "a call was dropped: its outcome is not known");
                End::Abandon
            }
        };
        let held = Self {
            terms: self.terms.clone(),
            call: Arc::clone(&self.call),
            token: std::mem::take(&mut self.token),
            stage: Stage::Over,
            runtime: self.runtime.clone(),
        };
        self.runtime.spawn(held.end_here(end));
    }
}

impl End {
    /// The same without the answer, for a backend that has no room for it.
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

/// The task that renews a lease. It ends with its claim.
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
