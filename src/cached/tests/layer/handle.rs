use turbomcp_core::McpError;

use super::*;
use crate::cached::MemoryLevel;
use crate::{CachedTool, Layer};

#[tokio::test]
async fn a_handle_taken_before_the_layer_is_applied_works_afterwards() {
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(numbered());
    drop(layer);
    assert_eq!([read(&server).await, read(&server).await], ["1", "1"]);
    handle.clone().clear();
    assert_eq!(read(&server).await, "2");
    handle.warm([("read", json!({"book": 1}))], 1).await.expect("a server");
    assert_eq!(handle.stats().loads, 3);
}

#[tokio::test(start_paused = true)]
async fn hits_misses_loads_and_failures_are_counted() {
    let gate = Gate::closed();
    let script = ScriptedServer::new("library").with_read_only("read", {
        let gate = gate.clone();
        move |call| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                if call.args["book"] == 2 { Err(McpError::internal("burnt")) } else { Ok(ToolResult::text("a book")) }
            }
        }
    });
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(script);
    let stats = handle.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads, stats.failed_loads, stats.entries), (0, 0, 0, 0, 0));
    let calls = futures_util::future::join_all((0..10).map(|_| read(&server)));
    let open = async {
        settle().await;
        gate.open();
    };
    tokio::join!(calls, open);
    for _ in 0..3 {
        read(&server).await;
        let _ = server.call_tool("read", json!({"book": 2}), &nobody()).await;
    }
    let stats = handle.stats();
    assert_eq!((stats.hits, stats.misses), (3, 10 + 3));
    assert_eq!((stats.loads, stats.failed_loads, stats.entries), (1 + 3, 3, 1));
    assert!(stats.weight > 0);
}

#[tokio::test]
async fn a_second_server_of_the_same_name_shares_the_results() {
    let layer = CachedTool::new();
    let (first, second) = (numbered(), numbered());
    let server = layer.layer(first.clone());
    assert_eq!(read(&server).await, "1");
    let wrapped_again = layer.clone().layer(second.clone());
    assert_eq!(read(&wrapped_again).await, "1");
    assert_eq!((first.calls("read"), second.calls("read")), (1, 0));
}

#[tokio::test]
async fn a_server_cloned_for_each_connection_shares_the_results() {
    let script = numbered();
    let server = CachedTool::new().layer(script.clone());
    for _ in 0..12 {
        assert_eq!(read(&server.clone()).await, "1");
    }
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_of_two_servers_that_share_results_share_loads_too() {
    let gate = Gate::closed();
    let layer = CachedTool::new();
    let scripts = [numbered_behind(&gate), numbered_behind(&gate)];
    let [one, other] = scripts.clone().map(|script| layer.layer(script));
    let open = async {
        settle().await;
        gate.open();
    };
    tokio::join!(read(&one), read(&other), open);
    assert_eq!(scripts.iter().map(|script| script.calls("read")).sum::<usize>(), 1);
}

#[tokio::test]
async fn a_handle_invalidates_on_every_server_that_shares_the_results() {
    let layer = CachedTool::new();
    let script = numbered();
    let servers = [layer.layer(script.clone()), layer.layer(script.clone())];
    read(&servers[0]).await;
    layer.handle().invalidate("read", &json!({}));
    assert_eq!(read(&servers[1]).await, "2");
    assert_eq!(read(&servers[0]).await, "2");
}

#[tokio::test]
async fn a_handle_stays_valid_whatever_setter_is_called_later() {
    let level = MemoryLevel::new();
    let cached = CachedTool::new();
    let handle = cached.handle();
    let server = cached
        .with_max_entries(100)
        .with_second_level(level)
        .with_max_bytes(1 << 20)
        .with_max_result_bytes(1 << 10)
        .with_ttl(MINUTE)
        .layer(numbered());
    // Results from before the subscription are not kept, and this call waits for the subscription.
    assert_eq!(handle.warm([("read", json!({}))], 1).await.map(|warmed| warmed.loaded), Ok(1));
    assert_eq!([read(&server).await, read(&server).await], ["1", "1"]);
    handle.invalidate("read", &json!({}));
    assert_eq!(read(&server).await, "2");
    assert_eq!((handle.stats().hits, handle.stats().loads), (2, 2));
    assert!(handle.stats().second_level.is_some());
    assert!(handle.refresh("read", json!({})).await.is_ok_and(|refreshed| refreshed));
    assert_eq!(read(&server).await, "3");
}

#[tokio::test]
async fn handles_of_two_layers_made_from_one_control_their_own_layer() {
    let common = CachedTool::new();
    let [one, other] = [10, 20].map(|entries| common.clone().with_max_entries(entries));
    let (handle, untouched) = (one.handle(), other.handle());
    let (one, other) = (one.layer(numbered()), other.layer(numbered()));
    for server in [&one, &other] {
        assert_eq!(read(server).await, "1");
    }
    handle.clear();
    assert_eq!((read(&one).await.as_str(), read(&other).await.as_str()), ("2", "1"));
    assert_eq!((handle.stats().loads, untouched.stats().loads), (2, 1));
}
