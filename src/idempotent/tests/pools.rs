//! Claims in a pool whose connections are all used by tools.

use std::time::Instant;

use futures_util::future::join_all;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::*;
use crate::idempotency_keys::Page;
use crate::idempotent::renewals::Renewals;
use crate::testing::databases::{new_name, postgres_options, postgres_schema};
use crate::testing::proxy::Proxy;

const LEASE: Duration = Duration::from_millis(500);

/// A pool with that many connections, and another one to the same database.
async fn pools(connections: u32) -> (PgPool, PgPool) {
    let pool = postgres_schema(postgres_options(), connections).await;
    SqlBackend::ensure_schema(&pool).await.unwrap();
    let options = pool.connect_options().as_ref().clone();
    (pool, PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap())
}

/// A server whose `send` takes all connections that it can get, for the time of several leases.
fn greedy(pool: &PgPool) -> ScriptedServer {
    let pool = pool.clone();
    ScriptedServer::new("post").with_plain("send", move |call| {
        let pool = pool.clone();
        async move {
            let mut taken = Vec::new();
            let until = Instant::now() + 5 * LEASE;
            while Instant::now() < until {
                taken.extend(pool.try_acquire());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(sent(call.number))
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_and_answers_recorded_while_tools_use_all_connections_for_longer_than_a_lease() {
    let (pool, other) = pools(3).await;
    // All connections exist, so that the tool finds them.
    drop(join_all((0..3).map(|_| pool.acquire())).await);
    let post = greedy(&pool);
    let server = layer(SqlBackend::new(pool.clone())).with_lease(LEASE).layer(post.clone());
    let elsewhere = layer(SqlBackend::new(other)).with_lease(LEASE).with_wait(Duration::ZERO).layer(post.clone());
    let key = new_name();
    let call = tokio::spawn({
        let key = key.clone();
        async move { send(&server, &key).await }
    });
    while post.calls("send") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut looks = 0;
    let answer = loop {
        let answer = send(&elsewhere, &key).await;
        if told(&answer) != "in_progress" {
            break answer;
        }
        looks += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // At least two checks in each lease, on any machine.
    assert!(looks > 10, "it looked {looks} times while the call ran");
    assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("replayed")));
    assert_eq!(told(&call.await.unwrap()), Value::Null, "its answer was recorded");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test]
async fn one_statement_renews_all_waiting_claims_each_for_its_owner_only() {
    let (pool, _) = pools(1).await;
    let backend = SqlBackend::new(pool.clone());
    let ids: Vec<String> = (0..2500).map(|_| new_name()).collect();
    let insert = "insert into mcp_patterns_idempotency \
                  (id, tool, key, fingerprint, token, lease_until, created_at, expires_at) \
                  select id, 'send', 'k', 'f', 'mine', 1, 0, 10 from unnest($1::text[]) as ids(id)";
    sqlx::query(insert).bind(&ids).execute(&pool).await.unwrap();
    sqlx::query("create table statements (n bigint)").execute(&pool).await.unwrap();
    let counted = "create function counted() returns trigger language plpgsql as \
                   $$ begin insert into statements values (1); return null; end $$; \
                   create trigger counted after update on mcp_patterns_idempotency execute function counted()";
    sqlx::raw_sql(counted).execute(&pool).await.unwrap();
    let held = pool.acquire().await.unwrap();
    let renewals = Renewals::default();
    let connections = crate::connections::Connections::of(&pool);
    let renew = join_all(ids.iter().enumerate().map(|(number, id)| {
        let token = if number % 5 == 0 { "another's" } else { "mine" };
        renewals.renew(&connections, (id, token), secs(60))
    }));
    let (renewed, ()) = tokio::join!(renew, async {
        settle().await;
        drop(held);
    });
    for (number, renewed) in renewed.into_iter().enumerate() {
        assert_eq!(renewed.unwrap(), number % 5 != 0, "claim {number}");
    }
    let statements: i64 = sqlx::query_scalar("select count(*) from statements").fetch_one(&pool).await.unwrap();
    assert_eq!(statements, 3, "a thousand with each");
    let kept = "select count(*) from mcp_patterns_idempotency where expires_at - lease_until = 9";
    let kept: i64 = sqlx::query_scalar(kept).fetch_one(&pool).await.unwrap();
    assert_eq!(kept, 2500, "they are kept as long as before beyond the lease");
    drop(backend);
}

#[tokio::test]
async fn a_page_of_ambiguous_calls_has_at_most_the_requested_length() {
    let (pool, _) = pools(1).await;
    let backend = SqlBackend::new(pool.clone());
    let insert = "insert into mcp_patterns_idempotency \
                  (id, tool, key, fingerprint, token, lease_until, created_at, expires_at) \
                  select 'abc' || n, 'send', 'k', 'f', 'mine', 1, 0, 9000000000000000 from generate_series(1, 5) as n";
    sqlx::query(insert).execute(&pool).await.unwrap();
    let (mut pages, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = backend.ambiguous(Page::new("abc", after.as_deref(), 2)).await.unwrap();
        pages.push(page.calls.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
}

#[tokio::test]
async fn claims_with_different_leases_are_renewed_by_their_own_lease() {
    let (pool, _) = pools(1).await;
    let backend = SqlBackend::new(pool.clone());
    let ids = [new_name(), new_name()];
    let insert = "insert into mcp_patterns_idempotency \
                  (id, tool, key, fingerprint, token, lease_until, created_at, expires_at) \
                  select id, 'send', 'k', 'f', 'mine', 1, 0, 10 from unnest($1::text[]) as ids(id)";
    sqlx::query(insert).bind(&ids[..]).execute(&pool).await.unwrap();
    let held = pool.acquire().await.unwrap();
    let (renewals, connections) = (Renewals::default(), crate::connections::Connections::of(&pool));
    let renew = |at: usize, lease| renewals.renew(&connections, (&ids[at], "mine"), lease);
    let (short, long, ()) = tokio::join!(renew(0, secs(60)), renew(1, secs(6000)), async {
        settle().await;
        drop(held);
    });
    assert!(short.unwrap() && long.unwrap());
    let until = "select lease_until from mcp_patterns_idempotency where id = $1";
    let short: i64 = sqlx::query_scalar(until).bind(&ids[0]).fetch_one(&pool).await.unwrap();
    let long: i64 = sqlx::query_scalar(until).bind(&ids[1]).fetch_one(&pool).await.unwrap();
    assert!((long - short).abs_diff(5_940_000) < 60_000, "{short} and {long}");
    assert!(connections.wanted_for() > secs(3000), "the connection is kept as long as the longest of them");
    drop(backend);
}

#[tokio::test]
async fn a_caller_who_leaves_while_renewing_passes_the_other_renewals_on() {
    let (pool, _) = pools(2).await;
    let backend = SqlBackend::new(pool.clone());
    let claims: Vec<String> = (0..2).map(|_| new_name()).collect();
    for id in &claims {
        let claim = claim_of(id, "mine", secs(60));
        assert_eq!(backend.claim(claim).await.unwrap(), Claimed::New);
    }
    for polls in 0..10 {
        let owner = |number: usize| Owner { id: &claims[number], token: "mine" };
        let mut first = backend.renew(owner(0), secs(60));
        for _ in 0..polls {
            if futures_util::poll!(&mut first).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let second = backend.renew(owner(1), secs(60));
        let (second, ()) = tokio::join!(second, async { drop(first) });
        // A call of an abandoned batch gets "not known".
        let renewed = match second {
            Ok(renewed) => renewed,
            Err(_) => backend.renew(owner(1), secs(60)).await.unwrap(),
        };
        assert!(renewed, "left after {polls} polls");
    }
}

#[tokio::test]
async fn keys_work_when_postgres_stops_answering_on_the_existing_connections() {
    let (direct, _) = pools(1).await;
    let (network, through) = Proxy::to_postgres(&direct.connect_options()).await;
    let pool = PgPoolOptions::new().max_connections(3).connect_with(through).await.unwrap();
    let silent = std::sync::Arc::new(network);
    let post = ScriptedServer::new("post").with_plain("send", move |call| {
        // The connection that is kept for the claim stops answering, too.
        silent.silence();
        async move { Ok(sent(call.number)) }
    });
    let backend = SqlBackend::new(pool.clone());
    let server = layer(backend).with_backend_timeout(Duration::from_secs(20)).layer(post.clone());
    for n in 1..=3 {
        let key = new_name();
        for told_again in [Value::Null, json!("replayed")] {
            let answer = send(&server, &key).await;
            assert_eq!((text(&answer), told(&answer)), (format!("sent {n}"), told_again));
        }
    }
    // One connection is kept for the claims.
    let others = tokio::time::timeout(Duration::from_secs(60), join_all((0..2).map(|_| pool.acquire()))).await;
    assert!(others.is_ok_and(|others| others.iter().all(Result::is_ok)), "no connection is lost");
}
