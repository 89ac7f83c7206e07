use futures_util::future::join_all;

use super::*;

const SLOW: u64 = 100;

async fn slow(server: &impl McpHandler, ctx: &RequestContext) -> Result<(), Refusal> {
    call(server, "search", json!({ "ms": SLOW }), ctx).await
}

#[tokio::test(start_paused = true)]
async fn further_calls_are_refused_at_once_without_a_queue() {
    let server = LimitedTool::new().with_concurrency(Per::Tool, Concurrency::new(2)).layer(server());
    let began = Instant::now();
    let ada = user("ada");
    let mut ends = join_all((0..5).map(|_| slow(&server, &ada))).await;
    ends.sort_by_key(Result::is_err);
    assert_eq!(ends[..2], [Ok(()), Ok(())]);
    assert!(ends[2..].iter().all(|end| *end == Err(busy(ErrorKind::ServerOverloaded))), "{ends:?}");
    assert_eq!(began.elapsed(), ms(SLOW));
    assert_eq!(slow(&server, &ada).await, Ok(()), "the places are free again");
}

#[tokio::test(start_paused = true)]
async fn a_queue_gives_places_in_the_order_of_the_calls_and_no_more_wait_than_it_holds() {
    let concurrency = Concurrency::new(1).with_queue(3).with_max_wait(secs(60));
    let server = LimitedTool::new().with_concurrency(Per::Tool, concurrency).layer(server());
    let began = Instant::now();
    let ends = join_all((0..6).map(|number| {
        let (server, ctx) = (server.clone(), user(&number.to_string()));
        async move { slow(&server, &ctx).await.map(|()| began.elapsed()) }
    }));
    let expected: Vec<_> = (1..=4).map(|turn| Ok(ms(turn * SLOW))).collect();
    let ends = ends.await;
    assert_eq!(ends[..4], expected);
    assert!(ends[4..].iter().all(|end| *end == Err(busy(ErrorKind::ServerOverloaded))), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_waited_too_long_is_refused_and_frees_its_place_in_the_queue() {
    let concurrency = Concurrency::new(1).with_queue(1).with_max_wait(ms(50));
    let server = LimitedTool::new().with_concurrency(Per::Tool, concurrency).layer(server());
    let ada = user("ada");
    let (first, waited, full) = tokio::join!(slow(&server, &ada), slow(&server, &ada), slow(&server, &ada));
    assert_eq!(first, Ok(()));
    assert_eq!(waited, Err(("waited".to_owned(), Some(ErrorKind::ServerOverloaded), None)));
    assert_eq!(full, Err(busy(ErrorKind::ServerOverloaded)));
    let (first, second) = tokio::join!(slow(&server, &ada), call(&server, "search", json!({}), &ada));
    assert_eq!((first, second.map_err(|refusal| refusal.0)), (Ok(()), Err("waited".to_owned())), "it could wait again");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_or_cancels_gives_everything_back() {
    let limits = LimitedTool::new()
        .with_rate(Per::Tool, Rate::per_hour(4))
        .with_concurrency(Per::Tool, Concurrency::new(1).with_queue(1));
    let server = limits.layer(server());
    let ada = user("ada");
    // The first runs, and the second leaves the queue.
    let second = async {
        tokio::task::yield_now().await;
        tokio::time::timeout(ms(1), slow(&server, &ada)).await
    };
    let (first, second) = tokio::join!(slow(&server, &ada), second);
    assert_eq!((first, second.is_err()), (Ok(()), true));
    // One leaves while it runs, so the next runs at once.
    assert!(tokio::time::timeout(ms(1), slow(&server, &ada)).await.is_err());
    // The next cancels in the queue.
    let token = std::sync::Arc::new(Token::default());
    let cancelling = user("ada").with_cancellation_token(std::sync::Arc::clone(&token) as _);
    let cancelled = async {
        tokio::task::yield_now().await;
        let waiting = call(&server, "search", json!({}), &cancelling);
        tokio::join!(waiting, async {
            tokio::time::sleep(ms(10)).await;
            token.cancel();
        })
        .0
    };
    let (third, cancelled) = tokio::join!(slow(&server, &ada), cancelled);
    assert_eq!(third, Ok(()));
    assert_eq!(cancelled, Err(("cancelled".to_owned(), Some(ErrorKind::Cancelled), None)));
    // Three calls began, so one of four is left.
    assert_eq!(search(&server, &ada).await, Ok(()));
    assert!(search(&server, &ada).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn each_way_to_count_has_its_own_places() {
    for (per, expected) in [(Per::Tool, [1, 1]), (Per::Principal, [1, 1]), (Per::PrincipalAndTool, [2, 2])] {
        let server = LimitedTool::new().with_concurrency(per, Concurrency::new(1)).layer(server());
        let running = async |calls: [(&'static str, &str); 3]| {
            let calls = calls.map(|(tool, name)| (tool, user(name)));
            let ends = calls.iter().map(|(tool, ctx)| call(&server, tool, json!({ "ms": SLOW }), ctx));
            join_all(ends).await.iter().filter(|end| end.is_ok()).count()
        };
        let of_tool = running([("search", "ada"), ("search", "bob"), ("search", "ada")]).await;
        let of_ada = running([("search", "ada"), ("other", "ada"), ("search", "ada")]).await;
        let expected = match per {
            Per::Tool => [expected[0], 2],
            Per::Principal => [2, expected[1]],
            Per::PrincipalAndTool => expected,
        };
        assert_eq!([of_tool, of_ada], expected, "{per:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_caller_s_own_excess_is_not_called_an_overload_of_the_server() {
    for per in [Per::Principal, Per::PrincipalAndTool] {
        let server = LimitedTool::new().with_concurrency(per, Concurrency::new(1)).layer(server());
        let ada = user("ada");
        let (first, second) = tokio::join!(slow(&server, &ada), slow(&server, &ada));
        assert_eq!((first, second), (Ok(()), Err(busy(ErrorKind::RateLimited))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_tool_frees_its_place() {
    let script = ScriptedServer::new("shop").with_read_only("search", |call| async move {
        assert!(call.number > 1, "the first one panics");
        Ok(ToolResult::text("done"))
    });
    let server = LimitedTool::new().with_concurrency(Per::Tool, Concurrency::new(1)).layer(script);
    let panicking = server.clone();
    let ended = tokio::spawn(async move { search(&panicking, &user("ada")).await }).await;
    assert!(ended.is_err_and(|error| error.is_panic()));
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
}
