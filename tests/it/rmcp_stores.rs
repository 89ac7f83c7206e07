//! Two servers of rmcp with the stores of this crate, behind a proxy that sends each request to the next one, and rmcp's own client.

mod client;
mod fleet;
mod owners;
mod process;
mod promises;
mod server;
mod stores;

use std::collections::BTreeSet;

use rmcp::model::ProtocolVersion;
use rmcp::service::ServiceError;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use tokio::time::timeout;

use client::{call, connect, request, text};
use fleet::{Fleet, Kept, LONGEST, Route};
use stores::Stores;

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
    a_call_whose_process_was_killed_gets_an_error_and_the_next_one_an_answer => killed_calls_end;
}

async fn all_are_answered(stores: Stores) {
    for kept in [Kept::Sessions(&stores.place), Kept::All(&stores.place)] {
        let fleet = Fleet::start(kept).await;
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
}

async fn resumes_elsewhere(stores: Stores) {
    let fleet = Fleet::start(Kept::All(&stores.place)).await;
    let client = connect(&fleet).await;
    fleet.route(Route::To(0));
    let (result, ()) = tokio::join!(call(&client, "slow"), async {
        fleet.tool().has_begun().await;
        fleet.route(Route::To(1));
        fleet.cut_all_streams();
        fleet.has_seen(1, "resume").await;
        fleet.tool().release();
    });
    assert_eq!(text(&result), "replica 0", "the server that began the call has answered it");
    assert_eq!(fleet.refused(), 0);
}

async fn survives_restarts(stores: Stores) {
    let kept = Kept::All(&stores.place);
    let mut fleet = Fleet::start(kept).await;
    let client = connect(&fleet).await;
    fleet.route(Route::To(0));
    let (result, fleet) = tokio::join!(call(&client, "slow"), async {
        fleet.tool().has_begun().await;
        // While nobody is connected, the tool ends.
        fleet.refuse_all();
        fleet.cut_all_streams();
        fleet.tool().release();
        fleet.tool().has_ended().await;
        stores.have_the_answer().await;
        fleet.restart(kept).await;
        fleet.accept_all();
        fleet
    });
    assert_eq!(text(&result), "replica 0");
    assert_eq!(text(&call(&client, "who").await), "replica 0 restarted", "the session survives, too");
    assert_eq!(fleet.refused(), 0);
}

async fn killed_calls_end(stores: Stores) {
    let fleet = Fleet::of_processes(&stores.place).await;
    let client = connect(&fleet).await;
    fleet.route(Route::To(0));
    let ended = timeout(LONGEST, client.call_tool(request("slow")));
    let (result, ()) = tokio::join!(ended, async {
        fleet.tool().has_begun().await;
        fleet.route(Route::RoundRobin);
        fleet.kill_first().await;
    });
    let error = result.expect("the call ends").expect_err("nobody knows what it did");
    let ServiceError::McpError(error) = error else { panic!("an error of the server: {error:?}") };
    assert_eq!(error.data.unwrap_or_default()["mcp-patterns/rmcp"], "outcome_unknown");
    for _ in 0..3 {
        assert_eq!(text(&call(&client, "who").await), "replica 1", "the session goes on, without a handshake");
    }
    assert_eq!(fleet.refused(), 0);
}

#[tokio::test]
async fn a_client_of_the_protocol_without_sessions_is_answered_by_any_replica_without_stores() {
    let fleet = Fleet::start(Kept::Nothing).await;
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let transport = StreamableHttpClientTransport::from_uri(fleet.url());
    let client = client::User::default().serve_with_lifecycle(transport, modern).await.expect("a connection");
    let mut served_by = BTreeSet::new();
    for _ in 0..6 {
        served_by.insert(text(&call(&client, "who").await));
    }
    assert_eq!(served_by.len(), 2, "both replicas answer: {served_by:?}");
    assert_eq!(fleet.refused(), 0, "no request is refused");
}
