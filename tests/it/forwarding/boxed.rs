//! The same for a server without its type: alone, with layers inside and with layers around it.

use mcp_patterns::boxed;
use turbomcp_core::McpHandler;

use super::everything::Everything;
use super::{answers_as_the_bare_server, fails_as_the_bare_server, reaches_the_server_once, served, wrapped};

fn with_layers_inside(server: Everything) -> impl McpHandler {
    boxed(wrapped(server))
}

fn with_layers_around(server: Everything) -> impl McpHandler {
    wrapped(boxed(server))
}

macro_rules! boxed_servers {
    ($($name:ident: $check:path;)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            $check(boxed).await;
            $check(with_layers_inside).await;
            $check(with_layers_around).await;
        }
    )+};
}

boxed_servers! {
    every_method_answers_as_the_bare_server_does: answers_as_the_bare_server;
    every_method_fails_as_the_bare_server_does: fails_as_the_bare_server;
    every_request_and_notification_reaches_the_server_once_with_its_arguments: reaches_the_server_once;
    a_client_sees_the_same_as_of_the_bare_server: served::is_seen_as_the_bare_server;
    a_notification_reaches_the_server: served::hears_a_notification;
    a_running_server_is_initialized_once_and_shut_down_once: served::is_initialized_and_shut_down_once;
    a_server_that_cannot_start_says_so: served::reports_that_it_cannot_start;
    the_router_answers_every_request_as_for_the_bare_server: served::is_routed_as_the_bare_server;
}
