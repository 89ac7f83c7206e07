//! The policy inside a tool, around the author's own requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{Instant, sleep};
use turbomcp::prelude::*;

use super::super::{Budget, Jitter, RetryPolicy, Retryable, Verdict};
use super::*;

/// A server whose own tool retries the upstream it calls.
#[derive(Clone)]
struct Fetcher {
    retry: RetryPolicy,
    fails: usize,
    fetched: Arc<AtomicUsize>,
}

impl Fetcher {
    fn new(fails: usize) -> Self {
        Self { retry: RetryPolicy::new().with_jitter(Jitter::None), fails, fetched: Arc::default() }
    }

    async fn fetch(&self, url: &str) -> McpResult<String> {
        if self.fetched.fetch_add(1, Ordering::SeqCst) < self.fails {
            Err(McpError::transport("connection reset"))
        } else {
            Ok(format!("Data from {url}"))
        }
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }
}

#[server(name = "fetcher", version = "1.0.0")]
impl Fetcher {
    /// Fetches a page, with retries.
    #[tool]
    async fn fetch_with_retry(&self, ctx: &RequestContext, url: String, max_attempts: u32) -> McpResult<String> {
        self.retry.clone().with_max_attempts(max_attempts).run(ctx, |_| self.fetch(&url)).await
    }
}

async fn fetch(server: &Fetcher, max_attempts: u32, ctx: &RequestContext) -> ToolResult {
    let args = json!({"url": "https://example.org", "max_attempts": max_attempts});
    server.call_tool("fetch_with_retry", args, ctx).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_tool_retries_its_own_fetches() {
    let server = Fetcher::new(2);
    let began = Instant::now();
    let result = fetch(&server, 5, &RequestContext::new()).await;
    assert_eq!(result, ToolResult::text("Data from https://example.org"));
    assert_eq!((server.fetched(), began.elapsed()), (3, ms(150)));
}

#[tokio::test(start_paused = true)]
async fn a_tool_whose_fetches_all_fail_returns_the_last_error() {
    let server = Fetcher::new(ALWAYS);
    let result = fetch(&server, 4, &RequestContext::new()).await;
    assert_eq!(server.fetched(), 4);
    assert_eq!(result, McpError::transport("connection reset").to_tool_result(), "unchanged");
}

#[tokio::test(start_paused = true)]
async fn a_tool_whose_caller_leaves_fetches_no_more() {
    let server = Fetcher { retry: RetryPolicy::new().with_base_delay(ms(10_000)).with_seed(7), ..Fetcher::new(ALWAYS) };
    let token = Token::default();
    let ctx = token.ctx();
    let began = Instant::now();
    let cancel = async {
        sleep(ms(120)).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(fetch(&server, 5, &ctx), cancel);
    assert!(began.elapsed() <= ms(170), "{:?}", began.elapsed());
    assert_eq!(result, McpError::transport("connection reset").to_tool_result());
    sleep(ms(60_000)).await;
    assert_eq!(server.fetched(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_numbered_from_one() {
    let seen = Log::new();
    let result: McpResult<()> = RetryPolicy::new()
        .run(&(), |attempt| {
            seen.push(attempt);
            ready(Err(down()))
        })
        .await;
    assert_eq!(result.unwrap_err().message, "the upstream is down");
    assert_eq!(seen.entries(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_returned_at_once() {
    let mut calls = 0;
    let result: McpResult<()> = RetryPolicy::new()
        .run(&(), |_| {
            calls += 1;
            ready(Err(McpError::invalid_params("no")))
        })
        .await;
    assert_eq!((result.unwrap_err().message.as_str(), calls), ("no", 1));
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_error_is_returned_at_once() {
    let mut calls = 0;
    let result: McpResult<()> = RetryPolicy::new()
        .run(&(), |_| {
            calls += 1;
            ready(Err(down().with_data(json!({"mcp-patterns/exhausted": "attempts"}))))
        })
        .await;
    assert!(result.is_err());
    assert_eq!(calls, 1);
}

#[tokio::test(start_paused = true)]
async fn work_without_cancellation_waits_for_its_full_delays() {
    let began = Instant::now();
    let result = RetryPolicy::new()
        .with_jitter(Jitter::None)
        .run(&(), |attempt| ready(if attempt < 3 { Err(down()) } else { Ok(attempt) }))
        .await;
    assert_eq!((result.unwrap(), began.elapsed()), (3, ms(150)));
}

/// An error type outside this crate.
#[derive(Debug, Clone, PartialEq)]
enum FetchError {
    Gone,
    Busy { come_back_in: Option<Duration> },
    TookLongerThan(Duration),
}

impl Retryable for FetchError {
    fn verdict(&self) -> Verdict {
        match *self {
            Self::Gone => Verdict::Permanent,
            Self::Busy { come_back_in } => Verdict::throttled(come_back_in),
            Self::TookLongerThan(_) => Verdict::temporary(None),
        }
    }

    fn timed_out(after: Duration) -> Self {
        Self::TookLongerThan(after)
    }
}

/// Fails with each of `answers`, then succeeds. Returns the result, the attempts and the time.
async fn through<const N: usize>(answers: [FetchError; N]) -> (Result<(), FetchError>, u32, Duration) {
    let began = Instant::now();
    let mut attempts = 0;
    let result = RetryPolicy::new()
        .with_jitter(Jitter::None)
        .run(&(), |attempt| {
            attempts = attempt;
            ready(answers.get(attempt as usize - 1).map_or(Ok(()), |error| Err(error.clone())))
        })
        .await;
    (result, attempts, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_custom_error_type_decides_what_is_temporary_or_throttled_and_the_delay() {
    assert_eq!(through([FetchError::Gone]).await, (Err(FetchError::Gone), 1, Duration::ZERO));
    assert_eq!(through([FetchError::TookLongerThan(ms(1))]).await, (Ok(()), 2, ms(50)));
    assert_eq!(through([FetchError::Busy { come_back_in: None }]).await, (Ok(()), 2, ms(1_000)));
    assert_eq!(through([FetchError::Busy { come_back_in: Some(ms(4_000)) }]).await, (Ok(()), 2, ms(4_050)));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_attempt_returns_the_timeout_of_a_custom_error_type() {
    let result: Result<(), FetchError> =
        RetryPolicy::new().with_attempt_timeout(ms(40)).run(&(), |_| std::future::pending()).await;
    assert_eq!(result, Err(FetchError::TookLongerThan(ms(40))));
}

#[tokio::test(start_paused = true)]
async fn a_policy_and_a_layer_may_share_a_budget() {
    let budget = Budget::new().with_ratio(0.0).with_retries_per_second(0.0).with_burst(3);
    let policy = RetryPolicy::new().with_budget(budget.clone());
    let result: McpResult<()> = policy.run(&(), |_| ready(Err(down()))).await;
    assert!(result.is_err());
    let script = failing(ALWAYS, down());
    call(&RetryTool::new().with_budget(budget).layer(script.clone())).await.unwrap();
    assert_eq!(script.calls("get"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_policy_without_attempts_still_makes_the_first() {
    let mut calls = 0;
    let result = RetryPolicy::new()
        .with_max_attempts(0)
        .run(&(), |_| {
            calls += 1;
            ready(McpResult::Ok(()))
        })
        .await;
    assert!(result.is_ok());
    assert_eq!(calls, 1);
}
