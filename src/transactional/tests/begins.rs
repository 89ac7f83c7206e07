//! Transactions that cannot be begun, or fail later.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::poll;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Postgres, Sqlite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::databases::{LONG, NONE, TestDb, hooked_pool, nothing, numbers_at_rest, until_idle, write};
use super::on_each_database;
use crate::detached::run_to_end;
use crate::testing::Traced;
use crate::transactional::{TransactionError, Transactor};

on_each_database! {
    a_caller_who_leaves_while_waiting_for_a_connection_takes_none,
}

/// Each failure is logged with the id that its caller gets, and the end of all failures once.
#[tokio::test]
async fn the_log_says_once_that_transactions_can_be_begun_again() {
    let others = Postgres::pool().await;
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(500));
    let pool = options.connect_lazy_with(others.connect_options().as_ref().clone());
    let patient = PgPoolOptions::new().max_connections(1).connect_lazy_with(others.connect_options().as_ref().clone());
    let (transactor, patient) = (Transactor::new(pool.clone()), Transactor::new(patient));
    let traced = Traced::start();
    let only = pool.acquire().await.expect("it is idle");
    for _ in 0..2 {
        let refused = transactor.run(&(), nothing).await;
        assert!(matches!(refused, Err(TransactionError::Unavailable { .. })), "{refused:?}");
    }
    assert_eq!(patient.run(&(), nothing).await, Ok(()), "that is another pool");
    let again = "transactions can be begun again";
    let log = traced.text();
    assert_eq!((log.matches("no transaction could be begun").count(), log.matches(again).count()), (2, 0), "{log}");
    drop(only);
    until_idle(&pool).await;
    for _ in 0..2 {
        assert_eq!(transactor.run(&(), nothing).await, Ok(()));
        until_idle(&pool).await;
    }
    let log = traced.text();
    assert_eq!(log.matches(again).count(), 1, "{log}");
    assert!(log.lines().any(|line| line.contains(again) && line.contains("failures=2")), "{log}");
}

#[tokio::test]
async fn a_conflict_between_transactions_is_not_logged_as_an_outage() {
    let file = Sqlite::pool().await;
    let options = file.connect_options().as_ref().clone().busy_timeout(Duration::ZERO);
    let pool = SqlitePoolOptions::new().connect_with(options).await.expect("a file can be opened");
    let transactor = Transactor::new(pool).with_max_attempts(2);
    let mut writer = file.begin_with("begin immediate").await.expect("no other writer");
    let traced = Traced::start();
    assert_eq!(transactor.run(&(), nothing).await, Err(TransactionError::Conflict { attempts: 2 }));
    Sqlite::write(&mut writer, 1).await.expect("it has the lock");
    writer.commit().await.expect("it is committed");
    assert_eq!(transactor.run(&(), nothing).await, Ok(()));
    assert!(!traced.text().contains("can be begun again"), "{}", traced.text());
}

async fn a_caller_who_leaves_while_waiting_for_a_connection_takes_none<DB: TestDb>() {
    let others = DB::pool().await;
    let (pool, hooks) = hooked_pool(&others, 1).await;
    let transactor = Transactor::new(pool.clone());
    for transactor in [transactor.clone(), transactor.with_connection_reuse()] {
        let only = pool.acquire().await.expect("it is not lost");
        let before = hooks.before_acquire();
        for _ in 0..5 {
            let mut run = Box::pin(transactor.run(&(), || write::<DB>(1)));
            assert!(poll!(&mut run).is_pending());
            tokio::task::yield_now().await;
            assert!(poll!(&mut run).is_pending());
        }
        drop(only);

        // Waiting tasks are served in turn, so an earlier one would have arrived by now.
        assert_eq!(transactor.run(&(), nothing).await, Ok(()));
        assert_eq!(hooks.before_acquire() - before, 1);
    }
    assert_eq!(numbers_at_rest(&others).await, NONE);
}

#[tokio::test]
async fn work_that_must_end_continues_without_its_caller() {
    let (go, gone) = oneshot::channel::<()>();
    let (done, is_done) = oneshot::channel();
    let work: BoxFuture<'static, ()> = Box::pin(async move {
        let _ = gone.await;
        let _ = done.send("done");
    });
    let mut work = Box::pin(run_to_end(work));
    assert!(poll!(&mut work).is_pending());
    drop(work);
    assert!(go.send(()).is_ok(), "it waits still");
    assert_eq!(is_done.await, Ok("done"));
}

#[tokio::test]
async fn work_that_must_end_returns_its_result_to_a_caller_who_waits() {
    assert_eq!(run_to_end(Box::pin(async { 1 })).await, 1);
}

/// Stands between a pool and its server, and replaces a message of the client by another of the same length.
async fn replacing(server: &sqlx::postgres::PgConnectOptions, what: &'static [u8], by: &'static [u8]) -> u16 {
    async fn pass(client: TcpStream, server: TcpStream, what: &[u8], by: &[u8]) -> std::io::Result<()> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let answers = copy(&mut from_server, &mut to_client);
        let questions = async {
            let mut said = vec![0; 65_536];
            loop {
                let n = from_client.read(&mut said).await?;
                if n == 0 {
                    return to_server.shutdown().await;
                }
                let said = &mut said[..n];
                if let Some(at) = said.windows(what.len()).position(|words| words == what) {
                    said[at..at + by.len()].copy_from_slice(by);
                }
                to_server.write_all(said).await?;
            }
        };
        tokio::try_join!(answers, questions).map(|_| ())
    }

    assert_eq!(what.len(), by.len());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let upstream = format!("{}:{}", server.get_host(), server.get_port());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if let Ok(server) = TcpStream::connect(&upstream).await {
                tokio::spawn(pass(client, server, what, by));
            }
        }
    });
    port
}

/// sqlx returns the connection of a failed begin to the pool as it is.
#[tokio::test]
async fn a_begin_that_the_server_refuses_leaves_its_connection_usable() {
    let direct = Postgres::pool().await;
    let port = replacing(&direct.connect_options(), b"lock_timeout = 2222", b"lock_timeout = -222").await;
    let through = direct.connect_options().as_ref().clone().host("127.0.0.1").port(port);
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(LONG).connect_with(through);
    let pool = pool.await.expect("the way is open");
    let transactor = Transactor::new(pool.clone());
    for refused in [transactor.clone(), transactor.clone().with_connection_reuse()] {
        let refused = refused.with_lock_timeout(Duration::from_millis(2222));
        assert!(matches!(refused.run(&(), || write::<Postgres>(1)).await, Err(TransactionError::Unavailable { .. })));
        let plain = sqlx::query("insert into t values (2)").execute(&pool).await;
        assert!(plain.is_ok(), "the only connection, for everybody else: {plain:?}");
        assert_eq!(transactor.run(&(), || write::<Postgres>(3)).await, Ok(()));
    }
    assert_eq!(numbers_at_rest(&direct).await, [2, 2, 3, 3]);
}

/// PostgreSQL's timeouts have 32 bits of milliseconds.
#[tokio::test]
async fn endless_timeouts_become_the_longest_that_the_server_accepts() {
    let pool = Postgres::pool().await;
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    for timeout in [month, Duration::from_secs(u64::MAX / 4), Duration::MAX] {
        for transactor in [
            Transactor::new(pool.clone()).with_timeout(timeout),
            Transactor::new(pool.clone()).without_timeout().with_statement_timeout(timeout),
            Transactor::new(pool.clone()).with_lock_timeout(timeout),
        ] {
            assert_eq!(transactor.run(&(), nothing).await, Ok(()), "{transactor:?}");
        }
    }
}
