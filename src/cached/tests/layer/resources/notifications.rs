//! A server that notifies its client of a change: a notified client does not get the old cached answer.

use std::sync::{Mutex, OnceLock};

use turbomcp_core::{McpError, McpSession, SessionFuture};

use super::*;
use crate::cached::MemoryLevel;
use crate::testing::Call;
use crate::{BoxHandler, boxed};

const UPDATED: &str = "notifications/resources/updated";
const RESOURCES: &str = "notifications/resources/list_changed";
const PROMPTS: &str = "notifications/prompts/list_changed";

/// A client that reads the resource or prompt `one` as soon as it gets any notification.
#[derive(Default)]
struct Client {
    server: OnceLock<BoxHandler>,
    told: Mutex<Vec<(String, String)>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl McpSession for Client {
    fn call<'a>(&'a self, method: &'a str, _: Value) -> SessionFuture<'a, Value> {
        Box::pin(async move { Ok(json!(method)) })
    }

    fn notify<'a>(&'a self, method: &'a str, _: Value) -> SessionFuture<'a, ()> {
        Box::pin(async move {
            let what = if method == PROMPTS { Prompt } else { Resource };
            // Not in the task of the sender.
            let server = self.server.get().expect("a server").clone();
            let read = tokio::spawn(async move { one(&server, what).await }).await.expect("an answer");
            self.told.lock().expect("no panic").push((method.to_owned(), read));
            Ok(())
        })
    }
}

impl Client {
    fn of(server: &impl McpHandler) -> Arc<Self> {
        let client = Arc::new(Self::default());
        assert!(client.server.set(boxed(server.clone())).is_ok(), "it is the first");
        client
    }

    fn ctx(self: &Arc<Self>) -> RequestContext {
        nobody().with_session(Arc::clone(self) as Arc<dyn McpSession>)
    }

    /// The notifications that it got, and the content that it read then.
    fn told(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.told.lock().expect("no panic"))
    }
}

fn told(method: &str, read: &str) -> Vec<(String, String)> {
    vec![(method.to_owned(), read.to_owned())]
}

/// Sends the notification that the arguments name.
async fn tell(call: Call) -> McpResult<ToolResult> {
    let method = call.args["method"].as_str().unwrap_or(UPDATED).to_owned();
    let uri = call.args["uri"].as_str().unwrap_or("one").to_owned();
    let send = async move {
        if method == UPDATED {
            call.ctx.notify_resource_updated(uri).await
        } else {
            call.ctx.notify_client(method, json!({})).await
        }
    };
    if call.args["spawned"] == json!(true) {
        tokio::spawn(send).await.map_err(|_| McpError::internal("it panicked"))??;
    } else {
        send.await?;
    }
    Ok(ToolResult::text("told"))
}

type Told = Layered<CachedTool, Layered<Shelf, ScriptedServer>>;

/// Numbered resources and prompts, and tools that send notifications: one that no layer acts on, one that writes, and
/// one that is cached.
fn telling(cached: CachedTool) -> (Told, Arc<Client>) {
    let tools = ScriptedServer::new("library")
        .with_plain("tell", tell)
        .with_plain("write", tell)
        .with_read_only("look", tell)
        .with_read_only("result", |call| async move { Ok(ToolResult::text(call.number.to_string())) });
    let server = (cached.invalidates("write", ["result"]), layer(Shelf::numbered())).layer(tools);
    let client = Client::of(&server);
    (server, client)
}

#[tokio::test(start_paused = true)]
async fn a_client_notified_of_an_update_reads_the_new_content() {
    for tool in ["tell", "write", "look"] {
        for spawned in [false, true] {
            let (server, client) = telling(both());
            let ada = user("ada");
            let before = (one(&server, Resource).await, get(&server, Resource, "one", &ada).await);
            assert_eq!((before.0.as_str(), before.1.as_str()), ("1", "2"));
            get(&server, Resource, "other", &nobody()).await;
            answer(&server, tool, json!({ "spawned": spawned }), &client.ctx()).await;
            assert_eq!(client.told(), told(UPDATED, "4"), "{tool}");
            assert_eq!(get(&server, Resource, "one", &ada).await, "5", "for every caller");
            assert_eq!(get(&server, Resource, "other", &nobody()).await, "3", "and nothing else");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn resources_and_prompts_may_send_notifications_during_a_read() {
    for what in BOTH {
        for kept in [true, false] {
            let shelf = Shelf::new(|ask| async move {
                if ask.name == "telling" {
                    ask.ctx.notify_resource_updated("one").await?;
                }
                Ok(ask.number.to_string())
            });
            let chosen = move |name: &str| kept || name == "one";
            let server =
                shelf.with(both().with_resources(Reads::new().when(chosen)).with_prompts(Reads::new().when(chosen)));
            let client = Client::of(&server);
            assert_eq!(one(&server, Resource).await, "1");
            get(&server, what, "telling", &client.ctx()).await;
            assert_eq!(client.told(), told(UPDATED, "3"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_invalidates_all_entries_of_its_kind_and_no_others() {
    for (method, wrong) in [(RESOURCES, Some(Resource)), (PROMPTS, Some(Prompt)), ("notifications/message", None)] {
        let (server, client) = telling(both());
        assert_eq!((one(&server, Resource).await, one(&server, Prompt).await), ("1".to_owned(), "2".to_owned()));
        assert_eq!(answer(&server, "result", json!({}), &nobody()).await, "1");
        answer(&server, "tell", json!({ "method": method }), &client.ctx()).await;
        let read = if wrong.is_some() { "3" } else { "1" };
        assert_eq!(client.told(), told(method, read));
        for what in BOTH {
            let is_wrong = one(&server, what).await == "3";
            assert_eq!(is_wrong, wrong == Some(what), "{method}: {what:?}");
        }
        assert_eq!(answer(&server, "result", json!({}), &nobody()).await, "1", "{method}");
    }
}

/// A result is the tool's own answer, whatever its current definition is.
#[tokio::test(start_paused = true)]
async fn a_changed_list_of_tools_invalidates_no_results() {
    let (server, client) = telling(both());
    assert_eq!(answer(&server, "result", json!({}), &nobody()).await, "1");
    answer(&server, "tell", json!({"method": "notifications/tools/list_changed"}), &client.ctx()).await;
    assert_eq!(answer(&server, "result", json!({}), &nobody()).await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_cached_not_found_ends_when_the_list_changes() {
    let shelf = Shelf::new(|ask| async move {
        if ask.number == 1 { Err(McpError::resource_not_found("one")) } else { Ok(ask.number.to_string()) }
    });
    let cached = both().with_negative_ttl([ErrorKind::ResourceNotFound], MINUTE);
    let server = (cached, layer(shelf)).layer(ScriptedServer::new("library").with_plain("tell", tell));
    let client = Client::of(&server);
    for _ in 0..2 {
        assert!(try_get(&server, Resource, "one", &nobody()).await.is_err());
    }
    answer(&server, "tell", json!({ "method": RESOURCES }), &client.ctx()).await;
    assert_eq!(client.told(), told(RESOURCES, "2"));
}

#[tokio::test(start_paused = true)]
async fn an_update_invalidates_the_resource_however_its_uri_is_escaped() {
    let (server, client) = telling(both());
    let uris = ["users://a b", "users://a%20b", "USERS://a%20b"];
    for uri in uris {
        get(&server, Resource, uri, &nobody()).await;
    }
    assert_eq!(get(&server, Resource, uris[0], &nobody()).await, "1", "each is kept for itself");
    answer(&server, "tell", json!({ "uri": uris[1] }), &client.ctx()).await;
    client.told();
    for uri in uris {
        let number: u32 = get(&server, Resource, uri, &nobody()).await.parse().expect("a number");
        assert!(number > 3, "{uri}: {number}");
    }
}

/// A composite server above the cache prefixes the names that it passes on.
#[tokio::test(start_paused = true)]
async fn below_a_composite_server_an_update_invalidates_the_resource_by_its_own_uri() {
    let (server, client) = telling(both());
    assert_eq!(one(&server, Resource).await, "1");
    let mounted = client.ctx().with_resource_uri_scope("outer").with_resource_uri_scope("inner");
    answer(&server, "tell", json!({}), &mounted).await;
    assert_eq!(client.told(), told(UPDATED, "2"));
}

/// Remembers its subscribers, and notifies them on request.
#[derive(Clone, Default)]
struct Subscribers(Arc<Mutex<Vec<Arc<dyn McpSession>>>>);

impl Subscribers {
    async fn tell(&self) {
        let sessions = self.0.lock().expect("no panic").clone();
        for session in sessions {
            session.notify(UPDATED, json!({"uri": "one"})).await.expect("it is sent");
        }
    }
}

impl Middleware for Subscribers {
    async fn subscribe<'a, H: McpHandler>(&'a self, _: &'a H, _: &'a str, ctx: &'a RequestContext) -> McpResult<()> {
        self.0.lock().expect("no panic").extend(ctx.session().cloned());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_notified_after_the_resource_was_invalidated() {
    let subscribers = Subscribers::default();
    let cached = both();
    let (stats, inner) = (cached.handle(), (layer(subscribers.clone()), layer(Shelf::numbered())).layer(numbered()));
    let server = Layered::try_new(Some(cached), inner).expect("settings that fit");
    let client = Client::of(&server);
    server.subscribe("one", &client.ctx()).await.expect("it is supported");
    assert_eq!(one(&server, Resource).await, "1");
    subscribers.tell().await;
    assert_eq!(client.told(), told(UPDATED, "2"));
    // A session that did not pass through the cache sends the notification.
    subscribers.0.lock().expect("no panic").push(client.clone());
    subscribers.0.lock().expect("no panic").remove(0);
    subscribers.tell().await;
    assert_eq!(client.told(), told(UPDATED, "2"));
    stats.invalidate_resource("one");
    subscribers.tell().await;
    assert_eq!(client.told(), told(UPDATED, "3"));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_notified_while_the_second_level_hangs() {
    use crate::cached::tests::second_level::fleet::{Faults, HANGS};
    let faults = Faults::default();
    let (server, client) = telling(both().with_second_level(faults.of(MemoryLevel::new())));
    settle().await;
    faults.set(HANGS);
    assert_eq!(one(&server, Resource).await, "1");
    answer(&server, "tell", json!({}), &client.ctx()).await;
    assert_eq!(client.told(), told(UPDATED, "2"));
}

#[tokio::test(start_paused = true)]
async fn another_replica_has_invalidated_the_resource_when_the_client_is_notified() {
    let level = MemoryLevel::new();
    let replica = || telling(both().with_second_level(level.clone()).with_unsubscribed_ttl(Duration::from_millis(1)));
    let [(a, client), (b, _)] = [replica(), replica()];
    settle().await;
    assert_eq!(one(&a, Resource).await, "1");
    settle().await;
    assert_eq!(one(&b, Resource).await, "1");
    answer(&a, "tell", json!({}), &client.ctx()).await;
    settle().await;
    assert_eq!(client.told(), told(UPDATED, "2"));
    assert_eq!(one(&b, Resource).await, "2", "what A has loaded since");
}

#[tokio::test(start_paused = true)]
async fn a_cache_of_tools_only_passes_the_session_of_the_caller_unchanged() {
    let prompts = CachedTool::new().with_prompts(Reads::new());
    for (cached, is_own) in [(CachedTool::new(), true), (prompts, false), (both(), false)] {
        let seen = Arc::<Mutex<Option<Arc<dyn McpSession>>>>::default();
        let noted = Arc::clone(&seen);
        let server = cached.layer(ScriptedServer::new("library").with_plain("tell", move |call| {
            *noted.lock().expect("no panic") = call.ctx.session().cloned();
            async { Ok(ToolResult::text("told")) }
        }));
        let client = Client::of(&server);
        let own: Arc<dyn McpSession> = client.clone();
        answer(&server, "tell", json!({}), &client.ctx()).await;
        let seen = seen.lock().expect("no panic").take().expect("a session");
        assert_eq!(Arc::ptr_eq(&seen, &own), is_own);
        let asked = seen.call("roots/list", json!({})).await.expect("an answer");
        assert_eq!(asked, json!("roots/list"), "what the client is asked passes");
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn an_update_sent_within_a_transaction_invalidates_at_once_and_again_after_the_commit() {
    use crate::TransactionalTool;
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.expect("a database");
    let (gate, is_told) = (Gate::closed(), Gate::closed());
    let (held, tells) = (gate.clone(), is_told.clone());
    let tools = ScriptedServer::new("library").with_plain("write", move |call| {
        let (held, tells) = (held.clone(), tells.clone());
        async move {
            call.ctx.notify_resource_updated("one").await?;
            tells.open();
            held.pass().await;
            Ok(ToolResult::text("written"))
        }
    });
    let transaction = TransactionalTool::new(pool).only(["write"]);
    let server = (both(), layer(Shelf::numbered()), transaction).layer(tools);
    let client = Client::of(&server);
    assert_eq!(one(&server, Resource).await, "1");
    let (writer, ctx) = (server.clone(), client.ctx());
    let writing = tokio::spawn(async move { answer(&writer, "write", json!({}), &ctx).await });
    is_told.pass().await;
    assert_eq!(client.told(), told(UPDATED, "2"));
    assert_eq!(one(&server, Resource).await, "2", "kept, although it is from before the commit");
    gate.open();
    writing.await.expect("an answer");
    assert_eq!(one(&server, Resource).await, "3");
}
