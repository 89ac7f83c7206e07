//! Functions and `tracing`.

use metrics_util::debugging::DebuggingRecorder;

use super::*;
use crate::testing::{Traced, counted, counts};

#[tokio::test]
async fn each_sink_gets_each_event_and_a_function_that_panics_loses_only_its_own() {
    let (recorder, traced) = (DebuggingRecorder::new(), Traced::start());
    let _listens = metrics::set_default_local_recorder(&recorder);
    let (first, last) = (Seen::default(), Seen::default());
    let after = last.clone();
    let audit = first
        .audit()
        .with_sink(|event| {
            if event.end == End::Failed {
                std::panic::resume_unwind(Box::new("a sink panics"));
            }
        })
        .with_sink(move |event| after.0.lock().expect("no panic").push(event.clone()));
    let handle = audit.handle();
    let server = audit.layer(server());
    for fails in [None, Some("always"), Some("forbidden")] {
        let answer = call(&server, "order", json!({ "fails": fails })).await.expect("a result");
        assert_eq!(answer.is_error(), fails.is_some());
    }
    assert_eq!(first.all().len(), 3);
    assert_eq!(first.all(), last.all(), "with the same ids");
    assert_eq!((handle.stats().events, handle.stats().lost, handle.stats().pending), (3, 2, 0));
    assert_eq!(counted(&recorder), counts([("audit_lost sink=function", 2)]));
    let text = traced.text();
    assert_eq!(text.matches("an audit event is lost").count(), 1, "not more than once in ten seconds: {text}");
}

#[tokio::test]
async fn a_sink_that_panics_in_a_drop_during_a_panic_does_not_end_the_process() {
    let audit = AuditTool::new().with_sink(|_| std::panic::resume_unwind(Box::new("a sink panics")));
    let handle = audit.handle();
    let server = audit.layer(ScriptedServer::new("s").with_plain("waits", |_| std::future::pending()));
    let task = tokio::spawn(async move {
        let ctx = user("ada");
        let mut call = Box::pin(server.call_tool("waits", json!({}), &ctx));
        let _ = futures_util::poll!(call.as_mut());
        std::panic::resume_unwind(Box::new("the task panics"));
    });
    assert!(task.await.is_err_and(|error| error.is_panic()));
    assert_eq!((handle.stats().events, handle.stats().lost), (1, 1));
}

#[tokio::test]
async fn tracing_has_an_event_with_its_own_target_and_all_fields() {
    let traced = Traced::start();
    let server = AuditTool::new().with_tracing().with_arguments("order", ["/to"]).layer(server());
    let ctx = RequestContext::with_id("7").with_user_id("ada").with_session_id("1");
    server.call_tool("order", json!({"to": "Rome", "fails": "forbidden"}), &ctx).await.expect("a result");
    let text = traced.text();
    for words in [
        " INFO mcp_patterns::audit: a call ended id=\"01",
        "tool=\"order\" end=\"failed\" kind=PermissionDenied",
        "principal=\"ada\" session=\"6b86b273",
        "request_id=\"7\"",
        "arguments={\"/to\":\"Rome\"}",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains("only for editors"), "{text}");
}
