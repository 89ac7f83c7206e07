//! Callers that leave.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_cancelled_gather_drops_its_sources_within_50_ms() {
    for degrades in [false, true] {
        let (token, log, began) = (Token::default(), Log::default(), Instant::now());
        let ctx = token.ctx();
        let source = Source::new("slow", || {
            let guard = log.guard("slow");
            async move {
                let answer = slow(ms(10_000), 1).await;
                guard.done();
                answer
            }
        });
        let gathered = async {
            if degrades {
                Gather::new().degrade(&ctx, [source]).await.map(|_| ())
            } else {
                Gather::new().all(&ctx, [source]).await.map(|_| ())
            }
        };
        let (gathered, ()) = tokio::join!(gathered, token.cancel_after(ms(120)));
        assert_eq!(gathered.unwrap_err().kind, ErrorKind::Cancelled);
        assert!(began.elapsed() <= ms(170), "{:?}", began.elapsed());
        assert_eq!(log.entries(), ["slow dropped"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_fallback_asks_no_further_source() {
    let (token, log, began) = (Token::default(), Log::default(), Instant::now());
    let ctx = token.ctx();
    let sources = [
        Source::new("slow", || slow(ms(10_000), None)),
        Source::new("next", || {
            log.push("asked");
            slow(ms(1), Some(1))
        }),
    ];
    let fallback = Fallback::new();
    let (found, ()) = tokio::join!(fallback.find(&ctx, sources), token.cancel_after(ms(120)));
    assert_eq!(found.unwrap_err().kind, ErrorKind::Cancelled);
    assert!(began.elapsed() <= ms(170), "{:?}", began.elapsed());
    assert!(log.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_already_cancelled_asks_no_source() {
    let token = Token::default();
    token.cancel();
    let ctx = token.ctx();
    let never = || async { if true { panic!("asked") } else { Ok(1) } };
    assert_eq!(Gather::new().all(&ctx, [Source::new("a", never)]).await.unwrap_err().message, "The call was cancelled");
    assert!(Gather::new().degrade(&ctx, [Source::new("a", never)]).await.is_err());
    let never = || async { if true { panic!("asked") } else { Ok(Some(1)) } };
    assert_eq!(
        Fallback::new().find(&ctx, [Source::new("a", never)]).await.unwrap_err().message,
        "The call was cancelled"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_returned_even_if_the_call_is_cancelled_during_the_backfill() {
    let (token, began) = (Token::default(), Instant::now());
    let ctx = token.ctx();
    let sources = [
        Source::new("cache", || slow(ms(1), None)).with_backfill(|_: u8| hanging()),
        Source::new("api", || slow(ms(1), Some(1))),
    ];
    let fallback = Fallback::new().with_backfill_timeout(ms(60_000));
    let (found, ()) = tokio::join!(fallback.find(&ctx, sources), token.cancel_after(ms(120)));
    assert_eq!(found.unwrap().unwrap().value, 1);
    assert!(began.elapsed() <= ms(170), "{:?}", began.elapsed());
}

/// Three steps, each with an await point, and a source that records when it is dropped.
fn source<'a>(log: &Log, name: &'static str) -> Source<'a, Option<u8>> {
    let (asked, filled) = (log.clone(), log.clone());
    Source::new(name, move || {
        let guard = asked.guard(name);
        async move {
            pause().await;
            pause().await;
            guard.done();
            Ok((name == "last").then_some(1))
        }
    })
    .with_backfill(move |_| async move {
        let guard = filled.guard(&format!("fill of {name}"));
        pause().await;
        guard.done();
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_dropped_at_any_await_point_leaves_nothing_running() {
    let mut ends = [false; 3];
    for polls in 0..30 {
        let log = Log::default();
        let sources = || ["first", "second", "last"].map(|name| source(&log, name));
        let ended = [
            polled(polls, Gather::new().all(&(), sources())).is_some(),
            polled(polls, Gather::new().with_max_in_flight(1).degrade(&(), sources())).is_some(),
            polled(polls, Fallback::new().find(&(), sources())).is_some(),
        ];
        // Everything that began was dropped: each holds a clone of the log.
        assert_eq!(Arc::strong_count(&log.0), 1, "after {polls} polls");
        for (ends, ended) in ends.iter_mut().zip(ended) {
            *ends |= ended;
        }
    }
    assert_eq!(ends, [true; 3], "the last polls see the end");
}
