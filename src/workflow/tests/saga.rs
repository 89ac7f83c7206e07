//! Steps with compensations.

use super::*;

const STEPS: [&str; 4] = ["flight", "hotel", "car", "ticket"];

/// Books a trip in four steps. The step with this number fails; no step fails without a number.
async fn trip(log: Log, fails: usize) -> Result<usize, ChainError> {
    Chain::new("trip")
        .run(&(), |steps| async move {
            for (number, name) in STEPS.into_iter().enumerate() {
                let act = async {
                    let done = log.clone().act(name, name).await?;
                    if number == fails { Err(McpError::unavailable("No room")) } else { Ok(done) }
                };
                steps.undoable(name, act, |booked| log.undo(booked)).await?;
            }
            Ok(STEPS.len())
        })
        .await
}

/// The log of a trip in which that many steps succeeded, and one more was begun or not.
fn undone(succeeded: usize, begun: usize) -> Vec<String> {
    let made = STEPS[..begun].iter().map(|name| (*name).to_owned());
    made.chain(STEPS[..succeeded].iter().rev().map(|name| format!("undo {name}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_any_step_compensates_the_successful_steps_in_reverse_order() {
    for fails in 0..STEPS.len() {
        let log = Log::default();
        let failed = trip(log.clone(), fails).await.unwrap_err();
        assert_eq!(log.entries(), undone(fails, fails + 1), "everything is done when the error is returned");
        assert_eq!(failed.step.as_deref(), Some(STEPS[fails]));
        let told: Vec<_> = failed.compensations.iter().map(|compensated| compensated.step.as_ref()).collect();
        assert_eq!(told, STEPS[..fails].iter().rev().copied().collect::<Vec<_>>());
        assert!(failed.is_undone());

        let error = McpError::from(failed);
        assert_eq!(error.message, format!("Step `{}` failed: No room", STEPS[fails]));
        assert_eq!(data(&error, "mcp-patterns/exhausted"), Value::Null, "nothing is left: it may be tried again");
        let undone: Vec<_> = STEPS[..fails].iter().rev().collect();
        let told = data(&error, "mcp-patterns/chain");
        assert_eq!(told.get("undone").cloned().unwrap_or(json!([])), json!(undone));
        assert_eq!(told.get("notUndone"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_completed_chain_compensates_nothing() {
    let log = Log::default();
    assert_eq!(trip(log.clone(), usize::MAX).await.unwrap(), 4);
    sleep(ms(60_000)).await;
    assert_eq!(log.entries(), STEPS);
}

#[tokio::test(start_paused = true)]
async fn a_chain_dropped_at_any_await_point_compensates_its_successful_steps() {
    // One poll begins the first step, each further one ends a step and begins the next.
    for polls in 0..=STEPS.len() {
        let log = Log::default();
        assert!(polled(polls, trip(log.clone(), usize::MAX)).is_none(), "not at its end after {polls} polls");
        sleep(ms(60_000)).await;
        assert_eq!(log.entries(), undone(polls.saturating_sub(1), polls), "after {polls} polls");
    }
    let log = Log::default();
    assert!(polled(STEPS.len() + 1, trip(log.clone(), usize::MAX)).is_some());
    sleep(ms(60_000)).await;
    assert_eq!(log.entries(), STEPS, "a chain that came to its end stays done");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_does_not_stop_the_compensation() {
    for polls in 3..5 {
        let log = Log::default();
        // The third step fails in the fourth poll, and the caller then waits for the compensations.
        assert!(polled(polls, trip(log.clone(), 2)).is_none());
        sleep(ms(60_000)).await;
        assert_eq!(log.entries(), undone(2, 3), "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_has_its_steps_compensated() {
    let (token, log) = (Token::default(), Log::default());
    let (ctx, made) = (token.ctx(), log.clone());
    let chain = Chain::new("trip");
    let run = chain.run(&ctx, |steps| async move {
        for name in STEPS {
            steps.undoable(name, slow(ms(100), name), |name| made.undo(name)).await?;
        }
        Ok(())
    });
    let (failed, ()) = tokio::join!(run, token.cancel_after(ms(150)));
    assert_eq!(failed.unwrap_err().error.kind, ErrorKind::Cancelled);
    assert_eq!(log.entries(), ["undo hotel", "undo flight"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_compensates_the_steps_and_reaches_the_caller() {
    let log = Log::default();
    let made = log.clone();
    let call = tokio::spawn(async move {
        Chain::new("trip")
            .run(&(), |steps| async move {
                steps.undoable("flight", slow(ms(1), ()), |()| made.undo("flight")).await?;
                steps.undoable("hotel", slow(ms(1), ()), |()| made.undo("hotel")).await?;
                steps.step("car", async { if true { panic!("out of petrol") } else { Ok(()) } }).await
            })
            .await
    });
    assert!(call.await.unwrap_err().is_panic());
    sleep(ms(60_000)).await;
    assert_eq!(log.entries(), ["undo hotel", "undo flight"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_compensation_is_reported_and_the_others_still_run() {
    let (log, traced) = (Log::default(), Traced::start());
    let made = log.clone();
    let began = Instant::now();
    let failed = Chain::new("trip")
        .with_compensation_timeout(ms(400))
        .run(&(), |steps| async move {
            let nothing = || async { Ok(()) };
            steps.undoable("first", nothing(), |()| made.undo("first")).await?;
            steps.undoable("refusing", nothing(), |()| async { Err(down()) }).await?;
            steps.undoable("hanging", nothing(), |()| hanging()).await?;
            steps.undoable("wild", nothing(), |()| async { panic!("at the disco") }).await?;
            steps.undoable("last", nothing(), |()| made.undo("last")).await?;
            steps.step("pay", failing::<()>(ms(0), McpError::unavailable("No money"))).await
        })
        .await
        .unwrap_err();
    assert_eq!(log.entries(), ["undo last", "undo first"]);
    assert_eq!(began.elapsed(), ms(400));
    assert!(!failed.is_undone());
    let told: Vec<_> = failed.compensations.iter().map(|one| (one.step.as_ref(), one.error.is_none())).collect();
    assert_eq!(told, [("last", true), ("wild", false), ("hanging", false), ("refusing", false), ("first", true)]);

    let error = McpError::from(failed);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(error.message, "Step `pay` failed: No money. Not undone: `wild`, `hanging`, `refusing`");
    assert_eq!(data(&error, "mcp-patterns/exhausted"), "compensation", "no layer may make the call again");
    let chain = data(&error, "mcp-patterns/chain");
    assert_eq!((&chain["step"], &chain["undone"]), (&json!("pay"), &json!(["last", "first"])));
    assert_eq!((&chain["notUndone"][2]["step"], &chain["notUndone"][3]), (&json!("refusing"), &Value::Null));
    let sentence = chain["notUndone"][2]["error"].as_str().unwrap();
    let id = sentence.strip_prefix("`refusing` is not available at the moment (error ").unwrap().trim_end_matches(')');
    let logged = traced.text();
    let line = logged.lines().find(|line| line.contains(id)).unwrap();
    assert!(line.contains("a step is not undone") && line.contains(&down().message), "{line}");
}

#[tokio::test(start_paused = true)]
async fn each_uncompensated_step_is_listed_even_if_a_loop_gives_all_one_name() {
    let failed = Chain::new("order")
        .run(&(), |steps| async move {
            for seat in 1..=3 {
                let sold = McpError::invalid_request(format!("Seat {seat} is sold"));
                steps.undoable("seat", async { Ok(()) }, |()| async { Err(sold) }).await?;
            }
            steps.step("pay", failing::<()>(ms(0), McpError::unavailable("No money"))).await
        })
        .await
        .unwrap_err();
    let error = McpError::from(failed);
    assert_eq!(error.message, "Step `pay` failed: No money. Not undone: `seat`, `seat`, `seat`");
    let seat = |number| json!({"step": "seat", "error": format!("Seat {number} is sold")});
    assert_eq!(data(&error, "mcp-patterns/chain")["notUndone"], json!([seat(3), seat(2), seat(1)]));
}

#[tokio::test(start_paused = true)]
async fn uncompensated_steps_of_an_inner_chain_are_listed_too() {
    let sold = McpError::invalid_request("It is sold");
    let failed = Chain::new("trip")
        .run(&(), |steps| async move {
            steps.undoable("flight", async { Ok(()) }, |()| async { Ok(()) }).await?;
            let hotel = Chain::new("hotel");
            let hotel = hotel.run(&(), |steps| async move {
                steps.undoable("room", async { Ok(()) }, |()| async { Err(sold) }).await?;
                steps.step("pay", failing::<()>(ms(0), McpError::unavailable("No money"))).await
            });
            steps.step("hotel", async { Ok(hotel.await?) }).await
        })
        .await
        .unwrap_err();
    assert!(failed.is_undone(), "the outer chain has undone its own step");
    let error = McpError::from(failed);
    let told = data(&error, "mcp-patterns/chain");
    assert_eq!((&told["step"], &told["undone"]), (&json!("hotel"), &json!(["flight"])));
    assert_eq!(told["inner"], json!({"step": "pay", "notUndone": [{"step": "room", "error": "It is sold"}]}));
    assert_eq!(data(&error, "mcp-patterns/exhausted"), "compensation", "no layer may make the call again");
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_that_may_have_an_effect_can_be_compensated_too() {
    let log = Log::default();
    let made = log.clone();
    let failed = Chain::new("trip")
        .run(&(), |steps| async move {
            steps.undoable("flight", slow(ms(1), ()), |()| made.undo("flight")).await?;
            steps.on_failure("payment", made.undo("payment"));
            steps.step("payment", failing::<()>(ms(1), McpError::timeout("No answer"))).await
        })
        .await
        .unwrap_err();
    assert_eq!(log.entries(), ["undo payment", "undo flight"]);
    assert!(failed.is_undone());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_body_compensates_the_steps_too() {
    let log = Log::default();
    let made = log.clone();
    let failed = Chain::new("trip")
        .run(&(), |steps| async move {
            steps.undoable("flight", slow(ms(1), ()), |()| made.undo("flight")).await?;
            Err::<(), _>(McpError::invalid_request("No such date"))
        })
        .await
        .unwrap_err();
    assert_eq!((log.entries(), failed.step), (vec!["undo flight".to_owned()], None));
}

#[test]
fn a_compensation_that_cannot_run_because_the_runtime_has_shut_down_is_logged() {
    let traced = Traced::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let log = Log::default();
    let made = log.clone();
    let left = Chain::new("trip");
    let mut run = Box::pin(left.run(&(), |steps| async move {
        steps.undoable("flight", async { Ok(()) }, |()| made.undo("flight")).await?;
        hanging::<()>().await
    }));
    let begun = {
        let _entered = runtime.enter();
        run.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    };
    assert!(begun.is_pending());
    drop(runtime);
    drop(run);
    let logged = traced.text();
    assert!(logged.contains("a step is not undone, the runtime has shut down"), "{logged}");
    assert!(log.entries().is_empty());
}
