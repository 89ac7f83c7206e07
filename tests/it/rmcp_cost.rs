//! The cost of layers around a server of rmcp.

pub(crate) mod plain;

use futures_util::FutureExt;
use rmcp::model::{CallToolRequestParams, RequestId};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer, ServerHandler};

use plain::Plain;

/// Counts the allocations of a call that never waits.
fn allocations<S: ServerHandler>(server: &S, peer: &Peer<RoleServer>, tool: &'static str) -> u64 {
    let count = || {
        let ctx = RequestContext::new(RequestId::Number(1), peer.clone());
        let request = CallToolRequestParams::new(tool);
        let call = || {
            let answer = server.call_tool(request, ctx).now_or_never();
            assert!(answer.is_some_and(|answer| answer.is_ok()), "the call does not wait");
        };
        let mut call = Some(call);
        allocation_counter::measure(|| call.take().into_iter().for_each(|call| call())).count_total
    };
    (0..5).map(|_| count()).min().unwrap_or_default()
}

#[tokio::test]
async fn a_call_on_which_no_layer_acts_allocates_as_much_as_without_layers() {
    let server = Plain::new();
    let (_client, peer) = server.connect().await;
    let bare = allocations(&server, &peer, "plain");
    assert_eq!(bare, allocations(&plain::two(server.clone()), &peer, "plain"));
    assert_eq!(bare, allocations(&plain::whole(server.clone()), &peer, "plain"));
}
