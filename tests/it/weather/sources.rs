//! The tools that ask several sources.

use rmcp::model::CallToolResult;
use serde_json::{Value, json};

use crate::client::{Client, Server, Transport, error_text, over_stdio_and_http, text};
use crate::support::Folder;

over_stdio_and_http! {
    fetch_all_answers_weather_news_and_stocks,
    fetch_all_fails_when_one_source_does_and_names_it,
    fetch_aggregated_answers_each_source_with_its_status,
    a_source_that_fails_fails_only_its_own_slot,
    a_partial_answer_is_not_cached,
    smart_search_finds_in_the_api_first_and_then_in_the_cache,
    smart_search_without_its_cache_finds_in_the_database,
    smart_search_after_a_restart_finds_in_the_database,
    smart_search_without_the_api_still_finds_what_it_found_before,
    smart_search_reports_an_unknown_city,
}

async fn weather(transport: Transport, args: &[&str]) -> (Server, Client) {
    let args = [&["--latency-ms", "0", "--max-attempts", "2"], args].concat();
    let mut server = Server::start("weather", transport, &args).await;
    let client = server.connect().await;
    (server, client)
}

fn query(query: &str) -> Value {
    json!({ "query": query })
}

fn read(result: &CallToolResult) -> Value {
    serde_json::from_str(text(result)).expect("the text is JSON")
}

/// The source that the result names.
fn source(result: &CallToolResult) -> Value {
    json!(result.meta)["mcp-patterns/source"].clone()
}

async fn fetch_all_answers_weather_news_and_stocks(transport: Transport) {
    let (_server, client) = weather(transport, &[]).await;

    let answer = read(&client.call("fetch_all", query("Paris")).await);
    let weather = answer["weather"].as_str().expect("a string");
    assert!(weather.starts_with("Weather for Paris: ") && weather.ends_with("°C"), "{weather}");
    assert_eq!(answer["news"], "News about Paris");
    assert_eq!(answer["stocks"], "Stock data for Paris");
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(3));
}

async fn fetch_all_fails_when_one_source_does_and_names_it(transport: Transport) {
    for failing in ["weather", "news", "stocks"] {
        let (_server, client) = weather(transport, &["--failing-source", failing]).await;

        let result = client.call("fetch_all", query("Paris")).await;
        assert_eq!(error_text(&result), "The source was made to fail");
        let meta = json!(result.meta);
        assert_eq!(meta["io.turbomcp/errorKind"], "unavailable");
        assert_eq!(meta["io.turbomcp/errorData"]["mcp-patterns/source"], json!({ "name": failing }));
    }
}

async fn fetch_aggregated_answers_each_source_with_its_status(transport: Transport) {
    let (_server, client) = weather(transport, &[]).await;

    let answer = read(&client.call("fetch_aggregated", query("Paris")).await);
    assert_eq!(answer["primary"]["status"], "success");
    let primary = answer["primary"]["data"].as_str().expect("a string");
    assert!(primary.starts_with("Weather for Paris: "), "{primary}");
    assert_eq!(answer["secondary"], json!({ "status": "success", "data": "News about Paris" }));
}

async fn a_source_that_fails_fails_only_its_own_slot(transport: Transport) {
    for (failing, other) in [("secondary", "primary"), ("primary", "secondary")] {
        let (_server, client) = weather(transport, &["--failing-source", failing]).await;

        let answer = read(&client.call("fetch_aggregated", query("Paris")).await);
        assert_eq!(answer[other]["status"], "success");
        assert_eq!(answer[failing]["status"], "error");
        let sentence = answer[failing]["error"].as_str().expect("a string");
        let masked = format!("`{failing}` is not available at the moment (error ");
        assert!(sentence.starts_with(&masked), "{sentence}");
        assert_eq!(answer[failing].as_object().map(serde_json::Map::len), Some(2));
    }
}

async fn a_partial_answer_is_not_cached(transport: Transport) {
    let (_server, client) = weather(transport, &["--failing-source", "secondary"]).await;

    let first = client.call("fetch_aggregated", query("Paris")).await;
    let second = client.call("fetch_aggregated", query("Paris")).await;
    for result in [&first, &second] {
        assert_eq!(json!(result.meta)["mcp-patterns/cache"], Value::Null);
    }
    assert_ne!(read(&first)["secondary"], read(&second)["secondary"], "two failures, two ids");
}

async fn smart_search_finds_in_the_api_first_and_then_in_the_cache(transport: Transport) {
    let (_server, client) = weather(transport, &[]).await;

    let first = client.call("smart_search", query("Lima")).await;
    assert!(text(&first).starts_with("[API] Lima, Peru: "), "{first:?}");
    let filled = json!(["cache", "database"]);
    assert_eq!(source(&first), json!({ "name": "api", "missed": filled, "backfilled": filled }));

    let second = client.call("smart_search", query(" LIMA ")).await;
    assert_eq!(text(&second), text(&first).replace("[API]", "[CACHE]"));
    assert_eq!(source(&second), json!({ "name": "cache" }));
}

async fn smart_search_without_its_cache_finds_in_the_database(transport: Transport) {
    let (_server, client) = weather(transport, &["--failing-source", "cache"]).await;

    let first = client.call("smart_search", query("Lima")).await;
    let told = json!({ "name": "api", "missed": ["database"], "failed": ["cache"], "backfilled": ["database"] });
    assert_eq!(source(&first), told);
    let second = client.call("smart_search", query("Lima")).await;
    assert_eq!(text(&second), text(&first).replace("[API]", "[DATABASE]"));
    assert_eq!(source(&second), json!({ "name": "database", "failed": ["cache"] }));
}

async fn smart_search_after_a_restart_finds_in_the_database(transport: Transport) {
    let folder = Folder::new();
    let url = format!("sqlite:{}", folder.path().join("places.db").display());
    {
        let (_server, client) = weather(transport, &["--places-url", &url]).await;
        assert!(text(&client.call("smart_search", query("Lima")).await).starts_with("[API] "));
    }
    let (_server, client) = weather(transport, &["--places-url", &url]).await;
    let found = client.call("smart_search", query("Lima")).await;
    assert!(text(&found).starts_with("[DATABASE] Lima, Peru: "), "{found:?}");
    assert_eq!(source(&found), json!({ "name": "database", "missed": ["cache"], "backfilled": ["cache"] }));
    assert!(text(&client.call("smart_search", query("Lima")).await).starts_with("[CACHE] "));
}

async fn smart_search_without_the_api_still_finds_what_it_found_before(transport: Transport) {
    let folder = Folder::new();
    let url = format!("sqlite:{}", folder.path().join("places.db").display());
    {
        let (_server, client) = weather(transport, &["--places-url", &url]).await;
        client.call("smart_search", query("Lima")).await;
    }
    let (_server, client) = weather(transport, &["--places-url", &url, "--failing-source", "api"]).await;
    assert!(text(&client.call("smart_search", query("Lima")).await).starts_with("[DATABASE] "));
    let failed = client.call("smart_search", query("Oslo")).await;
    assert_eq!(error_text(&failed), "The source was made to fail");
}

async fn smart_search_reports_an_unknown_city(transport: Transport) {
    let (_server, client) = weather(transport, &[]).await;

    let result = client.call("smart_search", query("Atlantis")).await;
    assert_eq!(error_text(&result), "No city named 'Atlantis' is known");
}
