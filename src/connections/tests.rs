use std::time::Duration;

use futures_util::future::join_all;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Postgres, Sqlite};
use tokio::time::timeout;

use super::places::Places;
use super::*;
use crate::testing::databases::{postgres_options, postgres_schema, sqlite};
use crate::testing::proxy::Proxy;

const LONG: Duration = Duration::from_secs(20);

/// Returns how many places are free.
async fn free(places: &Arc<Places>) -> usize {
    let mut taken = Vec::new();
    while let Ok(place) = timeout(Duration::ZERO, places.take()).await {
        taken.push(place);
    }
    taken.len()
}

#[tokio::test]
async fn transactions_leave_a_connection_for_each_registered_purpose() {
    let places = Places::new(10);
    assert_eq!(free(&places).await, 10);
    let sessions = places.set_apart(What::Statements);
    let keys = places.set_apart(What::Statements);
    assert_eq!(free(&places).await, 9, "statements share one");
    let nested = places.set_apart(What::Nested);
    assert_eq!(free(&places).await, 8);
    drop(sessions);
    assert_eq!(free(&places).await, 8, "it is still needed");
    drop(keys);
    drop(nested);
    assert_eq!(free(&places).await, 10);
}

#[tokio::test]
async fn transactions_always_have_a_place_for_one() {
    for connections in 0..=2 {
        let places = Places::new(connections);
        let _apart = (places.set_apart(What::Statements), places.set_apart(What::Nested));
        assert_eq!(free(&places).await, 1);
    }
}

#[tokio::test]
async fn a_place_in_use_that_is_set_apart_disappears_when_it_is_freed() {
    let places = Places::new(3);
    let taken = join_all((0..3).map(|_| places.take())).await;
    let apart = places.set_apart(What::Statements);
    assert_eq!(free(&places).await, 0);
    drop(taken);
    assert_eq!(free(&places).await, 2);
    let taken = join_all((0..2).map(|_| places.take())).await;
    drop(apart);
    assert_eq!(free(&places).await, 1, "it comes back at once");
    let apart = places.set_apart(What::Nested);
    drop(apart);
    drop(taken);
    assert_eq!(free(&places).await, 3);
}

#[tokio::test]
async fn a_released_reservation_adds_no_place_while_all_places_are_taken() {
    let places = Places::new(3);
    let taken = join_all((0..3).map(|_| places.take())).await;
    drop(places.set_apart(What::Statements));
    assert_eq!(free(&places).await, 0, "all three are still held");
    drop(taken);
    assert_eq!(free(&places).await, 3);
}

#[tokio::test]
async fn a_wait_for_a_place_ends_with_the_acquire_timeout() {
    let pool = postgres_schema(postgres_options(), 1).await;
    let options = pool.connect_options().as_ref().clone();
    let hasty = sqlx::postgres::PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(50));
    let connections = Connections::<Postgres>::of(&hasty.connect_lazy_with(options));
    let _taken = connections.place(connections.deadline()).await.unwrap();
    let place = connections.place(connections.deadline());
    let refused = timeout(Duration::from_secs(10), place).await.expect("it ends in time");
    assert!(matches!(refused, Err(Error::PoolTimedOut)));
}

#[tokio::test]
async fn a_lost_idle_connection_is_not_used() {
    let pool = postgres_schema(postgres_options(), 2).await;
    let connections = Connections::<Postgres>::of(&pool);
    let (mut one, mut other) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let backend = "select pg_backend_pid()";
    let lost: i32 = sqlx::query_scalar(backend).fetch_one(&mut *one).await.unwrap();
    drop(one);
    while pool.num_idle() == 0 {
        tokio::task::yield_now().await;
    }
    sqlx::query("select pg_terminate_backend($1)").bind(lost).execute(&mut *other).await.unwrap();
    let mut spare = connections.spare().await.unwrap();
    let found: i32 = sqlx::query_scalar(backend).fetch_one(&mut *spare).await.expect("it works");
    assert_ne!(found, lost);
}

#[tokio::test]
async fn clones_of_a_pool_share_its_state_and_two_pools_do_not() {
    let file = sqlite().await;
    let one = Connections::of(&file.pool);
    assert!(Arc::ptr_eq(&one, &Connections::of(&file.pool.clone())));
    assert!(one.is_of(&file.pool));
    let other = sqlite().await;
    assert!(!Arc::ptr_eq(&one, &Connections::of(&other.pool)));
    assert!(!one.is_of(&other.pool));
}

#[tokio::test]
async fn a_pool_closes_while_a_connection_is_kept() {
    let pool = postgres_schema(postgres_options(), 2).await;
    let connections = Connections::<Postgres>::of(&pool);
    connections.keep(Pooled::new(pool.acquire().await.unwrap()), Duration::MAX);
    let _taken = pool.acquire().await.unwrap();
    assert!(pool.try_acquire().is_none(), "one is kept");
    connections.spare().await.unwrap().done();
    drop(_taken);
    timeout(Duration::from_secs(10), pool.close()).await.expect("the kept one is given back");
}

#[tokio::test]
async fn a_connection_is_kept_only_while_it_is_needed() {
    let file = sqlite().await;
    let connections = Connections::<Sqlite>::of(&file.pool);
    connections.keep(Pooled::new(file.pool.acquire().await.unwrap()), Duration::from_millis(50));
    assert!(connections.kept.connection.lock().await.connection.is_some());
    let gone = async {
        while connections.kept.connection.lock().await.connection.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.expect("it goes back to the pool");
    // It is kept again for the next one.
    connections.keep(Pooled::new(file.pool.acquire().await.unwrap()), Duration::from_secs(60));
    assert!(connections.kept.connection.lock().await.connection.is_some());
}

#[tokio::test]
async fn a_kept_connection_that_is_lost_is_replaced() {
    let pool = postgres_schema(postgres_options(), 2).await;
    let connections = Connections::<Postgres>::of(&pool);
    let mut kept = pool.acquire().await.unwrap();
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *kept).await.unwrap();
    connections.keep(Pooled::new(kept), Duration::from_secs(60));
    sqlx::query("select pg_terminate_backend($1)").bind(backend).execute(&pool).await.unwrap();
    let taken = pool.acquire().await.unwrap();
    let mut spare = connections.spare().await.unwrap();
    let other: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *spare).await.unwrap();
    assert_ne!(other, backend);
    spare.done();
    drop(taken);
}

#[tokio::test]
async fn an_idle_or_kept_connection_that_stops_answering_is_replaced() {
    let direct = postgres_schema(postgres_options(), 2).await;
    let (network, through) = Proxy::to_postgres(&direct.connect_options()).await;
    let pool = PgPoolOptions::new().max_connections(3).acquire_timeout(LONG).connect_with(through).await.unwrap();
    let connections = Connections::<Postgres>::of(&pool);
    for is_kept in [false, true, false, true] {
        let (one, other) = (connections.acquire().await.unwrap(), connections.acquire().await.unwrap());
        if is_kept {
            connections.keep(one, Duration::from_secs(60));
        } else {
            drop(one);
            while pool.num_idle() == 0 {
                tokio::task::yield_now().await;
            }
        }
        network.silence();
        let mut spare = timeout(LONG, connections.spare()).await.expect("it does not wait for an answer").unwrap();
        spare.ping().await.unwrap();
        spare.done();
        drop(other);
        connections.kept.connection.lock().await.connection = None;
        let all = timeout(2 * LONG, join_all((0..3).map(|_| connections.acquire()))).await;
        assert!(all.is_ok_and(|all| all.iter().all(Result::is_ok)), "no connection is lost");
    }
}

#[tokio::test(start_paused = true)]
async fn the_creation_of_a_table_times_out_after_a_minute() {
    let begun = Instant::now();
    let ended = timeout(Duration::from_secs(120), in_time::<()>(std::future::pending())).await.expect("it is given up");
    assert!(matches!(ended, Err(Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
    assert_eq!(begun.elapsed(), Duration::from_secs(60));
}
