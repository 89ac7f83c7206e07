use std::sync::Mutex;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::*;
use crate::{CachedTool, Layer, Layered};

const CALLERS: usize = 20_000;

type Server = Layered<CachedTool, ScriptedServer>;

/// A server whose tool `read` takes 100 ms to answer with the number of the call.
fn slow() -> ScriptedServer {
    ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(ToolResult::text(call.number.to_string()))
    })
}

fn call(server: &Server) -> JoinHandle<String> {
    let server = server.clone();
    tokio::spawn(async move { read(&server).await })
}

/// Waits for the callers that were not dropped. Returns how many of them got which answer.
async fn answers(callers: Vec<JoinHandle<String>>) -> Vec<String> {
    join_all(callers).await.into_iter().filter_map(Result::ok).collect()
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_identical_calls_run_the_tool_once() {
    let script = slow();
    let server = CachedTool::new().layer(script.clone());
    let answers = answers((0..CALLERS).map(|_| call(&server)).collect()).await;
    assert_eq!(answers.len(), CALLERS);
    assert!(answers.iter().all(|answer| answer == "1"));
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_continues_when_the_caller_who_started_it_is_dropped() {
    let script = slow();
    let server = CachedTool::new().layer(script.clone());
    let first = call(&server);
    settle().await;
    assert_eq!(script.calls("read"), 1);
    let others: Vec<_> = (1..CALLERS).map(|_| call(&server)).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    first.abort();
    assert!(first.await.expect_err("it was dropped").is_cancelled());
    let answers = answers(others).await;
    assert_eq!(answers.len(), CALLERS - 1);
    assert!(answers.iter().all(|answer| answer == "1"));
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_continues_when_a_random_half_of_the_callers_is_dropped() {
    let script = slow();
    let server = CachedTool::new().layer(script.clone());
    let callers: Vec<_> = (0..CALLERS).map(|_| call(&server)).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let dropped = drop_a_half(&callers);
    let answers = answers(callers).await;
    assert_eq!(answers.len(), CALLERS - dropped);
    assert!(answers.iter().all(|answer| answer == "1"));
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_continues_when_a_random_half_of_the_callers_is_dropped_on_many_threads() {
    let gate = Gate::closed();
    let script = numbered_behind(&gate);
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    let callers: Vec<_> = (0..CALLERS).map(|_| call(&server)).collect();
    until(|| handle.stats().misses == CALLERS as u64).await;
    let dropped = drop_a_half(&callers);
    gate.open();
    let answers = answers(callers).await;
    assert!(answers.len() >= CALLERS - dropped);
    assert!(answers.iter().all(|answer| answer == "1"));
    assert_eq!(script.calls("read"), 1);
}

/// Drops about every second caller, including the first, and returns how many.
fn drop_a_half(callers: &[JoinHandle<String>]) -> usize {
    let mut chance = fastrand::Rng::with_seed(7);
    let dropped: Vec<_> = callers.iter().enumerate().filter(|(at, _)| *at == 0 || chance.bool()).collect();
    for (_, caller) in &dropped {
        caller.abort();
    }
    dropped.len()
}

/// A record of a tool's run: whether its future was dropped before its end, and its context.
#[derive(Clone, Default)]
struct Trace {
    dropped: Arc<AtomicBool>,
    ctx: Arc<Mutex<Option<RequestContext>>>,
}

impl Trace {
    fn dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }

    fn is_cancelled(&self) -> bool {
        self.ctx.lock().expect("no panic").as_ref().is_some_and(RequestContext::is_cancelled)
    }
}

/// A server whose tool `read` hangs in its first call and answers all others.
fn hanging_once(trace: &Trace) -> ScriptedServer {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let trace = trace.clone();
    ScriptedServer::new("library").with_read_only("read", move |call| {
        let trace = trace.clone();
        async move {
            if call.number == 1 {
                *trace.ctx.lock().expect("no panic") = Some(call.ctx);
                let _guard = Guard(Arc::clone(&trace.dropped));
                std::future::pending::<()>().await;
            }
            Ok(ToolResult::text(call.number.to_string()))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_load_whose_callers_are_all_dropped_is_dropped_and_the_next_call_loads_again() {
    let trace = Trace::default();
    let script = hanging_once(&trace);
    let server = CachedTool::new().layer(script.clone());
    let mut callers: Vec<_> = (0..100).map(|_| call(&server)).collect();
    settle().await;
    let last = callers.pop().expect("there are a hundred");
    callers.iter().for_each(JoinHandle::abort);
    settle().await;
    assert!(!trace.dropped() && !trace.is_cancelled(), "one caller still waits");
    last.abort();
    settle().await;
    assert!(trace.dropped(), "no caller waits any more");
    assert!(trace.is_cancelled(), "what the tool spawned must learn of it too");
    assert_eq!(read(&server).await, "2");
    assert_eq!(script.calls("read"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_that_joins_while_the_last_one_leaves_gets_an_answer() {
    let mut chance = fastrand::Rng::with_seed(11);
    let layer = CachedTool::new();
    let handle = layer.handle();
    for _ in 0..3_000 {
        let gate = Gate::closed();
        let script = numbered_behind(&gate);
        let server = layer.layer(script.clone());
        let leaving = call(&server);
        until(|| script.calls("read") == 1).await;
        let joining = call(&server);
        for _ in 0..chance.u32(0..400) {
            std::hint::spin_loop();
        }
        leaving.abort();
        gate.open();
        let answer = joining.await.expect("a caller that stays is never lost");
        assert!(["1", "2"].contains(&answer.as_str()), "{answer}");
        let _ = leaving.await;
        handle.clear();
    }
}
