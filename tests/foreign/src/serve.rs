//! Serves a handler over stdio or HTTP.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use turbomcp::{ServerBuilder, ServerConfig, Transport};
use turbomcp_core::McpHandler;

use crate::{Options, authorization};

/// The error that ends a server: a text that `main` prints unchanged.
pub struct Failure(String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(crate) async fn serve<H: McpHandler>(handler: H, options: &Options) -> Result<(), Failure> {
    match options.transport.http {
        Some(port) => serve_http(handler, port, options.authorize).await,
        None => Ok(ServerBuilder::new(handler).transport(Transport::stdio()).serve().await?),
    }
}

/// The transport's own listener does not say which port it got, so the socket is bound here.
async fn serve_http<H: McpHandler>(handler: H, port: u16, authorize: bool) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| Failure(format!("Cannot listen on port {port}: {error}. Use --http 0 for a free port")))?;
    let addr = listener.local_addr()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);

    handler.on_initialize().await?;
    let url = format!("http://{addr}/mcp");
    let mut server = ServerBuilder::new(handler.clone());
    if authorize {
        server = server.with_config(ServerConfig::builder().authorization(authorization::named(&url)).build());
    }
    // The origin check refuses a request without `Origin` unless it knows that its peer is local.
    let app = server.into_axum_router().into_make_service_with_connect_info::<SocketAddr>();
    println!("{url}");
    let served = tokio::select! {
        served = axum::serve(listener, app) => served.map_err(Failure::from),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    handler.on_shutdown().await?;
    served
}
