//! The small examples, one for each layer: each does what its first lines describe.

use rmcp::model::CallToolResult;
use serde_json::{Value, json};

use crate::client::{Client, Server, Transport, error_text, patiently, text};

/// Starts an example, and calls its tools.
async fn with(example: &'static str, calls: impl AsyncFnOnce(&Client, &Server)) {
    patiently(async {
        let mut server = Server::start(example, Transport::Stdio, &[]).await;
        let client = server.connect().await;
        calls(&client, &server).await;
    })
    .await;
}

fn meta(result: &CallToolResult) -> Value {
    json!(result.meta)
}

#[tokio::test]
async fn audit_writes_a_line_for_each_call_with_the_receiver_of_a_letter_and_not_its_text() {
    with("audit", async |client, server| {
        client.call("send", json!({ "to": "Ada", "text": "Dear Ada" })).await;
        client.call("send", json!({ "to": "nowhere", "text": "Dear Bob" })).await;
        let lines = loop {
            let lines: Vec<Value> = server.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if lines.len() == 2 {
                break lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        let of = |line: &Value| (line["end"].clone(), line["arguments"]["/to"].clone());
        assert_eq!(of(&lines[0]), (json!("answered"), json!("Ada")));
        assert_eq!(of(&lines[1]), (json!("failed"), json!("nowhere")));
        assert!(!server.log().contains("Dear"), "{}", server.log());
    })
    .await;
}

#[tokio::test]
async fn batched_sends_two_calls_as_one() {
    with("batched", async |client, server| {
        let call = |id: u64| client.call("get_user", json!({ "id": id }));
        // Two calls that are further apart than the delay are no batch; then the next two are tried.
        for _ in 0..100 {
            let (one, two) = tokio::join!(call(1), call(2));
            assert_eq!((text(&one), text(&two)), ("User 1", "User 2"));
            if server.log().contains("bulk call for 2 users") {
                return;
            }
        }
        panic!("no two of 200 calls were combined: {}", server.log());
    })
    .await;
}

#[tokio::test]
async fn cached_answers_from_memory_until_a_write_invalidates() {
    with("cached", async |client, _| {
        let read = || client.call("get_price", json!({ "item": "tea" }));
        assert_eq!(meta(&read().await)["mcp-patterns/cache"]["status"], "miss");
        assert_eq!(meta(&read().await)["mcp-patterns/cache"]["status"], "hit");
        client.call("set_price", json!({ "item": "tea", "price": 5 })).await;
        let last = read().await;
        assert_eq!((text(&last), &meta(&last)["mcp-patterns/cache"]["status"]), ("tea costs 5", &json!("miss")));
    })
    .await;
}

#[tokio::test]
async fn idempotent_sends_a_letter_once_for_each_key() {
    with("idempotent", async |client, _| {
        let send = |to: &str, key: &str| client.call("send", json!({ "to": to, "idempotency_key": key }));
        let (first, second) = (send("Ada", "a").await, send("Ada", "a").await);
        assert_eq!((text(&first), text(&second)), ("Letter 1 to Ada", "Letter 1 to Ada"));
        assert_eq!(meta(&second)["mcp-patterns/idempotency"], "replayed");
        assert_eq!(text(&send("Ada", "b").await), "Letter 2 to Ada");
        error_text(&send("lost", "c").await);
        assert!(error_text(&send("lost", "c").await).contains("may or may not have taken effect"));
        assert_eq!(text(&send("Ada", "d").await), "Letter 4 to Ada", "the third letter went out once");
    })
    .await;
}

#[tokio::test]
async fn breaker_refuses_the_sixth_call_and_a_probe_closes_it() {
    with("breaker", async |client, _| {
        let rate = || client.call("get_rate", json!({ "currency": "EUR" }));
        for _ in 0..5 {
            assert_eq!(error_text(&rate().await), "The service does not answer");
        }
        let mut answer = rate().await;
        assert!(error_text(&answer).starts_with("`get_rate` is not available"), "{answer:?}");
        while answer.is_error == Some(true) {
            assert!(error_text(&answer).starts_with("`get_rate` is not available"), "{answer:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            answer = rate().await;
        }
        assert_eq!(text(&answer), "One EUR is 1.08 dollars (call 6)");
        assert_eq!(meta(&answer)["mcp-patterns/breaker"]["state"], "closed");
    })
    .await;
}

#[tokio::test]
async fn limited_refuses_the_third_call_and_says_when_to_try_again() {
    with("limited", async |client, _| {
        for _ in 0..2 {
            let found = client.call("search", json!({ "words": "tea" })).await;
            assert_eq!(text(&found), "Three books about tea");
        }
        let refused = client.call("search", json!({ "words": "tea" })).await;
        assert!(error_text(&refused).starts_with("You make too many calls: try again in "), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn output_gives_the_beginning_and_a_link_to_all_of_it() {
    with("output", async |client, _| {
        let short = client.call("search", json!({ "words": "tea", "limit": 1 })).await;
        assert_eq!(text(&short), "1. A book about tea, borrowed by a reader\n");
        let long = client.call("search", json!({ "words": "tea", "limit": 5_000 })).await;
        let long = serde_json::to_value(&long).expect("JSON");
        let (beginning, sentence) = (&long["content"][0]["text"], long["content"][1]["text"].as_str());
        assert!(beginning.as_str().is_some_and(|text| text.starts_with("1. A book about tea") && text.len() > 18_000));
        assert!(sentence.is_some_and(|text| text.ends_with(" To get less, pass a smaller `limit`.")), "{sentence:?}");
        let whole = client.read(long["content"][2]["uri"].as_str().expect("a link")).await;
        let whole = whole["contents"][0]["text"].as_str().expect("a text");
        assert_eq!(whole.lines().count(), 5_000);
        assert!(!whole.contains("example.com"));
    })
    .await;
}

#[tokio::test]
async fn retry_calls_a_tool_that_fails_twice_three_times() {
    with("retry", async |client, _| {
        let rate = client.call("rate", json!({ "currency": "USD" })).await;
        assert_eq!((text(&rate), &meta(&rate)["mcp-patterns/attempts"]), ("1 EUR = 1.08 USD", &json!(3)));
    })
    .await;
}

#[tokio::test]
async fn rmcp_repeats_the_first_call_and_answers_the_second_from_memory() {
    with("rmcp", async |client, _| {
        let read = || client.call("weather", json!({ "city": "Paris" }));
        let first = read().await;
        assert_eq!((text(&first), &meta(&first)["mcp-patterns/attempts"]), ("Sunny in Paris", &json!(2)));
        let second = read().await;
        assert_eq!((text(&second), &meta(&second)["mcp-patterns/cache"]["status"]), ("Sunny in Paris", &json!("hit")));
    })
    .await;
}

#[tokio::test]
async fn session_keeps_a_basket_until_the_session_ends() {
    with("session", async |client, _| {
        for (item, count) in [("tea", "1 items"), ("milk", "2 items")] {
            assert_eq!(text(&client.call("add", json!({ "item": item })).await), count);
        }
        assert_eq!(text(&client.call("basket", json!({})).await), "tea, milk");
        client.call("leave", json!({})).await;
        assert_eq!(text(&client.call("basket", json!({})).await), "");
    })
    .await;
}

#[tokio::test]
async fn transactional_undoes_a_transfer_that_fails_and_makes_one_with_a_key_once() {
    with("transactional", async |client, _| {
        let transfer = |cents: u32| client.call("transfer", json!({ "from": 1, "to": 2, "cents": cents }));
        let balance = || client.call("balance", json!({ "id": 2 }));
        text(&transfer(60).await);
        assert_eq!(error_text(&transfer(60).await), "Insufficient funds");
        assert_eq!(text(&balance().await), "60");
        let keyed = json!({ "from": 1, "to": 2, "cents": 10, "idempotency_key": "a" });
        text(&client.call("transfer", keyed.clone()).await);
        assert_eq!(meta(&client.call("transfer", keyed).await)["mcp-patterns/idempotency"], "replayed");
        assert_eq!(text(&balance().await), "70");
    })
    .await;
}

#[tokio::test]
async fn validated_lists_all_three_violations() {
    with("validated", async |client, _| {
        let user = json!({ "username": "al", "email": "nonsense", "age": 17 });
        let rejected = client.call("create_user", json!({ "user": user })).await;
        let data = &meta(&rejected)["io.turbomcp/errorData"]["mcp-patterns/validation"]["violations"];
        let pointers: Vec<_> = data.as_array().expect("a list").iter().map(|violation| &violation["pointer"]).collect();
        assert_eq!(pointers, ["/user/age", "/user/email", "/user/username"]);
    })
    .await;
}

#[tokio::test]
async fn workflow_answers_in_part_if_a_source_fails() {
    with("workflow", async |client, _| {
        let report = client.call("report", json!({ "city": "Lima" })).await;
        let report: Value = serde_json::from_str(text(&report)).expect("JSON");
        let status = |source: &str| report.pointer(&format!("/{source}/status")).cloned();
        assert_eq!((status("weather"), status("news")), (Some(json!("success")), Some(json!("error"))), "{report}");
    })
    .await;
}
