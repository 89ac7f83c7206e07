use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures_util::future::join_all;

use crate::idempotency_keys::{AmbiguousCall, Page, Resolved};
use crate::idempotent::{Backend, BackendError, Claim, Claimed, Owner};

const LEASE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(60);

/// A time longer than that between two steps.
const MINUTES: Duration = Duration::from_secs(600);

/// A lease that ends at once, and a ttl after which an answer expires at once.
const NONE: Duration = Duration::ZERO;

/// Checks that a [`Backend`] keeps the promises of its documentation, and panics if it does not.
///
/// `make_backend` is called for each check. The backends it makes may share their records: every check uses ids of its own.
///
/// ```
/// use mcp_patterns::{idempotent::MemoryBackend, testing::idempotency_backend_contract};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// idempotency_backend_contract(|| async { MemoryBackend::new() }).await;
/// # });
/// ```
pub async fn idempotency_backend_contract<B: Backend, F: Future<Output = B>>(make_backend: impl Fn() -> F) {
    a_new_call_is_claimed_once(&Checked(make_backend().await)).await;
    one_of_many_concurrent_claims_succeeds(&Checked(make_backend().await)).await;
    an_answer_is_kept_and_returned(&Checked(make_backend().await)).await;
    an_answer_expires(&Checked(make_backend().await)).await;
    other_arguments_are_detected_in_every_state(&Checked(make_backend().await)).await;
    a_released_claim_was_never_made(&Checked(make_backend().await)).await;
    a_claim_whose_lease_ended_stays_ambiguous(&Checked(make_backend().await)).await;
    a_lease_is_renewed_by_its_owner_only(&Checked(make_backend().await)).await;
    a_late_owner_records_a_claim_that_was_not_taken_over(&Checked(make_backend().await)).await;
    an_ambiguous_claim_is_taken_over_on_request(&Checked(make_backend().await)).await;
    an_owner_who_lost_a_claim_changes_nothing(&Checked(make_backend().await)).await;
    an_ambiguous_claim_is_resolved(&Checked(make_backend().await)).await;
    a_claim_that_is_not_ambiguous_is_not_resolved(&Checked(make_backend().await)).await;
    an_ambiguous_claim_ends_after_its_ttl(&Checked(make_backend().await)).await;
    ambiguous_claims_are_listed_by_pages(&Checked(make_backend().await)).await;
    any_text_is_read_back_unchanged(&Checked(make_backend().await)).await;
}

async fn a_new_call_is_claimed_once<B: Backend>(backend: &Checked<B>) {
    let id = id();
    assert_eq!(backend.claim(&id, "a", LEASE).await, Claimed::New);
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Running, "a claim with a lease is running");
    assert_eq!(backend.claim(&self::id(), "b", LEASE).await, Claimed::New, "another call is not affected");
}

async fn one_of_many_concurrent_claims_succeeds<B: Backend>(backend: &Checked<B>) {
    let id = id();
    let tokens: Vec<_> = (0..50).map(|number| format!("owner {number}")).collect();
    let claims = join_all(tokens.iter().map(|token| backend.claim(&id, token, LEASE))).await;
    let (new, others): (Vec<_>, Vec<_>) = claims.into_iter().partition(|claimed| *claimed == Claimed::New);
    assert_eq!(new.len(), 1, "a call is claimed once");
    assert!(others.iter().all(|claimed| *claimed == Claimed::Running), "the others see it running: {others:?}");
}

async fn an_answer_is_kept_and_returned<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", LEASE).await;
    assert!(backend.complete(&id, "a", "first", TTL).await, "its owner records the answer");
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Done("first".into()));
    assert!(backend.complete(&id, "a", "first", TTL).await, "the same answer again is no harm");
    assert!(!backend.complete(&id, "a", "second", TTL).await, "an answer is not replaced");
    assert!(
        !backend.release(&id, "a").await && !backend.abandon(&id, "a").await,
        "an answered claim does not end otherwise"
    );
    assert!(!backend.renew(&id, "a", LEASE).await, "an answered claim has no lease");
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Done("first".into()));
}

async fn an_answer_expires<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", LEASE).await;
    assert!(backend.complete(&id, "a", "first", NONE).await);
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::New, "an expired answer is none");
    assert!(!backend.complete(&id, "a", "late", TTL).await, "and its owner has lost the claim");
    assert_eq!(backend.claim(&id, "c", LEASE).await, Claimed::Running);
}

async fn other_arguments_are_detected_in_every_state<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", NONE).await;
    let other = || async {
        for takes_over in [false, true] {
            let claimed = backend.claim_as(&id, "other", "b", LEASE, takes_over).await;
            assert_eq!(claimed, Claimed::Other, "a key is not used for another call");
        }
    };
    other().await;
    assert!(backend.renew(&id, "a", LEASE).await);
    other().await;
    assert!(backend.abandon(&id, "a").await);
    other().await;
    assert!(backend.complete(&id, "a", "first", TTL).await);
    other().await;
}

async fn a_released_claim_was_never_made<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", LEASE).await;
    assert!(!backend.release(&id, "b").await, "only its owner releases a claim");
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Running);
    assert!(backend.release(&id, "a").await, "its owner releases a claim");
    assert_eq!(backend.claim_as(&id, "other", "b", LEASE, false).await, Claimed::New);
    assert!(!backend.complete(&id, "a", "late", TTL).await, "a released claim has no owner");
}

async fn a_claim_whose_lease_ended_stays_ambiguous<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", NONE).await;
    for _ in 0..3 {
        assert!(is_ambiguous(&backend.claim(&id, "b", LEASE).await), "it is not run again");
    }
    let id = self::id();
    backend.claim(&id, "a", LEASE).await;
    assert!(!backend.abandon(&id, "b").await, "only its owner abandons a claim");
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Running);
    assert!(backend.abandon(&id, "a").await, "its owner abandons a claim");
    assert!(is_ambiguous(&backend.claim(&id, "b", LEASE).await));
    assert!(!backend.renew(&id, "a", LEASE).await, "what is abandoned stays so");
    assert!(is_ambiguous(&backend.claim(&id, "b", LEASE).await));
}

async fn a_lease_is_renewed_by_its_owner_only<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", NONE).await;
    assert!(!backend.renew(&id, "b", LEASE).await, "only its owner renews a lease");
    assert!(is_ambiguous(&backend.claim(&id, "b", LEASE).await));
    assert!(backend.renew(&id, "a", LEASE).await, "its owner renews a lease, also if it has ended");
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Running);
    assert!(!backend.renew(&self::id(), "a", LEASE).await, "what is not claimed has no lease");
}

async fn a_late_owner_records_a_claim_that_was_not_taken_over<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", NONE).await;
    assert!(backend.complete(&id, "a", "late", TTL).await, "late is better than never");
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Done("late".into()));
}

async fn an_ambiguous_claim_is_taken_over_on_request<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", LEASE).await;
    assert_eq!(backend.claim_as(&id, "same", "b", LEASE, true).await, Claimed::Running, "what runs is not taken over");
    assert!(backend.abandon(&id, "a").await);
    let tokens: Vec<_> = (0..20).map(|number| format!("heir {number}")).collect();
    let claims = join_all(tokens.iter().map(|token| backend.claim_as(&id, "same", token, LEASE, true))).await;
    assert_eq!(claims.iter().filter(|claimed| **claimed == Claimed::New).count(), 1, "by one: {claims:?}");
    assert!(!backend.complete(&id, "a", "late", TTL).await, "its first owner has lost it");
    assert_eq!(backend.claim(&id, "c", LEASE).await, Claimed::Running);
}

async fn an_owner_who_lost_a_claim_changes_nothing<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", NONE).await;
    assert_eq!(backend.resolve(&id, None).await, Resolved::Yes);
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::New);
    assert!(!backend.renew(&id, "a", LEASE).await);
    assert!(!backend.abandon(&id, "a").await);
    assert!(!backend.release(&id, "a").await);
    assert!(!backend.complete(&id, "a", "late", TTL).await);
    assert_eq!(backend.claim(&id, "c", LEASE).await, Claimed::Running);
    assert!(backend.complete(&id, "b", "right", TTL).await);
    assert!(!backend.complete(&id, "a", "late", TTL).await);
    assert_eq!(backend.claim(&id, "c", LEASE).await, Claimed::Done("right".into()));
}

async fn an_ambiguous_claim_is_resolved<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.claim(&id, "a", NONE).await;
    assert_eq!(backend.resolve(&id, Some("found out")).await, Resolved::Yes);
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Done("found out".into()));
    assert!(!backend.complete(&id, "a", "late", TTL).await, "what was resolved is not recorded over");
    assert!(
        !backend.complete(&id, "a", "found out", TTL).await,
        "not even with the same answer: it is not the owner's"
    );
    let id = self::id();
    backend.claim(&id, "a", LEASE).await;
    assert!(backend.abandon(&id, "a").await);
    assert_eq!(backend.resolve(&id, None).await, Resolved::Yes);
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::New);
}

async fn a_claim_that_is_not_ambiguous_is_not_resolved<B: Backend>(backend: &Checked<B>) {
    let id = id();
    for record in [None, Some("made up")] {
        assert_eq!(backend.resolve(&id, record).await, Resolved::Unknown);
    }
    backend.claim(&id, "a", LEASE).await;
    for record in [None, Some("made up")] {
        assert_eq!(backend.resolve(&id, record).await, Resolved::Running);
    }
    assert!(backend.complete(&id, "a", "first", TTL).await);
    for record in [None, Some("made up")] {
        assert_eq!(backend.resolve(&id, record).await, Resolved::Answered);
    }
    assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Done("first".into()));
}

async fn an_ambiguous_claim_ends_after_its_ttl<B: Backend>(backend: &Checked<B>) {
    const MOMENT: Duration = Duration::from_millis(30);
    let for_a_moment = Some(MOMENT);
    let (lapsed, abandoned, running, renewed) = (id(), id(), id(), id());
    backend.claim_for(&lapsed, "same", "a", NONE, false, for_a_moment).await;
    backend.claim_for(&abandoned, "same", "a", LEASE, false, for_a_moment).await;
    backend.claim_for(&running, "same", "a", LEASE, false, for_a_moment).await;
    backend.claim_for(&renewed, "same", "a", NONE, false, for_a_moment).await;
    assert!(backend.renew(&renewed, "a", LEASE).await);
    assert!(backend.abandon(&abandoned, "a").await);
    tokio::time::sleep(2 * MOMENT).await;
    for id in [&running, &renewed] {
        assert_eq!(backend.claim(id, "b", LEASE).await, Claimed::Running, "what runs is kept");
    }
    for id in [&lapsed, &abandoned] {
        assert_eq!(backend.resolve(id, Some("late")).await, Resolved::Unknown, "it no longer exists");
        assert_eq!(backend.claim(id, "b", LEASE).await, Claimed::New, "it has ended by itself");
        assert!(!backend.complete(id, "a", "late", TTL).await, "and its owner has lost it");
    }
    let answered = id();
    backend.claim_for(&answered, "same", "a", NONE, false, for_a_moment).await;
    assert!(backend.complete(&answered, "a", "first", TTL).await);
    tokio::time::sleep(2 * MOMENT).await;
    assert_eq!(
        backend.claim(&answered, "b", LEASE).await,
        Claimed::Done("first".into()),
        "an answer has a time of its own"
    );
}

async fn ambiguous_claims_are_listed_by_pages<B: Backend>(backend: &Checked<B>) {
    let space = &id()[..16];
    let id = || format!("{space}{}", self::id());
    let mut expected: Vec<_> = (0..5).map(|_| id()).collect();
    for (number, id) in expected.iter().enumerate() {
        backend.claim(id, "a", if number % 2 == 0 { NONE } else { LEASE }).await;
        backend.abandon(id, "a").await;
    }
    let (running, answered, other) = (id(), id(), self::id());
    backend.claim(&running, "a", LEASE).await;
    backend.claim(&answered, "a", NONE).await;
    backend.complete(&answered, "a", "first", TTL).await;
    backend.claim(&other, "a", NONE).await;
    let mut listed = backend.ambiguous(space).await;
    listed.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    listed.dedup_by(|one, other| one.id == other.id);
    expected.sort_unstable();
    assert_eq!(listed.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(), expected, "only what is ambiguous");
    for call in &listed {
        assert_eq!((call.tool.as_str(), call.key.as_str()), ("tool", "key"));
        assert!(call.age < MINUTES, "it has become ambiguous just now: {call:?}");
        assert_eq!(backend.resolve(&call.id, Some("seen")).await, Resolved::Yes);
    }
    assert_eq!(backend.ambiguous(space).await, [], "what is resolved is not ambiguous");
}

async fn any_text_is_read_back_unchanged<B: Backend>(backend: &Checked<B>) {
    let long = "0123456789".repeat(20_000);
    for record in ["", "{\"ok\":{}}", "π 🦀 'quoted' \"twice\" %s $1 {0}\r\n\t", &long] {
        let id = id();
        backend.claim(&id, "a", LEASE).await;
        assert!(backend.complete(&id, "a", record, TTL).await);
        assert_eq!(backend.claim(&id, "b", LEASE).await, Claimed::Done(record.to_owned()));
    }
}

/// A backend whose failures end the check.
struct Checked<B>(B);

impl<B: Backend> Checked<B> {
    async fn claim(&self, id: &str, token: &str, lease: Duration) -> Claimed {
        self.claim_as(id, "same", token, lease, false).await
    }

    async fn claim_as(&self, id: &str, fingerprint: &str, token: &str, lease: Duration, takes_over: bool) -> Claimed {
        self.claim_for(id, fingerprint, token, lease, takes_over, None).await
    }

    async fn claim_for(
        &self,
        id: &str,
        fingerprint: &str,
        token: &str,
        lease: Duration,
        takes_over: bool,
        kept_for: Option<Duration>,
    ) -> Claimed {
        let (tool, key, caller, connection) = ("tool", "key", "caller", None);
        let claim = Claim { id, fingerprint, tool, key, caller, connection, token, lease, kept_for, takes_over };
        done(self.0.claim(claim).await)
    }

    /// Returns all ambiguous claims of a space, in pages of two.
    async fn ambiguous(&self, space: &str) -> Vec<AmbiguousCall> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = done(self.0.ambiguous(Page::new(space, after.as_deref(), 2)).await);
            all.extend(page.calls);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    async fn renew(&self, id: &str, token: &str, lease: Duration) -> bool {
        done(self.0.renew(Owner { id, token }, lease).await)
    }

    async fn complete(&self, id: &str, token: &str, record: &str, ttl: Duration) -> bool {
        done(self.0.complete(Owner { id, token }, record, ttl).await)
    }

    async fn release(&self, id: &str, token: &str) -> bool {
        done(self.0.release(Owner { id, token }).await)
    }

    async fn abandon(&self, id: &str, token: &str) -> bool {
        done(self.0.abandon(Owner { id, token }).await)
    }

    async fn resolve(&self, id: &str, record: Option<&str>) -> Resolved {
        done(self.0.resolve(id, record, TTL).await)
    }
}

fn done<T>(step: Result<T, BackendError>) -> T {
    match step {
        Ok(done) => done,
        Err(error) => panic!("{error}"),
    }
}

fn is_ambiguous(claimed: &Claimed) -> bool {
    matches!(claimed, Claimed::Ambiguous { age } if *age < MINUTES)
}

fn id() -> String {
    let part = || RandomState::new().hash_one(());
    format!("{:016x}{:016x}{:016x}{:016x}", part(), part(), part(), part())
}
