//! The defaults that the manual lists.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_source_is_given_up_after_30_seconds() {
    let began = Instant::now();
    Gather::new().all(&(), [Source::new("hanging", hanging::<()>)]).await.unwrap_err();
    assert_eq!(began.elapsed(), ms(30_000));
    Fallback::default().find(&(), [Source::new("hanging", hanging::<Option<()>>)]).await.unwrap_err();
    assert_eq!(began.elapsed(), ms(60_000));
}

#[tokio::test(start_paused = true)]
async fn a_source_may_take_as_long_as_it_takes_if_it_is_allowed_to() {
    let hour = ms(3_600_000);
    Gather::default().without_timeout().all(&(), [Source::new("slow", || slow(hour, 1))]).await.unwrap();
    let found = Fallback::new().without_timeout().find(&(), [Source::new("slow", || slow(hour, Some(1)))]).await;
    assert_eq!(found.unwrap().unwrap().value, 1);
}

#[tokio::test(start_paused = true)]
async fn a_compensation_is_given_up_after_10_seconds() {
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
async fn at_least_one_source_is_asked_at_a_time() {
    let sources = [Source::new("a", || slow(ms(1), 1)), Source::new("b", || slow(ms(1), 2))];
    assert_eq!(Gather::new().with_max_in_flight(0).all(&(), sources).await.unwrap(), [1, 2]);
}

#[test]
fn what_is_debugged_names_the_settings() {
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
