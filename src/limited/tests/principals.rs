use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use turbomcp_core::Principal;

use super::*;

#[tokio::test(start_paused = true)]
async fn of_ten_thousand_calls_of_a_hundred_principals_each_gets_a_share_and_nobody_starves() {
    let running: Arc<HashMap<String, AtomicUsize>> =
        Arc::new((0..100).map(|of| (of.to_string(), AtomicUsize::new(0))).collect());
    let (seen, all) = (Arc::clone(&running), Arc::new(AtomicUsize::new(0)));
    let script = ScriptedServer::new("shop").with_read_only("search", move |call| {
        let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
        async move {
            let of = &seen[call.ctx.subject().expect("everybody has a name")];
            assert!(of.fetch_add(1, Ordering::SeqCst) < 2, "nobody has more than two places");
            assert!(all.fetch_add(1, Ordering::SeqCst) < 50, "fifty run in all");
            tokio::time::sleep(ms(10)).await;
            of.fetch_sub(1, Ordering::SeqCst);
            all.fetch_sub(1, Ordering::SeqCst);
            Ok(ToolResult::text("done"))
        }
    });
    let limits = LimitedTool::new()
        .with_concurrency(Per::Principal, Concurrency::new(2).with_queue(200).with_max_wait(secs(3_600)))
        .with_concurrency(Per::Tool, Concurrency::new(50).with_queue(200).with_max_wait(secs(3_600)));
    let server = limits.layer(script);
    // The greedy one comes first, with a hundred times as many calls as the last.
    let calls = (0..100).flat_map(|of: usize| std::iter::repeat_n(of, if of == 0 { 199 } else { 99 }));
    let began = Instant::now();
    let ends = calls.map(|of| {
        let server = server.clone();
        tokio::spawn(async move {
            let end = search(&server, &user(&of.to_string())).await;
            (of, end, began.elapsed())
        })
    });
    let mut last = HashMap::new();
    for end in join_all(ends).await {
        let (of, end, at) = end.expect("no panic");
        assert_eq!(end, Ok(()), "call of {of}");
        let last = last.entry(of).or_insert(at);
        *last = at.max(*last);
    }
    // A hundred principals take turns of 50: 99 calls of each, two at a time, take 99 rounds of 20 ms.
    assert!((1..100).all(|of| last[&of] <= ms(99 * 20 + 20)), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_principals_grows_no_memory_and_frees_nobody_who_is_limited() {
    let limits = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(2)).with_max_principals(100);
    let handle = limits.handle();
    let server = limits.layer(server());
    for _ in 0..2 {
        assert_eq!(search(&server, &user("mallory")).await, Ok(()));
    }
    let mut passed = 0;
    for number in 0..10_000 {
        passed += usize::from(search(&server, &user(&number.to_string())).await.is_ok());
        assert!(handle.stats().entries <= 100);
        assert!(search(&server, &user("mallory")).await.is_err(), "she is still limited");
    }
    assert_eq!(passed, 99 + 2, "those with an entry of their own, and two of all others");
    // As soon as they have recovered, they leave.
    tokio::time::advance(secs(3_600)).await;
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    assert_eq!(handle.stats().entries, 1);
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    assert!(search(&server, &user("ada")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_principal_with_a_running_call_keeps_its_entry() {
    let limits = LimitedTool::new().with_concurrency(Per::Principal, Concurrency::new(1)).with_max_principals(1);
    let server = limits.layer(server());
    let (ada, bob, cleo) = (user("ada"), user("bob"), user("cleo"));
    let long = json!({ "ms": 10_000 });
    let ends = tokio::join!(
        call(&server, "search", long.clone(), &ada),
        call(&server, "search", long.clone(), &bob),
        call(&server, "search", long.clone(), &cleo),
        async {
            tokio::time::sleep(secs(5)).await;
            call(&server, "search", json!({}), &ada).await
        },
    );
    let refused = || Err(busy(ErrorKind::RateLimited));
    assert_eq!(ends, (Ok(()), Ok(()), refused(), refused()), "bob and cleo share one place, and ada has hers");
}

#[tokio::test(start_paused = true)]
async fn anonymous_callers_are_one_principal_unless_their_sessions_distinguish_them() {
    let anonymous = |session: &str| RequestContext::new().with_session_id(session);
    for by_session in [false, true] {
        let mut limits = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(1));
        if by_session {
            limits = limits.with_identity(crate::Identity::new().with_anonymous_by_session());
        }
        let server = limits.layer(server());
        assert_eq!(search(&server, &anonymous("1")).await, Ok(()));
        assert_eq!(search(&server, &anonymous("2")).await.is_ok(), by_session);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_of_two_tenants_is_two_principals_and_rights_do_not_matter() {
    let server = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(1)).layer(server());
    let ada = |tenant: &str, role: &str| {
        let ada = Principal::new("ada").with_claim("tid", json!(tenant)).with_roles([role]);
        RequestContext::new().with_principal(ada)
    };
    assert_eq!(search(&server, &ada("acme", "clerk")).await, Ok(()));
    assert!(search(&server, &ada("acme", "boss")).await.is_err());
    assert_eq!(search(&server, &ada("globex", "clerk")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn tools_that_no_listing_has_share_one_limit() {
    let limits = LimitedTool::new().with_rate(Per::Tool, Rate::per_hour(3));
    let handle = limits.handle();
    let server = limits.layer(server());
    let mut passed = 0;
    for number in 0..100 {
        let answer = server.call_tool(&format!("made up {number}"), json!({}), &user("ada")).await;
        // The server does not know them; the limits come first.
        passed += usize::from(answer.is_err());
    }
    assert_eq!((passed, handle.stats().entries), (3, 1));
}
