//! A weather service inside the process: it has the two APIs of Open-Meteo and a bulk search, with a configurable
//! latency and failure rate.
//!
//! Its cities are real, and its weather is generated from the place and the date, so that two requests for the same day
//! have the same answer.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, sync::oneshot, time::sleep};

pub mod cities;
pub mod climate;

use cities::City;

const SEARCH: &str = "/v1/search";
const BULK_SEARCH: &str = "/v1/search/bulk";
const FORECAST: &str = "/v1/forecast";

/// The behaviour of the upstream.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// The latency of an answer, plus or minus a quarter.
    pub latency: Duration,
    /// The share of requests that fail, from 0.0 to 1.0.
    pub failure_rate: f64,
    /// The seed of latencies and failures.
    pub seed: u64,
    /// The clock; the weather depends on its date.
    pub clock: fn() -> SystemTime,
}

/// 40 ms, no failures, seed 0, the system's clock.
impl Default for UpstreamSettings {
    #[expect(clippy::disallowed_methods, reason = "it tells the date")]
    fn default() -> Self {
        Self { latency: Duration::from_millis(40), failure_rate: 0.0, seed: 0, clock: SystemTime::now }
    }
}

/// The number of requests that arrived, including those that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// Requests for the position of a place.
    pub search: u64,
    /// Requests for the weather, current or of the next days.
    pub forecast: u64,
}

/// A running upstream. It stops when this is dropped.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Dropping it is the signal that ends the server.
    _stop: oneshot::Sender<()>,
}

impl Upstream {
    /// Starts an upstream on a free port of the local host.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(settings: UpstreamSettings) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            rng: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            settings,
            searches: AtomicU64::new(0),
            forecasts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let app = Router::new()
            .route(SEARCH, get(search))
            .route(BULK_SEARCH, post(bulk_search))
            .route(FORECAST, get(forecast))
            .layer(middleware::from_fn_with_state(shared.clone(), disturb))
            .with_state(shared.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, app).with_graceful_shutdown(async {
            // Nothing is ever sent: the drop of the sender is the signal.
            let _ = stopped.await;
        });
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the embedded upstream broke");
            }
        });
        Ok(Self { addr, shared, _stop: stop })
    }

    /// The URL that the paths of both APIs are appended to, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How many requests have arrived so far.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests { search: self.shared.searches.load(Relaxed), forecast: self.shared.forecasts.load(Relaxed) }
    }

    /// How many requests were made to fail so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Relaxed)
    }
}

#[derive(Debug)]
struct Shared {
    settings: UpstreamSettings,
    rng: Mutex<fastrand::Rng>,
    searches: AtomicU64,
    forecasts: AtomicU64,
    failures: AtomicU64,
}

impl Shared {
    /// Draws the latency of a request, and its failure if it fails.
    fn draw(&self) -> (Duration, Option<Response>) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = self.settings.latency.mul_f64(0.75 + rng.f64() / 2.0);
        if rng.f64() >= self.settings.failure_rate {
            return (latency, None);
        }
        let failure = match rng.u8(0..4) {
            0 => hang_up(),
            1 => ([(RETRY_AFTER, "1")], refusal(StatusCode::TOO_MANY_REQUESTS, "Too many requests")).into_response(),
            _ => refusal(StatusCode::SERVICE_UNAVAILABLE, "Service is overloaded"),
        };
        (latency, Some(failure))
    }
}

/// Counts a request, delays it, and makes it fail if it was drawn.
async fn disturb(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match request.uri().path() {
        SEARCH | BULK_SEARCH => shared.searches.fetch_add(1, Relaxed),
        _ => shared.forecasts.fetch_add(1, Relaxed),
    };
    let (latency, failure) = shared.draw();
    sleep(latency).await;
    match failure {
        Some(failure) => {
            shared.failures.fetch_add(1, Relaxed);
            failure
        }
        None => next.run(request).await,
    }
}

/// A body that breaks before its first byte: the server closes the connection without an answer.
fn hang_up() -> Response {
    let nothing = Err::<&str, _>(io::Error::from(io::ErrorKind::ConnectionAborted));
    Response::new(Body::from_stream(futures_util::stream::iter([nothing])))
}

fn refusal(status: StatusCode, reason: impl Into<String>) -> Response {
    let body = json!({ "error": true, "reason": reason.into() });
    (status, Json(body)).into_response()
}

type Parameters = Query<HashMap<String, String>>;

/// The reason of an answer with 400.
struct BadRequest(String);

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        refusal(StatusCode::BAD_REQUEST, self.0)
    }
}

async fn search(Query(parameters): Parameters) -> Result<Json<Value>, BadRequest> {
    let Some(name) = parameters.get("name") else {
        return Err(BadRequest("Parameter name is required.".into()));
    };
    number_in(&parameters, "count", 1..=100, 10)?;
    let mut answer = json!({ "generationtime_ms": 0.4 });
    if let Some(city) = cities::find(name) {
        answer["results"] = json!([place(city)]);
    }
    Ok(Json(answer))
}

/// An API that Open-Meteo does not have: a place, or null, for each of many names.
async fn bulk_search(Json(question): Json<BulkQuestion>) -> Json<Value> {
    let places: Vec<_> = question.names.iter().map(|name| cities::find(name).map(place)).collect();
    Json(json!({ "results": places }))
}

#[derive(Deserialize)]
struct BulkQuestion {
    names: Vec<String>,
}

fn place(city: &City) -> Value {
    json!({
        "id": city.id(),
        "name": city.name,
        "latitude": city.latitude,
        "longitude": city.longitude,
        "elevation": city.elevation,
        "country_code": city.country_code,
        "timezone": city.timezone,
        "population": city.population,
        "country": city.country,
    })
}

async fn forecast(State(shared): State<Arc<Shared>>, Query(parameters): Parameters) -> Result<Json<Value>, BadRequest> {
    let latitude = degrees(&parameters, "latitude", 90.0)?;
    let longitude = degrees(&parameters, "longitude", 180.0)?;
    let days = number_in(&parameters, "forecast_days", 1..=16, 7)?;
    let city = cities::near(latitude, longitude);
    let (timezone, offset) = match (parameters.get("timezone").map(String::as_str), city) {
        (None | Some("GMT" | "UTC"), _) | (Some("auto"), None) => ("GMT", 0),
        (Some("auto"), Some(city)) => (city.timezone, city.utc_offset),
        (Some(_), _) => return Err(BadRequest("Invalid timezone".into())),
    };
    let elevation = city.map_or(0.0, |city| city.elevation);
    let now = climate::LocalTime::new((shared.settings.clock)(), offset);
    let weather: Vec<_> =
        (now.day..now.day + days).map(|day| climate::weather(latitude, longitude, elevation, day)).collect();

    let mut answer = json!({
        "latitude": latitude,
        "longitude": longitude,
        "generationtime_ms": 0.1,
        "utc_offset_seconds": offset * 60,
        "timezone": timezone,
        "elevation": elevation,
    });
    if let Some(names) = parameters.get("current") {
        let mut units = Map::from_iter([("time".into(), "iso8601".into())]);
        let mut values = Map::from_iter([("time".into(), now.to_string().into())]);
        for name in names.split(',') {
            let variable = variable(&climate::CURRENT, name)?;
            units.insert(name.into(), variable.unit.into());
            values.insert(name.into(), weather.first().map_or(Value::Null, variable.value));
        }
        answer["current_units"] = units.into();
        answer["current"] = values.into();
    }
    if let Some(names) = parameters.get("daily") {
        let dates: Vec<_> = (now.day..now.day + days).map(climate::date).collect();
        let mut units = Map::from_iter([("time".into(), "iso8601".into())]);
        let mut values = Map::from_iter([("time".into(), dates.into())]);
        for name in names.split(',') {
            let variable = variable(&climate::DAILY, name)?;
            units.insert(name.into(), variable.unit.into());
            values.insert(name.into(), weather.iter().map(variable.value).collect());
        }
        answer["daily_units"] = units.into();
        answer["daily"] = values.into();
    }
    Ok(Json(answer))
}

fn variable<'a>(known: &'a [climate::Variable], name: &str) -> Result<&'a climate::Variable, BadRequest> {
    known
        .iter()
        .find(|variable| variable.name == name)
        .ok_or_else(|| BadRequest(format!("Unknown weather variable '{name}'.")))
}

fn degrees(parameters: &HashMap<String, String>, name: &str, limit: f64) -> Result<f64, BadRequest> {
    let text = parameters.get(name).map_or("", String::as_str);
    match text.parse::<f64>() {
        Ok(value) if value.abs() <= limit => Ok(value),
        _ => Err(BadRequest(format!("Parameter {name} must be in range of -{limit} to {limit}°. Given: '{text}'."))),
    }
}

fn number_in(
    parameters: &HashMap<String, String>,
    name: &str,
    range: std::ops::RangeInclusive<i64>,
    default: i64,
) -> Result<i64, BadRequest> {
    let Some(text) = parameters.get(name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(BadRequest(format!(
            "Parameter {name} must be between {} and {}. Given: '{text}'.",
            range.start(),
            range.end()
        ))),
    }
}
