use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_sweep_is_due_at_once_or_a_minute_later_and_then_once_a_minute_by_the_monotonic_clock() {
    static EXPIRED: Expired = Expired { from: "from t", condition: "expires_at <= {now}", rows: "rows" };
    let (now, later) = (Sweeper::new(&EXPIRED), Sweeper::later(&EXPIRED));
    assert_eq!((now.is_due(), later.is_due()), (true, false));
    for _ in 0..3 {
        tokio::time::advance(EVERY - Duration::from_millis(1)).await;
        assert_eq!((now.clone().is_due(), later.clone().is_due()), (false, false), "clones take turns");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((now.is_due(), later.is_due()), (true, true));
    }
}

#[cfg(all(feature = "postgres", feature = "transactional"))]
mod held {
    use sqlx::postgres::PgPoolOptions;
    use sqlx::{Connection, PgConnection, PgPool, Postgres};

    use super::*;
    use crate::TransactionalTool;
    use crate::testing::databases::{postgres_options, postgres_schema};
    use crate::testing::proxy::Proxy;
    use crate::transactional::records::EXPIRED;

    /// A pool of one connection, for which calls wait this long, the proxy before it, and a way past the proxy.
    async fn pool(acquire: Duration) -> (PgPool, Proxy, PgConnection) {
        let direct = postgres_schema(postgres_options(), 1).await;
        TransactionalTool::ensure_schema(&direct).await.expect("a table");
        let (network, through) = Proxy::to_postgres(&direct.connect_options()).await;
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(acquire).connect_with(through);
        let past = PgConnection::connect_with(&direct.connect_options()).await.expect("it is there");
        (pool.await.expect("it is there"), network, past)
    }

    async fn until_it_holds_the_connection(pool: &PgPool) {
        while pool.num_idle() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_sweep_on_an_idle_connection_that_stopped_answering_does_not_keep_it_from_calls() {
        let (pool, network, _past) = pool(BATCH_TIMEOUT * 4 / 5).await;
        network.silence();
        Sweeper::new(&EXPIRED).sweep_now_and_then(&pool);
        until_it_holds_the_connection(&pool).await;
        Connections::<Postgres>::of(&pool).acquire().await.expect("the pool lends it in time");
    }

    #[tokio::test]
    async fn a_batch_that_is_not_answered_does_not_keep_its_connection_from_calls() {
        let (pool, _network, mut past) = pool(BATCH_TIMEOUT * 2).await;
        let mut lock = past.begin().await.expect("it begins");
        sqlx::query("lock mcp_patterns_idempotency").execute(&mut *lock).await.expect("nobody else has it");
        Sweeper::new(&EXPIRED).sweep_now_and_then(&pool);
        until_it_holds_the_connection(&pool).await;
        Connections::<Postgres>::of(&pool).acquire().await.expect("the pool lends it in time");
    }
}
