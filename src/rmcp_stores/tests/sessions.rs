//! The sessions of rmcp: how long they are kept, who owns them, and what a failing backend does.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rmcp::transport::streamable_http_server::session::{SessionState, SessionStore};

use super::*;
use crate::session::{Backend, BackendError, MemoryBackend, Record, SqlBackend, Write, Written};
use crate::testing::databases::new_name;

const ADA: &str = "ada";
const BOB: &str = "bob";

fn state() -> SessionState {
    serde_json::from_value(json!({"initialize_params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "me", "version": "1"},
    }}))
    .unwrap()
}

fn in_memory() -> SessionStates<MemoryBackend> {
    SessionStates::new(MemoryBackend::new()).with_ttl(10 * MINUTE)
}

#[tokio::test(start_paused = true)]
async fn a_session_is_kept_for_its_ttl_after_each_load() {
    let store = in_memory();
    store.store("1", &state()).await.unwrap();
    for _ in 0..5 {
        tokio::time::advance(9 * MINUTE).await;
        assert!(store.load("1").await.unwrap().is_some());
    }
    tokio::time::advance(10 * MINUTE).await;
    assert!(store.load("1").await.unwrap().is_none(), "what is not used expires");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_owner_is_checked_is_kept() {
    let store = in_memory();
    store.store("1", &state()).await.unwrap();
    assert!(store.claim("1", ADA).await.unwrap());
    for _ in 0..5 {
        tokio::time::advance(9 * MINUTE).await;
        assert!(store.is_owner("1", ADA).await.unwrap());
    }
    assert!(store.load("1").await.unwrap().is_some(), "rmcp had it in memory, and did not load it");
    tokio::time::advance(9 * MINUTE).await;
    assert!(!store.is_owner("1", BOB).await.unwrap());
    tokio::time::advance(MINUTE).await;
    assert!(!store.is_owner("1", ADA).await.unwrap(), "a refused caller does not prolong it");
}

#[tokio::test]
async fn a_session_belongs_to_the_first_who_claims_it() {
    let file = databases::sqlite().await;
    SqlBackend::ensure_schema(&file.pool).await.unwrap();
    let replica = || SessionStates::new(SqlBackend::new(file.pool.clone()));
    let (one, two) = (replica(), replica());
    assert!(!one.is_owner("1", ADA).await.unwrap(), "nobody has claimed it");
    assert!(one.claim("1", ADA).await.unwrap());
    for replica in [&one, &two] {
        assert!(!replica.claim("1", BOB).await.unwrap());
        assert!(!replica.is_owner("1", BOB).await.unwrap());
        assert!(replica.claim("1", ADA).await.unwrap(), "to claim it again changes nothing");
        assert!(replica.is_owner("1", ADA).await.unwrap());
        assert!(!replica.is_owner("2", ADA).await.unwrap(), "another session has another owner");
    }
    two.store("1", &state()).await.unwrap();
    two.delete("1").await.unwrap();
    assert!(!one.is_owner("1", ADA).await.unwrap(), "a session that has ended has no owner");
    // Another caller with the same bytes in another place is another one.
    assert!(one.claim("3", "4 ada").await.unwrap());
    assert!(!one.claim("3 4", ADA).await.unwrap() || !one.is_owner("3", ADA).await.unwrap());
}

#[tokio::test]
async fn a_shared_backend_contains_no_id_and_no_owner_and_no_key_of_the_sessions_of_this_crate() {
    let file = databases::sqlite().await;
    SqlBackend::ensure_schema(&file.pool).await.unwrap();
    let session = new_name();
    let store = SessionStates::new(SqlBackend::new(file.pool.clone()));
    store.store(&session, &state()).await.unwrap();
    store.claim(&session, "ada@example.com").await.unwrap();
    let rows: Vec<(String, String)> =
        sqlx::query_as("select id, data from mcp_patterns_sessions order by id").fetch_all(&file.pool).await.unwrap();
    let kinds: Vec<&str> = rows.iter().map(|(id, _)| &id[..11]).collect();
    assert_eq!(kinds, ["rmcp-owner-", "rmcp-state-"], "the ids of the crate's own sessions are 64 digits");
    for (id, data) in rows {
        assert!(!id.contains(&session) && !data.contains(&session) && !data.contains("ada@"));
    }
}

/// A backend on which another process is always first, or that never answers.
struct Broken {
    answers: bool,
    writes: Arc<AtomicUsize>,
}

impl Broken {
    async fn write(&self) -> Result<Written, BackendError> {
        if !self.answers {
            return pending().await;
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        Ok(Written::Conflict(Some(Record::new(7, "{}", MINUTE, MINUTE))))
    }
}

#[async_trait]
impl Backend for Broken {
    async fn create(&self, _: &str, _: Write<'_>) -> Result<Written, BackendError> {
        self.write().await
    }

    async fn load(&self, _: &str) -> Result<Option<Record>, BackendError> {
        self.write().await?;
        Ok(Some(Record::new(7, "rubbish", MINUTE, MINUTE)))
    }

    async fn compare_and_swap(&self, _: &str, _: u64, _: Write<'_>) -> Result<Written, BackendError> {
        self.write().await
    }

    async fn touch(&self, _: &str, _: Duration) -> Result<bool, BackendError> {
        pending().await
    }

    async fn delete(&self, _: &str, _: Option<u64>) -> Result<bool, BackendError> {
        pending().await
    }
}

fn kind<'a>(error: &'a (dyn std::error::Error + Send + Sync + 'static)) -> &'a SessionStatesError {
    error.downcast_ref().expect("an error of this store")
}

#[tokio::test]
async fn a_write_that_always_meets_another_writer_ends_after_a_bounded_number_of_attempts() {
    let writes = Arc::new(AtomicUsize::new(0));
    let store = SessionStates::new(Broken { answers: true, writes: Arc::clone(&writes) });
    let error = store.store("session-7", &state()).await.unwrap_err();
    assert!(matches!(kind(&*error), SessionStatesError::Conflict));
    assert_eq!(writes.load(Ordering::SeqCst), 64);
    let error = store.load("session-7").await.unwrap_err();
    assert!(matches!(kind(&*error), SessionStatesError::Unreadable), "rubbish is not an unknown session");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_is_an_error_that_names_no_session() {
    let store = SessionStates::new(Broken { answers: false, writes: Arc::default() });
    let errors = [
        store.store("session-7", &state()).await.unwrap_err(),
        store.load("session-7").await.err().unwrap(),
        store.delete("session-7").await.unwrap_err(),
        store.is_owner("session-7", ADA).await.unwrap_err().into(),
        store.claim("session-7", ADA).await.unwrap_err().into(),
    ];
    for error in errors {
        assert!(matches!(kind(&*error), SessionStatesError::Backend(_)));
        let text = format!("{error} {error:?}");
        assert!(text.contains("no answer in time") && !text.contains("session-7"), "{text}");
    }
}

#[tokio::test]
async fn a_full_backend_refuses_a_session() {
    let store = SessionStates::new(MemoryBackend::new().with_max_bytes(1));
    let error = store.store("1", &state()).await.unwrap_err();
    assert!(matches!(kind(&*error), SessionStatesError::NoRoom));
}

#[tokio::test]
async fn a_setting_of_the_sessions_that_cannot_work_is_an_error_of_every_use() {
    let file = databases::sqlite().await;
    let missing = SessionStates::new(SqlBackend::new(file.pool.clone()));
    let text = missing.check_storage().await.unwrap_err().to_string();
    assert!(text.contains("SqlBackend::ensure_schema(&pool)"), "{text}");
    for (broken, setting) in [
        (in_memory().with_ttl(Duration::ZERO), "SessionStates::with_ttl: "),
        (in_memory().with_backend_timeout(Duration::from_nanos(1)), "SessionStates::with_backend_timeout: "),
        (SessionStates::new(MemoryBackend::new().with_max_sessions(0)), "MemoryBackend::with_max_sessions: "),
    ] {
        let text = broken.check().unwrap_err().to_string();
        assert!(text.starts_with(setting), "{text}");
        for error in [
            broken.store("1", &state()).await.unwrap_err(),
            broken.load("1").await.err().unwrap(),
            broken.delete("1").await.unwrap_err(),
            broken.claim("1", ADA).await.unwrap_err().into(),
            broken.is_owner("1", ADA).await.unwrap_err().into(),
            broken.check_storage().await.unwrap_err().into(),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
    in_memory().check_storage().await.unwrap();
}
