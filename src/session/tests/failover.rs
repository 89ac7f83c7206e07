//! A Redis that fails over to a replica: a write that is acknowledged only after the replica has it is not lost.

use ::redis::aio::ConnectionManagerConfig;

use super::*;
use crate::testing::private_redis::Replicated;

async fn connect(redis: &Replicated) -> AnyRedisConnection {
    // Its timeout is longer than any step here.
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(100));
    let config = config.set_response_timeout(Some(MINUTE));
    AnyRedisConnection::from_redis_1(redis.client().get_connection_manager_with_config(config).await.unwrap())
}

async fn replicated(redis: &Replicated, timeout: Duration) -> SessionStore {
    let backend = RedisBackend::new(connect(redis).await).with_replicas(1, timeout);
    SessionStore::new(backend).with_backend_timeout(MINUTE)
}

/// Reads, once the connection has recovered.
async fn count(session: &Session) -> Option<u32> {
    let read = async {
        loop {
            match session.get("count").await {
                Err(SessionError::Unavailable(_)) => tokio::task::yield_now().await,
                read => return read.unwrap(),
            }
        }
    };
    tokio::time::timeout(MINUTE, read).await.expect("the connection comes back")
}

/// The loss that the manual warns of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_waiting_for_replicas_a_failover_loses_acknowledged_writes() {
    let mut redis = Replicated::start();
    let session = session(&SessionStore::redis(connect(&redis).await));
    session.set("count", &1).await.unwrap();
    redis.fall_behind();
    session.set("count", &2).await.unwrap();
    redis.fail_over();
    assert_eq!(count(&session).await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_ends_that_a_replica_has_survive_a_failover() {
    let mut redis = Replicated::start();
    let store = replicated(&redis, MINUTE / 2).await;
    let (kept, ended) = (session(&store), store.of(&connection("2")).expect("a session"));
    for number in 1..=20 {
        kept.set("count", &number).await.unwrap();
    }
    ended.set("count", &1).await.unwrap();
    ended.end().await.unwrap();
    redis.fail_over();
    assert_eq!((count(&kept).await, count(&ended).await), (Some(20), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_too_few_replicas_is_not_acknowledged_and_a_step_without_a_write_needs_none() {
    let redis = Replicated::start();
    let of = |replicas: usize, timeout| {
        let connection = connect(&redis);
        async move { RedisBackend::new(connection.await).with_replicas(replicas, timeout) }
    };
    let write = |version| Write { version, data: "{}", ttl: MINUTE, ends_in: Duration::MAX, opener: None };
    let one = of(1, MINUTE / 2).await;
    assert!(matches!(one.create("a", write(1)).await, Ok(Written::Yes)));
    assert!(of(2, Duration::from_secs(2)).await.create("b", write(1)).await.is_err(), "there is one replica");
    redis.replica.hang();
    let hasty = of(1, Duration::from_millis(10)).await;
    assert!(hasty.delete("a", Some(1)).await.is_err(), "an end that no replica has may be lost");
    let taken = hasty.create("b", write(2)).await.expect("what is refused needs no replica");
    assert!(matches!(taken, Written::Conflict(Some(record)) if record.version == 1));
    assert!(!hasty.delete("a", Some(1)).await.expect("a missing record needs no replica"));
    redis.replica.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_the_slowest_of_as_many_replicas_as_were_asked_for() {
    let redis = Replicated::start();
    let slow = redis.start_another();
    let backend = RedisBackend::new(connect(&redis).await).with_replicas(2, MINUTE / 2);
    let write = Write { version: 1, data: "{}", ttl: MINUTE, ends_in: Duration::MAX, opener: None };
    slow.hang();
    // Long enough for the other replica to have acknowledged it.
    let resumed = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        slow.resume();
    };
    let (written, ()) = tokio::join!(backend.create("a", write), resumed);
    assert!(matches!(written, Ok(Written::Yes)), "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_no_replica_acknowledges_has_an_unknown_outcome() {
    let redis = Replicated::start();
    let patient = session(&replicated(&redis, MINUTE / 2).await);
    patient.set("count", &1).await.unwrap();
    redis.replica.hang();
    let hasty = session(&replicated(&redis, Duration::from_millis(10)).await);
    assert!(matches!(hasty.set("count", &2).await, Err(SessionError::OutcomeUnknown(_))));
    redis.replica.resume();
    redis.catch_up();
    patient.update("count", |count: &mut u32| *count += 10).await.unwrap();
    assert!([Some(11), Some(12)].contains(&count(&patient).await));
}
