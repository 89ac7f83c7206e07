//! Tools that ask several sources: concurrently, and one after the other.

use std::time::Duration;

use mcp_patterns::cached::Cache;
use mcp_patterns::retry::RetryPolicy;
use mcp_patterns::transactional;
use mcp_patterns::workflow::{Fallback, Gather, Source};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Executor, SqlitePool};
use tokio::time::sleep;
use turbomcp::prelude::*;

use super::client::OpenMeteo;
use super::server::condition;

/// The timeout of the optional source of a partial answer.
const PATIENCE: Duration = Duration::from_secs(2);
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a call waits for a connection of the database.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// The source of an answer, or of a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Origin {
    /// The weather service, in `fetch_all`.
    Weather,
    /// The newspaper, in `fetch_all`.
    News,
    /// The exchange, in `fetch_all`.
    Stocks,
    /// The weather service, in `fetch_aggregated`.
    Primary,
    /// The newspaper, in `fetch_aggregated`.
    Secondary,
    /// The memory of `smart_search`.
    Cache,
    /// The table of `smart_search`.
    Database,
    /// The weather service's gazetteer, in `smart_search`.
    Api,
}

/// The sources. Clones share them.
#[derive(Debug, Clone)]
pub struct Sources {
    api: OpenMeteo,
    found: Cache<String, String>,
    places: SqlitePool,
    retry: RetryPolicy,
    failing: Option<Origin>,
}

impl Sources {
    /// Asks this service, and keeps its results in memory.
    #[must_use]
    pub fn new(api: OpenMeteo) -> Self {
        Self {
            api,
            found: Cache::new(),
            places: places(SqliteConnectOptions::new().in_memory(true)),
            retry: RetryPolicy::new(),
            failing: None,
        }
    }

    /// Keeps results in the database of this URL.
    ///
    /// # Errors
    ///
    /// If it is not the URL of a SQLite database.
    pub fn with_places(mut self, url: &str) -> Result<Self, sqlx::Error> {
        self.places = places(url.parse::<SqliteConnectOptions>()?.create_if_missing(true));
        Ok(self)
    }

    /// Makes one source fail.
    #[must_use]
    pub fn with_failing(mut self, origin: Origin) -> Self {
        self.failing = Some(origin);
        self
    }

    /// All sources concurrently: all succeed or the answer fails.
    pub(super) async fn fetch_all(&self, ctx: &RequestContext, query: &str) -> McpResult<Value> {
        let (weather, news, stocks) = Gather::new()
            .all(
                ctx,
                (
                    Source::new("weather", || self.weather(Origin::Weather, query)),
                    Source::new("news", || self.news(Origin::News, query)),
                    Source::new("stocks", || self.stocks(query)),
                ),
            )
            .await?;
        Ok(json!({ "weather": weather, "news": news, "stocks": stocks }))
    }

    /// A partial answer: a source that fails is reported in its own slot.
    pub(super) async fn fetch_aggregated(&self, ctx: &RequestContext, query: &str) -> McpResult<Value> {
        let sources = [
            Source::new("primary", || self.weather(Origin::Primary, query)).with_retry(&self.retry),
            Source::new("secondary", || self.news(Origin::Secondary, query)).with_timeout(PATIENCE),
        ];
        Ok(json!(Gather::new().degrade(ctx, sources).await?))
    }

    /// The first source with the place answers, and the sources before it are filled.
    pub(super) async fn smart_search(&self, ctx: &RequestContext, query: &str) -> McpResult<ToolResult> {
        let key = query.trim().to_lowercase();
        let sources = [
            Source::new("cache", || async { self.works(Origin::Cache).map(|()| self.found.get(&key)) }).with_backfill(
                |found| async {
                    self.works(Origin::Cache)?;
                    self.found.insert(key.clone(), found);
                    Ok(())
                },
            ),
            Source::new("database", || self.search_database(&key))
                .with_timeout(DATABASE_TIMEOUT)
                .with_backfill(|found| self.store_in_database(&key, found)),
            Source::new("api", || self.search_api(&key)),
        ];
        match Fallback::new().find(ctx, sources).await? {
            Some(found) => {
                let text = format!("[{}] {}", found.source.to_uppercase(), found.value);
                Ok(found.annotate(ToolResult::text(text)))
            }
            None => Err(McpError::invalid_params(format!("No city named '{query}' is known"))),
        }
    }

    async fn weather(&self, origin: Origin, query: &str) -> McpResult<String> {
        self.works(origin)?;
        let Some(place) = self.api.find_place(query).await? else {
            return Err(McpError::invalid_params(format!("No city named '{query}' is known")));
        };
        let now = self.api.current(&place).await?;
        Ok(format!("Weather for {}: {}, {:.1}°C", place.name, condition(now.weather_code), now.temperature))
    }

    /// A stub for a newspaper.
    async fn news(&self, origin: Origin, query: &str) -> McpResult<String> {
        sleep(Duration::from_millis(150)).await;
        self.works(origin)?;
        Ok(format!("News about {query}"))
    }

    /// A stub for an exchange.
    async fn stocks(&self, query: &str) -> McpResult<String> {
        sleep(Duration::from_millis(80)).await;
        self.works(Origin::Stocks)?;
        Ok(format!("Stock data for {query}"))
    }

    async fn search_database(&self, key: &str) -> McpResult<Option<String>> {
        self.works(Origin::Database)?;
        sqlx::query_scalar("select found from places where query = $1")
            .bind(key)
            .fetch_optional(&self.places)
            .await
            .map_err(transactional::failed)
    }

    async fn store_in_database(&self, key: &str, found: String) -> McpResult<()> {
        self.works(Origin::Database)?;
        sqlx::query("insert into places values ($1, $2) on conflict do update set found = excluded.found")
            .bind(key)
            .bind(found)
            .execute(&self.places)
            .await
            .map_err(transactional::failed)?;
        Ok(())
    }

    async fn search_api(&self, key: &str) -> McpResult<Option<String>> {
        self.works(Origin::Api)?;
        let place = self.api.find_place(key).await?;
        Ok(place.map(|place| {
            let country = place.country.map(|country| format!(", {country}")).unwrap_or_default();
            format!("{}{country}: {}, {}", place.name, place.latitude, place.longitude)
        }))
    }

    fn works(&self, origin: Origin) -> McpResult<()> {
        if self.failing == Some(origin) {
            tracing::warn!(?origin, "made to fail");
            return Err(McpError::unavailable("The source was made to fail"));
        }
        Ok(())
    }
}

/// One connection is enough here. A connection to a database in memory must stay open: the places would be lost with
/// it.
fn places(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async {
                connection
                    .execute("create table if not exists places (query text primary key, found text not null)")
                    .await?;
                Ok(())
            })
        })
        .connect_lazy_with(options)
}
