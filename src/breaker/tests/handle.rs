//! The handle, and what results say.

use super::*;

fn meta(answer: &McpResult<ToolResult>) -> Value {
    let answer = answer.as_ref().expect("a result");
    answer.meta.as_ref().and_then(|meta| meta.get(BREAKER)).cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_handle_has_the_state_the_window_and_the_changes_with_their_reasons() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    assert_eq!((handle.breakers().len(), handle.breaker("search")), (0, None), "it is on no server");
    let server = breaker.layer(server());
    call_as(&server, "search", json!({}), "bob").await.expect("an answer");
    call(&server, "search", down()).await.expect("an answer");
    let status = handle.breaker("search").expect("a breaker");
    assert_eq!((status.state, status.calls, status.failures, status.principals), (State::Closed, 2, 1, 2));
    assert!(status.transitions.is_empty());
    advance(Duration::from_secs(10)).await;
    for _ in 0..3 {
        call(&server, "search", down()).await.expect("an answer");
    }
    assert_eq!(state(&handle, "search"), State::Open, "four of five");
    advance(PAUSE).await;
    call(&server, "search", json!({})).await.expect("an answer");
    advance(ms(500)).await;
    let status = handle.breaker("search").expect("a breaker");
    let transitions = status.transitions.iter().map(|step| (step.from, step.to, step.reason, step.age));
    assert_eq!(
        transitions.collect::<Vec<_>>(),
        [
            (State::Closed, State::Open, Reason::Failures, PAUSE + ms(500)),
            (State::Open, State::HalfOpen, Reason::PauseOver, ms(500)),
            (State::HalfOpen, State::Closed, Reason::ProbesSucceeded, ms(500)),
        ]
    );
    let names: Vec<_> = handle.breakers().into_iter().map(|status| status.name).collect();
    assert_eq!(names, ["order", "other", "search"]);
    let stats = handle.stats();
    assert_eq!((stats.admitted, stats.refused, stats.failed, stats.slow), (6, 0, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_result_says_when_its_call_was_a_probe_or_has_changed_the_state() {
    let server = BreakerTool::new().with_probes(2).layer(server());
    for _ in 0..4 {
        assert_eq!(meta(&call(&server, "search", down()).await), Value::Null);
    }
    let opened = json!({ "state": "open", "reason": "failures" });
    assert_eq!(meta(&call(&server, "search", down()).await), opened);
    advance(PAUSE).await;
    assert_eq!(meta(&call(&server, "search", json!({})).await), json!({ "state": "half_open" }));
    let closed = json!({ "state": "closed", "reason": "probes_succeeded" });
    assert_eq!(meta(&call(&server, "search", json!({})).await), closed);
    assert_eq!(meta(&call(&server, "search", json!({})).await), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn without_meta_results_say_nothing_and_refusals_their_word() {
    let server = BreakerTool::new().without_meta().layer(server());
    for _ in 0..5 {
        assert_eq!(meta(&call(&server, "search", down()).await), Value::Null);
    }
    assert!(is_refused(&call(&server, "search", json!({})).await));
    advance(PAUSE).await;
    assert_eq!(meta(&call(&server, "search", json!({})).await), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_handle_switches_a_tool_off_and_on() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    assert!(!handle.force_open("search"), "it is on no server");
    let server = breaker.layer(server());
    assert!(!handle.force_open("serach"));
    assert!(handle.force_open("search"));
    assert!(is_refused(&call(&server, "search", json!({})).await));
    assert!(!is_refused(&call(&server, "other", json!({})).await), "only this one");
    advance(100 * PAUSE).await;
    assert!(is_refused(&call(&server, "search", json!({})).await), "until it is released");
    assert!(handle.release("search"));
    assert!(!is_refused(&call(&server, "search", json!({})).await));
    assert_eq!(state(&handle, "search"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_forced_closed_never_opens() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    open(&server).await;
    assert!(handle.force_closed("search"));
    for _ in 0..100 {
        assert!(!is_refused(&call(&server, "search", down()).await));
    }
    assert!(handle.release("search"));
    open(&server).await;
    assert!(handle.release("search"), "there is such a breaker, and it is not forced");
    assert_eq!(state(&handle, "search"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_handle_names_a_group_by_its_name_or_by_one_of_its_tools() {
    let breaker = BreakerTool::new().with_group("catalogue", ["search", "other"]);
    let handle = breaker.handle();
    let server = breaker.layer(server());
    for name in ["catalogue", "other"] {
        assert!(handle.force_open(name));
        assert!(is_refused(&call(&server, "search", json!({})).await));
        assert!(handle.release(name));
        assert_eq!(handle.breaker("search").expect("a breaker").name, "catalogue");
    }
}
