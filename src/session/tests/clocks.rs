//! Sessions end by the clock of their backend, whatever the clock of the process says.

#![cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]

use ::redis::AsyncCommands;

use super::*;
use crate::testing::databases::{self, move_clock, new_name, postgres_with_clock};

const MINUTES: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTES;

#[tokio::test]
async fn a_session_in_postgres_ends_by_the_clock_of_the_database() {
    for wrong_by in [-DAY, 0, DAY] {
        let pool = postgres_with_clock(4).await;
        SqlBackend::ensure_schema(&pool).await.unwrap();
        move_clock(&pool, wrong_by).await;
        let (backend, session) = (SqlBackend::new(pool.clone()), session(&SessionStore::postgres(pool.clone())));
        session.set("a", &0).await.unwrap();
        let write = async |n: i64| {
            move_clock(&pool, 50 * MINUTES).await;
            assert_eq!(SqlBackend::sweep(&pool).await.unwrap(), 0, "nothing that lives is swept");
            session.update("a", |a: &mut i64| *a += 1).await.unwrap();
            assert_eq!(session.get("a").await.unwrap(), Some(n), "the database's clock is wrong by {wrong_by} s");
        };
        // Its absolute timeout is 24 hours, and its idle timeout one.
        for n in 1..=28 {
            write(n).await;
        }
        let left = backend.load(session.key.id()).await.unwrap().unwrap();
        assert!((39 * MINUTE..=40 * MINUTE).contains(&left.expires_in), "no longer than its end: {left:?}");
        assert_eq!(left.expires_in, left.ends_in);
        move_clock(&pool, 41 * MINUTES).await;
        assert_eq!(session.get::<i64>("a").await.unwrap(), None);
        assert_eq!(SqlBackend::sweep(&pool).await.unwrap(), 1);
    }
}

/// Redis' clock cannot be moved, but its expiry can, and only the expiry counts.
#[tokio::test]
async fn a_session_in_redis_ends_by_the_time_to_live_that_redis_reports() {
    let prefix = format!("mcp-patterns:test:{}:", new_name());
    let mut redis = databases::redis().await;
    let store =
        SessionStore::new(RedisBackend::new(AnyRedisConnection::from_redis_1(redis.clone())).with_prefix(&prefix));
    let session = session(&store.with_idle_timeout(HOUR).with_absolute_timeout(3 * HOUR));
    session.set("a", &1).await.unwrap();
    let key = format!("{prefix}{}", session.key.id());
    // Nearly an hour passes at a time for Redis, and none for this process.
    for left in [3, 2, 1] {
        session.update("a", |a: &mut i64| *a += 1).await.unwrap();
        let (expires_in, beyond): (i64, i64) = (redis.pttl(&key).await.unwrap(), redis.hget(&key, "r").await.unwrap());
        let hours = |millis: i64| Duration::from_millis(millis.unsigned_abs()).as_secs_f64() / 3600.0;
        assert!((0.9..=1.0).contains(&hours(expires_in)), "it is kept for {expires_in} ms");
        let ends_in = hours(expires_in + beyond);
        assert!((f64::from(left) - 0.1..f64::from(left) + 0.1).contains(&ends_in), "it ends in {ends_in} hours");
        let _: () = redis.pexpire(&key, expires_in - 3_590_000).await.unwrap();
    }
    session.update("a", |a: &mut i64| *a += 1).await.unwrap();
    let last: i64 = redis.pttl(&key).await.unwrap();
    assert!((1..=30_000).contains(&last), "no write prolongs it beyond its end, and {last} ms are left");
    let _: () = redis.del(&key).await.unwrap();
}
