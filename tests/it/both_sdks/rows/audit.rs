//! The record of each call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_patterns::audit::{self, Event};
use mcp_patterns::limited::{Per, Rate};
use mcp_patterns::{AuditTool, CachedTool, LimitedTool};
use serde_json::json;

use crate::both_sdks::in_both_columns;
use crate::both_sdks::script::Script;

/// The events that a function has received.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    fn audit(&self) -> AuditTool {
        let seen = self.clone();
        AuditTool::new().with_sink(move |event| seen.0.lock().expect("no panic").push(event.clone()))
    }

    fn all(&self) -> Vec<Event> {
        self.0.lock().expect("no panic").clone()
    }
}

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn each_call_has_an_event_with_its_end_its_caller_and_its_session() {
        let (script, seen) = (Script::new(), Seen::default());
        let limits = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(1));
        let audit = seen.audit().with_arguments("read", ["/topic"]);
        let client = serve(&script, (audit, CachedTool::new(), limits)).client("ada").await;
        for topic in ["tea", "tea", "coffee"] {
            let _ = client.call("read", json!({ "topic": topic })).await;
        }
        let events = seen.all();
        let ends: Vec<_> = events.iter().map(|event| (event.end, event.reason.as_deref())).collect();
        assert_eq!(ends, [(audit::End::Answered, None), (audit::End::Hit, None), (audit::End::Refused, Some("rate"))]);
        for (event, topic) in events.iter().zip(["tea", "tea", "coffee"]) {
            let subject = event.principal.as_ref().and_then(|principal| principal.subject.as_deref());
            assert_eq!((&*event.tool, subject), ("read", Some("ada")));
            assert_eq!(event.arguments, Some(json!({ "/topic": topic })));
            assert_eq!(event.session.as_ref().map(String::len), Some(64), "a hash: {event:?}");
            assert_eq!(event.session, events[0].session);
            assert!(event.answer_bytes.is_some_and(|bytes| bytes > 10), "{event:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_trace_of_a_request_is_in_its_event() {
        let (script, seen) = (Script::new(), Seen::default());
        let client = serve(&script, seen.audit()).client("ada").await;
        let meta = json!({ "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" });
        let _ = client.call_with_meta("read", json!({ "topic": "tea" }), meta).await;
        let traces: Vec<_> = seen.all().into_iter().map(|event| event.trace_id).collect();
        assert_eq!(traces, [Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_its_client_cancels_has_an_event_that_says_so() {
        let (script, seen) = (Script::new(), Seen::default());
        let client = serve(&script, (seen.audit(), CachedTool::new())).client("ada").await;
        let call = client.start("slow", json!({})).await;
        while script.calls("slow") < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        call.cancel().await;
        while seen.all().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(seen.all().iter().map(|event| event.end).collect::<Vec<_>>(), [audit::End::Cancelled]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_yet_is_unfinished() {
        let (script, seen) = (Script::new(), Seen::default());
        let client = serve(&script, seen.audit()).continuing_client().await;
        for tool in ["input", "task"] {
            let _ = client.call(tool, json!({})).await;
        }
        let events = seen.all();
        let ends: Vec<_> = events.iter().map(|event| (event.end, event.reason.as_deref())).collect();
        assert_eq!(ends, [(audit::End::Unfinished, Some("input_required")), (audit::End::Unfinished, Some("task"))]);
    }
}
