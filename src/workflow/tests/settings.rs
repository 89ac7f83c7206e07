//! The defaults that the manual lists.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_source_times_out_after_30_seconds() {
    let began = Instant::now();
    Gather::new().all(&(), [Source::new("hanging", hanging::<()>)]).await.unwrap_err();
    assert_eq!(began.elapsed(), ms(30_000));
    Fallback::default().find(&(), [Source::new("hanging", hanging::<Option<()>>)]).await.unwrap_err();
    assert_eq!(began.elapsed(), ms(60_000));
}

#[tokio::test(start_paused = true)]
async fn a_source_without_a_timeout_has_no_limit() {
    let hour = ms(3_600_000);
    Gather::default().without_timeout().all(&(), [Source::new("slow", || slow(hour, 1))]).await.unwrap();
    let found = Fallback::new().without_timeout().find(&(), [Source::new("slow", || slow(hour, Some(1)))]).await;
    assert_eq!(found.unwrap().unwrap().value, 1);
}

#[tokio::test(start_paused = true)]
async fn a_compensation_times_out_after_10_seconds() {
    let began = Instant::now();
    let failed = Chain::new("trip")
        .run(&(), |steps| async move {
            steps.undoable("flight", async { Ok(()) }, |()| hanging()).await?;
            Err::<(), _>(down())
        })
        .await
        .unwrap_err();
    assert_eq!((began.elapsed(), failed.is_undone()), (ms(10_000), false));
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_cannot_work_is_an_error_of_its_check_and_of_each_run() {
    let short = Duration::from_nanos(1);
    for (gather, mistake) in [
        (Gather::new().with_max_in_flight(0), "Gather::with_max_in_flight: must be greater than zero"),
        (Gather::new().with_timeout(short), "Gather::with_timeout: must be at least 1 ms"),
    ] {
        let source = || [Source::new("a", || slow(ms(1), 1))];
        let errors = [gather.all(&(), source()).await.unwrap_err(), gather.degrade(&(), source()).await.unwrap_err()];
        assert_eq!(gather.check().unwrap_err().to_string(), mistake);
        assert!(
            errors.iter().all(|error| error.kind == ErrorKind::Configuration && error.message == mistake),
            "{errors:?}"
        );
    }
    for (fallback, mistake) in [
        (Fallback::new().with_timeout(short), "Fallback::with_timeout: must be at least 1 ms"),
        (Fallback::new().with_backfill_timeout(short), "Fallback::with_backfill_timeout: must be at least 1 ms"),
    ] {
        let error = fallback.find(&(), [Source::new("a", || slow(ms(1), Some(1)))]).await.unwrap_err();
        assert_eq!(fallback.check().unwrap_err().to_string(), mistake);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Configuration, mistake));
    }
    let chain = Chain::new("trip").with_compensation_timeout(short);
    let failed = chain.run(&(), |_| async { Ok(()) }).await.unwrap_err();
    assert_eq!(failed.error.message, chain.check().unwrap_err().to_string());
    assert_eq!(failed.error.message, "Chain::with_compensation_timeout: must be at least 1 ms");
}

#[test]
fn debug_output_names_the_settings() {
    let source = Source::new("news", || slow(ms(1), 1)).with_timeout(ms(5)).required();
    assert!(format!("{source:?}").starts_with(r#"Source { name: "news", timeout: Some(5ms)"#), "{source:?}");
    assert!(format!("{:?}", Fallback::new()).contains("backfill_timeout: 250ms"));
}

#[tokio::test(start_paused = true)]
async fn a_workflow_runs_inside_a_tool() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    struct Tool;
    impl Tool {
        async fn ask(&self, query: &str) -> McpResult<String> {
            Ok(format!("About {query}"))
        }
        async fn run(&self, ctx: &RequestContext, query: String) -> McpResult<String> {
            let (news, other) = Gather::new()
                .all(ctx, (Source::new("news", || self.ask(&query)), Source::new("other", || self.ask(&query))))
                .await?;
            let found =
                Fallback::new().find(ctx, [Source::new("news", || async { self.ask(&query).await.map(Some) })]).await?;
            let query = &query;
            let last =
                Chain::new("ask").run(ctx, |steps| async move { steps.step("ask", self.ask(query)).await }).await?;
            Ok([news, other, found.unwrap().value, last].join(", "))
        }
    }
    let ctx = RequestContext::new();
    let told = sendable(Tool.run(&ctx, "tea".into())).await.unwrap();
    assert_eq!(told, "About tea, About tea, About tea, About tea");
}
