//! A client for Open-Meteo: the position of a place, its current weather and that of the next days.

use std::{error::Error, net::IpAddr, time::Duration};

use reqwest::{RequestBuilder, Response, StatusCode, Url, header::RETRY_AFTER, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use turbomcp::prelude::*;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_CONNECTIONS_PER_HOST: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest answer that is read; real ones are about a thousand times smaller.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The number of days of a forecast, including today.
pub const FORECAST_DAYS: usize = 3;

/// A place that geocoding found.
#[derive(Debug, Clone, Deserialize)]
pub struct Place {
    /// The name in English.
    pub name: String,
    /// The country's name in English, when the place has one.
    pub country: Option<String>,
    /// Degrees north of the equator.
    pub latitude: f64,
    /// Degrees east of Greenwich.
    pub longitude: f64,
    /// The IANA name of the time zone.
    pub timezone: Option<String>,
}

/// The weather at the moment.
#[derive(Debug, Clone, Deserialize)]
pub struct Current {
    /// In degrees Celsius.
    #[serde(rename = "temperature_2m")]
    pub temperature: f64,
    /// In per cent.
    #[serde(rename = "relative_humidity_2m")]
    pub humidity: f64,
    /// In kilometres per hour.
    #[serde(rename = "wind_speed_10m")]
    pub wind_speed: f64,
    /// The WMO's code for what the sky does.
    pub weather_code: u8,
}

/// The weather of whole days, one list per quantity, each as long as `time`.
#[derive(Debug, Clone, Deserialize)]
pub struct Daily {
    /// The days, as `2025-01-31`.
    pub time: Vec<String>,
    /// The WMO's codes for what the sky does.
    pub weather_code: Vec<u8>,
    /// In degrees Celsius.
    #[serde(rename = "temperature_2m_max")]
    pub max: Vec<f64>,
    /// In degrees Celsius.
    #[serde(rename = "temperature_2m_min")]
    pub min: Vec<f64>,
    /// In per cent; not known for every place.
    #[serde(rename = "precipitation_probability_max")]
    pub rain_probability: Vec<Option<f64>>,
}

/// Asks Open-Meteo, or a service with the same API. Clones share their connections.
///
/// # Errors
///
/// The kind of an error shows whether a retry can help:
///
/// | what happened | kind |
/// | --- | --- |
/// | no connection, or it broke | `Unavailable` |
/// | no answer in time | `Timeout` |
/// | too many requests (429) | `RateLimited` |
/// | the service is in trouble (5xx) | `Unavailable` |
/// | the service refused the question, or its answer makes no sense | `Internal` |
///
/// If the service states how long to wait, the error's data is `{"retryAfterMs": N}`. The texts are for callers; the
/// log has the details.
#[derive(Debug, Clone)]
pub struct OpenMeteo {
    http: reqwest::Client,
    search: Url,
    bulk_search: Option<Url>,
    forecast: Url,
}

impl OpenMeteo {
    /// Creates a client for the two services at these base URLs.
    ///
    /// # Errors
    ///
    /// If one of the URLs is invalid or TLS cannot be set up.
    pub fn new(geocoding: &str, forecast: &str) -> McpResult<Self> {
        let search = endpoint(geocoding, "/v1/search")?;
        let forecast = endpoint(forecast, "/v1/forecast")?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("mcp-patterns-weather/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(redirect::Policy::none());
        if [&search, &forecast].into_iter().all(is_loopback) {
            // A proxy for external hosts cannot reach this host.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| McpError::configuration(format!("TLS cannot be set up: {}", root_cause(&error))))?;
        Ok(Self { http, search, bulk_search: None, forecast })
    }

    /// Asks for many places with one request, which the upstream of this example supports and Open-Meteo does not.
    ///
    /// # Errors
    ///
    /// If the URL is invalid.
    pub fn with_bulk_search(mut self, geocoding: &str) -> McpResult<Self> {
        self.bulk_search = Some(endpoint(geocoding, "/v1/search/bulk")?);
        Ok(self)
    }

    /// Returns whether one request can ask for many places.
    #[must_use]
    pub fn has_bulk_search(&self) -> bool {
        self.bulk_search.is_some()
    }

    /// Looks a place up by its name; `None` when there is no such place.
    ///
    /// # Errors
    ///
    /// See [`OpenMeteo`].
    pub async fn find_place(&self, name: &str) -> McpResult<Option<Place>> {
        #[derive(Deserialize)]
        struct Answer {
            // The key is missing if nothing was found.
            #[serde(default)]
            results: Vec<Place>,
        }
        let question = [("name", name), ("count", "1"), ("language", "en"), ("format", "json")];
        let answer: Answer = self.ask(&self.search, &question).await?;
        Ok(answer.results.into_iter().next())
    }

    /// Looks places up by their names, in one request; `None` where there is no such place.
    ///
    /// # Errors
    ///
    /// See [`OpenMeteo`].
    pub async fn find_places(&self, names: &[String]) -> McpResult<Vec<Option<Place>>> {
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<Option<Place>>,
        }
        let Some(url) = &self.bulk_search else {
            return Err(McpError::internal("The weather service knows no bulk search"));
        };
        let request = self.http.post(url.clone()).json(&serde_json::json!({ "names": names }));
        let answer: Answer = self.send(url, request).await?;
        Ok(answer.results)
    }

    /// Reads the current weather of a place.
    ///
    /// # Errors
    ///
    /// See [`OpenMeteo`].
    pub async fn current(&self, place: &Place) -> McpResult<Current> {
        #[derive(Deserialize)]
        struct Answer {
            current: Current,
        }
        let what = "temperature_2m,relative_humidity_2m,weather_code,wind_speed_10m";
        let answer: Answer = self.ask_weather(place, &[("current", what)]).await?;
        Ok(answer.current)
    }

    /// Reads the weather of a place on the next [`FORECAST_DAYS`] days.
    ///
    /// # Errors
    ///
    /// See [`OpenMeteo`].
    pub async fn daily(&self, place: &Place) -> McpResult<Daily> {
        #[derive(Deserialize)]
        struct Answer {
            daily: Daily,
        }
        let what = "weather_code,temperature_2m_max,temperature_2m_min,\
                    precipitation_probability_max";
        let days = FORECAST_DAYS.to_string();
        let question = [("daily", what), ("forecast_days", &days)];
        let answer: Answer = self.ask_weather(place, &question).await?;
        Ok(answer.daily)
    }

    async fn ask_weather<T: DeserializeOwned>(&self, place: &Place, what: &[(&str, &str)]) -> McpResult<T> {
        let latitude = place.latitude.to_string();
        let longitude = place.longitude.to_string();
        let mut question = vec![("latitude", latitude.as_str()), ("longitude", &longitude), ("timezone", "auto")];
        question.extend_from_slice(what);
        self.ask(&self.forecast, &question).await
    }

    async fn ask<T: DeserializeOwned>(&self, url: &Url, question: &[(&str, &str)]) -> McpResult<T> {
        self.send(url, self.http.get(url.clone()).query(question)).await
    }

    async fn send<T: DeserializeOwned>(&self, url: &Url, request: RequestBuilder) -> McpResult<T> {
        let mut response = request.send().await.map_err(|error| broken(&error))?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let body = read(&mut response).await?;
        serde_json::from_slice(&body).map_err(|error| {
            tracing::warn!(%url, %error, "the weather service's answer is not as documented");
            nonsense()
        })
    }
}

fn endpoint(base: &str, path: &str) -> McpResult<Url> {
    Url::parse(base)
        .and_then(|base| base.join(path))
        .map_err(|error| McpError::configuration(format!("'{base}' is no base URL: {error}")))
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().and_then(|host| host.parse::<IpAddr>().ok()).is_some_and(|address| address.is_loopback())
}

/// Reads the body, unless it is too large to be an answer.
async fn read(response: &mut Response) -> McpResult<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            tracing::warn!(url = %response.url(), "the weather service's answer is too large");
            return Err(nonsense());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn nonsense() -> McpError {
    McpError::internal("The weather service gave an answer that makes no sense")
}

/// Classifies an error without a complete answer.
fn broken(error: &reqwest::Error) -> McpError {
    let cause = root_cause(error);
    tracing::warn!(%error, %cause, "the weather service cannot be asked");
    if error.is_timeout() {
        McpError::timeout("The weather service did not answer in time")
    } else if error.is_builder() {
        McpError::internal("The weather service could not be asked")
    } else {
        McpError::unavailable("The weather service cannot be reached")
    }
}

/// reqwest's own text says little; the cause is at the end of the chain.
fn root_cause(error: &dyn Error) -> &dyn Error {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// Classifies an answer that is no success.
async fn refused(mut response: Response) -> McpError {
    let status = response.status();
    let wait = retry_after(&response);
    let reason = match read(&mut response).await {
        Ok(body) => String::from_utf8_lossy(&body).chars().take(500).collect(),
        Err(_) => String::new(),
    };
    tracing::warn!(url = %response.url(), %status, reason, "the weather service refused");
    let error = match status {
        StatusCode::TOO_MANY_REQUESTS => McpError::rate_limited("The weather service is asked too often at the moment"),
        StatusCode::REQUEST_TIMEOUT => McpError::timeout("The weather service did not answer in time"),
        status if status.is_server_error() => {
            McpError::unavailable("The weather service is out of order at the moment")
        }
        _ => McpError::internal("The weather service did not understand the question"),
    };
    match wait {
        Some(wait) => {
            let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            error.with_data(serde_json::json!({ "retryAfterMs": milliseconds }))
        }
        None => error,
    }
}

/// How long the service asks clients to wait. A date instead of seconds is ignored.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().map(Duration::from_secs).ok()
}
