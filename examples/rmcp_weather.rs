//! The weather, as a server of the official SDK, `rmcp`, without sessions: any replica answers any request, and all replicas share their
//! answers through Redis. Start two, each in its own terminal:
//!
//! ```text
//! cargo run --example rmcp_weather --features full -- --http 127.0.0.1:8001 --redis redis://127.0.0.1
//! cargo run --example rmcp_weather --features full -- --http 127.0.0.1:8002 --redis redis://127.0.0.1
//! ```
//!
//! Ask one, and then the other. `_meta` of the second answer says that it is a hit of the second level:
//!
//! ```text
//! curl 127.0.0.1:8001/mcp -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
//!     -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"weather","arguments":{"city":"Paris"}}}'
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use mcp_patterns::cached::RedisLevel;
use mcp_patterns::rmcp_server::{Failed, McpError};
use mcp_patterns::{CachedTool, RedisConnection, RetryTool, RmcpServer, Scope, TryLayer, ValidatedTool};
use rmcp::handler::server::{router::tool::ToolRouter, wrapper::Parameters};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};

#[derive(Clone)]
struct Weather {
    tool_router: ToolRouter<Self>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Place {
    #[schemars(length(min = 1, max = 100))]
    city: String,
}

#[tool_router]
impl Weather {
    #[tool(description = "Reads the weather of a city", annotations(read_only_hint = true))]
    async fn weather(&self, Parameters(Place { city }): Parameters<Place>) -> Result<String, Failed> {
        // A slow service, which is down every third time.
        eprintln!("the service is asked for {city}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        match (fastrand::u8(..3), city.as_str()) {
            (0, _) => Err(Failed(McpError::unavailable("The weather service is down"))),
            (_, "Paris" | "Lima" | "Oslo") => Ok(format!("Sunny in {city}")),
            _ => Err(Failed(McpError::invalid_params(format!("The weather service knows no city '{city}'")))),
        }
    }
}

#[tool_handler(router = self.tool_router, name = "weather", version = "1.0.0")]
impl ServerHandler for Weather {}

/// Tells the weather, over HTTP
#[derive(Parser)]
struct Args {
    /// Serve at this address (port 0 takes a free port)
    #[arg(long)]
    http: SocketAddr,
    /// Share answers with other replicas through the Redis at this address
    #[arg(long)]
    redis: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let redis = RedisConnection::open(&args.redis)?;
    let shared = RedisLevel::new(redis.clone()).with_subscriber(&redis);
    // The weather is the same for all callers, so all share the answers.
    let cached = CachedTool::new().with_scope(Scope::Public).with_second_level(shared);
    let retry = RetryTool::new().with_max_attempts(9).with_base_delay(Duration::from_millis(10));
    let weather = RmcpServer::try_new(Weather { tool_router: Weather::tool_router() })?;
    let server = (ValidatedTool::new(), cached, retry).try_layer(weather)?;

    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let service =
        StreamableHttpService::new(move || Ok(server.clone()), Arc::new(NeverSessionManager::default()), config);
    let listener = tokio::net::TcpListener::bind(args.http).await?;
    eprintln!("listening on http://{}/mcp", listener.local_addr()?);
    Ok(axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?)
}
