//! All or nothing.

use super::*;

#[tokio::test(start_paused = true)]
async fn three_sources_take_as_long_as_the_slowest_of_them() {
    let began = Instant::now();
    let (weather, news, stocks) = Gather::new()
        .all(
            &(),
            (
                Source::new("weather", || slow(ms(100), "sunny")),
                Source::new("news", || slow(ms(150), vec!["nothing new"])),
                Source::new("stocks", || slow(ms(80), 7)),
            ),
        )
        .await
        .unwrap();
    assert_eq!((weather, news, stocks), ("sunny", vec!["nothing new"], 7), "each with its type, in their order");
    assert_eq!(began.elapsed(), ms(150), "and not 330");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_sources_of_one_type_keeps_its_order() {
    let slowest_first = |number: u64| Source::new(format!("source {number}"), move || slow(ms(100 - number), number));
    let array = Gather::new().all(&(), [slowest_first(1), slowest_first(2)]).await.unwrap();
    assert_eq!(array, [1, 2]);
    let list = Gather::new().all(&(), (1..=20).map(slowest_first).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(list, (1..=20).collect::<Vec<_>>());
    assert_eq!(Gather::new().all(&(), Vec::<Source<'_, u64>>::new()).await.unwrap(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn eight_sources_fit_into_a_tuple() {
    let source = |number: u64| Source::new("source", move || slow(ms(number), number));
    let sources = (source(8), source(7), source(6), source(5), source(4), source(3), source(2), source(1));
    assert_eq!(Gather::new().all(&(), sources).await.unwrap(), (8, 7, 6, 5, 4, 3, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_decides_and_the_others_are_dropped_at_once() {
    let log = Log::default();
    let began = Instant::now();
    let slow_one = || {
        let guard = log.guard("slow");
        async move {
            let answer = slow(ms(150), 1).await;
            guard.done();
            answer
        }
    };
    let sources = (
        Source::new("slow", slow_one),
        Source::new("broken", || failing::<()>(ms(80), down().with_data(json!({"retryAfterMs": 500})))),
    );
    let error = Gather::new().all(&(), sources).await.unwrap_err();
    assert_eq!(began.elapsed(), ms(80));
    assert_eq!(log.entries(), ["slow dropped"]);
    assert_eq!(error.kind, ErrorKind::Unavailable, "the kind is the source's");
    assert_eq!(error.message, down().message, "and so is the text");
    assert_eq!(data(&error, "mcp-patterns/source"), json!({"name": "broken"}));
    assert_eq!(data(&error, "retryAfterMs"), 500);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_fails_at_its_timeout() {
    let began = Instant::now();
    let sources =
        (Source::new("hanging", hanging::<()>).with_timeout(ms(200)), Source::new("quick", || slow(ms(1), 1)));
    let error = Gather::new().all(&(), sources).await.unwrap_err();
    assert_eq!((error.kind, began.elapsed()), (ErrorKind::Timeout, ms(200)));
    assert_eq!(data(&error, "mcp-patterns/source"), json!({"name": "hanging"}));
}

#[tokio::test(start_paused = true)]
async fn a_source_with_a_policy_is_retried() {
    let log = Log::default();
    let retry = RetryPolicy::new().with_jitter(Jitter::None);
    let flaky = || {
        log.push("asked");
        let fails = log.entries().len() < 3;
        async move { if fails { Err(down()) } else { Ok("here") } }
    };
    let (found, _) = Gather::new()
        .all(&(), (Source::new("flaky", flaky).with_retry(&retry), Source::new("other", || slow(ms(1), 1))))
        .await
        .unwrap();
    assert_eq!((found, log.entries().len()), ("here", 3));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_source_covers_all_its_attempts() {
    let began = Instant::now();
    let retry =
        RetryPolicy::new().with_max_attempts(100).with_jitter(Jitter::None).with_base_delay(ms(100)).with_factor(1.0);
    let source = Source::new("broken", || failing::<()>(ms(0), down())).with_retry(&retry).with_timeout(ms(250));
    let error = Gather::new().all(&(), (source,)).await.unwrap_err();
    assert_eq!((error.kind, began.elapsed()), (ErrorKind::Timeout, ms(250)));
}

#[tokio::test(start_paused = true)]
async fn no_more_sources_run_at_once_than_allowed() {
    let (log, began) = (Log::default(), Instant::now());
    let source = |number: u64| {
        let log = log.clone();
        Source::new("source", move || {
            log.push(format!("{number} at {}", began.elapsed().as_millis()));
            slow(ms(100), number)
        })
    };
    let sources: Vec<_> = (1..=5).map(source).collect();
    let answers = Gather::new().with_max_in_flight(2).all(&(), sources).await.unwrap();
    assert_eq!(answers, [1, 2, 3, 4, 5]);
    assert_eq!(log.entries(), ["1 at 0", "2 at 0", "3 at 100", "4 at 100", "5 at 200"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_source_begins_when_it_is_asked() {
    let source = |number: u64| Source::new("source", move || slow(ms(100), number)).with_timeout(ms(150));
    let answers = Gather::new().with_max_in_flight(1).all(&(), [source(1), source(2), source(3)]).await;
    assert_eq!(answers.unwrap(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_has_failed() {
    let source = Source::new("wild", || async { if true { panic!("at the disco") } else { Ok(1) } });
    let error = Gather::new().all(&(), (source,)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(!error.message.contains("disco"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn a_retry_layer_around_the_tool_does_not_multiply_the_attempts_of_a_source() {
    use turbomcp_core::McpHandler;

    use crate::testing::ScriptedServer;
    use crate::{Layer, RetryTool};

    let log = Log::default();
    let asked = log.clone();
    let script = ScriptedServer::new("desk").with_read_only("fetch", move |_| {
        let asked = asked.clone();
        async move {
            let source = Source::new("broken", || {
                asked.push("asked");
                failing::<()>(ms(1), down())
            });
            Gather::new().all(&(), (source.with_retry(&RetryPolicy::new()),)).await?;
            Ok(ToolResult::text("fetched"))
        }
    });
    let result = RetryTool::new().layer(script).call_tool("fetch", json!({}), &RequestContext::new()).await.unwrap();
    assert!(result.is_error());
    assert_eq!(log.entries().len(), 3, "and not 9");
}
