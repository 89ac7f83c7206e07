//! Two servers of rmcp with the stores of this crate, behind a proxy that sends each request to the next one, and rmcp's own client.

mod fleet;
mod owners;
mod stores;

use std::collections::BTreeSet;

use rmcp::model::{CallToolRequestParams, CallToolResult, ProtocolVersion};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceExt};
use tokio::time::timeout;

use fleet::{Fleet, LONGEST};
use stores::Stores;

type Client = RunningService<RoleClient, ()>;

/// Runs each check on every backend that replicas can share.
macro_rules! on_every_backend {
    ($($name:ident => $check:ident;)*) => {
        mod redis { $(#[tokio::test] async fn $name() { super::$check(super::Stores::redis()).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$check(super::Stores::postgres().await).await; })* }
        mod sqlite { $(#[tokio::test] async fn $name() { super::$check(super::Stores::sqlite().await).await; })* }
    };
}

on_every_backend! {
    every_call_of_a_session_is_answered_by_any_replica => all_are_answered;
    an_answer_whose_connection_was_cut_arrives_through_another_replica => resumes_elsewhere;
    an_answer_that_was_kept_survives_the_restart_of_every_server => survives_restarts;
}

async fn connect(fleet: &Fleet) -> Client {
    ().serve(StreamableHttpClientTransport::from_uri(fleet.url())).await.expect("a session")
}

async fn call(client: &Client, tool: &'static str) -> CallToolResult {
    let answer = timeout(LONGEST, client.call_tool(CallToolRequestParams::new(tool))).await;
    answer.expect("the call ends").expect("an answer")
}

fn text(result: &CallToolResult) -> String {
    result.content[0].as_text().expect("a text").text.clone()
}

async fn all_are_answered(stores: Stores) {
    let fleet = Fleet::start(&stores, 2).await;
    let clients = [connect(&fleet).await, connect(&fleet).await];
    let mut served_by = BTreeSet::new();
    for _ in 0..10 {
        for client in &clients {
            served_by.insert(text(&call(client, "who").await));
        }
    }
    assert_eq!(served_by, BTreeSet::from(["replica 0".to_owned(), "replica 1".to_owned()]), "both replicas answer");
    assert_eq!(fleet.refused(), 0, "no request is refused");
}

async fn resumes_elsewhere(stores: Stores) {
    let fleet = Fleet::start(&stores, 2).await;
    let client = connect(&fleet).await;
    fleet.send_all_to(0);
    let (result, ()) = tokio::join!(call(&client, "slow"), async {
        fleet.has_begun().await;
        fleet.send_all_to(1);
        fleet.cut_all_streams();
        fleet.has_resumed(1).await;
        fleet.release();
    });
    assert_eq!(text(&result), "replica 0", "the server that began the call has answered it");
    assert_eq!(fleet.refused(), 0);
}

async fn survives_restarts(stores: Stores) {
    let mut fleet = Fleet::start(&stores, 2).await;
    let client = connect(&fleet).await;
    fleet.send_all_to(0);
    let (result, fleet) = tokio::join!(call(&client, "slow"), async {
        fleet.has_begun().await;
        // While nobody is connected, the tool ends.
        fleet.refuse_all();
        fleet.cut_all_streams();
        fleet.release();
        fleet.has_ended().await;
        stores.have_the_answer().await;
        fleet.restart(&stores).await;
        fleet.accept_all();
        fleet
    });
    assert_eq!(text(&result), "replica 0");
    assert_eq!(text(&call(&client, "who").await), "replica 0 restarted", "the session survives, too");
    assert_eq!(fleet.refused(), 0);
}

#[tokio::test]
async fn a_client_of_the_protocol_without_sessions_is_answered_by_any_replica_without_stores() {
    let fleet = Fleet::without_stores(2).await;
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let transport = StreamableHttpClientTransport::from_uri(fleet.url());
    let client: Client = ().serve_with_lifecycle(transport, modern).await.expect("a connection");
    let mut served_by = BTreeSet::new();
    for _ in 0..6 {
        served_by.insert(text(&call(&client, "who").await));
    }
    assert_eq!(served_by.len(), 2, "both replicas answer: {served_by:?}");
    assert_eq!(fleet.refused(), 0, "no request is refused");
}
