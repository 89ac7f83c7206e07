use turbomcp_core::McpError;

use super::*;
use crate::cached::Handle;

/// A layer above a tool that writes, or fails if its arguments say so.
fn with_writer(shelf: &Shelf, cached: CachedTool) -> impl McpHandler {
    let script = ScriptedServer::new("users").with_plain("update_user", |call| async move {
        if call.args["fails"] == true {
            Err(McpError::permission_denied("no"))
        } else {
            Ok(ToolResult::text("updated"))
        }
    });
    (cached, layer(shelf.clone())).layer(script)
}

async fn update(server: &impl McpHandler, args: Value) {
    let _ = server.call_tool("update_user", args, &nobody()).await;
}

/// An invalidation: its target and its call.
type Way = (Asked, fn(&Handle));

const WAYS: [Way; 6] = [
    (Resource, |handle| handle.invalidate_resource("one")),
    (Resource, Handle::invalidate_resources),
    (Resource, |handle| handle.invalidate_tag("all")),
    (Prompt, |handle| handle.invalidate_prompt_with("one", &json!({}))),
    (Prompt, |handle| handle.invalidate_prompt("one")),
    (Prompt, |handle| handle.invalidate_tag("all")),
];

#[tokio::test(start_paused = true)]
async fn a_resource_invalidated_during_its_load_is_neither_cached_nor_served_later() {
    for (what, invalidate) in WAYS {
        let gate = Gate::closed();
        let tagged = || Reads::new().with_tags(|_, _| ["all"]);
        let cached = CachedTool::new().with_resources(tagged()).with_prompts(tagged());
        let handle = cached.handle();
        let server = Shelf::behind(&gate).with(cached);
        let early = {
            let server = server.clone();
            tokio::spawn(async move { one(&server, what).await })
        };
        settle().await;
        invalidate(&handle);
        let late = {
            let server = server.clone();
            tokio::spawn(async move { one(&server, what).await })
        };
        settle().await;
        gate.open();
        assert_eq!(early.await.expect("an answer"), "1");
        assert_eq!(late.await.expect("an answer"), "2");
        assert_eq!(one(&server, what).await, "2");
    }
}

#[tokio::test]
async fn the_handle_invalidates_one_resource_or_all_for_every_user() {
    let cached = both();
    let handle = cached.handle();
    let server = Shelf::numbered().with(cached);
    let all = async || {
        let mut answers = Vec::new();
        for (what, name, ctx) in [
            (Resource, "a", user("ada")),
            (Resource, "a", user("bob")),
            (Resource, "b", nobody()),
            (Prompt, "a", nobody()),
        ] {
            answers.push(get(&server, what, name, &ctx).await);
        }
        answers
    };
    for _ in 0..2 {
        assert_eq!(all().await, ["1", "2", "3", "4"]);
    }
    handle.invalidate_resource("a");
    assert_eq!(all().await, ["5", "6", "3", "4"]);
    handle.invalidate_resources();
    assert_eq!(all().await, ["7", "8", "9", "4"]);
    handle.clear();
    assert_eq!(all().await, ["10", "11", "12", "13"]);
}

#[tokio::test]
async fn the_handle_invalidates_a_prompt_with_given_or_any_arguments() {
    let cached = both();
    let handle = cached.handle();
    let server = Shelf::numbered().with(cached);
    let args = [None, Some(json!({"name": "Ada"}))];
    let all = async || [prompt(&server, args[0].clone()).await, prompt(&server, args[1].clone()).await];
    assert_eq!(all().await, ["1", "2"]);
    handle.invalidate_prompt_with("greet", &json!({}));
    assert_eq!(all().await, ["3", "2"]);
    handle.invalidate_prompt_with("greet", &json!({"name": "Ada"}));
    assert_eq!(all().await, ["3", "4"]);
    handle.invalidate_prompt("greet");
    assert_eq!(all().await, ["5", "6"]);
    handle.invalidate_prompt("other");
    assert_eq!(all().await, ["5", "6"]);
}

#[tokio::test]
async fn a_successful_write_invalidates_the_resources_with_its_tag_and_no_others() {
    let user =
        |name: &str, args: &Value| (name == "greet").then(|| format!("user:{}", args["id"].as_str().unwrap_or("?")));
    let server = with_writer(
        &Shelf::numbered(),
        CachedTool::new()
            .with_resources(
                Reads::new().with_tags(|uri, _| uri.strip_prefix("users://").map(|id| format!("user:{id}"))),
            )
            .with_prompts(Reads::new().with_tags(user))
            .invalidates_tags("update_user", |args| [format!("user:{}", args["id"])]),
    );
    let all = async || {
        let mut answers = Vec::new();
        for uri in ["users://7", "users://8", "docs://7"] {
            answers.push(get(&server, Resource, uri, &nobody()).await);
        }
        for id in ["7", "8"] {
            answers.push(prompt(&server, Some(json!({ "id": id }))).await);
        }
        answers
    };
    assert_eq!(all().await, ["1", "2", "3", "4", "5"]);
    update(&server, json!({"id": 7, "fails": true})).await;
    assert_eq!(all().await, ["1", "2", "3", "4", "5"], "a write that was refused invalidates nothing");
    update(&server, json!({"id": 7})).await;
    assert_eq!(all().await, ["6", "2", "3", "7", "5"]);
}

#[tokio::test]
async fn a_successful_write_invalidates_the_resources_it_names() {
    let cached = both().invalidates_resources("update_user", |args| [format!("users://{}", args["id"])]);
    let server = with_writer(&Shelf::numbered(), cached);
    let all = async || {
        [get(&server, Resource, "users://7", &nobody()).await, get(&server, Resource, "users://8", &user("ada")).await]
    };
    assert_eq!(all().await, ["1", "2"]);
    update(&server, json!({"id": 7, "fails": true})).await;
    assert_eq!(all().await, ["1", "2"]);
    update(&server, json!({"id": 7})).await;
    assert_eq!(all().await, ["3", "2"]);
    update(&server, json!({"id": 8})).await;
    assert_eq!(all().await, ["3", "4"], "for every reader");
}

/// A tool that publishes invalidates the cached answers, as it would before it sends an update.
#[tokio::test]
async fn a_server_can_invalidate_through_its_own_handle_and_is_still_dropped() {
    let cached = both();
    let (handle, kept) = (cached.handle(), Arc::new(()));
    let is_kept = Arc::downgrade(&kept);
    let script = ScriptedServer::new("site").with_plain("publish", move |_| {
        let (handle, _kept) = (handle.clone(), Arc::clone(&kept));
        async move {
            handle.invalidate_resource("one");
            handle.synced().await;
            Ok(ToolResult::text("published"))
        }
    });
    let server = (cached, layer(Shelf::numbered())).layer(script);
    assert_eq!([one(&server, Resource).await, one(&server, Resource).await], ["1", "1"]);
    answer(&server, "publish", json!({}), &nobody()).await;
    assert_eq!(one(&server, Resource).await, "2");
    drop(server);
    assert!(is_kept.upgrade().is_none(), "nothing holds on to the server");
}

#[cfg(feature = "transactional")]
mod in_a_transaction {
    use super::*;
    use crate::transactional::{TransactionError, Transactor};

    async fn transactor() -> Transactor<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        Transactor::new(options.connect("sqlite::memory:").await.expect("a database"))
    }

    #[tokio::test]
    async fn reads_inside_a_transaction_bypass_the_cache() {
        for what in BOTH {
            let server = Shelf::numbered().with(both());
            assert_eq!(one(&server, what).await, "1");
            let transactor = transactor().await;
            let run = transactor.run(&(), || async {
                assert_eq!([one(&server, what).await, one(&server, what).await], ["2", "3"]);
                Ok::<_, TransactionError>(())
            });
            run.await.expect("a commit");
            assert_eq!(one(&server, what).await, "1", "values read inside are not cached");
        }
    }

    #[tokio::test]
    async fn a_write_invalidates_after_its_commit() {
        let cached = both()
            .with_prompts(Reads::new().with_tags(|_, _| ["users"]))
            .invalidates_tags("update_user", |_| ["users"])
            .invalidates_resources("update_user", |_| ["one"]);
        let server = Arc::new(with_writer(&Shelf::numbered(), cached));
        let both = async |server: &_| (one(server, Resource).await, one(server, Prompt).await);
        assert_eq!(both(&*server).await, ("1".into(), "2".into()));
        let transactor = transactor().await;
        let run = transactor.run(&(), || async {
            update(&*server, json!({})).await;
            let outside = Arc::clone(&server);
            let seen =
                tokio::spawn(async move { (one(&*outside, Resource).await, one(&*outside, Prompt).await) }).await;
            assert_eq!(seen.expect("an answer"), ("1".into(), "2".into()), "others do not see what is not committed");
            Ok::<_, TransactionError>(())
        });
        run.await.expect("a commit");
        assert_eq!(both(&*server).await, ("3".into(), "4".into()));
    }
}
