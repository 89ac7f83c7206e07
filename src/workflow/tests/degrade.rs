//! Partial answers.

use super::*;

fn secondary_is_gone() -> McpError {
    McpError::new(ErrorKind::ResourceNotFound, "Nothing is known about it")
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_in_its_own_slot_only() {
    let answer = Gather::new()
        .degrade(
            &(),
            [
                Source::new("primary", || slow(ms(10), "Primary data for tea")),
                Source::new("secondary", || failing(ms(20), secondary_is_gone())),
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        serde_json::to_string(&answer).unwrap(),
        r#"{"primary":{"status":"success","data":"Primary data for tea"},"secondary":{"status":"error","error":"Nothing is known about it"}}"#,
    );
    assert_eq!(answer.get("primary"), Some(Ok(&"Primary data for tea")));
    assert_eq!(answer.get("secondary"), Some(Err("Nothing is known about it")));
    assert_eq!(answer.get("tertiary"), None);
    assert_eq!(answer.failed().collect::<Vec<_>>(), ["secondary"]);
    assert!(!answer.is_complete());
}

#[tokio::test(start_paused = true)]
async fn each_source_has_an_entry_even_if_a_loop_gives_all_one_name() {
    let sources = ["page", "page#2", "page", "page"].into_iter().enumerate();
    let sources = sources.map(|(number, name)| {
        Source::new(name, move || async move { if number == 3 { Err(secondary_is_gone()) } else { Ok(number) } })
    });
    let answer = Gather::new().degrade(&(), sources).await.unwrap();
    assert_eq!(answer.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["page", "page#2", "page#3", "page#4"]);
    assert_eq!(answer.failed().collect::<Vec<_>>(), ["page#4"]);
    let told = json!(answer);
    assert_eq!(
        (told.as_object().unwrap().len(), &told["page"]["data"], &told["page#3"]["data"]),
        (4, &json!(0), &json!(2))
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_which_every_source_succeeded_is_complete() {
    let answer = Gather::new().degrade(&(), [Source::new("only", || slow(ms(10), 1))]).await.unwrap();
    assert!(answer.is_complete());
}

#[tokio::test(start_paused = true)]
async fn three_sources_with_one_that_hangs_take_its_timeout() {
    let began = Instant::now();
    let answer = Gather::new()
        .degrade(
            &(),
            [
                Source::new("weather", || slow(ms(100), "sunny")),
                Source::new("news", hanging).with_timeout(ms(200)),
                Source::new("stocks", || slow(ms(80), "up")),
            ],
        )
        .await
        .unwrap();
    assert_eq!(began.elapsed(), ms(200));
    assert_eq!(answer.failed().collect::<Vec<_>>(), ["news"]);
    assert_eq!(answer.get("weather"), Some(Ok(&"sunny")));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_the_gather_holds_for_sources_without_their_own() {
    let began = Instant::now();
    let answer = Gather::new()
        .with_timeout(ms(50))
        .degrade(
            &(),
            [Source::new("hanging", hanging::<()>), Source::new("patient", || slow(ms(90), ())).with_timeout(ms(100))],
        )
        .await
        .unwrap();
    assert_eq!(began.elapsed(), ms(90));
    assert_eq!(answer.failed().collect::<Vec<_>>(), ["hanging"]);
}

#[tokio::test(start_paused = true)]
async fn a_required_source_that_fails_fails_the_answer_and_drops_the_others() {
    let log = Log::default();
    let began = Instant::now();
    let optional = || {
        let guard = log.guard("optional");
        async move {
            let answer = slow(ms(500), 1).await;
            guard.done();
            answer
        }
    };
    let error = Gather::new()
        .degrade(&(), [Source::new("optional", optional), Source::new("base", || failing(ms(30), down())).required()])
        .await
        .unwrap_err();
    assert_eq!((began.elapsed(), error.kind), (ms(30), ErrorKind::Unavailable));
    assert_eq!(data(&error, "mcp-patterns/source"), json!({"name": "base"}));
    assert_eq!(log.entries(), ["optional dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_required_source_that_succeeds_is_an_entry_like_the_others() {
    let answer = Gather::new()
        .degrade(
            &(),
            [Source::new("base", || slow(ms(1), 1)).required(), Source::new("extra", || failing(ms(1), down()))],
        )
        .await
        .unwrap();
    assert_eq!((answer.get("base"), answer.failed().count()), (Some(Ok(&1)), 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_fails_its_own_slot_only() {
    let answer = Gather::new()
        .degrade(
            &(),
            [Source::new("calm", || slow(ms(1), 1)), Source::new("wild", || async { panic!("at the disco") })],
        )
        .await
        .unwrap();
    assert_eq!(answer.get("calm"), Some(Ok(&1)));
    let sentence = answer.get("wild").unwrap().unwrap_err();
    assert!(sentence.starts_with("`wild` failed (error "), "{sentence}");
}

#[tokio::test(start_paused = true)]
async fn sources_of_different_types_are_combined_as_json() {
    let answer = Gather::new()
        .degrade(
            &(),
            [Source::new("count", || slow(ms(1), 7)).json(), Source::new("names", || slow(ms(1), ["a", "b"])).json()],
        )
        .await
        .unwrap();
    assert_eq!(
        json!(answer),
        json!({"count": {"status": "success", "data": 7}, "names": {"status": "success", "data": ["a", "b"]}})
    );
}

#[tokio::test(start_paused = true)]
async fn json_keeps_the_settings_of_the_source() {
    let retry = RetryPolicy::new().with_jitter(Jitter::None);
    let log = Log::default();
    let source = Source::new("broken", || {
        log.push("asked");
        failing::<u8>(ms(10), down())
    });
    let source = source.with_retry(&retry).with_timeout(ms(70)).required().json();
    let began = Instant::now();
    let error = Gather::new().degrade(&(), [source]).await.unwrap_err();
    assert_eq!((error.kind, began.elapsed(), log.entries().len()), (ErrorKind::Timeout, ms(70), 2));
}
