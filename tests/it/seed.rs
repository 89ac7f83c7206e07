//! The page that many servers are copied from, pattern by pattern: these servers give the same answers as its snippets,
//! through a real client. A comment gives the reason for each difference. The same list, with the reasons:
//! `docs/patterns.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mcp_patterns::batched::Batcher;
use mcp_patterns::cached::{Cache, MemoryLevel};
use mcp_patterns::{CachedTool, Layer, RetryTool, Scope};
use rmcp::model::CallToolResult;
use serde_json::{Value, json};
use turbomcp::prelude::*;

use crate::client::{Client, Server, Transport, error_text, patiently, text};
use crate::support::{Database, Folder, postgres_url};

async fn example(name: &'static str, args: &[&str]) -> (Server, Client) {
    let mut server = Server::start(name, Transport::Stdio, args).await;
    let client = server.connect().await;
    (server, client)
}

fn cache(result: &CallToolResult) -> (Value, Value) {
    let cache = &json!(result.meta)["mcp-patterns/cache"];
    (cache["status"].clone(), cache["level"].clone())
}

fn parsed(result: &CallToolResult) -> Value {
    serde_json::from_str(text(result)).expect("the text is JSON")
}

// State management

#[tokio::test]
async fn shared_mutable_state() {
    patiently(async {
        let (_server, client) = example("counter", &[]).await;
        let name = json!({ "name": "visits" });
        assert_eq!(text(&client.call("get", name.clone()).await), "0");
        assert_eq!(text(&client.call("increment", name.clone()).await), "1");
        assert_eq!(text(&client.call("increment", name.clone()).await), "2");
        assert_eq!(text(&client.call("get", name.clone()).await), "2");
        assert_eq!(text(&client.call("reset", name.clone()).await), "Counter 'visits' reset");
        assert_eq!(text(&client.call("get", name).await), "0");
    })
    .await;
}

/// The snippet keys its sessions by the request, so it never finds a stored value again.
#[tokio::test]
async fn session_scoped_state() {
    patiently(async {
        let (_server, client) = example("counter", &[]).await;
        let missing = client.call("get_preference", json!({ "key": "theme" })).await;
        assert_eq!(error_text(&missing), "Preference not found");
        let set = client.call("set_preference", json!({ "key": "theme", "value": "dark" })).await;
        assert_eq!(text(&set), "Set theme: dark");
        assert_eq!(text(&client.call("get_preference", json!({ "key": "theme" })).await), "dark");
    })
    .await;
}

#[tokio::test]
async fn database_backed_state() {
    patiently(async {
        let folder = Folder::new();
        let url = format!("sqlite:{}", folder.path().join("users.db").display());
        let ada = json!({ "username": "ada", "email": "ada@example.org", "age": 36 });
        let id = {
            let (_server, client) = example("users", &["--database-url", &url]).await;
            client.call("create_user", ada).await.structured_content.expect("the user has a number")["id"].clone()
        };
        let (_server, client) = example("users", &["--database-url", &url]).await;
        let user = client.call("get_user", json!({ "user_id": id })).await.structured_content.expect("the user");
        assert_eq!((&user["id"], &user["username"], &user["email"]), (&id, &json!("ada"), &json!("ada@example.org")));
        assert_eq!(error_text(&client.call("get_user", json!({ "user_id": 99 })).await), "User not found");
    })
    .await;
}

// Caching

#[derive(Debug, Clone, Default)]
struct InMemory {
    cache: Cache<String, String>,
    fetches: Arc<AtomicUsize>,
}

#[server(name = "cached", version = "1.0.0")]
impl InMemory {
    /// Fetch with caching
    #[tool]
    async fn fetch_data(&self, ctx: &RequestContext, key: String) -> McpResult<String> {
        if let Some(data) = self.cache.get(&key) {
            return Ok(format!("[CACHED] {data}"));
        }
        let (fetches, wanted) = (Arc::clone(&self.fetches), key.clone());
        let fetch = || async move {
            fetches.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(format!("Data for {wanted}"))
        };
        self.cache.get_or_load(ctx, key, fetch).await.map(|data| format!("[FRESH] {data}"))
    }

    /// Invalidate cache entry
    #[tool]
    async fn invalidate(&self, key: String) -> McpResult<String> {
        self.cache.invalidate(&key);
        Ok(format!("Invalidated cache for {key}"))
    }

    /// Clear entire cache
    #[tool]
    async fn clear_cache(&self) -> McpResult<String> {
        self.cache.clear();
        Ok("Cache cleared".to_owned())
    }
}

#[tokio::test]
async fn in_memory_caching() {
    patiently(async {
        let server = InMemory::default();
        let client = Client::within(server.clone()).await;
        let key = json!({ "key": "k" });
        // For concurrent calls, the snippet fetches once per call.
        let answers = join_all((0..20).map(|_| client.call("fetch_data", key.clone()))).await;
        assert!(answers.iter().all(|answer| text(answer).ends_with("] Data for k")), "{answers:?}");
        assert_eq!(server.fetches.load(Ordering::Relaxed), 1);

        assert_eq!(text(&client.call("fetch_data", key.clone()).await), "[CACHED] Data for k");
        assert_eq!(text(&client.call("invalidate", key.clone()).await), "Invalidated cache for k");
        assert_eq!(text(&client.call("fetch_data", key.clone()).await), "[FRESH] Data for k");
        assert_eq!(text(&client.call("clear_cache", json!({})).await), "Cache cleared");
        assert_eq!(text(&client.call("fetch_data", key).await), "[FRESH] Data for k");
    })
    .await;
}

#[derive(Debug, Clone)]
struct Source;

#[server(name = "levels", version = "1.0.0")]
impl Source {
    /// Get with multi-level caching
    #[tool(read_only = true)]
    async fn get_data(&self, key: String) -> McpResult<String> {
        Ok(format!("Fresh data for {key}"))
    }
}

/// The snippet writes `[SOURCE]`, `[L1 CACHE]` or `[L2 CACHE]` into the text; here this is in `_meta`, so that the text
/// does not depend on its source.
#[tokio::test]
async fn multi_level_cache() {
    patiently(async {
        let level = MemoryLevel::new();
        let replica = || CachedTool::new().with_scope(Scope::Public).with_second_level(level.clone());
        let (near, far) = (replica(), replica());
        let handle = near.handle();
        let (near, far) = (Client::within(near.layer(Source)).await, Client::within(far.layer(Source)).await);
        let key = json!({ "key": "k" });
        let first = near.call("get_data", key.clone()).await;
        assert_eq!((text(&first), cache(&first)), ("Fresh data for k", (json!("miss"), Value::Null)));
        let second = near.call("get_data", key.clone()).await;
        assert_eq!((text(&second), cache(&second)), ("Fresh data for k", (json!("hit"), json!(1))));
        // The value that the first replica loaded is written after its answer.
        while handle.stats().second_level.is_none_or(|level| level.puts == 0) {
            tokio::task::yield_now().await;
        }
        let third = far.call("get_data", key).await;
        assert_eq!((text(&third), cache(&third)), ("Fresh data for k", (json!("hit"), json!(2))));
    })
    .await;
}

#[derive(Debug, Clone)]
struct Pages;

#[server(name = "pages", version = "1.0.0")]
impl Pages {
    /// Reads a page
    #[tool(read_only = true)]
    async fn get_page(&self, page: String) -> McpResult<String> {
        Ok(format!("Content for {page}"))
    }
}

#[tokio::test]
async fn cache_warming() {
    patiently(async {
        let cached = CachedTool::new().with_ttl(Duration::from_secs(3600)).with_scope(Scope::Public);
        let handle = cached.handle();
        let client = Client::within(cached.layer(Pages)).await;
        let popular = ["homepage", "pricing", "docs", "api"];
        let warmed = handle.warm(popular.map(|page| ("get_page", json!({ "page": page }))), 4).await;
        assert_eq!(warmed.expect("it is cached").loaded, 4);
        for page in popular {
            let answer = client.call("get_page", json!({ "page": page })).await;
            assert_eq!(text(&answer), format!("Content for {page}"));
            assert_eq!(cache(&answer).0, "hit");
        }
    })
    .await;
}

// Validation: the schema produces the messages of the snippets here, each with a pointer, and all at once.

#[tokio::test]
async fn input_validation() {
    patiently(async {
        let (_server, client) = example("users", &[]).await;
        let user = |username: &str, email: &str, age: i64| json!({ "username": username, "email": email, "age": age });
        let created = client.call("create_user", user("user_1", "user_1@example.org", 18)).await;
        assert_eq!(text(&created), "User created: user_1 (user_1@example.org)");
        for (bad, sentence) in [
            (user("ab", "a@example.org", 18), "`username` must have at least 3 characters"),
            (user("u2345678901234567890x", "a@example.org", 18), "`username` must have at most 20 characters"),
            (user("user one", "a@example.org", 18), r"`username` must match the pattern `^[\p{L}\p{N}_]*$`"),
            (user("user_2", "nonsense", 18), "`email` must be an email address"),
            (user("user_2", "a@example.org", 17), "`age` must be at least 18"),
            (user("user_2", "a@example.org", 121), "`age` must be at most 120"),
        ] {
            assert_eq!(error_text(&client.call("create_user", bad).await), sentence);
        }
        let several = client.call("create_user", user("ab", "nonsense", 17)).await;
        assert_eq!(error_text(&several).lines().count(), 3, "{several:?}");
    })
    .await;
}

#[tokio::test]
async fn type_safe_validation() {
    patiently(async {
        let (_server, client) = example("users", &[]).await;
        let data = |password: &str| json!({ "data": { "username": "user_1", "email": "user_1@example.org", "age": 36, "password": password } });
        let short = client.call("register", data("short")).await;
        assert_eq!(error_text(&short), "`data.password` must have at least 8 characters");
        assert!(!json!(short).to_string().contains("short"), "a rejected password is in no answer");
        let registered = client.call("register", data("long enough")).await;
        assert_eq!(text(&registered), "User user_1 registered successfully");
    })
    .await;
}

#[tokio::test]
async fn business_logic_validation() {
    patiently(async {
        let (_server, client) = example("users", &[]).await;
        client.call("create_user", json!({ "username": "user_1", "email": "user_1@example.org", "age": 36 })).await;
        let order = |user: i64, product: i64, quantity: i64| json!({ "user_id": user, "product_id": product, "quantity": quantity });
        assert_eq!(text(&client.call("create_order", order(1, 1, 1)).await), "Order 1 created successfully");
        let none = client.call("create_order", order(1, 1, 0)).await;
        assert_eq!(error_text(&none), "`quantity` must be at least 1");
        assert!(error_text(&client.call("create_order", order(99, 1, 1)).await).contains("User not found"));
        assert!(error_text(&client.call("create_order", order(1, 99, 1)).await).contains("Product not found"));
        let many = client.call("create_order", order(1, 3, 1000)).await;
        assert!(error_text(&many).contains(" units available"), "{many:?}");
    })
    .await;
}

// Workflows

#[tokio::test]
async fn sequential_tool_chaining() {
    patiently(async {
        let (_server, client) = example("weather", &["--latency-ms", "0"]).await;
        let answer = client.call("get_forecast", json!({ "city": "San Francisco" })).await;
        let lines: Vec<_> = text(&answer).lines().collect();
        assert_eq!((lines.len(), lines[0]), (3, "Weather in San Francisco:"));
        assert!(lines[1].starts_with("Current: ") && lines[2].starts_with("Forecast: Next 3 days: "), "{lines:?}");
    })
    .await;
}

#[tokio::test]
async fn parallel_operations() {
    patiently(async {
        let (_server, client) = example("weather", &["--latency-ms", "0"]).await;
        let answer = parsed(&client.call("fetch_all", json!({ "query": "Paris" })).await);
        assert!(answer["weather"].as_str().is_some_and(|weather| weather.starts_with("Weather for Paris")), "{answer}");
        assert_eq!((&answer["news"], &answer["stocks"]), (&json!("News about Paris"), &json!("Stock data for Paris")));
    })
    .await;
}

#[tokio::test]
async fn conditional_workflows() {
    patiently(async {
        let (_server, client) = example("weather", &["--latency-ms", "0"]).await;
        let query = json!({ "query": "Lima" });
        assert!(text(&client.call("smart_search", query.clone()).await).starts_with("[API] Lima"));
        assert!(text(&client.call("smart_search", query.clone()).await).starts_with("[CACHE] Lima"));
        let (_server, client) = example("weather", &["--latency-ms", "0", "--failing-source", "cache"]).await;
        client.call("smart_search", query.clone()).await;
        assert!(text(&client.call("smart_search", query).await).starts_with("[DATABASE] Lima"));
    })
    .await;
}

#[tokio::test]
async fn transactions() {
    patiently(async {
        let (_server, client) = example("transfer", &[]).await;
        let transfer = |amount: f64| json!({ "from_account": 1, "to_account": 2, "amount": amount });
        assert_eq!(text(&client.call("transfer", transfer(12.5)).await), "Transferred $12.50 from 1 to 2");
        for (amount, sentence) in [(-1.0, "positive"), (1_000_000.0, "Insufficient funds")] {
            let refused = client.call("transfer", transfer(amount)).await;
            assert!(error_text(&refused).contains(sentence), "{refused:?}");
        }
        let balance = client.call("balance", json!({ "account": 1 })).await;
        assert_eq!(balance.structured_content.expect("the balance")["balance"], "87.50");
    })
    .await;
}

// Errors

/// The snippet sends the text of the error; here the text is in the log, under the id in the answer.
#[tokio::test]
async fn graceful_degradation() {
    patiently(async {
        let (_server, client) = example("weather", &["--latency-ms", "0", "--failing-source", "secondary"]).await;
        let answer = parsed(&client.call("fetch_aggregated", json!({ "query": "Paris" })).await);
        assert_eq!(answer["primary"]["status"], "success");
        assert!(answer["primary"]["data"].is_string(), "{answer}");
        assert_eq!(answer["secondary"]["status"], "error");
        let error = answer["secondary"]["error"].as_str().expect("a sentence");
        assert!(error.starts_with("`secondary` is not available at the moment"), "{error}");
    })
    .await;
}

#[derive(Debug, Clone, Default)]
struct Flaky(Arc<AtomicUsize>);

#[server(name = "flaky", version = "1.0.0")]
impl Flaky {
    /// Fetches a page that fails twice
    #[tool(read_only = true)]
    async fn fetch(&self, url: String) -> McpResult<String> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(McpError::unavailable("Temporary failure")),
            _ => Ok(format!("Data from {url}")),
        }
    }
}

#[tokio::test]
async fn retry_with_exponential_backoff() {
    patiently(async {
        let client = Client::within(RetryTool::new().layer(Flaky::default())).await;
        let answer = client.call("fetch", json!({ "url": "https://example.org" })).await;
        assert_eq!(text(&answer), "Data from https://example.org");
        assert_eq!(json!(answer.meta)["mcp-patterns/attempts"], 3);
    })
    .await;
}

// Performance

#[derive(Debug, Clone)]
struct Batches {
    queries: Batcher<String, String>,
}

#[server(name = "batches", version = "1.0.0")]
impl Batches {
    /// Fetch with batching
    #[tool]
    async fn fetch(&self, ctx: &RequestContext, query: String) -> McpResult<String> {
        self.queries.load(ctx, query).await
    }
}

#[tokio::test]
async fn request_batching() {
    patiently(async {
        let bulk = |queries: Vec<String>| async move {
            tokio::task::yield_now().await;
            Ok::<_, McpError>(queries.into_iter().map(|query| Ok(format!("Batch result for {query}"))).collect())
        };
        let queries = Batcher::new(bulk).with_max_size(10);
        let client = Client::within(Batches { queries: queries.clone() }).await;
        let answers = join_all((0..100).map(|n| client.call("fetch", json!({ "query": format!("q{n}") })))).await;
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(text(answer), format!("Batch result for q{n}"));
        }
        let stats = queries.stats();
        assert_eq!(stats.sent, 100);
        assert!((10..100).contains(&stats.batches), "{stats:?}");
    })
    .await;
}

/// Three connections serve a hundred calls, and a call waits if none is free.
#[tokio::test]
async fn connection_pooling() {
    patiently(async {
        let database = Database::on(&postgres_url()).await;
        let (_server, client) =
            example("transfer", &["--database-url", &database.url(), "--max-connections", "3"]).await;
        for owner in ["acme", "globex"] {
            client.call("open_account", json!({ "owner": owner, "deposit": "100.00" })).await;
        }
        let cent = json!({ "from_account": 1, "to_account": 2, "amount": "0.01" });
        for answer in join_all((0..100).map(|_| client.call("transfer", cent.clone()))).await {
            assert_eq!(text(&answer), "Transferred $0.01 from 1 to 2");
        }
        let balance = client.call("balance", json!({ "account": 2 })).await;
        assert_eq!(balance.structured_content.expect("the balance")["balance"], "101.00");
    })
    .await;
}
