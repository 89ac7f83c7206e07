//! Steps without compensations.

use super::*;

#[tokio::test(start_paused = true)]
async fn steps_run_in_order_and_pass_their_results_on() {
    let log = Log::default();
    let city = "Paris".to_owned();
    let told = Chain::new("get_forecast")
        .run(&(), |steps| async move {
            let place = steps.step("geocode", slow(ms(100), format!("{city} at 48.9/2.4"))).await?;
            let now = steps.step("weather", slow(ms(100), format!("sunny in {place}"))).await?;
            Ok(format!("Now: {now}"))
        })
        .await
        .unwrap();
    assert_eq!(told, "Now: sunny in Paris at 48.9/2.4");
    assert!(log.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_error_names_the_failed_step_and_keeps_its_kind_and_data() {
    let limited = McpError::rate_limited("Too many forecasts").with_data(json!({"retryAfterMs": 900}));
    let failed = Chain::new("get_forecast")
        .run(&(), |steps| async move {
            steps.step("geocode", slow(ms(1), ())).await?;
            steps.step("forecast", failing::<()>(ms(1), limited)).await?;
            steps.step::<()>("never", async { panic!("made") }).await
        })
        .await
        .unwrap_err();
    assert_eq!(failed.step.as_deref(), Some("forecast"));
    assert_eq!(failed.to_string(), "Step `forecast` failed: Too many forecasts");
    assert!(failed.compensations.is_empty() && failed.is_undone());

    let error = McpError::from(failed);
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert_eq!(error.message, "Step `forecast` failed: Too many forecasts");
    assert_eq!(data(&error, "retryAfterMs"), 900);
    assert_eq!(data(&error, "mcp-patterns/chain"), json!({"step": "forecast"}));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_body_names_no_step() {
    let failed = Chain::new("order")
        .run(&(), |steps| async move {
            let stock = steps.step("count", slow(ms(1), 0)).await?;
            if stock == 0 { Err(McpError::invalid_request("Out of stock")) } else { Ok(()) }
        })
        .await
        .unwrap_err();
    assert_eq!((failed.step.as_deref(), failed.to_string().as_str()), (None, "Out of stock"));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_the_body_reworded_still_names_its_step() {
    let failed = Chain::new("order")
        .run(&(), |steps| async move {
            let counted = steps.step("count", failing::<u8>(ms(1), down())).await;
            counted.map_err(|_| McpError::unavailable("Come back tomorrow"))
        })
        .await
        .unwrap_err();
    assert_eq!(failed.step.as_deref(), Some("count"));
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_failure_the_body_handled_is_not_named() {
    let failed = Chain::new("order")
        .run(&(), |steps| async move {
            let _ = steps.step("recommend", failing::<u8>(ms(1), down())).await;
            steps.step("count", slow(ms(1), 0)).await?;
            Err::<(), _>(McpError::invalid_request("Out of stock"))
        })
        .await
        .unwrap_err();
    assert_eq!(failed.step, None);
}

#[tokio::test(start_paused = true)]
async fn steps_may_run_concurrently() {
    let began = Instant::now();
    let failed = Chain::new("get_forecast")
        .run(&(), |steps| async move {
            let (now, days) = tokio::join!(
                steps.step("weather", failing::<()>(ms(80), down())),
                steps.step("forecast", slow(ms(100), "rain")),
            );
            now?;
            days
        })
        .await
        .unwrap_err();
    assert_eq!((failed.step.as_deref(), began.elapsed()), (Some("weather"), ms(100)));
}

#[tokio::test(start_paused = true)]
async fn each_step_has_a_span_with_its_name() {
    let traced = Traced::start();
    let act = async {
        tracing::info!("asking where it lies");
        Ok(())
    };
    Chain::new("get_forecast").run(&(), |steps| async move { steps.step("geocode", act).await }).await.unwrap();
    let logged = traced.text();
    let line = logged.lines().find(|line| line.contains("asking where it lies")).unwrap();
    assert!(line.contains("step{chain=get_forecast step=geocode}"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_chain_begins_no_further_step_and_lets_the_running_one_end() {
    let (token, log) = (Token::default(), Log::default());
    let (ctx, made) = (token.ctx(), log.clone());
    let chain = Chain::new("order");
    let run = chain.run(&ctx, |steps| async move {
        steps.step("first", slow(ms(200), ())).await?;
        made.push("first made");
        steps.step::<()>("second", async { panic!("made") }).await
    });
    let (failed, ()) = tokio::join!(run, token.cancel_after(ms(100)));
    let failed = failed.unwrap_err();
    assert_eq!((failed.step.as_deref(), failed.error.kind), (Some("second"), ErrorKind::Cancelled));
    assert_eq!(log.entries(), ["first made"]);
}

#[tokio::test(start_paused = true)]
async fn a_chain_succeeds_with_its_last_step_even_if_the_call_is_cancelled() {
    let (token, log) = (Token::default(), Log::default());
    let (ctx, undo) = (token.ctx(), log.clone());
    let chain = Chain::new("order");
    let run =
        chain.run(&ctx, |steps| async move { steps.undoable("only", slow(ms(200), 7), |_| undo.undo("only")).await });
    let (done, ()) = tokio::join!(run, token.cancel_after(ms(100)));
    assert_eq!(done.unwrap(), 7);
    sleep(ms(1000)).await;
    assert!(log.entries().is_empty());
}
