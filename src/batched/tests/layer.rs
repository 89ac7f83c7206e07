use super::*;
use crate::batched::Call;
use crate::{BatchedTool, Layer, Layered, Scope};

type Server = Layered<BatchedTool, ScriptedServer>;

/// A server whose tools answer by themselves if they are called.
fn script() -> ScriptedServer {
    ScriptedServer::new("library")
        .with_read_only("read", |call| async move { Ok(ToolResult::text(format!("alone {}", call.args["n"]))) })
        .with_plain("write", |_| async { Ok(ToolResult::text("written alone")) })
}

/// The calls of each batch.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<Mutex<Vec<Vec<Call>>>>);

impl Calls {
    fn all(&self) -> Vec<Vec<Call>> {
        self.0.lock().expect("no panic").clone()
    }

    fn numbers(&self) -> Vec<Vec<u64>> {
        self.all()
            .iter()
            .map(|batch| batch.iter().map(|call| call.args["n"].as_u64().expect("a number")).collect())
            .collect()
    }

    /// Answers `read` by a bulk function.
    fn answering(&self) -> BatchedTool {
        self.answering_as("read")
    }

    fn answering_as(&self, tool: &str) -> BatchedTool {
        let seen = self.clone();
        BatchedTool::new().with_bulk(tool, move |calls: Vec<Call>| {
            seen.0.lock().expect("no panic").push(calls.clone());
            async move {
                let answer = |call: Call| match call.args["n"].as_u64() {
                    Some(13) => Err(McpError::invalid_params("no 13")),
                    Some(n) => Ok(format!("number {n}")),
                    None => Err(McpError::internal("no number")),
                };
                calls.into_iter().map(answer).collect::<Vec<_>>()
            }
        })
    }
}

async fn read(server: &impl McpHandler, ctx: &RequestContext, n: u64) -> McpResult<ToolResult> {
    server.call_tool("read", json!({"n": n}), ctx).await
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_become_one_call_of_the_bulk_function() {
    let (script, calls) = (script(), Calls::default());
    let server = calls.answering().layer(script.clone());
    let ctx = nobody();
    let answers = join_all((0..5).map(|n| read(&server, &ctx, n))).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(text(answer), format!("number {n}"));
        assert_eq!(size(answer), Some(5));
    }
    assert_eq!(calls.numbers(), [[0, 1, 2, 3, 4]]);
    assert_eq!(script.calls("read"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lone_call_waits_for_no_timer() {
    let calls = Calls::default();
    let start = Instant::now();
    let answer = read(&calls.answering().layer(script()), &nobody(), 7).await;
    assert_eq!((text(&answer), size(&answer)), ("number 7", Some(1)));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_bad_call_fails_alone_as_a_result_that_keeps_its_kind() {
    let server = Calls::default().answering().layer(script());
    let ctx = nobody();
    let answers = join_all([12, 13, 14].map(|n| read(&server, &ctx, n))).await;
    assert_eq!(text(&answers[0]), "number 12");
    assert!(answers[1].is_ok(), "the model can read it");
    assert_eq!(failed(&answers[1]).0, Some(ErrorKind::InvalidParams));
    assert_eq!(text(&answers[2]), "number 14");
}

#[tokio::test(start_paused = true)]
async fn other_tools_are_not_batched() {
    let script = script();
    let server = Calls::default().answering().layer(script.clone());
    let answer = server.call_tool("write", json!({}), &nobody()).await;
    assert_eq!((text(&answer), size(&answer)), ("written alone", None));
    assert_eq!(script.calls("write"), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_of_different_users_share_a_batch_only_if_the_scope_allows_it() {
    async fn batches(layer: BatchedTool, calls: &Calls) -> usize {
        let server = layer.layer(script());
        let contexts = [user("ada"), user("bob"), nobody(), user("ada").with_session_id("2")];
        join_all((0..).zip(&contexts).map(|(n, ctx)| read(&server, ctx, n))).await;
        calls.all().len()
    }
    let calls = Calls::default();
    assert_eq!(batches(calls.answering(), &calls).await, 3);
    let calls = Calls::default();
    assert_eq!(batches(calls.answering().with_scope(Scope::Public), &calls).await, 1);
    let calls = Calls::default();
    assert_eq!(batches(calls.answering().with_scope_for("read", Scope::Public), &calls).await, 1);
}

#[tokio::test(start_paused = true)]
async fn in_session_scope_a_call_without_a_session_is_sent_alone() {
    let (script, calls) = (script(), Calls::default());
    let server = calls.answering().with_scope(Scope::Session).layer(script.clone());
    assert_eq!(text(&read(&server, &nobody(), 1).await), "alone 1");
    assert_eq!(text(&read(&server, &nobody().with_session_id("1"), 1).await), "number 1");
}

#[tokio::test(start_paused = true)]
async fn calls_with_different_batch_keys_do_not_share_a_batch() {
    let calls = Calls::default();
    let shard = |call: &Call| (call.args["n"].as_u64().unwrap_or_default() % 2).to_string();
    let server = calls.answering().with_batch_key(shard).layer(script());
    let ctx = nobody();
    join_all((0..5).map(|n| read(&server, &ctx, n))).await;
    assert_eq!(calls.numbers(), [vec![0, 2, 4], vec![1, 3]]);
}

#[tokio::test(start_paused = true)]
async fn calls_of_different_tools_do_not_share_a_batch() {
    let calls = Calls::default();
    let layer = calls.answering().with_bulk("write", |calls: Vec<Call>| async move {
        calls.into_iter().map(|call| Ok(call.tool)).collect::<Vec<McpResult<String>>>()
    });
    let server = layer.layer(script());
    let ctx = nobody();
    let (read, written) = tokio::join!(read(&server, &ctx, 1), server.call_tool("write", json!({}), &ctx));
    assert_eq!((text(&read), size(&read)), ("number 1", Some(1)));
    assert_eq!((text(&written), size(&written)), ("write", Some(1)));
}

#[tokio::test(start_paused = true)]
async fn tools_and_users_with_confusable_names_have_separate_batches() {
    let script = script().with_read_only("rea", |_| async { Ok(ToolResult::text("rea")) });
    let calls = Calls::default();
    let server = calls.answering().with_bulk("rea", |calls: Vec<Call>| async move {
        calls
            .into_iter()
            .map(|call| Ok(format!("{} {}", call.tool, call.args["n"])))
            .collect::<Vec<McpResult<String>>>()
    });
    let server = server.layer(script);
    let (dee, ee) = (user("dee"), user("ee"));
    let (one, other) =
        tokio::join!(server.call_tool("rea", json!({"n": 1}), &dee), server.call_tool("read", json!({"n": 1}), &ee));
    assert_eq!((text(&one), size(&one)), ("rea 1", Some(1)));
    assert_eq!((text(&other), size(&other)), ("number 1", Some(1)));
}

#[tokio::test(start_paused = true)]
async fn batches_are_limited_by_the_weight_of_the_calls() {
    let calls = Calls::default();
    let server = calls.answering().with_max_weight(5, |call| call.args["n"].as_u64().unwrap_or(1)).layer(script());
    let ctx = nobody();
    join_all([2, 3, 1, 9, 4].map(|n| read(&server, &ctx, n))).await;
    assert_eq!(calls.numbers(), [vec![2, 3], vec![1], vec![9], vec![4]]);
}

#[tokio::test(start_paused = true)]
async fn a_batched_call_has_its_callers_identity_and_progress_but_not_its_cancellation() {
    let calls = Calls::default();
    let server = calls.answering().layer(script());
    let token = Token::default();
    let ctx = user("ada")
        .with_session_id("7")
        .with_metadata("locale", "en")
        .with_progress_token(json!("progress"))
        .with_cancellation_token(Arc::new(token.clone()));
    read(&server, &ctx, 1).await.expect("an answer");
    let call = calls.all().remove(0).remove(0);
    assert_eq!((call.tool.as_str(), call.ctx.subject(), call.ctx.session_id()), ("read", Some("ada"), Some("7")));
    assert_eq!(call.ctx.get_metadata_str("locale"), Some("en"));
    assert_eq!(call.ctx.progress_token(), Some(&json!("progress")));
    token.cancel();
    assert!(!call.ctx.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_left_is_cancelled_and_its_batch_continues() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let layer = BatchedTool::new().with_bulk("read", {
        let seen = Arc::clone(&seen);
        move |calls: Vec<Call>| {
            let seen = Arc::clone(&seen);
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                *seen.lock().expect("no panic") = calls.iter().map(|call| call.ctx.is_cancelled()).collect();
                calls.iter().map(|_| Ok("read")).collect::<Vec<McpResult<_>>>()
            }
        }
    });
    let server = layer.layer(script());
    let ctx = nobody();
    let leaving = tokio::time::timeout(Duration::from_millis(5), read(&server, &ctx, 1));
    let (left, stayed) = tokio::join!(leaving, read(&server, &ctx, 2));
    assert!(left.is_err());
    assert_eq!(text(&stayed), "read");
    assert_eq!(*seen.lock().expect("no panic"), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_layer_are_results_that_a_model_can_read() {
    let layer = BatchedTool::new().with_bulk("read", |_: Vec<Call>| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Vec::<McpResult<String>>::new()
    });
    let handle = layer.handle();
    let server = layer.with_max_queue(1).with_max_size(1).with_max_in_flight(1).layer(script());
    let ctx = nobody();
    let answers = join_all((0..3).map(|n| read(&server, &ctx, n))).await;
    // The first call takes the only place in the queue before there is a batch.
    assert_eq!(failed(&answers[0]).0, Some(ErrorKind::Internal));
    assert_eq!(size(&answers[0]), Some(1));
    assert_eq!(failed(&answers[1]).0, Some(ErrorKind::ServerOverloaded));
    assert_eq!(outcome::failure(&answers[1]).expect("a failure").retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(size(&answers[1]), None);
    assert_eq!(handle.stats().refused, 2);
}

#[tokio::test(start_paused = true)]
async fn failed_batches_are_split_only_for_tools_that_may_run_twice() {
    async fn succeeded(layer: impl FnOnce(BatchedTool) -> BatchedTool, tool: &str) -> usize {
        let poisoned = |calls: Vec<Call>| async move {
            if calls.iter().any(|call| call.args["n"] == 2) {
                return Err(McpError::invalid_params("two"));
            }
            Ok(calls.iter().map(|_| Ok("fine")).collect::<Vec<_>>())
        };
        let server = layer(BatchedTool::new().with_bulk("read", poisoned).with_bulk("write", poisoned)).layer(script());
        let ctx = nobody();
        let answers = join_all((0..4).map(|n| server.call_tool(tool, json!({"n": n}), &ctx))).await;
        answers.iter().filter(|answer| outcome::failure(answer).is_none()).count()
    }
    assert_eq!(succeeded(|layer| layer, "read").await, 0);
    assert_eq!(succeeded(BatchedTool::split_failed_batches, "read").await, 3);
    assert_eq!(succeeded(BatchedTool::split_failed_batches, "write").await, 0);
    assert_eq!(succeeded(|layer| layer.allow_repeated_effects(["write"]), "write").await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_earlier_send_or_a_batch_timeout_is_not_proof_that_nothing_ran() {
    let refusing = |calls: Vec<Call>| async move {
        if calls.iter().any(|call| call.args["n"] == 2) {
            return Err::<Vec<McpResult<&str>>, _>(McpError::invalid_params("two"));
        }
        Ok(calls.iter().map(|_| Ok("fine")).collect())
    };
    let proves =
        |answer: &McpResult<ToolResult>| outcome::failure(answer).is_some_and(|failure| failure.is_not_executed());
    let split = BatchedTool::new().with_bulk("read", refusing).without_meta().split_failed_batches().layer(script());
    let ctx = nobody();
    let alone = split.call_tool("read", json!({"n": 2}), &ctx).await;
    assert!(proves(&alone), "it was sent once: {alone:?}");
    let among_others = join_all((0..4).map(|n| split.call_tool("read", json!({"n": n}), &ctx))).await;
    assert!(outcome::failure(&among_others[2]).is_some() && !proves(&among_others[2]), "{among_others:?}");

    let hanging = |_: Vec<Call>| std::future::pending::<McpResult<Vec<McpResult<&str>>>>();
    let batched = BatchedTool::new().with_bulk("read", hanging);
    let server = batched.layer(script());
    let (calling, called) = (server.clone(), nobody());
    let given_up = tokio::spawn(async move { calling.call_tool("read", json!({"n": 1}), &called).await });
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    server.on_shutdown().await.expect("an end");
    let given_up = given_up.await.expect("an answer");
    assert!(outcome::failure(&given_up).is_some() && !proves(&given_up), "{given_up:?}");
    let late = server.call_tool("read", json!({"n": 1}), &ctx).await;
    assert!(proves(&late), "it was not sent: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn without_meta_no_mark_is_added() {
    let server = Calls::default().answering().without_meta().layer(script());
    let answer = read(&server, &nobody(), 1).await.expect("an answer");
    assert!(answer.meta.is_none_or(|meta| !meta.contains_key(outcome::BATCH)));
}

#[tokio::test(start_paused = true)]
async fn a_layer_applied_twice_and_all_clones_share_batches() {
    let calls = Calls::default();
    let layer = calls.answering();
    let servers: [Server; 2] = [layer.layer(script()), layer.layer(script())];
    let ctx = nobody();
    let clones = servers.clone();
    join_all((0..).zip(servers.iter().chain(&clones)).map(|(n, server)| read(server, &ctx, n))).await;
    assert_eq!(calls.numbers(), [[0, 1, 2, 3]]);
    assert_eq!(layer.handle().stats().sent, 4);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_answers_waiting_calls() {
    let layer = BatchedTool::new()
        .with_bulk("read", |calls: Vec<Call>| async move {
            tokio::time::sleep(Duration::from_secs(if calls[0].args["n"] == 0 { 3600 } else { 1 })).await;
            calls.iter().map(|_| Ok("read")).collect::<Vec<McpResult<_>>>()
        })
        .with_max_size(1)
        .with_max_in_flight(1)
        .with_drain_timeout(Duration::from_secs(2));
    let server = layer.layer(script());
    server.on_initialize().await.expect("it starts");
    let ctx = nobody();
    let stops = async {
        settle().await;
        server.on_shutdown().await
    };
    let start = Instant::now();
    let (one, other, ()) =
        tokio::join!(read(&server, &ctx, 1), read(&server, &ctx, 0), async { stops.await.expect("it stops") });
    assert_eq!(text(&one), "read");
    assert_eq!(failed(&other).0, Some(ErrorKind::Unavailable));
    assert_eq!(start.elapsed(), Duration::from_millis(2001));
    assert_eq!(failed(&read(&server, &ctx, 1).await).0, Some(ErrorKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_server_takes_five_seconds_to_stop_at_most() {
    let layer = BatchedTool::new().with_bulk("read", |_: Vec<Call>| std::future::pending::<Vec<McpResult<String>>>());
    let server = layer.layer(script());
    let ctx = nobody();
    let start = Instant::now();
    let (answer, stopped) = tokio::join!(read(&server, &ctx, 1), async {
        settle().await;
        server.on_shutdown().await
    });
    stopped.expect("it stops");
    assert_eq!(failed(&answer).0, Some(ErrorKind::Unavailable));
    assert_eq!(start.elapsed(), Duration::from_millis(5001));
}

#[tokio::test(start_paused = true)]
async fn one_of_two_running_servers_may_stop_and_a_stopped_one_may_start_again() {
    let server = Calls::default().answering().layer(script());
    for _ in 0..2 {
        server.on_initialize().await.expect("it starts");
    }
    server.on_shutdown().await.expect("it stops");
    assert_eq!(text(&read(&server, &nobody(), 1).await), "number 1");
    server.on_shutdown().await.expect("it stops");
    assert_eq!(failed(&read(&server, &nobody(), 1).await).0, Some(ErrorKind::Unavailable));
    server.on_initialize().await.expect("it starts");
    assert_eq!(text(&read(&server, &nobody(), 1).await), "number 1");
}
