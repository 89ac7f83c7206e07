//! Callers who leave, and calls that panic: one event for each call, with the end that the layer returned.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures_util::{FutureExt, poll};
use tokio::task::yield_now;

use super::*;

/// A tool that waits in steps.
fn in_steps(steps: usize) -> ScriptedServer {
    ScriptedServer::new("s").with_plain("walk", move |_| async move {
        for _ in 0..steps {
            yield_now().await;
        }
        Ok(ToolResult::text("there"))
    })
}

#[tokio::test]
async fn a_caller_who_leaves_at_any_await_leaves_one_event_at_once() {
    for polls in 0..=6 {
        let seen = Seen::default();
        let server = seen.audit().layer(in_steps(5));
        let ctx = user("ada");
        {
            let mut walk = pin!(server.call_tool("walk", json!({"n": 1}), &ctx));
            for _ in 0..polls {
                let is_over = poll!(walk.as_mut()).is_ready();
                assert_eq!(is_over, polls == 6 && seen.all().len() == 1, "{polls}");
            }
        }
        match polls {
            0 => assert_eq!(seen.all(), [], "a future that was never polled is no call"),
            6 => assert_eq!(seen.one().end, End::Answered),
            _ => {
                let event = seen.one();
                assert_eq!((event.end, event.answer_bytes, &*event.tool), (End::Left, None, "walk"));
                assert_eq!(event.principal.and_then(|principal| principal.subject).as_deref(), Some("ada"));
                assert_eq!(event.argument_bytes, 7);
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_after_its_caller_cancelled_is_cancelled() {
    let (seen, token) = (Seen::default(), Token::default());
    let server = seen.audit().layer(in_steps(5));
    let ctx = token.ctx();
    {
        let mut walk = pin!(server.call_tool("walk", json!({}), &ctx));
        assert!(poll!(walk.as_mut()).is_pending());
        token.cancel();
    }
    assert_eq!(seen.one().end, End::Cancelled);
}

#[tokio::test]
async fn a_panic_is_recorded_and_goes_on() {
    let seen = Seen::default();
    let server = seen.audit().layer(server());
    let call = AssertUnwindSafe(call(&server, "order", json!({"panics": true}))).catch_unwind();
    let panic = call.await.expect_err("it goes on");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a tool panics"));
    assert_eq!((seen.one().end, seen.one().answer_bytes), (End::Panicked, None));
}

#[tokio::test]
async fn a_panic_of_the_redaction_is_one_of_the_call_and_one_of_the_identity_leaves_the_caller_out() {
    let seen = Seen::default();
    let panics = || -> Value { std::panic::resume_unwind(Box::new("a function panics")) };
    let server = seen.audit().with_redaction(move |_, _| panics()).layer(server());
    assert!(AssertUnwindSafe(call(&server, "order", json!({}))).catch_unwind().await.is_err());
    assert_eq!(seen.last().end, End::Panicked);

    let identity = crate::Identity::new().with_partition(move |ctx| match ctx.request_id() {
        "8" => panics(),
        _ => json!(null),
    });
    let server = seen.audit().with_identity(identity).layer(self::server());
    let eighth = RequestContext::with_id("8").with_user_id("ada");
    server.call_tool("order", json!({}), &eighth).await.expect("an answer");
    assert_eq!((seen.last().end, seen.last().principal), (End::Answered, None));
}

/// The tool is only in the listing of its caller, so it is looked up first.
#[tokio::test]
async fn a_caller_who_leaves_while_the_tool_is_looked_up_has_an_event() {
    #[derive(Clone)]
    struct Hidden;

    impl crate::Middleware for Hidden {
        fn list_tools<H: McpHandler>(&self, _: &H) -> Vec<turbomcp_types::Tool> {
            Vec::new()
        }
    }

    let seen = Seen::default();
    let selecting = seen.audit().when(|tool| tool.annotations.is_none());
    let server = (selecting.clone(), crate::layer(Hidden)).layer(server());
    let ctx = user("ada");
    {
        let mut order = pin!(server.call_tool("order", json!({}), &ctx));
        assert!(poll!(order.as_mut()).is_pending(), "the listing has a thread of its own");
    }
    assert_eq!((seen.one().end, &*seen.one().tool), (End::Left, "order"));
    call(&server, "order", json!({})).await.expect("an answer");
    assert_eq!(seen.last().end, End::Answered);
    let before = seen.all().len();
    let server = (selecting, crate::layer(Hidden)).layer(self::server());
    for _ in 0..2 {
        call(&server, "search", json!({})).await.expect("an answer");
        assert_eq!(seen.all().len(), before, "it is read-only, so it is not selected, also while it is looked up");
    }
}

#[tokio::test(start_paused = true)]
async fn many_random_calls_have_one_event_each_with_the_end_that_its_caller_saw() {
    let seen = Seen::default();
    let server = (seen.audit(), crate::LimitedTool::new().with_timeout(ms(30))).layer(server());
    let mut random = fastrand::Rng::with_seed(7);
    let calls = (0..500).map(|number| {
        let fails = ["always", "forbidden"].get(random.usize(0..4));
        let args = json!({ "ms": random.u64(0..40), "panics": random.u8(0..10) == 0, "fails": fails });
        let leaves = (random.u8(0..3) == 0).then(|| ms(random.u64(1..40)));
        let server = server.clone();
        tokio::spawn(async move {
            let ctx = RequestContext::with_id(number.to_string());
            let call = AssertUnwindSafe(server.call_tool("order", args, &ctx)).catch_unwind();
            let end = match tokio::time::timeout(leaves.unwrap_or(Duration::MAX), call).await {
                Err(_) => End::Left,
                Ok(Err(_)) => End::Panicked,
                Ok(Ok(Ok(answer))) if !answer.is_error() => End::Answered,
                Ok(Ok(answer)) => match crate::outcome::failure(&answer).and_then(|failure| failure.kind()) {
                    Some(turbomcp_core::ErrorKind::Timeout) => End::TimedOut,
                    _ => End::Failed,
                },
            };
            (number.to_string(), end)
        })
    });
    let mut expected = BTreeMap::new();
    for call in calls.collect::<Vec<_>>() {
        let (id, end) = call.await.expect("panics are caught");
        expected.insert(id, end);
    }
    let events = seen.all();
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| event.id.clone()).collect();
    assert_eq!((events.len(), ids.len()), (500, 500));
    let found: BTreeMap<_, _> =
        events.into_iter().map(|event| (event.request_id.expect("each has one"), event.end)).collect();
    assert_eq!(found, expected);
    for end in [End::Answered, End::Failed, End::TimedOut, End::Left, End::Panicked] {
        assert!(expected.values().any(|seen| *seen == end), "{end:?} is never seen");
    }
}
