//! A Redis that stops answering: its connections stay open and deliver nothing. And one answer that takes long.

use futures_util::future::join_all;

use super::*;
use crate::RedisConnection;
use crate::testing::private_redis::PrivateRedis;
use crate::testing::proxy::Proxy;
use crate::testing::{Took, Traced};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Updates once. Returns whether that was acknowledged, and if not, whether it may have been kept.
async fn update(session: &Session) -> Result<(), bool> {
    let updated = session.update("count", |count: &mut usize| *count += 1);
    match tokio::time::timeout(MINUTE, updated).await.expect("every call ends") {
        Ok(()) => Ok(()),
        Err(SessionError::Unavailable(_)) => Err(false),
        Err(SessionError::OutcomeUnknown(_)) => Err(true),
        Err(error) => panic!("{error}"),
    }
}

/// Updates until one is acknowledged. Returns how many others may have been kept.
async fn until_acknowledged(session: &Session) -> usize {
    let mut unknown = 0;
    let acknowledged = async {
        while let Err(is_unknown) = update(session).await {
            unknown += usize::from(is_unknown);
        }
    };
    tokio::time::timeout(MINUTE, acknowledged).await.expect("it recovers");
    unknown
}

/// Updates from 62 callers at once. Returns how many were acknowledged, were not kept, and may have been kept.
async fn crowd(session: &Session) -> [usize; 3] {
    let mut counts = [0; 3];
    for updated in join_all((0..62).map(|_| update(session))).await {
        counts[updated.map_or_else(|is_unknown| 1 + usize::from(is_unknown), |()| 0)] += 1;
    }
    counts
}

async fn count(session: &Session) -> usize {
    session.get("count").await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_work_again_after_their_connection_stopped_answering() {
    let redis = PrivateRedis::start_on_request();
    let proxy = Proxy::to(redis.socket()).await;
    let connection = RedisConnection::open(&proxy.redis_url()).unwrap().with_ping_timeout(3 * SECOND);
    let session = session(&SessionStore::redis(connection));
    assert_eq!(until_acknowledged(&session).await, 0);
    proxy.silence();
    let took = Took::begin();
    let unknown = until_acknowledged(&session).await;
    took.until("sessions are written again");
    assert_eq!(proxy.accepted(), 2, "one connection more");
    assert!((2..=2 + unknown).contains(&count(&session).await));
    assert_eq!(crowd(&session).await, [62, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_work_again_after_a_long_stop_of_redis() {
    let redis = PrivateRedis::start_on_request();
    let connection = RedisConnection::open(&redis.url()).unwrap().with_response_timeout(100 * MILLI);
    let connection = connection.with_ping_timeout(100 * MILLI).with_connect_timeout(100 * MILLI);
    let session = session(&SessionStore::redis(connection));
    assert_eq!(until_acknowledged(&session).await, 0);
    redis.hang();
    // Until nothing is sent any more, since no connection is left.
    let mut unknown = 0;
    let gone = async {
        while update(&session).await.expect_err("it hangs") || session.get::<usize>("count").await.is_ok() {
            unknown += 1;
        }
    };
    tokio::time::timeout(MINUTE, gone).await.expect("every call ends");
    redis.resume();
    let unknown = unknown + until_acknowledged(&session).await;
    assert!((2..=2 + unknown).contains(&count(&session).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_answer_of_redis_fails_its_own_call_and_not_the_queued_ones() {
    let redis = PrivateRedis::start_on_request();
    let proxy = Proxy::to(redis.socket()).await;
    // The slow reply comes after the first caller timed out, and before the second would.
    let connection = RedisConnection::open(&proxy.redis_url()).unwrap().with_response_timeout(4 * SECOND);
    let session = session(&SessionStore::redis(connection).with_backend_timeout(16 * SECOND));
    assert_eq!(until_acknowledged(&session).await, 0);
    proxy.delay_once(6 * SECOND);
    let took = Took::begin();
    let during = crowd(&session).await;
    took.until("all 62 are answered");
    assert_eq!(during[0] + during[2], 62, "{during:?}");
    assert!((1..=2).contains(&during[2]), "{during:?}");
    assert!((1 + during[0]..=1 + during[0] + during[2]).contains(&count(&session).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_writers_fail_together_when_redis_hangs() {
    let redis = PrivateRedis::start_on_request();
    let connection = RedisConnection::open(&redis.url()).unwrap().with_response_timeout(MINUTE);
    let session = session(&SessionStore::redis(connection).with_backend_timeout(2 * SECOND));
    assert_eq!(until_acknowledged(&session).await, 0);
    redis.hang();
    // One after the other they would take two minutes.
    let took = Took::begin();
    let during = tokio::time::timeout(MINUTE, crowd(&session)).await.expect("each waits for its own time");
    took.until("all 62 are refused");
    assert_eq!(during[0], 0);
    assert!(during[1] > 50, "most have sent nothing: {during:?}");
    redis.resume();
    let unknown = during[2] + until_acknowledged(&session).await;
    assert!((2..=2 + unknown).contains(&count(&session).await));
}

#[tokio::test(start_paused = true)]
async fn a_write_with_a_slow_answer_passes_its_turn_on() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.set("count", &0).await.unwrap();
    spy.fails(Fault::Hung);
    let began = tokio::time::Instant::now();
    let slow = update(&session);
    let others = async {
        tokio::time::sleep(100 * MILLI).await;
        spy.fails(Fault::None);
        let updated = crowd(&session).await;
        (updated, began.elapsed())
    };
    let (slow, (others, after)) = tokio::join!(slow, others);
    assert_eq!((slow, others), (Err(true), [62, 0, 0]));
    assert_eq!(after, 500 * MILLI, "a quarter of the time of a step");
    assert_eq!(began.elapsed(), 2 * SECOND);
    assert_eq!(count(&session).await, 62);
}

#[tokio::test(start_paused = true)]
async fn queued_writers_wait_as_long_as_the_backend_answers() {
    let spy = Spy::new();
    spy.fails(Fault::Late(400 * MILLI));
    let session = session(&SessionStore::new(spy));
    let began = tokio::time::Instant::now();
    assert_eq!(crowd(&session).await, [62, 0, 0]);
    assert!(began.elapsed() > 20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_queued_writer_fails_once_the_backend_answered_nothing_for_one_timeout() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.set("count", &0).await.unwrap();
    let began = tokio::time::Instant::now();
    spy.fails(Fault::Late(400 * MILLI));
    let crowd = crowd(&session);
    let hangs = async {
        tokio::time::sleep(4 * SECOND + 100 * MILLI).await;
        spy.fails(Fault::Hung);
    };
    let (during, ()) = tokio::join!(crowd, hangs);
    // The last reply is that of the step that began before Redis hung: at 4.4 s.
    assert_eq!(began.elapsed(), 6_400 * MILLI);
    assert_eq!(during[0], 11);
    assert!(during[2] <= 4, "{during:?}");
}

#[tokio::test(start_paused = true)]
async fn the_log_says_once_that_the_backend_fails_and_once_that_it_works_again() {
    let traced = Traced::start();
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    spy.fails(Fault::Down);
    assert_eq!(crowd(&session).await, [0, 62, 0]);
    spy.fails(Fault::None);
    assert_eq!(crowd(&session).await, [62, 0, 0]);
    let log = traced.text();
    assert_eq!(log.matches("the session backend fails").count(), 1, "{log}");
    assert_eq!(log.matches("the session backend works again").count(), 1, "{log}");
    assert!(log.contains("failures=62"), "{log}");
}
