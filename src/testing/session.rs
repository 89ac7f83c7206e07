use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::session::{Backend, BackendError, Opener, Record, Write, Written};

const MINUTE: Duration = Duration::from_secs(60);

/// A ttl after which a record expires at once.
const NONE: Duration = Duration::ZERO;

/// Checks that a [`Backend`] does what its documentation states, and panics where it does not.
///
/// It calls `make_backend` for each check. The backends may share their records: every check uses ids of its own.
///
/// ```
/// use mcp_patterns::{session::MemoryBackend, testing::session_backend_contract};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// session_backend_contract(|| async { MemoryBackend::new() }).await;
/// # });
/// ```
pub async fn session_backend_contract<B: Backend, F: Future<Output = B>>(make_backend: impl Fn() -> F) {
    a_written_value_is_found(&Checked(make_backend().await)).await;
    a_session_is_created_once(&Checked(make_backend().await)).await;
    one_of_many_concurrent_creations_succeeds(&Checked(make_backend().await)).await;
    a_write_needs_the_current_version(&Checked(make_backend().await)).await;
    one_of_many_concurrent_swaps_succeeds(&Checked(make_backend().await)).await;
    a_write_sent_twice_takes_effect_once(&Checked(make_backend().await)).await;
    a_recreated_session_is_a_new_session(&Checked(make_backend().await)).await;
    an_expired_session_does_not_exist(&Checked(make_backend().await)).await;
    every_write_sets_its_ttl(&Checked(make_backend().await)).await;
    a_touch_extends_the_ttl_and_changes_nothing(&Checked(make_backend().await)).await;
    no_record_outlasts_the_end_of_its_session(&Checked(make_backend().await)).await;
    the_end_of_a_session_is_that_of_its_first_record(&Checked(make_backend().await)).await;
    a_deleted_session_does_not_exist(&Checked(make_backend().await)).await;
    a_deletion_with_a_version_deletes_only_that_version(&Checked(make_backend().await)).await;
    sessions_do_not_mix(&Checked(make_backend().await)).await;
    any_text_and_any_version_are_read_back_unchanged(&Checked(make_backend().await)).await;
    no_change_of_many_writers_is_lost(&Checked(make_backend().await)).await;
}

async fn a_written_value_is_found<B: Backend>(backend: &Checked<B>) {
    let id = id();
    assert_eq!(backend.load(&id).await, None, "what was not written is not there");
    assert_eq!(backend.create(&id, 1, "one").await, Written::Yes);
    assert_eq!(backend.found(&id).await, (1, "one".into()));
    assert_eq!(backend.swap(&id, 1, 2, "two").await, Written::Yes);
    assert_eq!(backend.found(&id).await, (2, "two".into()));
}

async fn a_session_is_created_once<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.create(&id, 1, "one").await;
    assert_eq!(conflict(backend.create(&id, 2, "two").await), Some((1, "one".into())), "what there is is returned");
    assert_eq!(backend.found(&id).await, (1, "one".into()), "and stays");
}

async fn one_of_many_concurrent_creations_succeeds<B: Backend>(backend: &Checked<B>) {
    let id = id();
    let created = join_all((1..=50).map(|version| backend.create(&id, version, "first"))).await;
    let (kept, refused): (Vec<_>, Vec<_>) = created.into_iter().partition(|written| *written == Written::Yes);
    assert_eq!(kept.len(), 1, "a session is created once");
    let (version, _) = backend.found(&id).await;
    assert!(refused.into_iter().all(|written| conflict(written).is_some_and(|(found, _)| found == version)));
}

async fn a_write_needs_the_current_version<B: Backend>(backend: &Checked<B>) {
    let id = id();
    assert_eq!(backend.swap(&id, 1, 2, "two").await, Written::Conflict(None), "a session is not revived");
    assert_eq!(backend.load(&id).await, None);
    backend.create(&id, 1, "one").await;
    assert_eq!(conflict(backend.swap(&id, 7, 2, "two").await), Some((1, "one".into())));
    assert_eq!(backend.found(&id).await, (1, "one".into()));
}

async fn one_of_many_concurrent_swaps_succeeds<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.create(&id, 1, "one").await;
    let swapped = join_all((2..=50).map(|version| backend.swap(&id, 1, version, "next"))).await;
    assert_eq!(swapped.iter().filter(|written| **written == Written::Yes).count(), 1, "a version is replaced once");
}

async fn a_write_sent_twice_takes_effect_once<B: Backend>(backend: &Checked<B>) {
    let id = id();
    for _ in 0..2 {
        assert_eq!(backend.create(&id, 1, "one").await, Written::Yes, "the write is kept already");
    }
    for _ in 0..2 {
        assert_eq!(backend.swap(&id, 1, 2, "two").await, Written::Yes, "the write is kept already");
    }
    assert_eq!(backend.found(&id).await, (2, "two".into()));
}

async fn a_recreated_session_is_a_new_session<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.create(&id, 1, "one").await;
    assert!(backend.delete(&id, None).await);
    backend.create(&id, 2, "new").await;
    assert_eq!(conflict(backend.swap(&id, 1, 3, "late").await), Some((2, "new".into())));
}

async fn an_expired_session_does_not_exist<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.write(&id, None, 1, "one", NONE).await;
    assert_eq!(backend.load(&id).await, None);
    assert_eq!(backend.swap(&id, 1, 2, "two").await, Written::Conflict(None));
    assert!(!backend.touch(&id, MINUTE).await, "what has expired is not prolonged");
    assert!(!backend.delete(&id, None).await);
    assert_eq!(backend.create(&id, 3, "new").await, Written::Yes, "its place is free");
    backend.write(&id, Some(3), 4, "end", NONE).await;
    assert_eq!(backend.load(&id).await, None);
    backend.create(&id, 5, "newer").await;
    assert!(backend.touch(&id, NONE).await);
    assert_eq!(backend.load(&id).await, None);
}

async fn every_write_sets_its_ttl<B: Backend>(backend: &Checked<B>) {
    let id = id();
    let left = || async { backend.load(&id).await.map(|record| record.expires_in).unwrap_or_default() };
    backend.write(&id, None, 1, "one", MINUTE).await;
    assert!((MINUTE / 2..=MINUTE).contains(&left().await));
    backend.write(&id, Some(1), 2, "two", 100 * MINUTE).await;
    assert!((99 * MINUTE..=100 * MINUTE).contains(&left().await));
    backend.write(&id, Some(2), 3, "three", Duration::MAX).await;
    assert!(left().await > 1_000_000 * MINUTE, "an endless ttl is a long time");
}

async fn a_touch_extends_the_ttl_and_changes_nothing<B: Backend>(backend: &Checked<B>) {
    let id = id();
    assert!(!backend.touch(&id, MINUTE).await, "what is not there is not made");
    assert_eq!(backend.load(&id).await, None);
    backend.create(&id, 1, "one").await;
    assert!(backend.touch(&id, 100 * MINUTE).await);
    let record = backend.load(&id).await.unwrap_or_else(|| panic!("it is there"));
    assert_eq!((record.version, record.data.as_str()), (1, "one"));
    assert!((99 * MINUTE..=100 * MINUTE).contains(&record.expires_in));
    assert_eq!(backend.swap(&id, 1, 2, "two").await, Written::Yes, "its version stays");
}

async fn no_record_outlasts_the_end_of_its_session<B: Backend>(backend: &Checked<B>) {
    let id = id();
    let found = || async { backend.load(&id).await.unwrap_or_else(|| panic!("it is there")) };
    let ends = 100 * MINUTE;
    backend.first(&id, 1, 1_000 * MINUTE, ends).await;
    for step in 0..4 {
        let record = found().await;
        assert!((99 * MINUTE..=ends).contains(&record.ends_in), "step {step}: it ends when it was to: {record:?}");
        assert!(record.expires_in <= record.ends_in, "step {step}: its record does not outlast it: {record:?}");
        assert_eq!(record.expires_in > MINUTE, step != 1, "step {step}: what is asked for counts: {record:?}");
        match step {
            0 => assert!(backend.touch(&id, MINUTE).await),
            1 => assert!(backend.touch(&id, Duration::MAX).await),
            _ => assert_eq!(backend.write(&id, Some(step - 1), step, "next", 1_000 * MINUTE).await, Written::Yes),
        }
    }
    let found = conflict_record(backend.swap(&id, 99, 100, "late").await);
    assert!((99 * MINUTE..=ends).contains(&found.ends_in), "a conflict says when it ends, too: {found:?}");
    let over = self::id();
    backend.first(&over, 1, MINUTE, NONE).await;
    assert_eq!(backend.load(&over).await, None, "a session that has ended is none");
}

async fn the_end_of_a_session_is_that_of_its_first_record<B: Backend>(backend: &Checked<B>) {
    let id = id();
    let ends_in = || async { backend.load(&id).await.map(|record| record.ends_in).unwrap_or_default() };
    backend.first(&id, 1, MINUTE, Duration::MAX).await;
    assert!(ends_in().await > 1_000_000 * MINUTE, "it never ends");
    assert_eq!(conflict(backend.first(&id, 2, MINUTE, 2 * MINUTE).await), Some((1, "first".into())));
    assert!(ends_in().await > 1_000_000 * MINUTE, "a later writer does not change that");
    assert!(backend.delete(&id, None).await);
    backend.first(&id, 3, MINUTE, 100 * MINUTE).await;
    assert!((99 * MINUTE..=100 * MINUTE).contains(&ends_in().await), "one that begins anew has an end of its own");
}

async fn a_deleted_session_does_not_exist<B: Backend>(backend: &Checked<B>) {
    let id = id();
    assert!(!backend.delete(&id, None).await);
    backend.create(&id, 1, "one").await;
    assert!(backend.delete(&id, None).await);
    assert!(!backend.delete(&id, None).await);
    assert_eq!(backend.load(&id).await, None);
    assert_eq!(backend.swap(&id, 1, 2, "two").await, Written::Conflict(None));
}

async fn a_deletion_with_a_version_deletes_only_that_version<B: Backend>(backend: &Checked<B>) {
    let id = id();
    backend.create(&id, 1, "one").await;
    backend.swap(&id, 1, 2, "two").await;
    assert!(!backend.delete(&id, Some(1)).await);
    assert_eq!(backend.found(&id).await, (2, "two".into()));
    assert!(backend.delete(&id, Some(2)).await);
    assert_eq!(backend.load(&id).await, None);
}

async fn sessions_do_not_mix<B: Backend>(backend: &Checked<B>) {
    let (one, two) = (id(), id());
    backend.create(&one, 1, "one").await;
    assert_eq!(backend.load(&two).await, None);
    backend.create(&two, 2, "two").await;
    assert!(backend.delete(&one, None).await);
    assert_eq!(backend.found(&two).await, (2, "two".into()));
}

async fn any_text_and_any_version_are_read_back_unchanged<B: Backend>(backend: &Checked<B>) {
    const LARGEST: u64 = (1 << 63) - 1;
    let long = "0123456789".repeat(20_000);
    for data in ["", "[null,{}]", "π 🦀 'quoted' \"twice\" %s $1 {0}\r\n\t", &long] {
        let id = id();
        backend.create(&id, LARGEST, data).await;
        assert_eq!(backend.found(&id).await, (LARGEST, data.into()));
        // No number loses digits on the way.
        assert!(conflict(backend.swap(&id, LARGEST - 1, 1, "rounded").await).is_some());
        assert_eq!(backend.swap(&id, LARGEST, LARGEST - 1, data).await, Written::Yes);
        assert_eq!(backend.found(&id).await, (LARGEST - 1, data.into()));
    }
}

async fn no_change_of_many_writers_is_lost<B: Backend>(backend: &Checked<B>) {
    const WRITERS: u64 = 8;
    const CHANGES: u64 = 10;
    let id = &id();
    let count = |data: &str| data.parse::<u64>().unwrap_or_else(|_| panic!("`{data}` is no number"));
    backend.create(id, 1, "0").await;
    join_all((0..WRITERS).map(|writer| async move {
        let mut known = backend.found(id).await;
        for change in 0..CHANGES {
            let version = 2 + writer * CHANGES + change;
            while let Some(found) = {
                let next = (count(&known.1) + 1).to_string();
                conflict(backend.swap(id, known.0, version, &next).await)
            } {
                known = found;
            }
            known = backend.found(id).await;
        }
    }))
    .await;
    assert_eq!(count(&backend.found(id).await.1), WRITERS * CHANGES);
}

/// Returns the record of a conflict.
fn conflict(written: Written) -> Option<(u64, String)> {
    match written {
        Written::Yes => None,
        Written::Conflict(found) => found.map(|record| (record.version, record.data)),
        Written::Full => panic!("there is room for what this writes"),
    }
}

fn conflict_record(written: Written) -> Record {
    match written {
        Written::Conflict(Some(record)) => record,
        other => panic!("a conflict was expected, not {other:?}"),
    }
}

/// A backend whose failures panic.
struct Checked<B>(B);

impl<B: Backend> Checked<B> {
    async fn create(&self, id: &str, version: u64, data: &str) -> Written {
        self.write(id, None, version, data, MINUTE).await
    }

    async fn swap(&self, id: &str, expected: u64, version: u64, data: &str) -> Written {
        self.write(id, Some(expected), version, data, MINUTE).await
    }

    async fn write(&self, id: &str, expected: Option<u64>, version: u64, data: &str, ttl: Duration) -> Written {
        match expected {
            None => self.open(id, Write { version, data, ttl, ends_in: Duration::MAX, opener: None }).await,
            Some(expected) => {
                // A swap changes no end, whatever its record says.
                let write = Write { version, data, ttl, ends_in: MINUTE / 2, opener: None };
                done(self.0.compare_and_swap(id, expected, write).await)
            }
        }
    }

    async fn first(&self, id: &str, version: u64, ttl: Duration, ends_in: Duration) -> Written {
        self.open(id, Write { version, data: "first", ttl, ends_in, opener: None }).await
    }

    async fn open(&self, id: &str, write: Write<'_>) -> Written {
        let opener = Some(Opener { caller: "caller", connection: None });
        done(self.0.create(id, Write { opener, ..write }).await)
    }

    async fn load(&self, id: &str) -> Option<Record> {
        done(self.0.load(id).await)
    }

    async fn found(&self, id: &str) -> (u64, String) {
        let record = self.load(id).await.unwrap_or_else(|| panic!("the session is there"));
        (record.version, record.data)
    }

    async fn touch(&self, id: &str, ttl: Duration) -> bool {
        done(self.0.touch(id, ttl).await)
    }

    async fn delete(&self, id: &str, expected: Option<u64>) -> bool {
        done(self.0.delete(id, expected).await)
    }
}

fn done<T>(step: Result<T, BackendError>) -> T {
    step.unwrap_or_else(|error| panic!("{error}"))
}

fn id() -> Arc<str> {
    let part = || RandomState::new().hash_one(());
    format!("{:016x}{:016x}{:016x}{:016x}", part(), part(), part(), part()).into()
}
