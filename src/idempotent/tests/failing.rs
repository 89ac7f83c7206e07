//! Stores that fail: before a call it is not made, after it the caller gets its answer.

use std::future::pending;
use std::sync::Mutex;

use super::*;

/// A store that fails in a step as it is told to.
#[derive(Clone, Default)]
struct Faulty {
    store: MemoryStore,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Clone, Copy, Default)]
struct Plan {
    claims: Fault,
    ends: Fault,
    /// How many ends fail before one does not.
    times: usize,
    /// How many renewals panic before one does not.
    renewals_that_panic: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// The step is not taken.
    Down,
    /// The step is taken, and the answer lost.
    Deaf,
    /// The step is not taken, and there is no answer.
    Hung,
    /// The step is taken, in time for nobody.
    Late,
    /// The step is taken, in time for nobody, and whether or not somebody waits for it: as a server does.
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

async fn faulty<T>(fault: Fault, step: StoreFuture<'_, T>) -> Result<T, StoreError> {
    match fault {
        Fault::None => step.await,
        Fault::Down => Err(StoreError::unavailable("down")),
        Fault::Deaf => {
            step.await?;
            Err(StoreError::unavailable("the answer was lost"))
        }
        Fault::Hung => pending().await,
        Fault::Late | Fault::Remote => {
            tokio::time::sleep(secs(4)).await;
            step.await
        }
        Fault::Panics => panic!("a bug in the store"),
    }
}

impl Store for Faulty {
    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed> {
        let fault = self.plan.lock().unwrap().claims;
        if fault == Fault::Remote {
            let store = self.store.clone();
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
                store.claim(claim).await
            });
            return Box::pin(async { remote.await.unwrap() });
        }
        Box::pin(faulty(fault, Box::pin(async move { self.store.claim(claim).await })))
    }

    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool> {
        let mut plan = self.plan.lock().unwrap();
        if plan.renewals_that_panic > 0 {
            plan.renewals_that_panic -= 1;
            drop(plan);
            std::panic::resume_unwind(Box::new("a bug in the store"));
        }
        self.store.renew(owner, lease)
    }

    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool> {
        Box::pin(faulty(self.end(), Box::pin(async move { self.store.complete(owner, record, ttl).await })))
    }

    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(faulty(self.end(), Box::pin(async move { self.store.release(owner).await })))
    }

    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(faulty(self.end(), Box::pin(async move { self.store.abandon(owner).await })))
    }

    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved> {
        self.store.resolve(id, record, ttl)
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_fails_no_call_with_a_key_is_made_and_the_key_is_free_afterwards() {
    for fault in [Fault::Down, Fault::Deaf, Fault::Hung, Fault::Late, Fault::Remote, Fault::Panics] {
        let (post, store) = (post(), Faulty::default());
        let server = layer(store.clone()).layer(post.clone());
        store.plan(Plan { claims: fault, ..Plan::default() });
        let asked = tokio::time::Instant::now();
        let refused = send(&server, "k").await;
        assert!(asked.elapsed() <= secs(2), "the store has two seconds");
        assert_eq!(kind(&refused), Some(ErrorKind::Unavailable));
        assert_eq!(post.calls("send"), 0);
        let unkeyed = server.call_tool("send", json!({}), &RequestContext::new()).await;
        assert_eq!(text(&unkeyed), "sent 1", "calls without a key need no store");

        store.plan(Plan::default());
        tokio::time::sleep(secs(60)).await;
        assert_eq!(text(&send(&server, "k").await), "sent 2", "nothing was done under the key");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_recorded_is_the_callers_and_the_call_ambiguous_afterwards() {
    for fault in [Fault::Down, Fault::Hung, Fault::Panics] {
        let (post, store) = (post(), Faulty::default());
        let server = layer(store.clone()).layer(post.clone());
        store.plan(Plan { ends: fault, times: usize::MAX, ..Plan::default() });
        let answer = send(&server, "k").await;
        assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("not_recorded")));
        assert!(outcome::failure(&answer).is_none(), "it is a success");
        tokio::time::sleep(secs(60)).await;
        store.plan(Plan::default());
        assert!(is_ambiguous(&send(&server, "k").await));
        assert_eq!(post.calls("send"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_soon_back_gets_the_answer_after_all() {
    for fault in [Fault::Down, Fault::Deaf, Fault::Panics] {
        let (post, store) = (post(), Faulty::default());
        let server = layer(store.clone()).layer(post.clone());
        store.plan(Plan { ends: fault, times: 2, ..Plan::default() });
        assert_eq!(told(&send(&server, "k").await), Value::Null);
        assert_eq!(told(&send(&server, "k").await), "replayed");
        assert_eq!(post.calls("send"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_as_a_lease_is_renewed_does_not_end_the_claim_of_a_call_that_runs() {
    let ((post, go), store) = (held_post(), Faulty::default());
    let server = layer(store.clone()).layer(post.clone());
    store.plan(Plan { renewals_that_panic: 2, ..Plan::default() });
    let first = server.clone();
    let first = tokio::spawn(async move { send(&first, "k").await });
    tokio::time::sleep(secs(100)).await;
    assert_eq!(told(&send(&server, "k").await), "in_progress");
    go.notify_one();
    assert_eq!(text(&first.await.unwrap()), "sent 1");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_recorded_behind_the_back_of_a_caller_who_was_told_that_it_was_not() {
    let (post, store) = (post(), Faulty::default());
    let server = layer(store.clone()).layer(post.clone());
    store.plan(Plan { ends: Fault::Hung, times: 1, ..Plan::default() });
    assert_eq!(told(&send(&server, "k").await), "not_recorded");
    assert_eq!(told(&send(&server, "k").await), "replayed", "a duplicate waits for it");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_while_the_key_is_claimed_leaves_no_claim_however_late_it_is_made() {
    let (post, store) = (post(), Faulty::default());
    let server = layer(store.clone()).layer(post.clone());
    store.plan(Plan { claims: Fault::Remote, ..Plan::default() });
    assert!(tokio::time::timeout(secs(1), send(&server, "k")).await.is_err());
    store.plan(Plan::default());
    tokio::time::sleep(secs(60)).await;
    assert_eq!((text(&send(&server, "k").await), post.calls("send")), ("sent 1".into(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_while_the_answer_is_recorded_leaves_the_answer() {
    let (post, store) = (post(), Faulty::default());
    let server = layer(store.clone()).layer(post.clone());
    store.plan(Plan { ends: Fault::Hung, times: 1, ..Plan::default() });
    assert!(tokio::time::timeout(secs(1), send(&server, "k")).await.is_err());
    assert_eq!(told(&send(&server, "k").await), "replayed");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_that_could_not_be_released_is_ambiguous_rather_than_made_again() {
    let (post, store) = (stumbling_post(McpError::permission_denied("no")), Faulty::default());
    let server = layer(store.clone()).layer(post.clone());
    store.plan(Plan { ends: Fault::Down, times: usize::MAX, ..Plan::default() });
    assert_eq!(text(&send(&server, "k").await), "no");
    tokio::time::sleep(secs(60)).await;
    store.plan(Plan::default());
    assert!(is_ambiguous(&send(&server, "k").await));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_nobody_can_read_is_not_taken_for_an_answer() {
    struct Rubbish;
    impl Store for Rubbish {
        fn claim<'a>(&'a self, _: Claim<'a>) -> StoreFuture<'a, Claimed> {
            Box::pin(ready(Ok(Claimed::Done("what is this?".into()))))
        }
        fn renew<'a>(&'a self, _: Owner<'a>, _: Duration) -> StoreFuture<'a, bool> {
            Box::pin(ready(Ok(false)))
        }
        fn complete<'a>(&'a self, _: Owner<'a>, _: &'a str, _: Duration) -> StoreFuture<'a, bool> {
            Box::pin(ready(Ok(false)))
        }
        fn release<'a>(&'a self, _: Owner<'a>) -> StoreFuture<'a, bool> {
            Box::pin(ready(Ok(false)))
        }
        fn abandon<'a>(&'a self, _: Owner<'a>) -> StoreFuture<'a, bool> {
            Box::pin(ready(Ok(false)))
        }
        fn resolve<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: Duration) -> StoreFuture<'a, Resolved> {
            Box::pin(ready(Ok(Resolved::Unknown)))
        }
    }
    let post = post();
    let answer = send(&layer(Rubbish).layer(post.clone()), "k").await;
    assert_eq!(kind(&answer), Some(ErrorKind::Unavailable));
    assert_eq!(post.calls("send"), 0);
}
