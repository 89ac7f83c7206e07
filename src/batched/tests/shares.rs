//! The share of each caller in a full queue.

use super::*;
use crate::batched::BatchedTool;
use crate::{Identity, Layer, Scope};

/// A server whose batches wait at the gate, and whose queue has ten places.
fn behind(gate: &Gate, layer: impl FnOnce(BatchedTool) -> BatchedTool) -> impl McpHandler {
    let script = ScriptedServer::new("users").with_read_only("get", |_| async { Ok(ToolResult::text("never asked")) });
    let gate = gate.clone();
    let bulk = move |calls: Vec<crate::batched::Call>| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            calls.iter().map(|call| Ok(call.args["id"].to_string())).collect::<Vec<McpResult<String>>>()
        }
    };
    let batched = BatchedTool::new().with_bulk("get", bulk).with_max_in_flight(1).with_max_queue(10);
    layer(batched).layer(script)
}

fn get(server: &impl McpHandler, ctx: &RequestContext, id: usize) -> JoinHandle<McpResult<ToolResult>> {
    let (server, ctx) = (server.clone(), ctx.clone());
    tokio::spawn(async move { server.call_tool("get", json!({ "id": id }), &ctx).await })
}

/// Makes the calls one after the other, and waits until they are in the queue.
async fn queued(
    server: &impl McpHandler,
    ctx: &RequestContext,
    ids: std::ops::Range<usize>,
) -> Vec<JoinHandle<McpResult<ToolResult>>> {
    let calls = ids.map(|id| get(server, ctx, id)).collect();
    settle().await;
    calls
}

/// Returns how many calls the tool answered.
async fn answered(calls: Vec<JoinHandle<McpResult<ToolResult>>>) -> usize {
    let answers = join_all(calls).await.into_iter().map(|answer| answer.expect("no panic"));
    answers.filter(|answer| outcome::failure(answer).is_none()).count()
}

/// Mallory fills the queue, then Ada makes three calls. Returns how many calls of each are answered.
async fn ada_after_mallory(
    server: &impl McpHandler,
    gate: &Gate,
    mallory: &RequestContext,
    ada: &RequestContext,
) -> (usize, usize) {
    // The first call runs at once.
    let first = queued(server, mallory, 0..1).await;
    let his = queued(server, mallory, 1..21).await;
    let hers = queued(server, ada, 100..103).await;
    let more_of_his = queued(server, mallory, 21..41).await;
    gate.open_for(1_000);
    let answers = (answered(hers).await, answered(his).await + answered(more_of_his).await);
    assert_eq!(answered(first).await, 1);
    answers
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_many_groups_takes_no_place_from_a_caller_with_few_calls() {
    let gate = Gate::closed();
    let server = behind(&gate, |batched| batched.with_batch_key(|call| call.args["id"].to_string()));
    assert_eq!(ada_after_mallory(&server, &gate, &user("mallory"), &user("ada")).await, (3, 7));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_fills_a_public_queue_makes_room_for_others() {
    let gate = Gate::closed();
    let server = behind(&gate, |batched| batched.with_scope(Scope::Public));
    assert_eq!(ada_after_mallory(&server, &gate, &user("mallory"), &user("ada")).await, (3, 7));
}

#[tokio::test(start_paused = true)]
async fn anonymous_callers_have_a_share_for_each_connection() {
    let gate = Gate::closed();
    let server = behind(&gate, |batched| batched);
    let on = |connection: &str| nobody().with_session_id(connection);
    assert_eq!(ada_after_mallory(&server, &gate, &on("1"), &on("2")).await, (3, 7));
}

#[tokio::test(start_paused = true)]
async fn shares_are_those_of_the_callers_that_the_identity_tells_apart() {
    let gate = Gate::closed();
    let one = Identity::new().with_partition(|_| "all the same");
    let server = behind(&gate, |batched| batched.with_scope(Scope::Public).with_identity(one));
    assert_eq!(ada_after_mallory(&server, &gate, &user("mallory"), &user("ada")).await, (0, 10));
}

#[tokio::test(start_paused = true)]
async fn the_groups_of_one_caller_share_its_places() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent)
        .with_max_in_flight(1)
        .with_max_queue(4)
        .with_groups(|key| (key / 100).to_be_bytes());
    let load = |key| {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.load(&user("ada"), key).await })
    };
    let first = load(0);
    settle().await;
    let large: Vec<_> = (1..5).map(load).collect();
    settle().await;
    let small = load(100);
    settle().await;
    gate.open_for(10);
    assert!(first.await.expect("no panic").is_ok() && small.await.expect("no panic").is_ok());
    let large = join_all(large).await.into_iter().filter(|call| call.as_ref().expect("no panic").is_ok()).count();
    assert_eq!(large, 3, "the newest call of the large group was evicted");
}
