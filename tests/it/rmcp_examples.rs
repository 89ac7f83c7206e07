//! The examples with the official SDK on the server's side, too: counters over stdio, and the weather from two replicas without sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::HOST;
use axum::response::Response;
use rmcp::ServiceError;
use rmcp::model::{CallToolResult, ErrorCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::client::{Client, Server, Transport, error_text, patiently, text};
use crate::private_redis::PrivateRedis;

fn cache(result: &CallToolResult) -> Value {
    json!(result.meta)["mcp-patterns/cache"].clone()
}

/// Arguments that a schema of one name of 1 to 100 characters rejects.
fn wrong(argument: &str) -> [Value; 4] {
    [json!({}), json!({ argument: 7 }), json!({ argument: "" }), json!({ argument: "x".repeat(101) })]
}

async fn is_no_tool(client: &Client) {
    let error = client.try_call("missing", json!({})).await;
    assert!(
        matches!(&error, Err(ServiceError::McpError(error)) if error.code == ErrorCode::INVALID_PARAMS),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_counter_counts_a_call_with_a_key_once() {
    patiently(async {
        let mut server = Server::start("rmcp_counter", Transport::Stdio, &[]).await;
        let client = server.connect().await;
        let increment = |args| client.call("increment", args);
        let keyed = json!({ "name": "tea", "idempotency_key": "a" });
        assert_eq!(text(&increment(keyed.clone()).await), "1");
        let again = increment(keyed).await;
        assert_eq!((text(&again), &json!(again.meta)["mcp-patterns/idempotency"]), ("1", &json!("replayed")));
        assert_eq!(text(&increment(json!({ "name": "tea" })).await), "2");
        assert_eq!(text(&increment(json!({ "name": "milk" })).await), "1");
        let other = increment(json!({ "name": "milk", "idempotency_key": "a" })).await;
        assert!(error_text(&other).contains("key"), "a key belongs to its arguments: {other:?}");
        client.close().await;
        assert!(server.ended().await.success());
    })
    .await;
}

#[tokio::test]
async fn the_counter_of_a_session_is_not_the_one_that_all_share() {
    patiently(async {
        let mut server = Server::start("rmcp_counter", Transport::Stdio, &[]).await;
        let client = server.connect().await;
        let tea = || json!({ "name": "tea" });
        text(&client.call("increment", tea()).await);
        for count in ["1", "2"] {
            assert_eq!(text(&client.call("increment_mine", tea()).await), count);
        }
        assert_eq!(text(&client.call("increment", tea()).await), "2");
    })
    .await;
}

#[tokio::test]
async fn the_counter_rejects_bad_names_and_counts_nothing_for_them() {
    patiently(async {
        let mut server = Server::start("rmcp_counter", Transport::Stdio, &[]).await;
        let client = server.connect().await;
        for tool in ["increment", "increment_mine"] {
            for args in wrong("name") {
                let answer = client.call(tool, args).await;
                assert!(error_text(&answer).contains("`name`"), "{answer:?}");
            }
            assert_eq!(text(&client.call(tool, json!({ "name": "x".repeat(100) })).await), "1");
        }
        is_no_tool(&client).await;
    })
    .await;
}

/// Two replicas of the weather with one Redis, behind a proxy that sends each request to the next one.
struct Replicas {
    redis: PrivateRedis,
    servers: [Server; 2],
    client: Client,
}

impl Replicas {
    async fn start() -> Self {
        let redis = PrivateRedis::start_on_request();
        let url = redis.url();
        let start = async || Server::start("rmcp_weather", Transport::Http, &["--redis", &url]).await;
        let servers = [start().await, start().await];
        let proxy = round_robin(servers.each_ref().map(|server| server.url().to_owned())).await;
        let client = Client::without_session(&proxy).await;
        Self { redis, servers, client }
    }

    async fn weather(&self, args: Value) -> CallToolResult {
        self.client.call("weather", args).await
    }
}

async fn round_robin(replicas: [String; 2]) -> String {
    let http = reqwest::Client::builder().no_proxy().build().expect("no HTTP client");
    let next = Arc::new(AtomicUsize::new(0));
    let app = Router::new().fallback(async move |request: Request| {
        let (mut head, body) = request.into_parts();
        head.headers.remove(HOST);
        let replica = &replicas[next.fetch_add(1, Ordering::SeqCst) % replicas.len()];
        let body = to_bytes(body, 1 << 20).await.expect("a whole request");
        let answer = http.request(head.method, replica).headers(head.headers).body(body).send().await;
        let answer = answer.expect("the replica answers");
        let mut response = Response::builder().status(answer.status());
        response.headers_mut().expect("a status is valid").extend(answer.headers().clone());
        response.body(Body::from(answer.bytes().await.expect("a whole answer"))).expect("headers are valid")
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn one_replica_of_the_weather_asks_the_service_and_the_other_reads_the_answer_from_redis() {
    patiently(async {
        let replicas = Replicas::start().await;
        let paris = || replicas.weather(json!({ "city": "Paris" }));
        let first = paris().await;
        assert_eq!((text(&first), &cache(&first)["status"]), ("Sunny in Paris", &json!("miss")));
        // An answer is written in the background.
        while replicas.redis.command(&["KEYS", "*:v:*"]) == redis::Value::Array(Vec::new()) {
            sleep(Duration::from_millis(1)).await;
        }
        let second = paris().await;
        assert_eq!((text(&second), &cache(&second)["level"]), ("Sunny in Paris", &json!(2)));
        for _ in 0..6 {
            let later = paris().await;
            assert_eq!((text(&later), &cache(&later)["level"]), ("Sunny in Paris", &json!(1)));
        }
        let have_asked = replicas.servers.iter().filter(|server| server.log().contains("asked for Paris"));
        assert_eq!(have_asked.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_replicas_of_the_weather_answer_without_redis() {
    patiently(async {
        let mut replicas = Replicas::start().await;
        replicas.redis.kill();
        for _ in 0..4 {
            assert_eq!(text(&replicas.weather(json!({ "city": "Lima" })).await), "Sunny in Lima");
        }
    })
    .await;
}

#[tokio::test]
async fn the_weather_rejects_bad_input_without_asking_the_service() {
    patiently(async {
        let replicas = Replicas::start().await;
        for args in wrong("city") {
            let answer = replicas.weather(args).await;
            assert!(error_text(&answer).contains("`city`"), "{answer:?}");
        }
        let unknown = replicas.weather(json!({ "city": "Atlantis" })).await;
        assert_eq!(error_text(&unknown), "The weather service knows no city 'Atlantis'");
        is_no_tool(&replicas.client).await;
        // The lines of stderr arrive in order, so those of the bad calls would be before this one.
        for server in &replicas.servers {
            let log = server.log();
            assert_eq!(log.matches("is asked for").count(), log.matches("asked for Atlantis").count(), "{log}");
        }
    })
    .await;
}
