//! The weather server: `cargo run --example weather --features full -- --http 127.0.0.1:8080`.

use std::time::Duration;

use clap::Parser;
use mcp_patterns::cached::RedisLevel;
use mcp_patterns::{CachedTool, RedisConnection, RetryTool, Scope, TryLayer};
use serde_json::json;
use turbomcp::McpError;

pub mod client;
pub mod geocoder;
#[path = "../support/serve.rs"]
pub mod serve;
pub mod server;
pub mod sources;
#[path = "../support/upstream/mod.rs"]
pub mod upstream;

use client::OpenMeteo;
use serve::Failure;
use server::{POPULAR_CITIES, WeatherServer};
use sources::{Origin, Sources};
use upstream::{Upstream, UpstreamSettings};

const LIVE_GEOCODING: &str = "https://geocoding-api.open-meteo.com";
const LIVE_FORECAST: &str = "https://api.open-meteo.com";

/// Tells the weather, over stdio or HTTP
///
/// Without --live the weather comes from an upstream inside this process, which knows some
/// seventy cities and fails as often as it is told to.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: serve::ServeArgs,

    /// Ask Open-Meteo instead of the upstream inside this process
    #[arg(long, conflicts_with_all = ["failure_rate", "latency_ms", "seed"])]
    live: bool,

    /// The share of upstream requests that fail, from 0.0 to 1.0
    #[arg(long, value_name = "SHARE", default_value = "0.0", value_parser = share)]
    failure_rate: f64,

    /// How long the upstream takes to answer, give or take a quarter
    #[arg(long, value_name = "MS", default_value_t = 40)]
    latency_ms: u64,

    /// How often a forecast is tried, the first time included
    #[arg(long, value_name = "N", default_value_t = 6)]
    max_attempts: u32,

    /// Where searches keep what they found, such as sqlite:places.db; without it, in memory
    #[arg(long, value_name = "URL")]
    places_url: Option<String>,

    /// Make one source of the tools that ask several fail
    #[arg(long, value_name = "SOURCE")]
    failing_source: Option<Origin>,

    /// Share answers with other instances through the Redis at this address
    #[arg(long, value_name = "URL")]
    cache: Option<String>,

    /// Where the chance behind the upstream's latency and failures starts
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a failure rate is a number from 0.0 to 1.0".into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    serve::init_logging();
    // The cache is warmed before the first call, and an address in use must not cost these requests.
    let bound = serve::bind(&args.serve).await?;
    if args.live {
        return run(OpenMeteo::new(LIVE_GEOCODING, LIVE_FORECAST)?, &args, bound).await;
    }

    let upstream = Upstream::start(UpstreamSettings {
        latency: Duration::from_millis(args.latency_ms),
        failure_rate: args.failure_rate,
        seed: args.seed,
        ..UpstreamSettings::default()
    })
    .await?;
    let url = upstream.base_url();
    let served = run(OpenMeteo::new(&url, &url)?.with_bulk_search(&url)?, &args, bound).await;
    let requests = upstream.requests();
    tracing::info!(
        "the upstream was asked {} times where a city lies and {} times for its weather; {} of \
         these requests were made to fail",
        requests.search,
        requests.forecast,
        upstream.failures(),
    );
    served
}

/// Serves the weather of `api`.
async fn run(api: OpenMeteo, args: &Args, bound: serve::Bound) -> Result<(), Failure> {
    // The weather is the same for all callers, so all share the answers. Except answers that may be partial, or come
    // from their own cache and state it.
    let mut cached = CachedTool::new()
        .with_ttl(Duration::from_secs(300))
        .with_scope(Scope::Public)
        .except(["fetch_aggregated", "smart_search"]);
    if let Some(url) = &args.cache {
        // It connects when needed: the server works without Redis, and shares answers when Redis is available.
        let redis = RedisConnection::open(url).map_err(|error| {
            McpError::configuration(format!(
                "--cache is the address of a Redis, such as redis://127.0.0.1:6379 ({error})"
            ))
        })?;
        cached = cached.with_second_level(RedisLevel::new(redis.clone()).with_subscriber(&redis));
    }
    let cache = cached.handle();
    let retry = RetryTool::new().with_max_attempts(args.max_attempts).with_max_delay(Duration::from_secs(2));
    let mut sources = Sources::new(api.clone());
    if let Some(url) = &args.places_url {
        sources = sources.with_places(url)?;
    }
    if let Some(origin) = args.failing_source {
        sources = sources.with_failing(origin);
    }
    let server = (cached, retry).try_layer(WeatherServer::new(api).with_sources(sources))?;

    // The first client need not wait for it.
    let warming = cache.clone();
    tokio::spawn(async move {
        let calls = POPULAR_CITIES.iter().map(|city| ("get_forecast", json!({ "city": city })));
        if let Err(mistake) = warming.warm(calls, 4).await {
            tracing::error!(%mistake, "the cache stays cold");
        }
    });

    let served = bound.serve(server).await;
    let stats = cache.stats();
    tracing::info!("the cache answered {} of {} calls", stats.hits, stats.hits + stats.misses);
    served
}
