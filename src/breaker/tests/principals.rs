//! Whose calls open a breaker.

use turbomcp_core::Principal;

use super::*;
use crate::Identity;

async fn fail_as(server: &impl McpHandler, ctx: &RequestContext) {
    server.call_tool("search", down(), ctx).await.expect("a result");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_caller_whose_calls_fail_leaves_the_others_their_answers() {
    for window in [Window::calls(20), Window::time(Duration::from_secs(10))] {
        let breaker = BreakerTool::new().with_window(window);
        let server = breaker.layer(server());
        for _ in 0..50 {
            let answer = call_as(&server, "search", json!({}), "ada").await.expect("an answer");
            assert!(!answer.is_error());
            for _ in 0..100 {
                fail_as(&server, &user("mallory")).await;
            }
            advance(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_caller_of_a_local_server_opens_the_breaker() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    for _ in 0..5 {
        fail_as(&server, &RequestContext::new()).await;
    }
    assert_eq!(state(&handle, "search"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn anonymous_callers_are_one_principal_unless_their_sessions_distinguish_them() {
    let anonymous = |session: &str| RequestContext::new().with_session_id(session);
    for (identity, expected) in
        [(Identity::new(), State::Open), (Identity::new().with_anonymous_by_session(), State::Closed)]
    {
        let breaker = BreakerTool::new().with_identity(identity);
        let handle = breaker.handle();
        let server = breaker.layer(server());
        server.call_tool("search", json!({}), &anonymous("1")).await.expect("an answer");
        for _ in 0..20 {
            fail_as(&server, &anonymous("2")).await;
        }
        assert_eq!(state(&handle, "search"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn anonymous_callers_cannot_open_it_together_while_a_user_succeeds() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    call(&server, "search", json!({})).await.expect("an answer");
    for session in 0..50 {
        fail_as(&server, &RequestContext::new().with_session_id(session.to_string())).await;
    }
    assert_eq!(state(&handle, "search"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_user_of_two_tenants_is_two_principals() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    let ada =
        |tenant: &str| RequestContext::new().with_principal(Principal::new("ada").with_claim("tid", json!(tenant)));
    server.call_tool("search", json!({}), &ada("acme")).await.expect("an answer");
    for _ in 0..20 {
        fail_as(&server, &ada("globex")).await;
    }
    assert_eq!(handle.breaker("search").expect("a breaker").principals, 1, "the success has left the window");
    assert_eq!(state(&handle, "search"), State::Closed);
}
