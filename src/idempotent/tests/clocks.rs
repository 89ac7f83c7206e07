//! Claims and answers expire by the clock of the database.

use super::*;
use crate::testing::databases::{move_clock, postgres_with_clock};

const HOUR: i64 = 3600;

#[tokio::test]
async fn a_claim_in_postgres_is_held_and_kept_by_the_clock_of_the_database() {
    for wrong_by in [-24 * HOUR, 0, 24 * HOUR] {
        let pool = postgres_with_clock(4).await;
        SqlBackend::ensure_schema(&pool).await.unwrap();
        let backend = SqlBackend::new(pool.clone());
        move_clock(&pool, wrong_by).await;
        let (post, go) = held_post();
        let settings = Idempotency::new().with_ttl(secs(3600));
        // Nothing renews the lease in time: only the database's clock advances.
        let tool = layer(backend).with_lease(secs(600)).with_wait(Duration::ZERO).with_idempotency(settings);
        let handle = tool.handle();
        let server = tool.layer(post.clone());
        let first = tokio::spawn({
            let server = server.clone();
            async move { send(&server, "k").await }
        });
        while post.calls("send") == 0 {
            tokio::task::yield_now().await;
        }
        move_clock(&pool, 500).await;
        assert_eq!(told(&send(&server, "k").await), "in_progress", "wrong by {wrong_by} s");
        move_clock(&pool, 200).await;
        assert!(is_ambiguous(&send(&server, "k").await), "wrong by {wrong_by} s");
        let listed = handle.ambiguous(None, 10).await.unwrap().calls;
        assert!((secs(100)..secs(130)).contains(&listed[0].age), "{listed:?}");

        go.notify_one();
        assert_eq!(text(&first.await.unwrap()), "sent 1");
        move_clock(&pool, HOUR - 120).await;
        assert_eq!(told(&send(&server, "k").await), "replayed", "wrong by {wrong_by} s");
        move_clock(&pool, 121).await;
        go.notify_one();
        assert_eq!(text(&send(&server, "k").await), "sent 2", "wrong by {wrong_by} s");
    }
}
