//! What the page on deploying says of replicas, row by row: what is lost, and what needs sticky routing.

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequest, ClientRequest};
use rmcp::service::PeerRequestOptions;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::client::{User, call, connect, request, text};
use super::fleet::{Fleet, Kept, LONGEST, Route};
use super::stores::Stores;

/// Sends a request to the fleet, and returns its answer.
async fn send(fleet: &Fleet, method: reqwest::Method, headers: &[(&str, &str)], body: Value) -> reqwest::Response {
    let request = reqwest::Client::new().request(method, fleet.url());
    let request = request.header("accept", "application/json, text/event-stream");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = timeout(LONGEST, request.json(&body).send()).await;
    answer.expect("the fleet answers").expect("an answer")
}

/// Opens a session, and returns its id.
async fn open(fleet: &Fleet) -> String {
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "me", "version": "1"},
    }});
    let opened = send(fleet, reqwest::Method::POST, &[], initialize).await;
    opened.headers()["mcp-session-id"].to_str().expect("a text").to_owned()
}

fn tool(id: u32, name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name}})
}

#[tokio::test]
async fn without_stores_no_client_connects() {
    let fleet = Fleet::start(Kept::Nothing).await;
    let connected = User::default().serve(StreamableHttpClientTransport::from_uri(fleet.url())).await;
    assert!(connected.is_err(), "the second request of the handshake reaches another replica");
    let session = open(&fleet).await;
    let mut got = Vec::new();
    for _ in 0..2 {
        let answer = send(&fleet, reqwest::Method::POST, &[("mcp-session-id", &session)], tool(1, "who")).await;
        got.push(answer.status().as_u16());
    }
    got.sort_unstable();
    assert_eq!(got, [200, 404], "only one of them knows the session");
}

#[tokio::test]
async fn without_an_event_store_an_answer_whose_connection_was_cut_is_lost() {
    let stores = Stores::redis();
    let fleet = Fleet::start(Kept::Sessions(&stores.place)).await;
    fleet.route(Route::To(0));
    let session = open(&fleet).await;
    let session = ("mcp-session-id", session.as_str());
    let mut stream = send(&fleet, reqwest::Method::POST, &[session], tool(1, "slow")).await;
    fleet.tool().has_begun().await;
    let first = stream.chunk().await.expect("a stream").expect("its first event");
    let first = String::from_utf8(first.to_vec()).expect("text");
    let id = first.lines().find_map(|line| line.strip_prefix("id:")).expect("an id").trim().to_owned();
    fleet.cut_all_streams();
    fleet.route(Route::To(1));
    let resumed = send(&fleet, reqwest::Method::GET, &[session, ("last-event-id", &id)], Value::Null).await;
    fleet.tool().release();
    assert_eq!(resumed.status(), 200);
    assert_eq!(resumed.text().await.expect("a text"), "", "the other replica knows nothing of the stream");
}

#[tokio::test]
async fn an_answer_of_the_client_needs_sticky_routing() {
    for (route, expected) in [(Route::RoundRobin, "no answer"), (Route::Sticky, "an answer")] {
        let stores = Stores::redis();
        let fleet = Fleet::start(Kept::All(&stores.place)).await;
        fleet.route(Route::To(0));
        let client = connect(&fleet).await;
        let (result, ()) = tokio::join!(call(&client, "ask"), async {
            fleet.tool().has_begun().await;
            if let Route::RoundRobin = route {
                fleet.route(Route::To(1)); // the next one
                fleet.has_seen(1, "answer").await;
                fleet.tool().release();
            } else {
                fleet.route(route);
            }
        });
        assert_eq!(text(&result), expected);
        assert_eq!(fleet.refused(), 0, "the other replica accepts the answer, and knows no question");
    }
}

#[tokio::test]
async fn a_cancellation_needs_sticky_routing() {
    for (route, expected) in [(Route::RoundRobin, "replica 0"), (Route::Sticky, "cancelled")] {
        let stores = Stores::redis();
        let fleet = Fleet::start(Kept::All(&stores.place)).await;
        fleet.route(Route::To(0));
        let client = connect(&fleet).await;
        let slow = ClientRequest::CallToolRequest(CallToolRequest::new(request("slow")));
        let handle = client.send_cancellable_request(slow, PeerRequestOptions::no_options()).await.expect("it is sent");
        fleet.tool().has_begun().await;
        let is_sticky = matches!(route, Route::Sticky);
        fleet.route(if is_sticky { route } else { Route::To(1) });
        handle.cancel(None).await.expect("it is sent");
        fleet.has_seen(usize::from(!is_sticky), "notifications/cancelled").await;
        if !is_sticky {
            fleet.tool().release();
        }
        fleet.tool().has_ended().await;
        assert_eq!(fleet.tool().last_end(), expected);
    }
}

#[tokio::test]
async fn a_message_without_a_request_reaches_the_clients_that_are_connected_to_its_replica() {
    let stores = Stores::redis();
    let fleet = Fleet::start(Kept::All(&stores.place)).await;
    fleet.route(Route::To(0));
    let client = connect(&fleet).await;
    fleet.has_seen(0, "GET").await;
    fleet.route(Route::RoundRobin);
    for _ in 0..4 {
        call(&client, "tell").await;
    }
    let mut told_by = client.service().told_by.subscribe();
    timeout(LONGEST, told_by.wait_for(|by| by.len() == 2)).await.expect("it is told").expect("it goes on");
    fleet.route(Route::To(0));
    call(&client, "tell").await;
    let by = timeout(LONGEST, told_by.wait_for(|by| by.len() == 3)).await.expect("it is told").expect("it goes on");
    assert_eq!(*by, ["replica 0", "replica 0", "replica 0"], "no other replica tells it something");
}

#[tokio::test]
async fn a_session_that_was_deleted_at_one_replica_is_served_by_those_that_have_it_in_memory() {
    let stores = Stores::redis();
    let fleet = Fleet::start(Kept::All(&stores.place)).await;
    fleet.route(Route::To(0));
    let session = open(&fleet).await;
    let session = ("mcp-session-id", session.as_str());
    let status = async |replica, method, body| {
        fleet.route(Route::To(replica));
        send(&fleet, method, &[session], body).await.status().as_u16()
    };
    assert_eq!(status(1, reqwest::Method::POST, tool(1, "who")).await, 200);
    assert_eq!(status(1, reqwest::Method::DELETE, Value::Null).await, 202);
    assert_eq!(status(1, reqwest::Method::POST, tool(2, "who")).await, 404, "it has ended there");
    assert_eq!(status(0, reqwest::Method::POST, tool(3, "who")).await, 200, "and not here");
}
