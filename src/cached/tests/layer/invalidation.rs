use std::sync::Mutex;

use super::*;
use crate::cached::Handle;
use crate::testing::Call;
use crate::{CachedTool, Layer, Layered};

/// An invalidation: its target and its call.
type Way = (&'static str, fn(&Handle));

const WAYS: [Way; 4] = [
    ("the call", |handle| handle.invalidate("read", &json!({}))),
    ("the tool", |handle| handle.invalidate_tool("read")),
    ("a tag", |handle| handle.invalidate_tag("books")),
    ("everything", Handle::clear),
];

/// A server whose tool `read` answers with the number of the call, each call behind its own gate.
#[derive(Clone, Default)]
struct Gates(Arc<Mutex<Vec<Gate>>>);

impl Gates {
    fn script(&self) -> ScriptedServer {
        let gates = self.clone();
        ScriptedServer::new("library").with_read_only("read", move |call| {
            let gate = Gate::closed();
            gates.0.lock().expect("no panic").push(gate.clone());
            async move {
                gate.pass().await;
                Ok(ToolResult::text(call.number.to_string()))
            }
        })
    }

    fn open(&self, number: usize) {
        self.0.lock().expect("no panic")[number - 1].open();
    }
}

struct Setup {
    gates: Gates,
    script: ScriptedServer,
    handle: Handle,
    server: Layered<CachedTool, ScriptedServer>,
}

impl Setup {
    fn new() -> Self {
        let gates = Gates::default();
        let script = gates.script();
        let layer = CachedTool::new().tag("read", |_| ["books"]);
        let handle = layer.handle();
        let server = layer.layer(script.clone());
        Self { gates, script, handle, server }
    }

    async fn ask(&self) -> tokio::task::JoinHandle<String> {
        let server = self.server.clone();
        let caller = tokio::spawn(async move { read(&server).await });
        settle().await;
        caller
    }
}

/// A cache that only removes stored entries, as moka does, fails here: the load stores its value afterwards.
#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_load_is_not_undone_when_the_load_ends() {
    for (what, invalidate) in WAYS {
        let setup = Setup::new();
        let before = setup.ask().await;
        invalidate(&setup.handle);
        setup.gates.open(1);
        assert_eq!(before.await.expect("an answer"), "1", "a caller from before may get it ({what})");
        let after = setup.ask().await;
        assert_eq!(setup.script.calls("read"), 2, "the stale result was kept ({what})");
        setup.gates.open(2);
        assert_eq!(after.await.expect("an answer"), "2", "{what}");
        assert_eq!(read(&setup.server).await, "2", "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_after_an_invalidation_does_not_wait_for_an_earlier_load() {
    for (what, invalidate) in WAYS {
        let setup = Setup::new();
        let before = setup.ask().await;
        invalidate(&setup.handle);
        let (after, follower) = (setup.ask().await, setup.ask().await);
        assert_eq!(setup.script.calls("read"), 2, "a new load starts at once ({what})");
        setup.gates.open(1);
        assert_eq!(before.await.expect("an answer"), "1", "{what}");
        settle().await;
        assert!(!after.is_finished() && !follower.is_finished(), "served what was invalidated ({what})");
        setup.gates.open(2);
        assert_eq!(after.await.expect("an answer"), "2", "{what}");
        assert_eq!(follower.await.expect("an answer"), "2", "{what}");
        assert_eq!(read(&setup.server).await, "2", "{what}");
        assert_eq!(setup.script.calls("read"), 2, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_begun_after_an_invalidation_is_stored_even_if_the_older_load_ends_last() {
    for (what, invalidate) in WAYS {
        let setup = Setup::new();
        let before = setup.ask().await;
        invalidate(&setup.handle);
        let after = setup.ask().await;
        setup.gates.open(2);
        assert_eq!(after.await.expect("an answer"), "2", "{what}");
        setup.gates.open(1);
        assert_eq!(before.await.expect("an answer"), "1", "{what}");
        let again = setup.ask().await;
        assert_eq!(setup.script.calls("read"), 2, "the older load drove out the newer result ({what})");
        assert_eq!(again.await.expect("an answer"), "2", "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_an_invalidated_load_do_not_end_its_replacement() {
    for (what, invalidate) in WAYS {
        let setup = Setup::new();
        let before = setup.ask().await;
        invalidate(&setup.handle);
        let after = setup.ask().await;
        before.abort();
        settle().await;
        let follower = setup.ask().await;
        assert_eq!(setup.script.calls("read"), 2, "{what}");
        setup.gates.open(2);
        assert_eq!(after.await.expect("an answer"), "2", "{what}");
        assert_eq!(follower.await.expect("an answer"), "2", "{what}");
    }
}

/// Two tools with two calls each, by two users. Returns which of them are still cached after `invalidate`.
async fn left_after(invalidate: impl Fn(&Handle)) -> Vec<String> {
    let tool = |call: Call| async move { Ok(ToolResult::text(call.number.to_string())) };
    let script = ScriptedServer::new("library").with_read_only("read", tool).with_read_only("list", tool);
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    let mut left = Vec::new();
    for round in 0..2 {
        for tool in ["read", "list"] {
            for book in [1, 2] {
                for name in ["ada", "bob"] {
                    let before = script.calls(tool);
                    answer(&server, tool, json!({"book": book}), &user(name)).await;
                    if round == 1 && script.calls(tool) == before {
                        left.push(format!("{tool} {book} {name}"));
                    }
                }
            }
        }
        if round == 0 {
            invalidate(&handle);
        }
    }
    left
}

#[tokio::test]
async fn one_call_is_invalidated_for_all_users_and_others_are_not() {
    let left = left_after(|handle| handle.invalidate("read", &json!({"book": 1.0}))).await;
    assert_eq!(left, ["read 2 ada", "read 2 bob", "list 1 ada", "list 1 bob", "list 2 ada", "list 2 bob"]);
}

#[tokio::test]
async fn one_tool_is_invalidated_for_all_users_and_others_are_not() {
    let left = left_after(|handle| handle.invalidate_tool("read")).await;
    assert_eq!(left, ["list 1 ada", "list 1 bob", "list 2 ada", "list 2 bob"]);
}

#[tokio::test]
async fn clear_drops_everything() {
    assert_eq!(left_after(Handle::clear).await, Vec::<String>::new());
    assert_eq!(left_after(|_| ()).await.len(), 8);
}

#[tokio::test]
async fn invalidating_a_call_that_was_never_made_invalidates_nothing() {
    let left = left_after(|handle| {
        handle.invalidate("read", &json!({"book": 3}));
        handle.invalidate("raed", &json!({"book": 1}));
        handle.invalidate_tool("raed");
    });
    assert_eq!(left.await.len(), 8);
}
