//! Progress over several attempts, as the caller's session sees it.

use tokio::time::sleep;
use turbomcp_core::{McpSession, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

use super::*;

/// A session that records its notifications.
#[derive(Debug)]
struct Recorder {
    sent: Log<(String, Value)>,
}

impl Recorder {
    fn new() -> Arc<Self> {
        Arc::new(Self { sent: Log::new() })
    }

    /// A call of a client with the progress token `"here"`.
    fn ctx(self: &Arc<Self>) -> RequestContext {
        self.silent_ctx().with_progress_token(json!("here"))
    }

    fn silent_ctx(self: &Arc<Self>) -> RequestContext {
        RequestContext::stdio().with_session(Arc::clone(self) as Arc<dyn McpSession>)
    }

    /// The progress that was sent: (progress, total).
    fn progress(&self) -> Vec<(f64, Option<f64>)> {
        let sent = self.sent.entries().into_iter();
        sent.map(|(method, params)| {
            assert_eq!(method, "notifications/progress");
            assert_eq!(params["progressToken"], json!("here"));
            (params["progress"].as_f64().unwrap(), params.get("total").and_then(Value::as_f64))
        })
        .collect()
    }
}

impl McpSession for Recorder {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        Box::pin(async { Ok(Some(ClientCapabilities::default())) })
    }

    fn protocol_version<'a>(&'a self) -> SessionFuture<'a, Option<ProtocolVersion>> {
        Box::pin(async { Ok(Some(ProtocolVersion::LATEST.clone())) })
    }

    fn call<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, Value> {
        Box::pin(async move { Ok(json!({"asked": method, "with": params})) })
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        self.sent.push((method.to_owned(), params));
        Box::pin(async { Ok(()) })
    }
}

/// A server whose `get` reports `steps` of `total` in each attempt and fails.
fn reporting(steps: &'static [f64], total: Option<f64>) -> ScriptedServer {
    ScriptedServer::new("upstream").with_read_only("get", move |call| async move {
        for step in steps {
            call.ctx.report_progress(*step, total, Some("working")).await?;
        }
        Err(down())
    })
}

#[tokio::test(start_paused = true)]
async fn progress_and_totals_keep_rising_over_three_attempts() {
    let session = Recorder::new();
    let server = RetryTool::new().layer(reporting(&[1.0, 2.0, 3.0], Some(3.0)));
    call_with(&server, &session.ctx()).await.unwrap();
    let expected: Vec<_> = (1..=9_u32).map(|step| (f64::from(step), Some(f64::from(step.div_ceil(3) * 3)))).collect();
    assert_eq!(session.progress(), expected);
    assert!(session.sent.entries().iter().all(|(_, params)| params["message"] == "working"));
}

#[tokio::test(start_paused = true)]
async fn progress_without_a_total_keeps_rising_too() {
    let session = Recorder::new();
    let server = RetryTool::new().layer(reporting(&[0.25, 0.5], None));
    call_with(&server, &session.ctx()).await.unwrap();
    assert_eq!(session.progress(), [0.25, 0.5, 0.75, 1.0, 1.25, 1.5].map(|progress| (progress, None)));
}

#[tokio::test(start_paused = true)]
async fn progress_that_does_not_rise_within_an_attempt_is_not_sent() {
    let session = Recorder::new();
    let server = RetryTool::new().with_max_attempts(2).layer(reporting(&[2.0, 1.0, 2.0, 3.0], None));
    call_with(&server, &session.ctx()).await.unwrap();
    assert_eq!(session.progress(), [2.0, 3.0, 5.0, 6.0].map(|progress| (progress, None)));
}

#[tokio::test(start_paused = true)]
async fn progress_that_counts_down_from_below_zero_still_rises_over_the_attempts() {
    let session = Recorder::new();
    let server = RetryTool::new().layer(reporting(&[-3.0, -2.0, -1.0], None));
    call_with(&server, &session.ctx()).await.unwrap();
    let progress = session.progress();
    assert!(progress.is_sorted_by(|one, next| one.0 < next.0), "{progress:?}");
}

#[tokio::test(start_paused = true)]
async fn progress_that_begins_below_zero_still_rises_over_the_attempts() {
    let session = Recorder::new();
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| async move {
        let step = if call.number == 1 { -5.0 } else { 1.0 };
        call.ctx.report_progress(step, None, None).await?;
        Err(down())
    });
    call_with(&RetryTool::new().layer(script), &session.ctx()).await.unwrap();
    let progress = session.progress();
    assert!(progress.is_sorted_by(|one, next| one.0 < next.0), "{progress:?}");
}

#[tokio::test(start_paused = true)]
async fn no_progress_is_sent_after_the_attempt_it_belongs_to() {
    let session = Recorder::new();
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| async move {
        call.ctx.report_progress(1.0, None, None).await?;
        let (late, session) = (call.ctx.clone(), Arc::clone(call.ctx.session().unwrap()));
        tokio::spawn(async move {
            sleep(ms(20)).await;
            late.report_progress(100.0, None, None).await.unwrap();
            let params = json!({"progressToken": "here", "progress": 200});
            session.notify("notifications/progress", params).await.unwrap();
        });
        if call.number == 1 { Err(down()) } else { Ok(ToolResult::text("here")) }
    });
    let server = RetryTool::new().with_delays(|| std::iter::repeat(ms(50))).layer(script.clone());
    call_with(&server, &session.ctx()).await.unwrap();
    sleep(ms(60_000)).await;
    assert_eq!(script.calls("get"), 2);
    assert!(session.progress().iter().all(|(progress, _)| *progress < 100.0), "{:?}", session.progress());
    assert_eq!(session.progress().first(), Some(&(1.0, None)));
}

#[tokio::test(start_paused = true)]
async fn no_progress_is_sent_by_an_attempt_that_timed_out() {
    let session = Recorder::new();
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| async move {
        tokio::spawn({
            let ctx = call.ctx.clone();
            async move {
                sleep(ms(500)).await;
                ctx.report_progress(9.0, None, None).await.unwrap();
            }
        });
        call.ctx.report_progress(1.0, None, None).await?;
        if call.number == 1 {
            std::future::pending::<()>().await;
        }
        Ok(ToolResult::text("here"))
    });
    call_with(&RetryTool::new().with_attempt_timeout(ms(100)).layer(script), &session.ctx()).await.unwrap();
    sleep(ms(60_000)).await;
    assert_eq!(session.progress(), [(1.0, None), (2.0, None)]);
}

#[tokio::test(start_paused = true)]
async fn other_notifications_and_other_tokens_pass_unchanged() {
    let session = Recorder::new();
    let messages = [
        ("notifications/message", json!({"level": "info", "data": 1, "progressToken": "here", "progress": 1})),
        ("notifications/progress", json!({"progressToken": "elsewhere", "progress": 1, "total": 3})),
        ("notifications/progress", json!({"progressToken": 7, "progress": 1})),
    ];
    let sent = messages.clone();
    let script = ScriptedServer::new("upstream").with_read_only("get", move |call| {
        let messages = sent.clone();
        async move {
            call.ctx.report_progress(1.0, None, None).await?;
            for (method, params) in messages {
                call.ctx.notify_client(method, params).await?;
            }
            Err(down())
        }
    });
    call_with(&RetryTool::new().with_max_attempts(2).layer(script), &session.ctx()).await.unwrap();
    let sent = session.sent.entries();
    assert_eq!(sent.len(), 8);
    for attempt in sent.chunks(4) {
        let passed: Vec<_> = attempt[1..].iter().map(|(method, params)| (method.as_str(), params.clone())).collect();
        assert_eq!(passed, messages);
    }
}

#[tokio::test(start_paused = true)]
async fn the_wrapped_session_still_answers_requests() {
    let session = Recorder::new();
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| async move {
        let session = call.ctx.session().unwrap();
        assert_eq!(session.client_capabilities().await?, Some(ClientCapabilities::default()));
        assert_eq!(session.protocol_version().await?, Some(ProtocolVersion::LATEST.clone()));
        let answer = session.call("roots/list", json!({"page": 1})).await?;
        assert_eq!(answer, json!({"asked": "roots/list", "with": {"page": 1}}));
        assert_eq!(call.ctx.progress_token(), Some(&json!("here")));
        Ok(ToolResult::text("here"))
    });
    assert!(!call_with(&RetryTool::new().layer(script), &session.ctx()).await.unwrap().is_error());
}

#[tokio::test(start_paused = true)]
async fn the_session_is_not_wrapped_without_progress_and_with_repeatable_questions() {
    let session = Recorder::new();
    let own: Arc<dyn McpSession> = session.clone();
    let script = ScriptedServer::new("upstream").with_read_only("get", move |call| {
        assert!(Arc::ptr_eq(call.ctx.session().unwrap(), &own));
        async move {
            call.ctx.report_progress(1.0, None, None).await?;
            Err(down())
        }
    });
    let server = RetryTool::new().allow_repeated_questions(["get"]).layer(script.clone());
    call_with(&server, &session.silent_ctx()).await.unwrap();
    assert_eq!(script.calls("get"), 3);
    assert!(session.sent.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_progress_token_without_a_session_gets_no_progress() {
    let script = reporting(&[1.0], None);
    let ctx = RequestContext::new().with_progress_token(json!("here"));
    call_with(&RetryTool::new().layer(script.clone()), &ctx).await.unwrap();
    assert_eq!(script.calls("get"), 3);
}

#[tokio::test(start_paused = true)]
async fn two_nested_layers_keep_progress_rising() {
    let session = Recorder::new();
    let outer = RetryTool::new().with_attempt_timeout(ms(10));
    let inner = RetryTool::new().with_delays(|| std::iter::repeat(ms(8)));
    let server = (outer, inner).layer(reporting(&[1.0, 2.0], Some(2.0)));
    call_with(&server, &session.ctx()).await.unwrap();
    let progress = session.progress();
    assert!(progress.len() > 4, "{progress:?}");
    assert!(progress.is_sorted_by(|one, next| one.0 < next.0), "{progress:?}");
    assert!(progress.iter().all(|(progress, total)| total.is_some_and(|total| *progress <= total)), "{progress:?}");
}
