//! Sessions, through a real client and two replicas of the counter example.

mod clocks;

use std::{
    env,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    client::{Client, Server, Transport, error_text, patiently, text},
    support::{Database, Folder},
};

/// Two replicas that share the store of their sessions and nothing else.
struct Replicas {
    args: Vec<String>,
    servers: [Server; 2],
}

impl Replicas {
    async fn start(store: &str, mode: &str, more: &[&str]) -> Self {
        let args: Vec<_> =
            ["--sessions", store, "--session-mode", mode].iter().chain(more).map(|arg| (*arg).to_owned()).collect();
        let servers = [replica(&args).await, replica(&args).await];
        Self { args, servers }
    }

    /// Kills both at once, as a crash would, and starts replacements.
    async fn restart(&mut self) {
        self.servers = [replica(&self.args).await, replica(&self.args).await];
    }
}

async fn replica(args: &[String]) -> Server {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    Server::start("counter", Transport::Http, &args).await
}

fn redis_url() -> String {
    env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into())
}

/// A user that no other test run has used: the servers outlive the tests.
fn new_user() -> String {
    format!("ada-{:016x}", fastrand::u64(..))
}

async fn opened(client: &Client) -> String {
    text(&client.call("open_session", json!({})).await).to_owned()
}

/// Writes through one replica and reads through the other, and the other way round, many times.
async fn interleave(one: &Client, two: &Client, session: Option<&str>) {
    let args = |mut args: serde_json::Value| {
        if let Some(session) = session {
            args["session"] = session.into();
        }
        args
    };
    for round in 0..5 {
        for (writer, reader) in [(one, two), (two, one)] {
            let value = format!("{round}");
            let set = writer.call("set_preference", args(json!({ "key": "theme", "value": value }))).await;
            assert_eq!(text(&set), format!("Set theme: {value}"));
            let got = reader.call("get_preference", args(json!({ "key": "theme" }))).await;
            assert_eq!(text(&got), value);
        }
    }
}

async fn a_principal_is_found_on_both_replicas_and_after_a_restart(store: &str) {
    let (ada, eve) = (new_user(), new_user());
    let users = [format!("{ada}=token-a"), format!("{eve}=token-e")];
    let mut replicas = Replicas::start(store, "principal", &["--user", &users[0], "--user", &users[1]]).await;
    let [one, two] = &mut replicas.servers;
    let (first, second) = (one.connect_as("token-a").await, two.connect_as("token-a").await);
    interleave(&first, &second, None).await;
    let stranger = two.connect_as("token-e").await;
    let none = stranger.call("get_preference", json!({ "key": "theme" })).await;
    assert_eq!(error_text(&none), "Preference not found", "another user has a session of their own");

    replicas.restart().await;
    for server in &mut replicas.servers {
        let again = server.connect_as("token-a").await;
        assert_eq!(text(&again.call("get_preference", json!({ "key": "theme" })).await), "4");
    }
}

async fn a_handle_is_found_on_both_replicas_and_after_a_restart(store: &str) {
    let mut replicas = Replicas::start(store, "handle", &[]).await;
    let [one, two] = &mut replicas.servers;
    let (first, second) = (one.connect().await, two.connect().await);
    let session = opened(&first).await;
    interleave(&first, &second, Some(&session)).await;

    replicas.restart().await;
    for server in &mut replicas.servers {
        let again = server.connect().await;
        let got = again.call("get_preference", json!({ "key": "theme", "session": session })).await;
        assert_eq!(text(&got), "4");
        let refused = again.call("get_preference", json!({ "key": "theme" })).await;
        assert!(error_text(&refused).contains("`open_session`"));
    }
    let [one, two] = &mut replicas.servers;
    let closed = one.connect().await.call("close_session", json!({ "session": session })).await;
    assert_eq!(text(&closed), "Session closed");
    let gone = two.connect().await.call("get_preference", json!({ "key": "theme", "session": session })).await;
    assert!(error_text(&gone).starts_with("There is no such session"));
}

/// 1,000 updates of one counter in one session, from both replicas at the same time.
async fn a_thousand_updates_through_two_processes(store: &str) {
    let mut replicas = Replicas::start(store, "handle", &[]).await;
    let [one, two] = &mut replicas.servers;
    let clients = [one.connect().await, two.connect().await];
    let session = opened(&clients[0]).await;
    let args = json!({ "name": "x", "session": session });
    let calls = (0..1000).map(|number| clients[number % 2].call("increment_mine", args.clone()));
    for answer in join_all(calls).await {
        let value: u32 = text(&answer).parse().expect("a number");
        assert!((1..=1000).contains(&value));
    }
    for client in &clients {
        assert_eq!(text(&client.call("get_mine", args.clone()).await), "1000");
    }
    clients[0].call("close_session", json!({ "session": session })).await;
}

macro_rules! on_redis_and_postgres {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use super::*;

            #[tokio::test]
            async fn on_redis() {
                patiently(super::$test(&redis_url())).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                patiently(async {
                    let database = Database::postgres().await;
                    super::$test(&database.url()).await;
                })
                .await;
            }
        }
    )+};
}

on_redis_and_postgres! {
    a_principal_is_found_on_both_replicas_and_after_a_restart,
    a_handle_is_found_on_both_replicas_and_after_a_restart,
    a_thousand_updates_through_two_processes,
}

#[tokio::test]
async fn a_handle_is_found_again_in_a_sqlite_file() {
    patiently(async {
        let folder = Folder::new();
        let store = format!("sqlite:{}", folder.path().join("sessions.db").display());
        a_handle_is_found_on_both_replicas_and_after_a_restart(&store).await;
    })
    .await;
}

/// A transport session is invalid on another replica and after a restart, by the design of turbomcp and of the
/// protocol.
#[tokio::test]
async fn a_transport_session_of_another_replica_is_404_and_the_new_session_is_empty() {
    patiently(async {
        let mut replicas = Replicas::start(&redis_url(), "transport", &[]).await;
        let [one, two] = &mut replicas.servers;
        let first = one.connect().await;
        first.call("set_preference", json!({ "key": "theme", "value": "dark" })).await;
        assert_eq!(text(&first.call("get_preference", json!({ "key": "theme" })).await), "dark");

        // Another connection is another session, through the same replica and through the other.
        for server in [&mut *one, &mut *two] {
            let other = server.connect().await;
            let none = other.call("get_preference", json!({ "key": "theme" })).await;
            assert_eq!(error_text(&none), "Preference not found");
        }

        // The id of a session, sent to the replica that did not open it, as a load balancer without sticky routing would.
        let id = initialized(one.url()).await;
        let listing = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}"#;
        assert_eq!(post(one.url(), Some(&id), listing).await.status(), 200);
        assert_eq!(post(two.url(), Some(&id), listing).await.status(), 404);
        replicas.restart().await;
        for server in &replicas.servers {
            assert_eq!(post(server.url(), Some(&id), listing).await.status(), 404);
        }
    })
    .await;
}

/// The protocol reports the 404 to the client, and the client does not report it to its caller.
#[tokio::test]
async fn without_sticky_sessions_the_official_client_gets_an_empty_session_and_no_error() {
    patiently(async {
        let Replicas { servers: [one, two], .. } = Replicas::start(&redis_url(), "transport", &[]).await;
        let balancer = Balancer::start(one.url()).await;
        let client = Client::over_http(&balancer.url, None).await;
        client.call("set_preference", json!({ "key": "theme", "value": "dark" })).await;
        assert_eq!(text(&client.call("get_preference", json!({ "key": "theme" })).await), "dark");
        balancer.send_to(two.url());
        let none = client.call("get_preference", json!({ "key": "theme" })).await;
        assert_eq!(error_text(&none), "Preference not found");
        let set = client.call("set_preference", json!({ "key": "theme", "value": "light" })).await;
        assert_eq!(text(&set), "Set theme: light");
    })
    .await;
}

/// Forwards each connection to the configured replica.
struct Balancer {
    url: String,
    to: Arc<Mutex<String>>,
}

impl Balancer {
    async fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let balancer = Self { url: own, to: Arc::default() };
        balancer.send_to(url);
        let to = Arc::clone(&balancer.to);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let to = to.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(to).await.expect("the replica listens");
                    // The side that closes first ends it.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        balancer
    }

    fn send_to(&self, url: &str) {
        let address = url.trim_start_matches("http://").trim_end_matches("/mcp");
        address.clone_into(&mut self.to.lock().expect("no panic"));
    }
}

/// Begins a session with a plain request and returns its id.
async fn initialized(url: &str) -> String {
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",
        "capabilities":{},"clientInfo":{"name":"it","version":"1"}}}"#;
    let response = post(url, None, initialize).await;
    let id = response.headers().get("mcp-session-id").expect("the server names the session").to_str();
    let id = id.expect("it is text").to_owned();
    post(url, Some(&id), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    id
}

async fn post(url: &str, session: Option<&str>, body: &'static str) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().expect("no HTTP client");
    let mut request = client
        .post(url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .body(body);
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn two_clients_of_one_server_have_preferences_of_their_own() {
    patiently(async {
        let mut server = Server::start("counter", Transport::Http, &[]).await;
        let (ada, bob) = (server.connect().await, server.connect().await);
        ada.call("set_preference", json!({ "key": "theme", "value": "dark" })).await;
        assert_eq!(text(&ada.call("get_preference", json!({ "key": "theme" })).await), "dark");
        assert_eq!(error_text(&bob.call("get_preference", json!({ "key": "theme" })).await), "Preference not found");
        for (client, expected) in [(&ada, "1"), (&ada, "2"), (&bob, "1")] {
            assert_eq!(text(&client.call("increment_mine", json!({ "name": "x" })).await), expected);
        }
        assert_eq!(
            text(&bob.call("increment", json!({ "name": "x" })).await),
            "1",
            "what all share is another counter"
        );
    })
    .await;
}
