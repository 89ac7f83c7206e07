//! A private Redis, killed, hung and restarted under load.

use ::redis::aio::ConnectionManagerConfig;
use futures_util::future::join_all;

use super::*;
use crate::testing::private_redis::PrivateRedis;

async fn connect(redis: &PrivateRedis) -> AnyRedisConnection {
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(100));
    AnyRedisConnection::from_redis_1(redis.client().get_connection_manager_with_config(config).await.unwrap())
}

/// Updates until the connection has recovered, which happens soon, but not at once.
async fn until_available(session: &Session) {
    let updated = async {
        while session.update("after", |count: &mut u32| *count += 1).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE, updated).await.expect("the connection comes back");
}

/// Updates from 20 callers at once. Returns how many were acknowledged, refused, and neither.
async fn load(session: &Session, updates: usize) -> [usize; 3] {
    let callers = (0..20).map(|_| {
        let session = session.clone();
        tokio::spawn(async move {
            let mut counts = [0; 3];
            for _ in 0..updates {
                match session.update("count", |count: &mut usize| *count += 1).await {
                    Ok(()) => counts[0] += 1,
                    Err(SessionError::Unavailable(_)) => counts[1] += 1,
                    Err(SessionError::OutcomeUnknown(_)) => counts[2] += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            counts
        })
    });
    let counts = tokio::time::timeout(5 * MINUTE, join_all(callers)).await.expect("no caller hangs");
    counts.into_iter().fold([0; 3], |sum, counts| {
        let counts = counts.unwrap();
        std::array::from_fn(|at| sum[at] + counts[at])
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_killed_under_load_loses_nothing_that_was_acknowledged() {
    let mut redis = PrivateRedis::start();
    let session = session(&SessionStore::redis(connect(&redis).await));
    let before = load(&session, 5).await;
    assert_eq!(before, [100, 0, 0]);

    let loaded = {
        let session = session.clone();
        tokio::spawn(async move { load(&session, 20).await })
    };
    redis.kill();
    let during = loaded.await.unwrap();
    assert!(during[1] + during[2] > 0, "it was noticed: {during:?}");
    assert!(matches!(session.get::<usize>("count").await, Err(SessionError::Unavailable(_))));

    redis.restart();
    until_available(&session).await;
    let count = session.get::<usize>("count").await.unwrap().unwrap();
    let acknowledged = before[0] + during[0];
    assert!((acknowledged..=acknowledged + during[2]).contains(&count), "{count} of {before:?} and {during:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_under_load_is_unavailable_in_time_and_recovers() {
    let redis = PrivateRedis::start();
    let store = SessionStore::redis(connect(&redis).await).with_backend_timeout(Duration::from_millis(200));
    let session = session(&store);
    session.set("count", &0).await.unwrap();
    redis.hang();
    // No caller who comes while it hangs waits much longer than the timeout: a minute allows for a busy machine.
    let during = tokio::time::timeout(MINUTE, load(&session, 3)).await.expect("in time");
    assert_eq!((during[0], during[1] + during[2]), (0, 60));
    assert!(session.get::<usize>("count").await.is_err());
    redis.resume();
    until_available(&session).await;
    let count = session.get::<usize>("count").await.unwrap().unwrap();
    assert!(count <= during[2], "{count} of {during:?}");
    assert_eq!(load(&session, 5).await, [100, 0, 0]);
}
