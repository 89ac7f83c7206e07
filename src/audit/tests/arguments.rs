//! What is recorded of arguments.

use super::*;
use crate::idempotent::MemoryBackend;
use crate::session::SessionMode;
use crate::{IdempotentTool, SessionStore};

#[tokio::test]
async fn nothing_is_recorded_but_the_size() {
    let seen = Seen::default();
    let args = json!({"to": "Rome", "note": "a secret"});
    call(&seen.audit().layer(server()), "order", args.clone()).await.expect("an answer");
    let event = seen.one();
    assert_eq!((event.arguments.clone(), event.arguments_omitted), (None, false));
    assert_eq!(event.argument_bytes, args.to_string().len() as u64);
    assert!(event.answer_bytes.is_some_and(|bytes| bytes > 20), "{event:?}");
    assert!(!serde_json::to_string(&event).expect("it is JSON").contains("secret"));
}

#[tokio::test]
async fn listed_arguments_are_recorded_by_their_pointers_if_they_are_there() {
    let seen = Seen::default();
    let audit =
        seen.audit().with_arguments("order", ["/to", "/address/city"]).with_arguments("order", ["/a~1b", "/none"]);
    let server = audit.layer(server());
    let args = json!({"to": ["Rome"], "address": {"city": "Rome", "street": "secret"}, "a/b": null, "note": "secret"});
    call(&server, "order", args).await.expect("an answer");
    assert_eq!(seen.one().arguments, Some(json!({"/to": ["Rome"], "/address/city": "Rome", "/a~1b": null})));
    call(&server, "search", json!({"to": "Rome"})).await.expect("an answer");
    assert_eq!(seen.last().arguments, None, "the list is one of another tool");
}

#[tokio::test]
async fn a_redaction_gets_the_arguments_of_the_tool_and_never_those_of_layers() {
    let seen = Seen::default();
    let audit = seen.audit().with_redaction(|tool, args| json!({ tool: args }));
    let layers = (
        audit,
        SessionStore::in_memory().with_mode(SessionMode::Handle).optional().only(["order"]),
        IdempotentTool::new(MemoryBackend::new()).only(["order"]),
    );
    let server = layers.layer(server());
    let opened = call(&server, "open_session", json!({})).await.expect("a handle");
    let handle = opened.first_text().expect("its text").to_owned();
    let args = json!({"to": "Rome", "session": handle, "idempotency_key": "a-key-of-a-client"});
    let answer = call(&server, "order", args).await.expect("an answer");
    assert!(!answer.is_error(), "{answer:?}");
    assert_eq!(seen.last().arguments, Some(json!({"order": {"to": "Rome"}})));
    // A tool of the layer's own, which has no other argument.
    call(&server, "close_session", json!({ "session": handle })).await.expect("an answer");
    assert_eq!(seen.last().arguments, Some(json!({"close_session": {"session": handle}})));
    drop(call(&server, "unknown", json!({ "session": handle })).await);
    assert_eq!(seen.last().arguments, None, "it is not known which of them are those of layers");
}

#[tokio::test]
async fn arguments_above_the_bound_are_left_out_and_the_event_says_so() {
    let seen = Seen::default();
    let bounded = |audit: AuditTool| audit.with_max_argument_bytes(12).layer(server());
    for server in [
        bounded(seen.audit().with_arguments("order", ["/a", "/b"])),
        bounded(seen.audit().with_redaction(|_, args| json!([args["a"], args["b"]]))),
    ] {
        for (a, b, is_omitted) in [("12", "12", false), ("12345678", "1", true), ("1", "12345678", true)] {
            call(&server, "order", json!({"a": a, "b": b})).await.expect("an answer");
            assert_eq!(
                (seen.last().arguments_omitted, seen.last().arguments.is_none()),
                (is_omitted, is_omitted),
                "{a} {b}"
            );
        }
    }
}
