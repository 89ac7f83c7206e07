//! The weather of a city, from three requests to a weather service.

use std::time::Duration;

use mcp_patterns::cached::Cache;
use mcp_patterns::outcome::ErrorKind;
use schemars::JsonSchema;
use serde::Serialize;
use turbomcp::prelude::*;

use super::client::{self, FORECAST_DAYS, OpenMeteo, Place};
use super::geocoder::Geocoder;
use super::sources::Sources;

/// The longest name of a city that is looked up, in characters.
pub const MAX_CITY_CHARS: usize = 100;

/// The ttl of a place.
const PLACE_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The ttl of the weather.
const WEATHER_TTL: Duration = Duration::from_secs(60);

/// The cities that are requested most.
pub const POPULAR_CITIES: &[&str] =
    &["London", "New York", "Tokyo", "Paris", "Singapore", "San Francisco", "Sydney", "Berlin"];

/// A city's weather, now and on the next days.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// The city's name in English
    city: String,
    /// The country's name in English
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    /// Degrees north of the equator
    latitude: f64,
    /// Degrees east of Greenwich
    longitude: f64,
    /// The IANA name of the time zone that the dates are in
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    /// The weather at the moment
    current: Current,
    /// The weather of the next days, today first
    days: Vec<Day>,
}

/// The weather at the moment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Current {
    /// What the sky does, in a word or two
    condition: &'static str,
    /// The WMO's code (table 4677) for what the sky does
    weather_code: u8,
    /// Temperature in degrees Celsius
    temperature_celsius: f64,
    /// Relative humidity in per cent
    humidity_percent: f64,
    /// Wind speed in kilometres per hour
    wind_kmh: f64,
}

/// The weather of one day.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Day {
    /// The day, as 2025-01-31
    date: String,
    /// What the sky does, in a word or two
    condition: &'static str,
    /// The WMO's code (table 4677) for what the sky does
    weather_code: u8,
    /// Highest temperature in degrees Celsius
    max_celsius: f64,
    /// Lowest temperature in degrees Celsius
    min_celsius: f64,
    /// Probability of rain or snow in per cent
    #[serde(skip_serializing_if = "Option::is_none")]
    precipitation_percent: Option<f64>,
}

/// Tells the weather. Clones share their connections and what they know.
///
/// Each step of the chain is cached, so that a retried call repeats only the failed step.
#[derive(Debug, Clone)]
pub struct WeatherServer {
    api: OpenMeteo,
    geocoder: Geocoder,
    places: Cache<String, Place>,
    current: Cache<Coordinates, Current>,
    days: Cache<Coordinates, Vec<Day>>,
    sources: Sources,
}

/// Latitude and longitude, as they came from geocoding.
type Coordinates = [u64; 2];

fn coordinates(place: &Place) -> Coordinates {
    [place.latitude, place.longitude].map(f64::to_bits)
}

#[server(
    name = "weather",
    version = "1.0.0",
    instructions = "Tells the weather of a city: call `get_forecast` with the city's name. \
                    Temperatures are in degrees Celsius, wind speeds in kilometres per hour."
)]
impl WeatherServer {
    #[tool(
        description = "Tells a city's weather, now and on the next three days",
        read_only = true,
        idempotent = true,
        open_world = true,
        output_schema = Forecast
    )]
    async fn get_forecast(
        &self,
        ctx: &RequestContext,
        #[description("The city's name, 1 to 100 characters, such as Paris")] city: String,
    ) -> McpResult<ToolResult> {
        let place = self.geocode(ctx, &city).await?;
        // Both need only the coordinates. The result of one is cached if the other fails.
        let (current, days) = tokio::join!(self.fetch_weather(ctx, &place), self.fetch_forecast(ctx, &place));
        let forecast = Forecast {
            city: place.name,
            country: place.country,
            latitude: place.latitude,
            longitude: place.longitude,
            timezone: place.timezone,
            current: current?,
            days: days?,
        };
        Ok(ToolResult::text(forecast.to_string()).with_structured(&forecast))
    }

    #[tool(
        description = "Fetches a city's weather, news and stocks, all of them or none",
        read_only = true,
        idempotent = true,
        open_world = true
    )]
    async fn fetch_all(&self, ctx: &RequestContext, query: String) -> McpResult<serde_json::Value> {
        self.sources.fetch_all(ctx, &query).await
    }

    #[tool(
        description = "Fetches what can be had about a city: its weather from the primary source, news from the secondary",
        read_only = true,
        idempotent = true,
        open_world = true
    )]
    async fn fetch_aggregated(&self, ctx: &RequestContext, query: String) -> McpResult<serde_json::Value> {
        self.sources.fetch_aggregated(ctx, &query).await
    }

    #[tool(
        description = "Finds where a city lies, in the nearest place that knows: the cache, the database or the API",
        read_only = true,
        idempotent = true,
        open_world = true
    )]
    async fn smart_search(&self, ctx: &RequestContext, query: String) -> McpResult<ToolResult> {
        self.sources.smart_search(ctx, &query).await
    }
}

impl WeatherServer {
    /// Creates a server for this service.
    #[must_use]
    pub fn new(api: OpenMeteo) -> Self {
        Self {
            sources: Sources::new(api.clone()),
            geocoder: Geocoder::new(api.clone()),
            api,
            places: Cache::new().with_ttl(PLACE_TTL),
            current: Cache::new().with_ttl(WEATHER_TTL),
            days: Cache::new().with_ttl(WEATHER_TTL),
        }
    }

    /// Replaces the sources of the tools with several sources.
    #[must_use]
    pub fn with_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    async fn geocode(&self, ctx: &RequestContext, city: &str) -> McpResult<Place> {
        let city = city.trim().to_owned();
        if city.is_empty() {
            return Err(McpError::invalid_params("The city must not be blank"));
        }
        if city.chars().count() > MAX_CITY_CHARS {
            return Err(McpError::invalid_params(format!("The city has at most {MAX_CITY_CHARS} characters")));
        }
        let geocoder = self.geocoder.clone();
        let find = move |city: String| async move {
            geocoder.find(city.clone()).await?.ok_or_else(|| {
                let message = format!("No city named '{city}' is known");
                McpError::new(ErrorKind::ResourceNotFound, message)
            })
        };
        self.places.get_or_load(ctx, city.to_lowercase(), || find(city)).await
    }

    async fn fetch_weather(&self, ctx: &RequestContext, place: &Place) -> McpResult<Current> {
        let (api, at) = (self.api.clone(), place.clone());
        let load = || async move {
            let now = api.current(&at).await?;
            Ok(Current {
                condition: condition(now.weather_code),
                weather_code: now.weather_code,
                temperature_celsius: now.temperature,
                humidity_percent: now.humidity,
                wind_kmh: now.wind_speed,
            })
        };
        self.current.get_or_load(ctx, coordinates(place), load).await
    }

    async fn fetch_forecast(&self, ctx: &RequestContext, place: &Place) -> McpResult<Vec<Day>> {
        let (api, at) = (self.api.clone(), place.clone());
        let load = || async move {
            let days = days(api.daily(&at).await?);
            if days.len() < FORECAST_DAYS {
                tracing::warn!(days = days.len(), "the weather service left days out");
                return Err(McpError::internal("The forecast is incomplete"));
            }
            Ok(days)
        };
        self.days.get_or_load(ctx, coordinates(place), load).await
    }
}

/// Turns lists per quantity into a list of days, as long as the shortest list.
fn days(daily: client::Daily) -> Vec<Day> {
    let sky = daily.time.into_iter().zip(daily.weather_code);
    let temperatures = daily.max.into_iter().zip(daily.min);
    sky.zip(temperatures)
        .zip(daily.rain_probability)
        .map(|(((date, weather_code), (max, min)), rain)| Day {
            date,
            condition: condition(weather_code),
            weather_code,
            max_celsius: max,
            min_celsius: min,
            precipitation_percent: rain,
        })
        .collect()
}

/// The meaning of a code of the WMO's table 4677, in a word or two.
#[must_use]
pub fn condition(weather_code: u8) -> &'static str {
    match weather_code {
        0 => "Sunny",
        1 => "Mostly sunny",
        2 => "Partly cloudy",
        3 => "Cloudy",
        45..=48 => "Foggy",
        51..=57 => "Drizzle",
        61..=67 => "Rainy",
        71..=77 => "Snowy",
        80..=82 => "Showers",
        85..=86 => "Snow showers",
        95..=99 => "Thunderstorms",
        _ => "Unsettled",
    }
}

impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let now = &self.current;
        writeln!(f, "Weather in {}:", self.city)?;
        writeln!(f, "Current: {}, {:.1}°C, wind {:.0} km/h", now.condition, now.temperature_celsius, now.wind_kmh)?;
        let days: Vec<_> = self
            .days
            .iter()
            .map(|day| {
                let (max, min) = (whole(day.max_celsius), whole(day.min_celsius));
                format!("{} {max}/{min}°C", day.condition)
            })
            .collect();
        write!(f, "Forecast: Next {} days: {}", days.len(), days.join(", "))
    }
}

/// Rounds for display; `{:.0}` would write -0 for -0.4.
fn whole(degrees: f64) -> i64 {
    degrees.round() as i64
}
