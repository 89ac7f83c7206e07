//! Serves a handler over stdio or HTTP.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
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
    let (listener, url) = bind(port).await?;
    handler.on_initialize().await?;
    let mut server = ServerBuilder::new(handler.clone());
    if authorize {
        server = server.with_config(ServerConfig::builder().authorization(authorization::named(&url)).build());
    }
    // The origin check refuses a request without `Origin` unless it knows that its peer is local.
    let app = server.into_axum_router().into_make_service_with_connect_info::<SocketAddr>();
    println!("{url}");
    let served = until_signalled(axum::serve(listener, app).into_future()).await;
    handler.on_shutdown().await?;
    served
}

/// Serves a server of rmcp over HTTP, without sessions.
pub(crate) async fn serve_rmcp<S: ServerHandler + Clone>(server: S, options: &Options) -> Result<(), Failure> {
    let Some(port) = options.transport.http else {
        return Err(Failure("This server speaks only HTTP: give --http".to_owned()));
    };
    let (listener, url) = bind(port).await?;
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false);
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
    println!("{url}");
    until_signalled(axum::serve(listener, Router::new().nest_service("/mcp", service)).into_future()).await
}

async fn bind(port: u16) -> Result<(TcpListener, String), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| Failure(format!("Cannot listen on port {port}: {error}. Use --http 0 for a free port")))?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    Ok((listener, url))
}

async fn until_signalled(served: impl Future<Output = std::io::Result<()>>) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        served = served => served.map_err(Failure::from),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
