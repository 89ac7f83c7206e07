//! Backends that fail: before a call, the call is not made; after it, the caller gets its answer.

use std::future::{Future, pending};
use std::sync::Mutex;

use super::*;

/// A backend that fails in a step as configured.
#[derive(Clone, Default)]
struct Faulty {
    backend: MemoryBackend,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Clone, Copy, Default)]
struct Plan {
    claims: Fault,
    ends: Fault,
    /// How many ends fail before one succeeds.
    times: usize,
    /// How many renewals panic before one succeeds.
    renewals_that_panic: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// The step is not taken.
    Down,
    /// The step is taken, and its reply is lost.
    Deaf,
    /// The step is not taken, and no reply comes.
    Hung,
    /// The step is taken, but too late for every caller.
    Late,
    /// The step is taken too late for every caller, and also if no caller waits for it, as on a server.
    Remote,
    /// The step panics.
    Panics,
}

impl Faulty {
    fn plan(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    fn end(&self) -> Fault {
        let mut plan = self.plan.lock().unwrap();
        match plan.times {
            0 => Fault::None,
            _ => {
                plan.times -= 1;
                plan.ends
            }
        }
    }
}

async fn faulty<T>(fault: Fault, step: impl Future<Output = Result<T, BackendError>>) -> Result<T, BackendError> {
    match fault {
        Fault::None => step.await,
        Fault::Down => Err(BackendError::unavailable("down")),
        Fault::Deaf => {
            step.await?;
            Err(BackendError::unavailable("the answer was lost"))
        }
        Fault::Hung => pending().await,
        Fault::Late | Fault::Remote => {
            tokio::time::sleep(secs(4)).await;
            step.await
        }
        Fault::Panics => panic!("a bug in the backend"),
    }
}

#[async_trait]
impl Backend for Faulty {
    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        let fault = self.plan.lock().unwrap().claims;
        if fault == Fault::Remote {
            let backend = self.backend.clone();
            let [id, fingerprint, caller, token] =
                [claim.id, claim.fingerprint, claim.caller, claim.token].map(str::to_owned);
            let lease = claim.lease;
            let remote = tokio::spawn(async move {
                tokio::time::sleep(secs(4)).await;
                let (tool, key, connection, takes_over) = ("send", "k", None, false);
                let (id, fingerprint, caller, token) = (&*id, &*fingerprint, &*caller, &*token);
                let kept_for = None;
                let claim =
                    Claim { id, fingerprint, tool, key, caller, connection, token, lease, kept_for, takes_over };
                backend.claim(claim).await
            });
            return remote.await.unwrap();
        }
        faulty(fault, self.backend.claim(claim)).await
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        let panics = {
            let mut plan = self.plan.lock().unwrap();
            let panics = plan.renewals_that_panic > 0;
            plan.renewals_that_panic = plan.renewals_that_panic.saturating_sub(1);
            panics
        };
        if panics {
            std::panic::resume_unwind(Box::new("a bug in the backend"));
        }
        self.backend.renew(owner, lease).await
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        faulty(self.end(), self.backend.complete(owner, record, ttl)).await
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        faulty(self.end(), self.backend.release(owner)).await
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        faulty(self.end(), self.backend.abandon(owner)).await
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        self.backend.resolve(id, record, ttl).await
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_backend_fails_no_call_with_a_key_is_made_and_the_key_is_free_afterwards() {
    for fault in [Fault::Down, Fault::Deaf, Fault::Hung, Fault::Late, Fault::Remote, Fault::Panics] {
        let (post, backend) = (post(), Faulty::default());
        let server = layer(backend.clone()).layer(post.clone());
        backend.plan(Plan { claims: fault, ..Plan::default() });
        let asked = tokio::time::Instant::now();
        let refused = send(&server, "k").await;
        assert!(asked.elapsed() <= secs(2), "the backend has two seconds");
        assert_eq!(kind(&refused), Some(ErrorKind::Unavailable));
        assert_eq!(post.calls("send"), 0);
        let unkeyed = server.call_tool("send", json!({}), &RequestContext::new()).await;
        assert_eq!(text(&unkeyed), "sent 1", "calls without a key need no backend");

        backend.plan(Plan::default());
        tokio::time::sleep(secs(60)).await;
        assert_eq!(text(&send(&server, "k").await), "sent 2", "nothing was done under the key");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_recorded_is_returned_and_the_call_is_ambiguous_afterwards() {
    for fault in [Fault::Down, Fault::Hung, Fault::Panics] {
        let (post, backend) = (post(), Faulty::default());
        let server = layer(backend.clone()).layer(post.clone());
        backend.plan(Plan { ends: fault, times: usize::MAX, ..Plan::default() });
        let answer = send(&server, "k").await;
        assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("not_recorded")));
        assert!(outcome::failure(&answer).is_none(), "it is a success");
        tokio::time::sleep(secs(60)).await;
        backend.plan(Plan::default());
        assert!(is_ambiguous(&send(&server, "k").await));
        assert_eq!(post.calls("send"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_recorded_when_the_store_recovers_soon() {
    for fault in [Fault::Down, Fault::Deaf, Fault::Panics] {
        let (post, backend) = (post(), Faulty::default());
        let server = layer(backend.clone()).layer(post.clone());
        backend.plan(Plan { ends: fault, times: 2, ..Plan::default() });
        assert_eq!(told(&send(&server, "k").await), Value::Null);
        assert_eq!(told(&send(&server, "k").await), "replayed");
        assert_eq!(post.calls("send"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_during_a_renewal_does_not_end_the_claim_of_a_running_call() {
    let ((post, go), backend) = (held_post(), Faulty::default());
    let server = layer(backend.clone()).layer(post.clone());
    backend.plan(Plan { renewals_that_panic: 2, ..Plan::default() });
    let first = server.clone();
    let first = tokio::spawn(async move { send(&first, "k").await });
    tokio::time::sleep(secs(100)).await;
    assert_eq!(told(&send(&server, "k").await), "in_progress");
    go.notify_one();
    assert_eq!(text(&first.await.unwrap()), "sent 1");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_marked_as_not_recorded_is_still_recorded_in_the_background() {
    let (post, backend) = (post(), Faulty::default());
    let server = layer(backend.clone()).layer(post.clone());
    backend.plan(Plan { ends: Fault::Hung, times: 1, ..Plan::default() });
    assert_eq!(told(&send(&server, "k").await), "not_recorded");
    assert_eq!(told(&send(&server, "k").await), "replayed", "a duplicate waits for it");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_during_the_claim_leaves_no_claim_however_late_it_is_made() {
    let (post, backend) = (post(), Faulty::default());
    let server = layer(backend.clone()).layer(post.clone());
    backend.plan(Plan { claims: Fault::Remote, ..Plan::default() });
    assert!(tokio::time::timeout(secs(1), send(&server, "k")).await.is_err());
    backend.plan(Plan::default());
    tokio::time::sleep(secs(60)).await;
    assert_eq!((text(&send(&server, "k").await), post.calls("send")), ("sent 1".into(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_during_the_recording_does_not_stop_it() {
    let (post, backend) = (post(), Faulty::default());
    let server = layer(backend.clone()).layer(post.clone());
    backend.plan(Plan { ends: Fault::Hung, times: 1, ..Plan::default() });
    assert!(tokio::time::timeout(secs(1), send(&server, "k")).await.is_err());
    assert_eq!(told(&send(&server, "k").await), "replayed");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_that_could_not_be_released_is_ambiguous_rather_than_made_again() {
    let (post, backend) = (stumbling_post(McpError::permission_denied("no")), Faulty::default());
    let server = layer(backend.clone()).layer(post.clone());
    backend.plan(Plan { ends: Fault::Down, times: usize::MAX, ..Plan::default() });
    assert_eq!(text(&send(&server, "k").await), "no");
    tokio::time::sleep(secs(60)).await;
    backend.plan(Plan::default());
    assert!(is_ambiguous(&send(&server, "k").await));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_record_is_not_taken_for_an_answer() {
    struct Rubbish;
    #[async_trait]
    impl Backend for Rubbish {
        async fn claim(&self, _: Claim<'_>) -> Result<Claimed, BackendError> {
            Ok(Claimed::Done("what is this?".into()))
        }
        async fn renew(&self, _: Owner<'_>, _: Duration) -> Result<bool, BackendError> {
            Ok(false)
        }
        async fn complete(&self, _: Owner<'_>, _: &str, _: Duration) -> Result<bool, BackendError> {
            Ok(false)
        }
        async fn release(&self, _: Owner<'_>) -> Result<bool, BackendError> {
            Ok(false)
        }
        async fn abandon(&self, _: Owner<'_>) -> Result<bool, BackendError> {
            Ok(false)
        }
        async fn resolve(&self, _: &str, _: Option<&str>, _: Duration) -> Result<Resolved, BackendError> {
            Ok(Resolved::Unknown)
        }
    }
    let post = post();
    let answer = send(&layer(Rubbish).layer(post.clone()), "k").await;
    assert_eq!(kind(&answer), Some(ErrorKind::Unavailable));
    assert_eq!(post.calls("send"), 0);
}
