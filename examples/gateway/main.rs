//! A gateway: layers in front of any MCP server, in any language. The settings say which server, which of its tools are cached, called
//! again and limited, and where calls are recorded:
//!
//! ```text
//! cargo run --example gateway --features full -- examples/gateway/everything.toml
//! ```
//!
//! It serves stdio, or HTTP with `--http 127.0.0.1:8000`. `--explain` prints what each layer does. The layers act on the tools that the file
//! names, and not by the annotations of the server, which is not trusted. Tools, resources, prompts, completions, progress and cancellation
//! pass; subscriptions, log messages and questions of the server to its client do not. If the server ends, so does the gateway: whoever has
//! started it starts both again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mcp_patterns::audit::{Buffered, JsonLines};
use mcp_patterns::limited::{Concurrency, Per, Rate};
use mcp_patterns::{
    AuditTool, CachedTool, LimitedTool, RetryTool, RmcpServer, TryLayer, UntrustedServer, ValidatedTool, explain, layer,
};
use rmcp::ServiceExt;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

mod settings;
mod upstream;

/// Puts layers in front of any MCP server
#[derive(Parser)]
struct Args {
    /// The settings, a TOML file
    settings: PathBuf,
    /// Serve at this address (port 0 takes a free port), instead of stdio
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Print what each layer does with which tool, and exit
    #[arg(long)]
    explain: bool,
}

#[tokio::main]
async fn main() {
    if let Err(error) = run(Args::parse()).await {
        eprintln!("gateway: {error}");
        // At once: the thread that reads from stdin would wait for a line.
        std::process::exit(1);
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let settings = settings::Settings::read(&args.settings)?;
    let (running, upstream) = upstream::connect(settings.upstream).await?;
    // The arguments of unnamed tools are checked, too: a schema that cannot be compiled stops no other tool.
    let validated = settings.validated.then(|| ValidatedTool::new().allow_invalid_schemas());
    let cached = settings.cached.map(|cached| {
        let ttl = Duration::from_secs(cached.seconds);
        CachedTool::new().only(cached.tools.clone()).allow_skipped_effects(cached.tools).with_ttl(ttl)
    });
    let retried = settings.retried.map(|retried| {
        let retry = RetryTool::new().only(retried.tools.clone()).allow_repeated_effects(retried.tools);
        retry.with_max_attempts(retried.attempts)
    });
    let limited = settings.limited.map(|limited| {
        LimitedTool::new()
            .with_timeout(Duration::from_secs(limited.timeout_seconds))
            .with_rate(Per::Tool, Rate::per_minute(limited.calls_per_minute))
            .with_concurrency(Per::Tool, Concurrency::new(limited.at_once).with_queue(10 * limited.at_once))
    });
    let mut audited = None;
    if let Some(settings) = settings.audited {
        let file = tokio::fs::OpenOptions::new().create(true).append(true).open(&settings.file).await;
        let file = file.map_err(|error| format!("{}: {error}", settings.file.display()))?;
        let audit = AuditTool::new().with_buffer(Buffered::new(JsonLines::new(file)));
        let recorded = settings.arguments.into_iter();
        audited = Some(recorded.fold(audit, |audit, (tool, pointers)| audit.with_arguments(tool, pointers)));
    }
    let audit = audited.as_ref().map(AuditTool::handle);
    let server = RmcpServer::load(upstream).await?;
    let layers = (
        layer(audited),
        layer(validated),
        layer(cached),
        layer(retried),
        layer(limited),
        layer(UntrustedServer::new()),
    );
    let server = layers.try_layer(server)?;
    if args.explain {
        print!("{}", explain(&server));
        return Ok(());
    }
    let serving = async {
        let Some(address) = args.http else {
            server.serve(rmcp::transport::stdio()).await?.waiting().await?;
            return Ok(());
        };
        let listener = tokio::net::TcpListener::bind(address).await?;
        eprintln!("listening on http://{}/mcp", listener.local_addr()?);
        let sessions = std::sync::Arc::new(LocalSessionManager::default());
        let service =
            StreamableHttpService::new(move || Ok(server.clone()), sessions, StreamableHttpServerConfig::default());
        Ok(axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?)
    };
    let ended = tokio::select! {
        served = serving => served,
        _ = running.waiting() => Err("the server behind it has ended".into()),
    };
    if let Some(audit) = audit {
        audit.flush().await;
    }
    ended
}
