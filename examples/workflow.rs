//! A tool that asks two sources returns a partial answer when one of them fails.
//!
//! `cargo run --example workflow --features workflow` serves it over stdio.
//!
//! Call `report` from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command. The weather has
//! `"status": "success"`, the news have `"status": "error"`: their source takes longer than its timeout.

use std::future::pending;
use std::time::Duration;

use mcp_patterns::retry::RetryPolicy;
use mcp_patterns::workflow::{Gather, Source};
use turbomcp::prelude::*;

#[derive(Clone, Default)]
struct Desk {
    retry: RetryPolicy,
}

#[server(name = "desk", version = "1.0.0")]
impl Desk {
    /// Reports what is known about a city.
    #[tool(read_only = true)]
    async fn report(&self, ctx: &RequestContext, city: String) -> McpResult<serde_json::Value> {
        let sources = [
            Source::new("weather", || fetch_weather(&city)).with_retry(&self.retry).required(),
            Source::new("news", || fetch_news(&city)).with_timeout(Duration::from_secs(1)),
        ];
        let answer = Gather::new().degrade(ctx, sources).await?;
        Ok(serde_json::json!(answer))
    }
}

async fn fetch_weather(city: &str) -> McpResult<String> {
    Ok(format!("Sunny in {city}"))
}

/// A service that does not answer.
async fn fetch_news(_city: &str) -> McpResult<String> {
    pending().await
}

#[tokio::main]
async fn main() -> McpResult<()> {
    Desk::default().run_stdio().await
}
