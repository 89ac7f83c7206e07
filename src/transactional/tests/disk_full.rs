//! A full disk: SQLite refuses, and the outcome is known.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use sqlx::{Sqlite, SqlitePool};
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::TestDb;
use crate::idempotency_keys::Idempotency;
use crate::testing::databases::{new_name, sqlite_at};
use crate::testing::{ScriptedServer, Took};
use crate::transactional::{TRANSACTION, TransactionalTool, current, failed};
use crate::{Layer, outcome};

/// A small disk, for a test that runs as root.
struct Disk(PathBuf);

impl Disk {
    fn mount() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("mcp-patterns-disk-{}", new_name()));
        std::fs::create_dir(&folder).expect("a folder can be made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&folder).output();
        match mounted {
            Ok(mounted) if mounted.status.success() => Some(Self(folder)),
            // Without root, only the other test, with its page limit, runs.
            refused => {
                let _ = std::fs::remove_dir(&folder);
                assert!(!is_root(), "root can mount: {refused:?}");
                None
            }
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn script() -> ScriptedServer {
    ScriptedServer::new("numbers").with_plain("write", |call| async move {
        let bytes = call.args["bytes"].as_i64().unwrap_or_default();
        let mut db = current::<Sqlite>().await?;
        let n = i64::from(u32::try_from(call.number).unwrap_or_default());
        Sqlite::write(&mut db, n).await.map_err(failed)?;
        let written = sqlx::query("insert into blobs values (randomblob($1))").bind(bytes).execute(&mut *db).await;
        written.map_err(failed)?;
        Ok(ToolResult::text("written"))
    })
}

async fn server(pool: &SqlitePool) -> impl McpHandler + use<> {
    sqlx::raw_sql("create table t (n integer); create table blobs (b blob)").execute(pool).await.expect("tables");
    TransactionalTool::ensure_schema(pool).await.expect("the table is made");
    TransactionalTool::new(pool.clone()).every_write().with_idempotency(Idempotency::new()).layer(script())
}

async fn call(server: &impl McpHandler, key: Option<&str>, bytes: u32) -> McpResult<ToolResult> {
    let args = match key {
        Some(key) => json!({"idempotency_key": key, "bytes": bytes}),
        None => json!({"bytes": bytes}),
    };
    server.call_tool("write", args, &RequestContext::new()).await
}

/// Writes until there is no room, and returns how many writes succeeded.
async fn fill(server: &impl McpHandler, bytes: u32) -> usize {
    for written in 0.. {
        if call(server, None, bytes).await.is_ok_and(|result| result.is_error()) {
            return written;
        }
    }
    unreachable!("a disk has an end");
}

async fn is_refused(pool: &SqlitePool, server: &impl McpHandler, bytes: u32) {
    let before = Sqlite::numbers(pool).await;
    for key in [None, Some("a"), Some("b")] {
        for _ in 0..3 {
            let took = Took::begin();
            let refused = call(server, key, bytes).await;
            took.until("the disk is told to be full");
            let failure = outcome::failure(&refused).expect("there is no room");
            assert!(failure.is_not_executed() && failure.is_temporary(), "{refused:?}");
            let reason = failure.data().and_then(|data| data[TRANSACTION].as_str()).expect("it is marked");
            assert!(["unavailable", "statement_failed"].contains(&reason), "{refused:?}");
            assert!(failure.message().starts_with("The database is not available"), "{refused:?}");
        }
    }
    assert_eq!(Sqlite::numbers(pool).await, before, "nothing was kept");
}

#[tokio::test]
async fn a_full_disk_fails_the_commit_with_a_known_outcome() {
    let Some(disk) = Disk::mount() else {
        return a_full_database_fails_the_write_with_a_known_outcome_here().await;
    };
    let pool = sqlite_at(&disk.0.join("full.db")).await;
    let server = server(&pool).await;
    // In WAL mode, the writes of a transaction reach the disk with its commit.
    assert!(fill(&server, 40_000).await > 0, "some room is there");
    is_refused(&pool, &server, 40_000).await;

    // There is room again: a refused key is free.
    let more = Command::new("mount").args(["-o", "remount,size=4m"]).arg(&disk.0).status();
    assert!(more.is_ok_and(|more| more.success()), "the disk grows");
    assert_eq!(call(&server, Some("a"), 40_000).await.expect("a result").first_text(), Some("written"));
    pool.close().await;
}

async fn a_full_database_fails_the_write_with_a_known_outcome_here() {
    let file = std::env::temp_dir().join(format!("mcp-patterns-{}.db", new_name()));
    let pool = sqlite_at(&file).await;
    let server = server(&pool).await;
    let pages: i64 = sqlx::query_scalar("pragma page_count").fetch_one(&pool).await.expect("it tells");
    for mut connection in [pool.acquire().await, pool.acquire().await, pool.acquire().await, pool.acquire().await]
        .map(|connection| connection.expect("it is free"))
    {
        let limit = format!("pragma max_page_count = {}", pages + 30);
        sqlx::raw_sql(sqlx::AssertSqlSafe(limit)).execute(&mut *connection).await.expect("a limit");
    }
    assert!(fill(&server, 40_000).await > 0, "some room is there");
    is_refused(&pool, &server, 40_000).await;

    // Once there is room, the key is free.
    sqlx::raw_sql("delete from blobs").execute(&pool).await.expect("rows can be deleted");
    assert_eq!(call(&server, Some("a"), 40_000).await.expect("a result").first_text(), Some("written"));
    pool.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
}

#[tokio::test]
async fn a_full_database_fails_the_write_with_a_known_outcome() {
    a_full_database_fails_the_write_with_a_known_outcome_here().await;
}
