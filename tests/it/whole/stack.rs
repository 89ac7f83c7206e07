//! The stack that a call through all layers needs. A debug build needs the most: it keeps each temporary value of a function apart.
//!
//! A call that needs more ends the process, which names the thread that overflowed.

use std::net::SocketAddr;
use std::thread;

use axum::serve;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use turbomcp::{
    BearerRejection, BearerTokenValidator, HttpAuthorization, McpHandler, ServerBuilder, ServerConfig, ValidationFuture,
};
use turbomcp_core::auth::Principal;

use super::shop::{self, ada, args};
use crate::client::Client;

const TOOLS: [&str; 8] = ["ring", "article", "price", "stock", "register", "remember", "send", "pay"];

#[test]
fn every_call_through_all_layers_needs_less_than_192_kib_of_stack() {
    // It runs all the time, so that a connection can return to the pool.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let pool = runtime.block_on(shop::database()).expect("a database");
    let server = shop::whole(&pool);
    for tool in TOOLS {
        let server = server.clone();
        let calls = move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            for call in 0..2 {
                let answer = runtime.block_on(server.call_tool(tool, args(tool, call), &ada()));
                let answer = answer.expect("an answer");
                assert!(!answer.is_error(), "{answer:?}");
            }
        };
        let small = thread::Builder::new().name(format!("`{tool}` on 192 KiB")).stack_size(192 << 10);
        small.spawn(calls).expect("a thread").join().unwrap_or_else(|_| panic!("`{tool}` failed"));
    }
}

/// Accepts the token `ada`, as Ada.
struct Tokens;

impl BearerTokenValidator for Tokens {
    fn validate<'a>(&'a self, token: &'a str) -> ValidationFuture<'a> {
        Box::pin(async move {
            if token == "ada" {
                Ok(Principal::new("ada"))
            } else {
                Err(BearerRejection::InvalidToken("unknown".into()))
            }
        })
    }
}

/// Serves until `stop` is dropped, on workers whose stack is a quarter of the usual one.
fn serve_on_small_stacks(url: oneshot::Sender<String>, stop: oneshot::Receiver<()>) {
    let workers = Builder::new_multi_thread().worker_threads(2).thread_stack_size(512 << 10).enable_all().build();
    workers.expect("a runtime").block_on(async {
        let pool = shop::database().await.expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let authorization = HttpAuthorization::new(format!("{origin}/mcp"), origin.clone(), Tokens);
        let config = ServerConfig::builder().authorization(authorization).build();
        let router = ServerBuilder::new(shop::whole(&pool)).with_config(config).into_axum_router();
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        url.send(format!("{origin}/mcp")).expect("a receiver waits");
        let stopped = async { drop(stop.await) };
        serve(listener, router).with_graceful_shutdown(stopped).await.expect("it is served");
    });
}

#[tokio::test]
async fn all_layers_over_http_answer_on_workers_with_a_quarter_of_the_usual_stack() {
    let ((url, at), (stop, stopped)) = (oneshot::channel(), oneshot::channel());
    let server = thread::spawn(|| serve_on_small_stacks(url, stopped));
    let client = Client::over_http(&at.await.expect("the server starts"), Some("ada")).await;
    for tool in TOOLS {
        for call in 0..2 {
            let answer = client.call(tool, args(tool, call)).await;
            assert_ne!(answer.is_error, Some(true), "{tool}: {answer:?}");
        }
    }
    client.close().await;
    drop(stop);
    server.join().expect("the server does not panic");
}
