//! Pitfalls of sqlx 0.9 when a transaction is cancelled, aborted or nested, and tests that this crate avoids them.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection, PgConnection, Postgres, Sqlite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "cached")]
use {
    crate::testing::ScriptedServer,
    crate::{CachedTool, Layer},
    serde_json::json,
    turbomcp_core::{McpHandler, RequestContext},
    turbomcp_types::ToolResult,
};

use super::databases::{NONE, TestDb, nothing, numbers_at_rest, postgres_pool, refusal, until_idle, write};
use super::on_each_database;
use crate::session::SqlBackend;
use crate::testing::databases::postgres_options;
use crate::transactional::{TransactionError, TransactionalTool, Transactor, current};

on_each_database! {
    a_begin_with_in_the_tool_that_rolls_back_the_whole_is_not_reported_as_committed,
}

#[tokio::test]
async fn a_begin_whose_caller_leaves_returns_no_connection_inside_a_transaction() {
    let pool = Postgres::pool().await;
    // Another connection reads: a call on a connection that was left inside a transaction would end the transaction.
    let mut observer = PgConnection::connect_with(&pool.connect_options()).await.expect("the server is there");
    let transactor = Transactor::new(pool.clone());
    let begins: [&dyn Fn() -> BoxFuture<'static, ()>; 3] = [
        &|| {
            let transactor = transactor.clone();
            async move { drop(transactor.run(&(), || write::<Postgres>(1)).await) }.boxed()
        },
        &|| {
            let pool = pool.clone();
            async move { drop(TransactionalTool::ensure_schema(&pool).await) }.boxed()
        },
        &|| {
            let pool = pool.clone();
            async move { drop(SqlBackend::ensure_schema(&pool).await) }.boxed()
        },
    ];
    for (polls, begins) in (0..8).flat_map(|polls| begins.map(|begins| (polls, begins))) {
        // The connections exist, so a call first sends its `BEGIN`, or a test before it.
        numbers_at_rest(&pool).await;
        until_idle(&pool).await;
        for _ in 0..pool.options().get_max_connections() {
            let mut run = begins();
            let mut left = polls;
            // Each poll after the first handles one event.
            std::future::poll_fn(|cx| match left {
                0 => std::task::Poll::Ready(()),
                _ => {
                    left -= 1;
                    run.as_mut().poll(cx).map(|_| ())
                }
            })
            .await;
            drop(run);
        }
        until_idle(&pool).await;
        let open = "select count(*) from pg_stat_activity where application_name = current_setting('application_name') \
                    and state like 'idle in transaction%'";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut observer).await.expect("the server tells");
        assert_eq!(open, 0, "left after {polls} polls, a connection is inside a transaction");
    }
    numbers_at_rest(&pool).await;
}

#[tokio::test]
async fn a_transaction_aborted_by_an_ignored_error_is_not_reported_as_committed() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<Postgres>(1).await?;
        let mut db = current::<Postgres>().await?;
        let _ = sqlx::query("insert into there_is_no_such_table values (1)").execute(&mut *db).await;
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Err(TransactionError::RolledBack));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_begin_with_in_the_tool_that_rolls_back_the_whole_is_not_reported_as_committed<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    // Whether sqlx has undone it by then is a race.
    for _ in 0..100 {
        let run = transactor.run(&(), || async {
            write::<DB>(1).await?;
            let mut db = current::<DB>().await?;
            assert!(db.begin_with("BEGIN").await.is_err());
            Ok::<_, TransactionError>(())
        });
        assert_eq!(run.await, Err(TransactionError::EndedEarly));
    }
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

#[tokio::test]
async fn a_transaction_that_sqlite_rolled_back_is_not_reported_as_committed_and_leaves_its_connection_usable() {
    let pool = Sqlite::pool().await;
    Sqlite::write(&mut pool.acquire().await.expect("it is free"), 1).await.expect("it is empty");
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(pool.connect_options().as_ref().clone());
    let pool = pool.await.expect("a file can be opened");
    sqlx::query("create unique index one on t (n)").execute(&pool).await.expect("there is one of each");
    let transactor = Transactor::new(pool.clone());
    for sql in ["insert or rollback into t values (1)", "rollback"] {
        for result in [Ok(()), Err(refusal())] {
            let run = transactor.run(&(), || async {
                write::<Sqlite>(2).await?;
                let mut db = current::<Sqlite>().await?;
                let _ = sqlx::query(sql).execute(&mut *db).await;
                result.clone()
            });
            assert_eq!(run.await, result.clone().and(Err(TransactionError::EndedEarly)), "{sql}");
            assert_eq!(
                transactor.run(&(), nothing).await,
                Ok(()),
                "on the same connection, after {sql} and {result:?}"
            );
        }
    }
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

#[tokio::test]
async fn a_savepoint_of_the_tool_does_not_disturb_the_transaction() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<Postgres>(1).await?;
        let mut db = current::<Postgres>().await?;
        let mut savepoint = db.begin().await?;
        let _ = sqlx::query("select 1 / 0").execute(&mut *savepoint).await;
        savepoint.rollback().await?;
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

#[tokio::test]
async fn a_statement_whose_caller_left_releases_its_connection() {
    let pool = postgres_pool(postgres_options(), 1).await;
    let after = Duration::from_millis(300);
    let transactor = Transactor::new(pool.clone()).with_timeout(after);
    let run = transactor.run(&(), || async {
        let mut db = current::<Postgres>().await?;
        sqlx::query("select pg_sleep(60)").execute(&mut *db).await?;
        Ok::<_, TransactionError>(())
    });
    let ended = run.await;
    // Either this process's clock or the server's, which has the same limit, was first.
    assert!(matches!(ended, Err(TransactionError::TimedOut { .. } | TransactionError::Statement { .. })), "{ended:?}");
    // The only connection returns long before the statement would have ended.
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

/// The fate of a connection at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// The connection ends before the server has seen it.
    CutBefore,
    /// The connection ends after the server has committed.
    CutAfter,
    /// The server never sees it, and holds the transaction.
    Held,
}

/// Stands between a pool and its server, and cuts the connection at a commit.
pub(super) async fn cut_at_commit(server: PgConnectOptions, commit: Commit) -> PgConnectOptions {
    async fn pass(mut client: TcpStream, mut server: TcpStream, commit: Commit) -> std::io::Result<()> {
        let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                n = client.read(&mut from_client) => {
                    let sent = &from_client[..n?];
                    let is_commit = sent.windows(6).any(|word| word == b"COMMIT");
                    match commit {
                        _ if sent.is_empty() => return Ok(()),
                        Commit::CutBefore if is_commit => return Ok(()),
                        Commit::Held if is_commit => std::future::pending().await,
                        _ => {}
                    }
                    server.write_all(sent).await?;
                    if is_commit {
                        // The server has answered, so the commit is done; the client never gets the reply.
                        let _answered = server.read(&mut from_server).await?;
                        return Ok(());
                    }
                }
                n = server.read(&mut from_server) => {
                    let n = n?;
                    if n == 0 {
                        return Ok(());
                    }
                    client.write_all(&from_server[..n]).await?;
                }
            }
        }
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let upstream = format!("{}:{}", server.get_host(), server.get_port());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if let Ok(server) = TcpStream::connect(&upstream).await {
                tokio::spawn(pass(client, server, commit));
            }
        }
    });
    server.host("127.0.0.1").port(port)
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_reported_as_unknown_and_not_repeated() {
    for commit in [Commit::CutBefore, Commit::CutAfter] {
        let direct = Postgres::pool().await;
        let through = cut_at_commit(direct.connect_options().as_ref().clone(), commit).await;
        let pool = sqlx::postgres::PgPoolOptions::new().connect_with(through).await.expect("the way is open");
        let transactor = Transactor::new(pool);
        let run = transactor.run(&(), || write::<Postgres>(1)).await;
        assert!(matches!(run, Err(TransactionError::Unknown { .. })));
        let done: &[i64] = if commit == Commit::CutAfter { &[1] } else { &NONE };
        assert_eq!(numbers_at_rest(&direct).await, done, "the real outcome, which was unknown before");
    }
}

#[cfg(feature = "cached")]
#[tokio::test]
async fn a_commit_whose_reply_is_lost_invalidates_the_answers_that_it_may_have_changed() {
    async fn call(server: &impl McpHandler, tool: &str) -> String {
        let result = server.call_tool(tool, json!({}), &RequestContext::new()).await;
        result.expect("a result").first_text().unwrap_or_default().to_owned()
    }
    for commit in [Commit::CutBefore, Commit::CutAfter] {
        let direct = Postgres::pool().await;
        let through = cut_at_commit(direct.connect_options().as_ref().clone(), commit).await;
        let pool = sqlx::postgres::PgPoolOptions::new().connect_with(through).await.expect("the way is open");
        let script = ScriptedServer::new("numbers")
            .with_read_only("read", |call| async move { Ok(ToolResult::text(format!("read {}", call.number))) })
            .with_plain("write", |_| async { Ok(write::<Postgres>(1).await.map(|()| ToolResult::text("written"))?) });
        let transaction = TransactionalTool::new(pool).only(["write"]);
        let server = (transaction, CachedTool::new().invalidates("write", ["read"])).layer(script);
        assert_eq!(call(&server, "read").await, "read 1");
        let unknown = call(&server, "write").await;
        assert!(unknown.contains("it is not known whether the call took effect (error "), "{unknown}");
        assert_eq!(call(&server, "read").await, "read 2");
    }
}
