//! Sources in order.

use super::*;

fn source<'a, F>(log: &Log, name: &'static str, answer: impl Fn() -> F + Send + 'a) -> Source<'a, Option<&'static str>>
where
    F: Future<Output = McpResult<Option<&'static str>>> + Send + 'a,
{
    let asked = log.clone();
    let filled = log.clone();
    Source::new(name, move || {
        asked.push(name);
        answer()
    })
    .with_backfill(move |found| async move {
        filled.push(format!("{name} := {found}"));
        Ok(())
    })
}

async fn missing() -> McpResult<Option<&'static str>> {
    Ok(None)
}

async fn having(value: &'static str) -> McpResult<Option<&'static str>> {
    Ok(Some(value))
}

async fn broken() -> McpResult<Option<&'static str>> {
    Err(down())
}

#[tokio::test(start_paused = true)]
async fn the_first_source_with_a_value_is_the_last_one_asked() {
    let log = Log::default();
    let sources = [
        source(&log, "cache", || having("tea")),
        source(&log, "database", || having("coffee")),
        source(&log, "api", || having("water")),
    ];
    let found = Fallback::new().find(&(), sources).await.unwrap().unwrap();
    assert_eq!((found.value, found.source.as_ref()), ("tea", "cache"));
    assert_eq!(log.entries(), ["cache"]);
}

#[tokio::test(start_paused = true)]
async fn the_sources_that_missed_are_filled_and_no_others() {
    let log = Log::default();
    let sources = [
        source(&log, "cache", missing),
        source(&log, "replica", broken),
        source(&log, "database", missing),
        source(&log, "api", || having("tea")),
        source(&log, "archive", || having("old tea")),
    ];
    let found = Fallback::new().find(&(), sources).await.unwrap().unwrap();
    assert_eq!(log.entries(), ["cache", "replica", "database", "api", "cache := tea", "database := tea"]);
    assert_eq!((found.value, found.source.as_ref()), ("tea", "api"));
    assert_eq!(found.missed, ["cache", "database"]);
    assert_eq!(found.failed, ["replica"]);
    assert_eq!(found.backfilled, ["cache", "database"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_without_a_backfill_is_not_filled() {
    let log = Log::default();
    let sources = [Source::new("lookup", missing), source(&log, "api", || having("tea"))];
    let found = Fallback::new().find(&(), sources).await.unwrap().unwrap();
    assert_eq!((found.missed, found.backfilled), (vec!["lookup".into()], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_backfill_that_fails_hangs_or_panics_never_fails_the_answer() {
    let log = Log::default();
    let filled = log.clone();
    let began = Instant::now();
    let sources = [
        Source::new("refusing", missing).with_backfill(|_| async { Err(down()) }),
        Source::new("hanging", missing).with_backfill(|_| hanging()),
        Source::new("wild", missing).with_backfill(|_| async { panic!("at the disco") }),
        Source::new("wilder", missing).with_backfill(|_| -> std::future::Ready<McpResult<()>> { panic!("at once") }),
        Source::new("good", missing).with_backfill(move |found| async move {
            filled.push(found);
            Ok(())
        }),
        Source::new("api", || having("tea")),
    ];
    let found = Fallback::new().find(&(), sources).await.unwrap().unwrap();
    assert_eq!((found.value, log.entries()), ("tea", vec!["tea".to_owned()]));
    assert_eq!(found.backfilled, ["good"]);
    assert_eq!(began.elapsed(), ms(250), "all at once, within the bound");
}

#[tokio::test(start_paused = true)]
async fn the_bound_of_the_backfill_can_be_set() {
    let began = Instant::now();
    let sources = [Source::new("hanging", missing).with_backfill(|_| hanging()), Source::new("api", || having("tea"))];
    Fallback::new().with_backfill_timeout(ms(20)).find(&(), sources).await.unwrap().unwrap();
    assert_eq!(began.elapsed(), ms(20));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_skipped_for_the_next_one() {
    let began = Instant::now();
    let sources = [
        Source::new("cache", hanging).with_timeout(ms(50)),
        Source::new("database", hanging),
        Source::new("api", || having("tea")),
    ];
    let found = Fallback::new().with_timeout(ms(400)).find(&(), sources).await.unwrap().unwrap();
    assert_eq!((found.source.as_ref(), began.elapsed()), ("api", ms(450)));
    assert_eq!(found.failed, ["cache", "database"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_skipped_for_the_next_one() {
    let sources = [Source::new("wild", || async { panic!("at the disco") }), Source::new("api", || having("tea"))];
    let found = Fallback::new().find(&(), sources).await.unwrap().unwrap();
    assert_eq!((found.source.as_ref(), found.failed), ("api", vec!["wild".into()]));
}

#[tokio::test(start_paused = true)]
async fn an_error_about_the_call_ends_the_search_and_any_other_does_not() {
    for (kind, ends) in [
        (ErrorKind::InvalidParams, true),
        (ErrorKind::InvalidRequest, true),
        (ErrorKind::Authentication, true),
        (ErrorKind::PermissionDenied, true),
        (ErrorKind::ResourceAccessDenied, true),
        (ErrorKind::Security, true),
        (ErrorKind::UserRejected, true),
        (ErrorKind::UrlElicitationRequired, true),
        (ErrorKind::Cancelled, true),
        (ErrorKind::ResourceNotFound, false),
        (ErrorKind::Internal, false),
        (ErrorKind::Timeout, false),
        (ErrorKind::Unavailable, false),
        (ErrorKind::RateLimited, false),
        (ErrorKind::Configuration, false),
    ] {
        let log = Log::default();
        let error = McpError::new(kind, "no");
        let sources =
            [source(&log, "first", || failing(ms(1), error.clone())), source(&log, "second", || having("tea"))];
        let found = Fallback::new().find(&(), sources).await;
        match found {
            Err(error) if ends => {
                assert_eq!((error.kind, data(&error, "mcp-patterns/source")), (kind, json!({"name": "first"})));
            }
            Ok(Some(found)) if !ends => assert_eq!(found.value, "tea"),
            other => panic!("{kind:?}: {other:?}"),
        }
        assert_eq!(log.entries().len(), if ends { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn the_errors_that_continue_the_search_can_be_set() {
    let fallback = Fallback::new().fall_back_if(|error| error.kind == ErrorKind::PermissionDenied);
    let denied = || async { Err(McpError::permission_denied("not yours")) };
    let found = fallback.find(&(), [Source::new("theirs", denied), Source::new("ours", || having("tea"))]).await;
    assert_eq!(found.unwrap().unwrap().source, "ours");
    let error = fallback.find(&(), [Source::new("broken", broken), Source::new("ours", || having("tea"))]).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_the_last_source_is_returned() {
    let find = async |sources: Vec<Source<'static, Option<&'static str>>>| Fallback::new().find(&(), sources).await;
    let nothing = find(vec![Source::new("cache", broken), Source::new("api", missing)]).await;
    assert_eq!(nothing.unwrap(), None);
    let error = find(vec![Source::new("cache", missing), Source::new("api", broken)]).await.unwrap_err();
    assert_eq!((error.kind, &error.message), (ErrorKind::Unavailable, &down().message));
    assert_eq!(data(&error, "mcp-patterns/source"), json!({"name": "api"}));
    assert_eq!(find(vec![]).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn the_meta_names_the_source_of_the_value() {
    let log = Log::default();
    let sources =
        [source(&log, "cache", missing), source(&log, "replica", broken), source(&log, "database", || having("tea"))];
    let found = Fallback::new().find(&(), sources).await.unwrap().unwrap();
    let told = found.annotate(ToolResult::text("[DATABASE] tea"));
    assert_eq!(told.first_text(), Some("[DATABASE] tea"), "the text is the tool's");
    assert_eq!(
        told.meta.unwrap()["mcp-patterns/source"],
        json!({"name": "database", "missed": ["cache"], "failed": ["replica"], "backfilled": ["cache"]})
    );

    let found = Fallback::new().find(&(), [source(&log, "cache", || having("tea"))]).await.unwrap().unwrap();
    assert_eq!(found.annotate(ToolResult::text("tea")).meta.unwrap()["mcp-patterns/source"], json!({"name": "cache"}));
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_an_earlier_source_is_logged() {
    let traced = Traced::start();
    let sources = [Source::new("replica", broken), Source::new("api", || having("tea"))];
    Fallback::new().find(&(), sources).await.unwrap().unwrap();
    let logged = traced.text();
    assert!(logged.contains("a source failed, asking the next") && logged.contains("replica"), "{logged}");
}
