//! The effect of a tool that writes on cached answers.

use serde::Deserialize;
use turbomcp_core::McpError;

use super::*;
use crate::cached::Cache;
use crate::testing::Call;
use crate::{CachedTool, ConfigError, Layer, Middleware, TryLayer};

/// A server with two tools that read, and one that writes and fails if its arguments say so.
fn users() -> ScriptedServer {
    let numbered = |call: Call| async move { Ok(ToolResult::text(call.number.to_string())) };
    ScriptedServer::new("users").with_read_only("get_user", numbered).with_read_only("list_users", numbered).with_plain(
        "update_user",
        |call| async move {
            tokio::time::sleep(MINUTE).await;
            match call.args.get("fails") {
                Some(kind) => {
                    let kind = ErrorKind::deserialize(kind).expect("a kind");
                    Err(McpError::new(kind, "no").with_data(call.args["data"].clone()))
                }
                None if call.args["fails_without_a_kind"] == true => Ok(ToolResult::error("no")),
                None => Ok(ToolResult::text("updated")),
            }
        },
    )
}

fn layer() -> CachedTool {
    CachedTool::new().with_ttl(1000 * MINUTE)
}

async fn get(server: &impl McpHandler, id: u32) -> String {
    answer(server, "get_user", json!({"id": id}), &nobody()).await
}

async fn list(server: &impl McpHandler) -> String {
    answer(server, "list_users", json!({}), &nobody()).await
}

async fn update(server: &impl McpHandler, args: Value) {
    let _ = server.call_tool("update_user", args, &nobody()).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_the_tools_it_names() {
    let server = layer().invalidates("update_user", ["get_user"]).layer(users());
    assert_eq!((get(&server, 1).await, list(&server).await), ("1".into(), "1".into()));
    update(&server, json!({"id": 1})).await;
    assert_eq!((get(&server, 1).await, list(&server).await), ("2".into(), "1".into()));
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_the_tags_it_names_in_all_tools() {
    let server = layer()
        .tag("get_user", |args| [format!("user:{}", args["id"])])
        .tag("list_users", |_| ["users"])
        .tag("list_users", |_| vec!["user:1".to_owned(), "user:2".to_owned()])
        .invalidates_tags("update_user", |args| [format!("user:{}", args["id"])])
        .layer(users());
    for id in [1, 3] {
        get(&server, id).await;
    }
    list(&server).await;
    update(&server, json!({"id": 1})).await;
    assert_eq!(list(&server).await, "2");
    assert_eq!(get(&server, 3).await, "2", "another user's entry stays");
    assert_eq!(get(&server, 1).await, "3");
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_the_calls_it_names() {
    let server = layer()
        .invalidates_calls("update_user", |args| [("get_user", json!({"id": args["id"]})), ("list_users", json!({}))])
        .layer(users());
    for id in [1, 3] {
        get(&server, id).await;
    }
    list(&server).await;
    update(&server, json!({"id": 1})).await;
    assert_eq!(get(&server, 3).await, "2");
    assert_eq!(get(&server, 1).await, "3");
    assert_eq!(list(&server).await, "2");
}

/// Returns the failures of the server below as protocol errors.
#[derive(Clone)]
struct Raises;

impl Middleware for Raises {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let result = inner.call_tool(name, args, ctx).await;
        let Some(failure) = outcome::failure(&result) else { return result };
        let error = McpError::new(failure.kind().unwrap_or(ErrorKind::Internal), failure.message());
        Err(error.with_data(failure.data().cloned().unwrap_or_default()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_invalidates_unless_its_failure_proves_that_it_had_no_effect() {
    let caching = layer().invalidates("update_user", ["get_user"]);
    let (surfaced, raised) = (caching.layer(users()), (caching, crate::layer(Raises)).layer(users()));
    let surfaced = async |args: Value| {
        let before = get(&surfaced, 1).await;
        update(&surfaced, args).await;
        get(&surfaced, 1).await != before
    };
    let raised = async |args: Value| {
        let before = get(&raised, 1).await;
        update(&raised, args).await;
        get(&raised, 1).await != before
    };
    for kind in ["tool_execution_failed", "internal", "transport", "timeout", "external_service", "cancelled"] {
        assert!(surfaced(json!({"fails": kind})).await && raised(json!({"fails": kind})).await, "{kind}");
    }
    for kind in ["invalid_params", "resource_not_found", "permission_denied", "user_rejected", "unavailable"] {
        assert!(!surfaced(json!({"fails": kind})).await && !raised(json!({"fails": kind})).await, "{kind}");
    }
    assert!(surfaced(json!({"fails_without_a_kind": true})).await);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_write_invalidates_since_it_may_have_taken_effect() {
    let server = layer().invalidates("update_user", ["get_user"]).layer(users());
    get(&server, 1).await;
    let writer = server.clone();
    let writing = tokio::spawn(async move { update(&writer, json!({})).await });
    settle().await;
    assert_eq!(get(&server, 1).await, "1");
    writing.abort();
    settle().await;
    assert_eq!(get(&server, 1).await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_the_write_ended_is_not_cached() {
    let gate = Gate::closed();
    let waits = gate.clone();
    let script = ScriptedServer::new("users")
        .with_read_only("get_user", move |call| {
            let gate = waits.clone();
            async move {
                if call.number == 1 {
                    gate.pass().await;
                }
                Ok(ToolResult::text(call.number.to_string()))
            }
        })
        .with_plain("update_user", |_| async { Ok(ToolResult::text("updated")) });
    let server = layer().invalidates("update_user", ["get_user"]).layer(script);
    let reader = server.clone();
    let reading = tokio::spawn(async move { get(&reader, 1).await });
    settle().await;
    update(&server, json!({})).await;
    gate.open();
    assert_eq!(reading.await.expect("an answer"), "1");
    assert_eq!(get(&server, 1).await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_an_inner_layer_marks_as_outcome_unknown_invalidates() {
    let server = layer().invalidates("update_user", ["get_user"]).layer(users());
    assert_eq!(get(&server, 1).await, "1");
    for (data, expected) in [
        (json!({"mcp-patterns/idempotency": "in_progress"}), "1"),
        (json!({"mcp-patterns/idempotency": "ambiguous"}), "2"),
        (json!({"mcp-patterns/transaction": "unavailable"}), "2"),
        (json!({"mcp-patterns/transaction": "outcome_unknown"}), "3"),
        (json!({"mcp-patterns/session": "unavailable"}), "3"),
        (json!({"mcp-patterns/session": "outcome_unknown"}), "4"),
        (json!({"mcp-patterns/attempts": 1}), "4"),
        (json!({"mcp-patterns/attempts": 2}), "5"),
    ] {
        update(&server, json!({"fails": "unavailable", "data": data})).await;
        assert_eq!(get(&server, 1).await, expected, "after {data}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_handle_invalidates_by_tag() {
    let layer = layer().tag("get_user", |args| [format!("user:{}", args["id"])]);
    let handle = layer.handle();
    let server = layer.layer(users());
    get(&server, 1).await;
    handle.invalidate_tag("user:2");
    assert_eq!(get(&server, 1).await, "1");
    handle.invalidate_tag("user:1");
    assert_eq!(get(&server, 1).await, "2");
}

#[tokio::test]
async fn the_engine_invalidates_by_tag() {
    let cache = Cache::<u32, u32>::new().with_tags(|key| [if key % 2 == 0 { "even" } else { "odd" }]);
    for key in 0..4 {
        cache.get_or_load(&(), key, || async move { Ok(key) }).await.expect("a value");
    }
    cache.invalidate_tag("odd");
    assert_eq!((0..4).map(|key| cache.get(&key)).collect::<Vec<_>>(), [Some(0), None, Some(2), None]);
}

#[test]
fn names_of_writers_are_checked_and_a_cached_tool_cannot_be_a_writer() {
    let unknown = |layer: CachedTool| matches!(layer.try_layer(users()), Err(ConfigError::UnknownTool { .. }));
    assert!(unknown(CachedTool::new().tag("get_usr", |_| ["a"])));
    assert!(unknown(CachedTool::new().invalidates("update_usr", ["get_user"])));
    assert!(unknown(CachedTool::new().invalidates("update_user", ["get_usr"])));
    let cached = CachedTool::new().invalidates("list_users", ["get_user"]).try_layer(users());
    assert!(matches!(cached, Err(ConfigError::InvalidSetting { setting: "invalidates", .. })));
}

#[cfg(feature = "transactional")]
mod in_a_transaction {
    use super::*;
    use crate::TransactionalTool;
    use crate::transactional::{TransactionError, Transactor, after_commit};

    async fn transactor() -> Transactor<sqlx::Sqlite> {
        let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        Transactor::new(options.connect("sqlite::memory:").await.expect("a database"))
    }

    /// A server whose writes take no time, since the time of a database cannot be paused.
    fn users() -> ScriptedServer {
        let numbered = |call: Call| async move { Ok(ToolResult::text(call.number.to_string())) };
        ScriptedServer::new("users")
            .with_read_only("get_user", numbered)
            .with_plain("update_user", |_| async { Ok(ToolResult::text("updated")) })
    }

    #[tokio::test]
    async fn a_write_inside_a_transaction_invalidates_after_its_commit() {
        let server = layer().invalidates("update_user", ["get_user"]).layer(users());
        get(&server, 1).await;
        let reader = server.clone();
        let transactor = transactor().await;
        let run = transactor.run(&(), || async {
            update(&server, json!({})).await;
            let reader = reader.clone();
            let before = tokio::spawn(async move { get(&reader, 1).await }).await;
            assert_eq!(before.expect("an answer"), "1", "others do not see what is not committed");
            Ok::<_, TransactionError>(())
        });
        run.await.expect("a commit");
        assert_eq!(get(&server, 1).await, "2");
    }

    #[tokio::test]
    async fn a_rolled_back_write_invalidates_nothing() {
        let server = layer().invalidates("update_user", ["get_user"]).layer(users());
        get(&server, 1).await;
        let transactor = transactor().await;
        let run = transactor.run(&(), || async {
            update(&server, json!({})).await;
            Err::<(), _>(TransactionError::from(sqlx::Error::RowNotFound))
        });
        run.await.expect_err("a rollback");
        assert_eq!(get(&server, 1).await, "1");
    }
    #[tokio::test]
    async fn a_slow_hook_delays_no_invalidation_in_either_order() {
        let hooked = |began: &Arc<AtomicBool>, gate: &Gate| {
            let numbered = |call: Call| async move { Ok(ToolResult::text(call.number.to_string())) };
            let (began, gate) = (Arc::clone(began), gate.clone());
            ScriptedServer::new("users").with_read_only("get_user", numbered).with_plain("update_user", move |_| {
                let (began, gate) = (Arc::clone(&began), gate.clone());
                async move {
                    let mail = after_commit(move || async move {
                        began.store(true, Ordering::SeqCst);
                        gate.pass().await;
                    });
                    assert!(mail.is_ok());
                    Ok(ToolResult::text("updated"))
                }
            })
        };
        let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect("sqlite::memory:").await.expect("a database");
        let transaction = TransactionalTool::new(pool).only(["update_user"]);
        let cache = || layer().invalidates("update_user", ["get_user"]);
        let (began, gate) = (Arc::<AtomicBool>::default(), Gate::closed());
        let inside = (transaction.clone(), cache()).layer(hooked(&began, &gate));
        reads_anew_while_a_hook_runs(inside, &began, &gate).await;

        let (began, gate) = (Arc::<AtomicBool>::default(), Gate::closed());
        let outside = (cache(), transaction).layer(hooked(&began, &gate));
        reads_anew_while_a_hook_runs(outside, &began, &gate).await;
    }

    async fn reads_anew_while_a_hook_runs(server: impl McpHandler, began: &AtomicBool, gate: &Gate) {
        assert_eq!(get(&server, 1).await, "1");
        let writer = server.clone();
        let writing = tokio::spawn(async move { update(&writer, json!({})).await });
        until(|| began.load(Ordering::SeqCst)).await;
        assert_eq!(get(&server, 1).await, "2", "the resource that the hook announces is read again");
        gate.open();
        writing.await.expect("an answer");
    }
}
