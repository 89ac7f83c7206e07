//! Which session a call belongs to, and the answer to a call without one.

use turbomcp_types::Tool;

use super::*;

#[tokio::test]
async fn a_connection_finds_its_own_data_and_no_other() {
    let server = memory().layer(museum());
    assert_eq!(visit(&server, &connection("1")).await, "1");
    assert_eq!(visit(&server, &connection("2")).await, "1");
    assert_eq!(visit(&server, &connection("1").with_request_id("other")).await, "2");
}

#[tokio::test]
async fn a_stolen_session_id_under_another_principal_names_another_session() {
    let server = memory().layer(museum());
    let as_user = |name: &str| user(name).with_session_id("1");
    assert_eq!(visit(&server, &as_user("ada")).await, "1");
    assert_eq!(visit(&server, &as_user("eve")).await, "1");
    assert_eq!(visit(&server, &connection("1")).await, "1", "an anonymous caller is another caller, too");
    let elsewhere = nobody().with_principal(Principal::new("ada").with_issuer("https://other.example"));
    assert_eq!(visit(&server, &elsewhere.with_session_id("1")).await, "1");
    assert_eq!(visit(&server, &as_user("ada")).await, "2");
}

#[tokio::test]
async fn a_principal_finds_its_session_on_any_connection_and_any_replica() {
    let backend = MemoryBackend::new();
    let replica = || SessionStore::new(backend.clone()).with_mode(SessionMode::Principal).layer(museum());
    let (one, two) = (replica(), replica());
    assert_eq!(visit(&one, &user("ada").with_session_id("1")).await, "1");
    assert_eq!(visit(&two, &user("ada").with_session_id("2")).await, "2");
    assert_eq!(visit(&one, &user("bob").with_session_id("1")).await, "1");
}

#[tokio::test]
async fn a_call_without_a_session_is_refused_and_not_made() {
    let script = museum();
    let server = memory().layer(script.clone());
    assert_eq!(
        refused(&call(&server, "visit", json!({}), &nobody()).await),
        (ErrorKind::InvalidRequest, "none".into())
    );
    // Neither the request's id nor the client's information about itself makes a session.
    let ctx = nobody().with_request_id("1").with_client_id("1").with_metadata("session_id", "1");
    assert_eq!(refused(&call(&server, "plain", json!({}), &ctx).await).1, "none");
    assert_eq!((script.calls("visit"), script.calls("plain")), (0, 0));

    let server = memory().with_mode(SessionMode::Principal).layer(script.clone());
    let answer = call(&server, "visit", json!({}), &connection("1")).await;
    assert_eq!(refused(&answer), (ErrorKind::Authentication, "none".into()));
    assert_eq!(script.calls("visit"), 0, "an anonymous caller would share with all anonymous callers");
}

#[tokio::test]
async fn with_optional_sessions_a_call_without_one_passes_and_the_tool_gets_an_error() {
    let script = museum();
    let server = memory().optional().layer(script.clone());
    assert_eq!(text(&call(&server, "plain", json!({}), &nobody()).await), "{}");
    assert_eq!(refused(&call(&server, "visit", json!({}), &nobody()).await).1, "none");
    assert_eq!(script.calls("visit"), 1);
    assert_eq!(visit(&server, &connection("1")).await, "1");
}

#[tokio::test]
async fn an_unselected_tool_has_no_session() {
    for store in [memory().except(["plain", "visit"]), memory().only(["plain"]), memory().when(|_| false)] {
        let server = store.except(["plain"]).layer(museum());
        assert_eq!(text(&call(&server, "plain", json!({}), &nobody()).await), "{}");
        let answer = call(&server, "visit", json!({}), &connection("1")).await;
        assert_eq!(refused(&answer).0, ErrorKind::Internal);
    }
    assert!(matches!(Session::current(), Err(SessionError::NoLayer)));
}

#[tokio::test]
async fn a_call_that_does_not_use_its_session_costs_the_backend_nothing() {
    let spy = Spy::new();
    let server = SessionStore::new(spy.clone()).layer(museum());
    text(&call(&server, "plain", json!({}), &connection("1")).await);
    assert_eq!(spy.steps(), [0; 5]);
}

#[tokio::test]
async fn the_store_in_a_tool_finds_the_session_that_the_layer_finds() {
    for mode in [SessionMode::Transport, SessionMode::Principal] {
        let store = memory().with_mode(mode);
        let inside = store.clone();
        let script = ScriptedServer::new("museum").with_plain("same", move |call| {
            let store = inside.clone();
            async move {
                let mut here = Session::current()?.load().await?;
                here.set("seen", &true)?;
                here.commit().await?;
                let seen = store.of(&call.ctx)?.get::<bool>("seen").await?;
                Ok(ToolResult::text(format!("{seen:?}")))
            }
        });
        let ctx = user("ada").with_session_id("1");
        assert_eq!(text(&call(&store.layer(script), "same", json!({}), &ctx).await), "Some(true)");
        assert_eq!(store.of(&ctx).unwrap().get("seen").await.unwrap(), Some(true), "and so does code with the store");
    }
}

#[tokio::test]
async fn two_servers_on_one_backend_share_sessions_only_with_the_same_namespace() {
    let backend = MemoryBackend::new();
    let store = || SessionStore::new(backend.clone());
    let named = |name: &str| {
        let visit = |_| async {
            let session = Session::current()?;
            let visits = session.update("visits", |visits: &mut u32| {
                *visits += 1;
                *visits
            });
            Ok(ToolResult::text(visits.await?.to_string()))
        };
        ScriptedServer::new(name).with_plain("visit", visit)
    };
    let ada = user("ada").with_session_id("1");
    assert_eq!(visit(&store().layer(named("one")), &ada).await, "1");
    assert_eq!(visit(&store().layer(named("two")), &ada).await, "1");
    assert_eq!(visit(&store().layer(named("one")), &ada).await, "2");
    let shared = || store().with_namespace("both");
    assert_eq!(visit(&shared().layer(named("one")), &ada).await, "1");
    assert_eq!(visit(&shared().layer(named("two")), &ada).await, "2");

    let one = store();
    let _ = one.layer(named("one"));
    let mistake = one.try_layer(named("two")).map(|_| ()).unwrap_err().to_string();
    assert!(mistake.starts_with("SessionStore::with_namespace"), "{mistake}");
}

#[tokio::test]
async fn the_innermost_of_two_stores_is_the_current_one() {
    let (outer, inner) = (memory(), memory().with_mode(SessionMode::Principal));
    let server = (outer.clone(), inner.clone()).layer(museum());
    let ctx = user("ada").with_session_id("1");
    visit(&server, &ctx).await;
    assert_eq!(inner.of(&ctx).unwrap().get("visits").await.unwrap(), Some(1));
    assert_eq!(outer.of(&ctx).unwrap().get::<u32>("visits").await.unwrap(), None);
}

#[tokio::test]
async fn a_panic_in_a_tool_leaves_its_session_usable() {
    let script = museum().with_plain("panic", |_| async {
        Session::current()?.set("a", &1).await?;
        panic!("as configured")
    });
    let server = memory().layer(script);
    let unwound = {
        let server = server.clone();
        tokio::spawn(async move { call(&server, "panic", json!({}), &connection("1")).await }).await
    };
    assert!(unwound.unwrap_err().is_panic());
    assert_eq!(visit(&server, &connection("1")).await, "1");
}

#[test]
fn debug_output_shows_no_session_id() {
    let store = memory();
    let session = store.of_handle(&user("ada"), "a-handle");
    let shown = format!("{session:?} {store:?}");
    assert!(!shown.contains("a-handle") && !shown.contains("ada"), "{shown}");
    assert!(!shown.contains(session.key.id().as_ref()));
}

#[test]
fn the_listing_changes_only_where_sessions_have_handles() {
    let names = |tools: Vec<Tool>| tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>();
    assert_eq!(memory().layer(museum()).list_tools(), museum().list_tools());
    let server = memory().with_mode(SessionMode::Handle).layer(museum());
    assert_eq!(names(server.list_tools()), ["visit", "plain", "open_session", "close_session"]);
    assert_eq!(server.list_tools_for(&nobody()), server.list_tools());
}
