//! Servers for foreign clients: each starts bare or under layers, over stdio or HTTP.

mod authorization;
pub mod layers;
pub mod serve;

use clap::{Args, Parser, ValueEnum};
use mcp_patterns::{RmcpServer, TryLayer};
use rmcp::ServerHandler;
use turbomcp_core::McpHandler;

pub use layers::Named;
pub use serve::Failure;

/// Serves one server to a foreign client, bare or under layers
#[derive(Debug, Parser)]
pub struct Options {
    #[command(flatten)]
    transport: Transport,

    /// Over HTTP, have callers say who they are: a bearer token is SUBJECT[.TENANT[.ROLE]]
    #[arg(long, requires = "http")]
    authorize: bool,

    /// What is put on the server
    #[arg(long, value_enum, default_value_t = Layers::None)]
    layers: Layers,
}

/// Where a server listens.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Transport {
    /// Serve one client over standard input and output
    #[arg(long)]
    stdio: bool,

    /// Serve over HTTP at this port of 127.0.0.1 (0 takes a free one) and print the URL to stdout
    #[arg(long, value_name = "PORT")]
    http: Option<u16>,
}

/// The layers on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layers {
    /// Nothing.
    None,
    /// All layers in the documented order, with the settings that the server's author would choose.
    Defaults,
    /// All layers, each on every tool that it can be put on.
    Everything,
}

/// Serves `server` as `options` say, until its client is gone (stdio) or a signal comes (HTTP).
///
/// # Errors
///
/// When a layer refuses its settings, when the port is taken, and when the transport breaks.
pub async fn run<H: McpHandler>(server: H, named: &Named, options: &Options) -> Result<(), Failure> {
    match options.layers {
        Layers::None => serve::serve(server, options).await,
        Layers::Defaults => serve::serve(layers::defaults(named).await?.try_layer(server)?, options).await,
        Layers::Everything => serve::serve(layers::everything(&server).await?.try_layer(server)?, options).await,
    }
}

/// Serves a server of rmcp as `options` say, over HTTP without sessions, until a signal comes.
///
/// # Errors
///
/// When a layer refuses its settings, when the port is taken, and when stdio is asked for.
pub async fn run_rmcp<S: ServerHandler + Clone>(server: S, named: &Named, options: &Options) -> Result<(), Failure> {
    let end = RmcpServer::try_new(server.clone())?;
    match options.layers {
        Layers::None => serve::serve_rmcp(server, options).await,
        Layers::Defaults => serve::serve_rmcp(layers::defaults(named).await?.try_layer(end)?, options).await,
        Layers::Everything => serve::serve_rmcp(layers::everything(&end).await?.try_layer(end)?, options).await,
    }
}
