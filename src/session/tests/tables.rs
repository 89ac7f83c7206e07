//! A database without the table of the sessions.

#![cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]

use super::*;
use crate::ConfigError;
use crate::session::SessionDatabase;
use crate::testing::databases;

const SENTENCE: &str = "session::SqlBackend: the database has no table `mcp_patterns_sessions`: call \
                        `session::SqlBackend::ensure_schema(&pool)` before the server starts";

async fn says_how_to_create_the_table<DB: SessionDatabase>(pool: sqlx::Pool<DB>) {
    let server = SessionStore::new(SqlBackend::new(pool.clone())).layer(museum());
    let error = server.on_initialize().await.expect_err("a server without a table does not start");
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Configuration, SENTENCE));

    let answer = call(&server, "visit", json!({}), &connection("1")).await;
    let (kind, word) = refused(&answer);
    assert_eq!((kind, word.as_str()), (ErrorKind::Internal, "no_table"));
    let read = answer.as_ref().expect("a result").first_text().expect("a text");
    assert!(read.starts_with(&format!("Sessions cannot be used: {SENTENCE}. Nothing was changed (error ")), "{read}");

    SqlBackend::ensure_schema(&pool).await.expect("the table can be created");
    server.on_initialize().await.expect("the server starts");
    call(&server, "visit", json!({}), &connection("1")).await.expect("the session is there");
}

#[tokio::test]
async fn a_missing_table_stops_the_start_and_names_what_creates_it_on_sqlite() {
    let file = databases::sqlite().await;
    says_how_to_create_the_table(file.pool.clone()).await;
}

#[tokio::test]
async fn a_missing_table_stops_the_start_and_names_what_creates_it_on_postgres() {
    says_how_to_create_the_table(databases::postgres_schema(databases::postgres_options(), 2).await).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_asked_does_not_stop_the_start() {
    let file = databases::sqlite().await;
    file.pool.close().await;
    let server = SessionStore::sqlite(file.pool.clone()).layer(museum());
    server.on_initialize().await.expect("the database may be up when a call needs it");
    assert_eq!(refused(&call(&server, "visit", json!({}), &connection("1")).await).1, "unavailable");
}

/// A backend whose storage is not ready.
struct Unready;

#[async_trait]
impl Backend for Unready {
    async fn check_storage(&self) -> Result<(), ConfigError> {
        Err(ConfigError::invalid("Unready", "new", "create the bucket"))
    }

    async fn create(&self, _: &str, _: Write<'_>) -> Result<Written, BackendError> {
        Err(BackendError::not_taken("no bucket"))
    }

    async fn load(&self, _: &str) -> Result<Option<Record>, BackendError> {
        Err(BackendError::not_taken("no bucket"))
    }

    async fn compare_and_swap(&self, _: &str, _: u64, _: Write<'_>) -> Result<Written, BackendError> {
        Err(BackendError::not_taken("no bucket"))
    }

    async fn touch(&self, _: &str, _: Duration) -> Result<bool, BackendError> {
        Err(BackendError::not_taken("no bucket"))
    }

    async fn delete(&self, _: &str, _: Option<u64>) -> Result<bool, BackendError> {
        Err(BackendError::not_taken("no bucket"))
    }
}

#[tokio::test]
async fn a_backend_of_ones_own_can_stop_the_start_also_behind_an_arc() {
    let server = SessionStore::new(Arc::new(Unready)).layer(museum());
    let error = server.on_initialize().await.expect_err("its storage is not ready");
    assert_eq!(error.message, "Unready::new: create the bucket");
}

#[tokio::test]
async fn a_tool_without_a_store_or_in_a_spawned_task_reads_what_to_do() {
    assert_eq!(
        McpError::from(SessionError::NoLayer).message,
        "This tool needs a session, and there is none here: put a `SessionStore` around the server. A task that the tool spawns has \
         no session: get it before, and move it into the task"
    );
    let script = ScriptedServer::new("museum").with_plain("visit", |_| async {
        let spawned = tokio::spawn(async { Session::current().map(drop) }).await.expect("it does not panic");
        assert!(matches!(spawned, Err(SessionError::NoLayer)));
        // Obtained before, it works there.
        let session = Session::current()?;
        tokio::spawn(async move { session.set("visits", &1).await }).await.expect("it does not panic")?;
        Ok(ToolResult::text("visited"))
    });
    let server = memory().layer(script);
    assert_eq!(text(&call(&server, "visit", json!({}), &connection("1")).await), "visited");
}

/// A replica that starts during a deployment does not wait for the transactions of the others, nor hold them up.
#[tokio::test]
async fn a_schema_that_exists_is_ensured_beside_an_open_transaction_that_has_written_to_it() {
    let impatient = databases::postgres_options().options([("lock_timeout", "1s")]);
    let pool = databases::postgres_schema(impatient, 2).await;
    SqlBackend::<sqlx::Postgres>::ensure_schema(&pool).await.expect("the table can be created");
    let mut open = pool.begin().await.expect("a transaction");
    sqlx::raw_sql("delete from mcp_patterns_sessions").execute(&mut *open).await.expect("the table is there");
    SqlBackend::<sqlx::Postgres>::ensure_schema(&pool).await.expect("nothing is to be created");
    open.rollback().await.expect("the transaction is still open");
}
