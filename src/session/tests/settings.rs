//! Refused settings, the defaults, and the counters.

use metrics_util::debugging::DebuggingRecorder;

use super::*;
use crate::testing::{counted, counts};

fn mistake(store: &SessionStore) -> String {
    store.try_layer(museum()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_setting_that_cannot_work_is_refused_with_the_fix() {
    let handles = || memory().with_mode(SessionMode::Handle);
    for (store, setting) in [
        (memory().with_idle_timeout(Duration::ZERO), "with_idle_timeout"),
        (memory().with_absolute_timeout(Duration::ZERO), "with_absolute_timeout"),
        (memory().with_backend_timeout(Duration::ZERO), "with_backend_timeout"),
        (memory().with_backend_timeout(Duration::from_nanos(1)), "with_backend_timeout"),
        (memory().with_max_keys(0), "with_max_keys"),
        (memory().with_max_attempts(0), "with_max_attempts"),
        (memory().with_max_bytes(1), "with_max_bytes"),
        (handles().with_argument(""), "with_argument"),
    ] {
        assert_eq!(store.check().map_err(|refused| refused.to_string()), Err(mistake(&store)), "outside a server too");
        let mistake = mistake(&store);
        assert!(mistake.starts_with(&format!("SessionStore::{setting}: ")), "{mistake}");
    }
    for (backend, expected) in [
        (MemoryBackend::new().with_max_sessions(0), "MemoryBackend::with_max_sessions: must be greater than zero"),
        (MemoryBackend::new().with_max_bytes(0), "MemoryBackend::with_max_bytes: must be greater than zero"),
    ] {
        assert_eq!(mistake(&SessionStore::new(Arc::new(backend))), expected, "also of a backend behind an `Arc`");
    }
    assert!(mistake(&memory().only(["visits"])).contains("did you mean `visit`?"));

    let own = |tool: &str| ScriptedServer::new("own").with_plain(tool, |_| async { Ok(ToolResult::text("")) });
    let hidden = handles().try_layer(own("open_session")).map(|_| ()).unwrap_err().to_string();
    assert!(hidden.contains("`open_session` of its own"), "{hidden}");
    memory().try_layer(own("open_session")).expect("nothing is hidden where there are no handles");
    let mut tool = turbomcp_types::Tool::new("sit", "sits down");
    tool.input_schema.properties = Some(json!({ "session": { "type": "integer" } }));
    let server = ScriptedServer::new("own").with_tool(tool, |_| async { Ok(ToolResult::text("")) });
    let taken = handles().try_layer(server.clone()).map(|_| ()).unwrap_err().to_string();
    assert!(taken.starts_with("SessionStore::with_argument") && taken.contains("`sit`"), "{taken}");
    handles().with_argument("seat").try_layer(server).expect("another name is free");
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let debug = format!("{:?}", SessionStore::default());
    for default in [
        "mode: Transport",
        "argument: \"session\"",
        "is_optional: false",
        "idle_timeout: 3600s",
        "absolute_timeout: Some(86400s)",
        "max_bytes: 65536",
        "max_keys: 256",
        "max_attempts: 64",
        "backend_timeout: 2s",
    ] {
        assert!(debug.contains(default), "{default} in {debug}");
    }
    assert!(format!("{:?}", MemoryBackend::new()).contains("max_sessions: 10000"));
    assert_eq!(MemoryBackend::new().with_max_sessions(1).clone().len(), 0);
}

#[test]
fn the_outcome_of_each_operation_is_counted() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let spy = Spy::new();
            let store = SessionStore::new(spy.clone()).with_max_keys(1);
            let server = store.layer(museum());
            visit(&server, &connection("1")).await;
            visit(&server, &connection("1")).await;
            let _ = call(&server, "visit", json!({}), &nobody()).await;
            let session = store.of(&connection("1")).unwrap();
            assert_eq!(session.get("visits").await.unwrap(), Some(2));
            assert!(session.set("other", &1).await.is_err());
            spy.fails(Fault::Down);
            assert!(session.get::<u8>("visits").await.is_err());
        });
    });
    let expected = counts([
        ("session_operations outcome=full", 1),
        ("session_operations outcome=read", 3),
        ("session_operations outcome=refused", 1),
        ("session_operations outcome=unavailable", 1),
        ("session_operations outcome=written", 2),
    ]);
    assert_eq!(counted(&recorder), expected);
}
