//! Sessions that a tool opens and a handle names.

use super::*;

fn with_handles(store: SessionStore) -> SessionStore {
    store.with_mode(SessionMode::Handle)
}

async fn open(server: &impl McpHandler, ctx: &RequestContext) -> String {
    text(&call(server, "open_session", json!({}), ctx).await)
}

async fn visit_in(server: &impl McpHandler, handle: &str, ctx: &RequestContext) -> McpResult<ToolResult> {
    call(server, "visit", json!({ "session": handle }), ctx).await
}

#[tokio::test]
async fn a_handle_finds_its_session_on_any_connection_and_any_replica() {
    let backend = MemoryBackend::new();
    let replica = || with_handles(SessionStore::new(backend.clone())).layer(museum());
    let (one, two) = (replica(), replica());
    let (first, second) = (open(&one, &connection("1")).await, open(&one, &connection("1")).await);
    assert_eq!(text(&visit_in(&one, &first, &connection("1")).await), "1");
    assert_eq!(text(&visit_in(&two, &first, &connection("2")).await), "2");
    assert_eq!(text(&visit_in(&two, &second, &connection("2")).await), "1", "another handle is another session");
}

#[tokio::test]
async fn a_handle_is_128_random_bits_as_text_and_as_structured_content() {
    let server = with_handles(memory()).layer(museum());
    let answer = call(&server, "open_session", json!({}), &nobody()).await.unwrap();
    let handle = answer.first_text().unwrap();
    assert!(handle.len() == 32 && handle.bytes().all(|byte| byte.is_ascii_hexdigit()), "{handle}");
    assert_eq!(answer.structured_content, Some(json!({ "session": handle })));
    let mut handles = std::collections::BTreeSet::new();
    for _ in 0..100 {
        assert!(handles.insert(open(&server, &nobody()).await));
    }
}

#[tokio::test]
async fn a_handle_of_another_caller_is_unknown() {
    let server = with_handles(memory()).layer(museum());
    let handle = open(&server, &user("ada")).await;
    for thief in [user("eve"), nobody(), nobody().with_principal(Principal::new("ada").with_issuer("elsewhere"))] {
        assert_eq!(
            refused(&visit_in(&server, &handle, &thief).await),
            (ErrorKind::InvalidParams, "unknown".to_owned())
        );
        let closed = call(&server, "close_session", json!({ "session": handle }), &thief).await;
        assert_eq!(refused(&closed).1, "unknown");
    }
    assert_eq!(text(&visit_in(&server, &handle, &user("ada")).await), "1");
}

#[tokio::test]
async fn a_made_up_handle_is_unknown_and_creates_no_session() {
    let spy = Spy::new();
    let store = with_handles(SessionStore::new(spy.clone()));
    let server = store.layer(museum());
    for handle in ["mine", "", "0123456789abcdef0123456789abcdef", &"x".repeat(100_000)] {
        assert_eq!(refused(&visit_in(&server, handle, &nobody()).await).1, "unknown");
        let session = store.of_handle(&nobody(), handle);
        assert!(matches!(session.get::<u8>("a").await, Err(SessionError::Unknown)));
        assert!(matches!(session.set("a", &1).await, Err(SessionError::Unknown)));
        assert!(matches!(session.load().await, Err(SessionError::Unknown)));
        assert!(matches!(session.renew().await, Err(SessionError::Unknown)));
        assert!(matches!(session.end().await, Err(SessionError::Unknown)));
    }
    let [created, _, swapped, ..] = spy.steps();
    assert_eq!((created, swapped), (0, 0));
    for no_text in [json!(7), json!(["a"]), json!({})] {
        assert_eq!(refused(&call(&server, "visit", json!({ "session": no_text }), &nobody()).await).1, "unknown");
    }
}

#[tokio::test]
async fn a_call_without_a_handle_is_refused_with_the_way_to_get_one() {
    let script = museum();
    let server = with_handles(memory()).layer(script.clone());
    for args in [json!({}), json!({ "session": null }), json!(null), json!([])] {
        let answer = call(&server, "visit", args, &connection("1")).await;
        assert_eq!(refused(&answer), (ErrorKind::InvalidParams, "none".into()));
        assert!(outcome::failure(&answer).unwrap().message().contains("`open_session`"));
    }
    assert_eq!(script.calls("visit"), 0);
}

#[tokio::test]
async fn the_tool_does_not_see_the_handle() {
    let server = with_handles(memory()).layer(museum());
    let handle = open(&server, &nobody()).await;
    let answer = call(&server, "plain", json!({ "a": 1, "session": handle }), &nobody()).await;
    assert_eq!(text(&answer), r#"{"a":1}"#);
}

#[tokio::test(start_paused = true)]
async fn a_handle_is_unknown_once_its_session_is_closed_or_has_expired() {
    let server = with_handles(memory()).layer(museum());
    let handle = open(&server, &nobody()).await;
    assert_eq!(text(&call(&server, "close_session", json!({ "session": handle }), &nobody()).await), "Session closed");
    assert_eq!(refused(&visit_in(&server, &handle, &nobody()).await).1, "unknown");
    assert_eq!(refused(&call(&server, "close_session", json!({ "session": handle }), &nobody()).await).1, "unknown");

    let handle = open(&server, &nobody()).await;
    text(&visit_in(&server, &handle, &nobody()).await);
    tokio::time::advance(HOUR).await;
    assert_eq!(refused(&visit_in(&server, &handle, &nobody()).await).1, "unknown");
}

#[tokio::test]
async fn a_new_handle_has_the_data_of_the_old_one() {
    let store = memory();
    let old = store.open(&user("ada")).await.unwrap();
    old.set("a", &1).await.unwrap();
    let new = old.renew().await.unwrap();
    assert_ne!(old.handle(), new.handle());
    assert_eq!(new.get("a").await.unwrap(), Some(1));
    assert!(matches!(old.get::<u8>("a").await, Err(SessionError::Unknown)));
    assert!(matches!(old.set("a", &2).await, Err(SessionError::Unknown)));
    let found = store.of_handle(&user("ada"), new.handle().unwrap());
    assert_eq!(found.get("a").await.unwrap(), Some(1));
    let stolen = store.of_handle(&user("eve"), new.handle().unwrap());
    assert!(matches!(stolen.get::<u8>("a").await, Err(SessionError::Unknown)));

    assert!(matches!(session(&store).renew().await, Err(SessionError::NotRenewable)));
}

/// Changes acknowledged under the old handle exist under the new one.
#[tokio::test(start_paused = true)]
async fn a_new_handle_loses_no_concurrent_change() {
    let spy = Spy::new();
    let store = SessionStore::new(spy.clone()).with_backend_timeout(MINUTE);
    spy.fails(Fault::Slow);
    let old = store.open(&nobody()).await.unwrap();
    let changes = (0..50).map(|_| old.update("count", |count: &mut u32| *count += 1));
    let changes = async { futures_util::future::join_all(changes).await.into_iter().filter(Result::is_ok).count() };
    let (new, kept) = futures_util::future::join(old.renew(), changes).await;
    assert_eq!(new.unwrap().get::<usize>("count").await.unwrap().unwrap_or_default(), kept);
}

#[test]
fn the_listed_tools_describe_the_handle_and_the_timeouts() {
    let server = with_handles(memory()).except(["plain"]).layer(museum());
    let tools = server.list_tools();
    let tool = |name: &str| tools.iter().find(|tool| tool.name == name).unwrap();
    let has_it = |name: &str| {
        let schema = &tool(name).input_schema;
        let advertised = schema.properties.as_ref().is_some_and(|all| all["session"]["type"] == "string");
        let required = schema.required.iter().flatten().any(|name| name == "session");
        assert_eq!(advertised, required);
        advertised
    };
    assert!(has_it("visit") && has_it("close_session"));
    assert!(!has_it("open_session"));
    assert!(tool("plain").input_schema.properties.as_ref().is_none_or(|all| all.get("session").is_none()));
    let description = tool("open_session").description.as_deref().unwrap();
    assert!(description.contains("kept for 1 hour after it was last used, and for 1 day at most"), "{description}");

    let optional = with_handles(memory()).optional().with_argument("basket_id").layer(museum());
    let visit = optional.list_tools().remove(0);
    assert!(visit.input_schema.properties.unwrap().get("basket_id").is_some());
    assert_eq!(visit.input_schema.required, None);
}
