//! The weather example, through a real client and against its embedded upstream.

mod sources;

use std::iter::zip;

use futures_util::future::join_all;
use rmcp::{ServiceError, model::CallToolResult};
use serde_json::{Value, json};
use tokio::{pin, select};

use crate::client::{Client, Server, Transport, arguments, error_text, over_stdio_and_http, patiently, text};

over_stdio_and_http! {
    initialize_names_the_server_and_its_version,
    get_forecast_is_listed_with_its_annotations_and_schemas,
    get_forecast_answers_the_weather_in_three_lines,
    get_forecast_answers_the_same_data_as_structured_content,
    an_unknown_city_is_a_tool_error_that_names_it,
    a_wrong_argument_is_a_tool_error_with_the_reason,
    an_upstream_that_always_fails_is_a_tool_error_that_names_no_address,
    the_second_call_for_a_city_is_a_cache_hit,
    fifty_cities_are_answered_although_the_upstream_often_fails,
    a_cancelled_call_does_not_affect_the_others,
}

/// Cities that the upstream knows.
pub(crate) const FIFTY_CITIES: [&str; 50] = [
    "Amsterdam",
    "Athens",
    "Barcelona",
    "Berlin",
    "Brussels",
    "Budapest",
    "Copenhagen",
    "Dublin",
    "Geneva",
    "Hamburg",
    "Helsinki",
    "Istanbul",
    "Kyiv",
    "Lisbon",
    "London",
    "Madrid",
    "Milan",
    "Munich",
    "Oslo",
    "Prague",
    "Reykjavik",
    "Rome",
    "Stockholm",
    "Vienna",
    "Warsaw",
    "Zurich",
    "Bengaluru",
    "Bangkok",
    "Beijing",
    "Delhi",
    "Dubai",
    "Hanoi",
    "Hong Kong",
    "Jakarta",
    "Manila",
    "Mumbai",
    "Osaka",
    "Seoul",
    "Shanghai",
    "Singapore",
    "Tokyo",
    "Cairo",
    "Nairobi",
    "Chicago",
    "Denver",
    "New York",
    "Toronto",
    "Lima",
    "Auckland",
    "Sydney",
];

async fn weather(transport: Transport, args: &[&str]) -> (Server, Client) {
    let mut server = Server::start("weather", transport, args).await;
    let client = server.connect().await;
    (server, client)
}

fn city(name: &str) -> Value {
    json!({ "city": name })
}

/// The cache status of a result.
fn cache_status(result: &CallToolResult) -> Value {
    json!(result.meta)["mcp-patterns/cache"]["status"].clone()
}

async fn initialize_names_the_server_and_its_version(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "0"]).await;

    let info = client.server().server_info;
    let info = info.expect("the server names itself");
    assert_eq!((info.name.as_str(), info.version.as_str()), ("weather", "1.0.0"));
}

async fn get_forecast_is_listed_with_its_annotations_and_schemas(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "0"]).await;

    let tool = client.tool("get_forecast").await;
    assert_eq!(json!(tool.annotations), json!({ "readOnlyHint": true, "idempotentHint": true, "openWorldHint": true }));
    let (types, required) = arguments(&tool);
    assert_eq!(types, [("city", &json!("string"))]);
    assert_eq!(required, &json!(["city"]));
    let output = tool.output_schema.expect("the output has a schema");
    assert_eq!(output["required"], json!(["city", "latitude", "longitude", "current", "days"]));
}

async fn get_forecast_answers_the_weather_in_three_lines(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "0"]).await;

    let result = client.call("get_forecast", city("Paris")).await;
    let lines: Vec<&str> = text(&result).lines().collect();
    let [heading, current, forecast] = lines[..] else {
        panic!("three lines were expected, not {lines:?}");
    };
    assert_eq!(heading, "Weather in Paris:");
    assert!(current.len() > "Current: ".len() && current.starts_with("Current: "));
    assert!(forecast.len() > "Forecast: ".len() && forecast.starts_with("Forecast: "));
}

async fn get_forecast_answers_the_same_data_as_structured_content(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "0"]).await;

    let result = client.call("get_forecast", city("Paris")).await;
    let text = text(&result);
    let data = result.structured_content.as_ref();
    let data = data.expect("the result is structured");
    assert_eq!(data["city"], json!("Paris"));

    let now = &data["current"];
    let current = format!("\nCurrent: {}, {:.1}°C, ", string(&now["condition"]), number(&now["temperatureCelsius"]));
    assert!(text.contains(&current), "{text}\n{data}");

    let days = data["days"].as_array().expect("the days are a list");
    assert_eq!(days.len(), 3);
    for day in days {
        let day =
            format!("{} {}/{}°C", string(&day["condition"]), whole(&day["maxCelsius"]), whole(&day["minCelsius"]));
        assert!(text.contains(&day), "{text}\n{data}");
    }
}

fn string(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Rounded, and without the sign that a rounded -0.4 would keep.
fn whole(value: &Value) -> f64 {
    number(value).round() + 0.0
}

async fn an_unknown_city_is_a_tool_error_that_names_it(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "0"]).await;

    let result = client.call("get_forecast", city("Atlantis")).await;
    assert!(error_text(&result).contains("Atlantis"), "{result:?}");
}

async fn a_wrong_argument_is_a_tool_error_with_the_reason(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "0"]).await;

    for arguments in [json!({}), json!({ "city": 7 }), json!({ "city": "  " })] {
        let result = client.call("get_forecast", arguments).await;
        assert!(error_text(&result).contains("city"), "{result:?}");
    }
}

async fn the_second_call_for_a_city_is_a_cache_hit(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "0"]).await;

    let first = client.call("get_forecast", city("Kathmandu")).await;
    assert_eq!(cache_status(&first), json!("miss"));
    let second = client.call("get_forecast", city("Kathmandu")).await;
    assert_eq!(cache_status(&second), json!("hit"));
    assert_eq!(text(&first), text(&second));
    assert_eq!(first.structured_content, second.structured_content);
}

async fn an_upstream_that_always_fails_is_a_tool_error_that_names_no_address(transport: Transport) {
    let down = ["--latency-ms", "0", "--failure-rate", "1"];
    let (_server, client) = weather(transport, &down).await;

    let result = client.call("get_forecast", city("Paris")).await;
    let sentence = error_text(&result);
    assert!(!sentence.contains("http") && !sentence.contains("127.0.0.1"), "{sentence}");
}

async fn fifty_cities_are_answered_although_the_upstream_often_fails(transport: Transport) {
    let troubled = ["--latency-ms", "0", "--failure-rate", "0.3", "--seed", "7", "--max-attempts", "15"];
    let (_server, client) = weather(transport, &troubled).await;

    let calls = FIFTY_CITIES.iter().map(|name| client.call("get_forecast", city(name)));
    for (name, result) in zip(FIFTY_CITIES, join_all(calls).await) {
        let heading = format!("Weather in {name}:\n");
        assert!(text(&result).starts_with(&heading), "{result:?}");
    }
}

async fn a_cancelled_call_does_not_affect_the_others(transport: Transport) {
    let (_server, client) = weather(transport, &["--latency-ms", "3000"]).await;

    let other = client.begin("get_forecast", city("Lima")).await;
    let cancelled = client.begin("get_forecast", city("Perth")).await;
    cancelled.cancel().await;
    let answer = cancelled.result().await;
    assert!(matches!(answer, Err(ServiceError::Cancelled { .. })), "{answer:?}");

    let again = client.begin("get_forecast", city("Perth")).await;
    let slow = async { tokio::try_join!(other.result(), again.result()) };
    pin!(slow);
    select! {
        biased;
        answers = &mut slow => panic!("no slow call came first: {answers:?}"),
        _ = client.tool("get_forecast") => {}
    }
    let (other, again) = slow.await.expect("both calls have a result");
    assert!(text(&other).starts_with("Weather in Lima:\n"));
    assert!(text(&again).starts_with("Weather in Perth:\n"));
}

#[tokio::test]
async fn two_instances_share_their_answers_through_redis() {
    patiently(async {
        let url = std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
        let args = ["--latency-ms", "0", "--cache", &url];
        let (_one, first) = weather(Transport::Stdio, &args).await;
        let (_other, second) = weather(Transport::Stdio, &args).await;
        // An answer is written in the background, so another instance finds it soon, but not at once.
        let mut has_shared = false;
        for name in FIFTY_CITIES {
            let asked = first.call("get_forecast", city(name)).await;
            tokio::task::yield_now().await;
            let answer = second.call("get_forecast", city(name)).await;
            assert_eq!(answer.structured_content, asked.structured_content);
            has_shared |= json!(answer.meta)["mcp-patterns/cache"]["level"] == json!(2);
        }
        assert!(has_shared);
    })
    .await;
}

#[tokio::test]
async fn without_redis_an_instance_still_answers() {
    patiently(async {
        let args = ["--latency-ms", "0", "--cache", "redis://127.0.0.1:1"];
        let (_server, client) = weather(Transport::Stdio, &args).await;
        for name in ["Paris", "Lima"] {
            let answer = client.call("get_forecast", city(name)).await;
            assert!(text(&answer).starts_with(&format!("Weather in {name}:")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_stdio_server_exits_cleanly_when_its_stdin_is_closed_during_a_call() {
    patiently(async {
        let (mut server, client) = weather(Transport::Stdio, &["--latency-ms", "200"]).await;
        client.begin("get_forecast", city("Oslo")).await;

        client.close().await;
        let status = server.ended().await;
        assert!(status.success(), "{status}");
    })
    .await;
}
