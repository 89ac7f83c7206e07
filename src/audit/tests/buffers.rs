//! Buffers in front of destinations that are slow, fail, panic or are gone.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::poll;
use metrics_util::debugging::DebuggingRecorder;
use tokio::sync::Semaphore;

use super::*;
use crate::testing::{Traced, counted, counts};

/// A destination that a test opens and closes.
#[derive(Clone)]
struct Gate(Arc<Inner>);

struct Inner {
    /// A permit lets one batch through.
    open: Semaphore,
    /// The next batches that fail, and of these how many panic.
    failing: AtomicUsize,
    panicking: AtomicUsize,
    batches: Mutex<Vec<Vec<Event>>>,
}

impl Gate {
    fn closed() -> Self {
        let (failing, panicking) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Inner { open: Semaphore::new(0), failing, panicking, batches: Mutex::default() }))
    }

    fn open() -> Self {
        let gate = Self::closed();
        gate.open_for(Semaphore::MAX_PERMITS);
        gate
    }

    fn open_for(&self, batches: usize) {
        self.0.open.add_permits(batches);
    }

    /// The ids of the batches, as they were written.
    fn batches(&self) -> Vec<Vec<String>> {
        let batches = self.0.batches.lock().expect("no panic");
        batches.iter().map(|batch| batch.iter().map(|event| event.id.clone()).collect()).collect()
    }
}

fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl Destination for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<(), DestinationError> {
        self.0.open.acquire().await.expect("it stays").forget();
        self.0.batches.lock().expect("no panic").push(events.iter().map(|event| Event::clone(event)).collect());
        if take(&self.0.panicking) {
            std::panic::resume_unwind(Box::new("a destination panics"));
        }
        if take(&self.0.failing) { Err("the disk is full".into()) } else { Ok(()) }
    }
}

async fn calls(server: &impl McpHandler, count: usize) {
    for _ in 0..count {
        call(server, "order", json!({})).await.expect("an answer");
    }
}

/// Lets the task of the buffer run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_loses_new_events_and_counts_them() {
    let (recorder, traced) = (DebuggingRecorder::new(), Traced::start());
    let _listens = metrics::set_default_local_recorder(&recorder);
    let (gate, seen) = (Gate::closed(), Seen::default());
    let buffer = Buffered::new(gate.clone()).with_capacity(3);
    let audit = seen.audit().with_buffer(buffer.clone());
    let handle = audit.handle();
    let server = audit.layer(server());
    calls(&server, 10).await;
    assert_eq!((handle.stats().events, handle.stats().lost, handle.stats().pending), (10, 7, 3));
    assert_eq!(counted(&recorder), counts([("audit_lost sink=gate", 7)]));
    assert!(traced.text().contains("an audit event is lost sink=\"gate\" unsaid=0"), "{}", traced.text());

    gate.open_for(1_000);
    handle.flush().await;
    calls(&server, 2).await;
    handle.flush().await;
    let stats = buffer.stats();
    assert_eq!((stats.written, stats.lost, stats.pending), (5, 7, 0), "it works again");
    let ids: Vec<_> = seen.all().into_iter().map(|event| event.id).collect();
    let expected: Vec<_> = ids[..3].iter().chain(&ids[10..]).cloned().collect();
    assert_eq!(gate.batches().concat(), expected, "in their order");
}

#[tokio::test(start_paused = true)]
async fn with_a_wait_a_call_waits_for_room_and_loses_its_event_only_after_that() {
    let gate = Gate::closed();
    let buffer = Buffered::new(gate.clone()).with_capacity(2).with_wait(ms(100));
    let server = AuditTool::new().with_buffer(buffer.clone()).layer(server());
    calls(&server, 2).await;
    let began = tokio::time::Instant::now();
    calls(&server, 1).await;
    assert!(began.elapsed() >= ms(100), "it has waited");
    assert_eq!(buffer.stats().lost, 1);

    let more = join_all((0..10).map(|_| calls(&server, 1)));
    let opens = async {
        for _ in 0..20 {
            tokio::time::sleep(ms(10)).await;
            gate.open_for(1);
        }
    };
    tokio::join!(more, opens);
    buffer.flush().await;
    assert_eq!((buffer.stats().written, buffer.stats().lost), (12, 1), "each of them got room in time");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_during_the_wait_waits_for_nothing_and_its_room_is_free() {
    let (gate, seen) = (Gate::closed(), Seen::default());
    let buffer = Buffered::new(gate.clone()).with_capacity(1).with_wait(ms(1_000));
    let server = seen.audit().with_buffer(buffer.clone()).layer(server());
    calls(&server, 1).await;
    let ctx = user("ada");
    {
        let mut waits = pin!(server.call_tool("order", json!({}), &ctx));
        assert!(poll!(waits.as_mut()).is_pending());
        settle().await;
        assert!(poll!(waits.as_mut()).is_pending());
    }
    assert_eq!(seen.last().end, End::Left, "it has no answer");
    assert_eq!((buffer.stats().lost, buffer.stats().pending), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_gives_the_room_back_that_was_kept_for_it() {
    let gates = [Gate::closed(), Gate::closed()];
    let [first, second] = gates.clone().map(|gate| Buffered::new(gate).with_capacity(1).with_wait(ms(1_000)));
    let server = AuditTool::new().with_buffer(first.clone()).with_buffer(second.clone()).layer(server());
    calls(&server, 1).await;
    let ctx = user("ada");
    {
        let mut waits = pin!(server.call_tool("order", json!({}), &ctx));
        assert!(poll!(waits.as_mut()).is_pending());
        gates[0].open_for(1);
        settle().await;
        assert!(poll!(waits.as_mut()).is_pending(), "it has room in one of them, and waits for the other");
        assert_eq!(first.stats().written, 1);
    }
    assert_eq!((first.stats().lost, first.stats().pending), (0, 1), "its own event gets the room");
    assert_eq!((second.stats().lost, second.stats().pending), (1, 1));
    gates.iter().for_each(|gate| gate.open_for(10));
    calls(&server, 1).await;
    first.flush().await;
    second.flush().await;
    assert_eq!((first.stats().written, second.stats().written), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_or_panics_is_written_again_with_the_same_ids() {
    let (traced, gate, seen) = (Traced::start(), Gate::open(), Seen::default());
    gate.0.failing.store(7, Ordering::SeqCst);
    gate.0.panicking.store(1, Ordering::SeqCst);
    let buffer = Buffered::new(gate.clone());
    let audit = seen.audit().with_buffer(buffer.clone());
    let server = audit.layer(server());
    join_all((0..250).map(|_| calls(&server, 1))).await;
    buffer.flush().await;
    assert_eq!((buffer.stats().written, buffer.stats().lost), (250, 0));
    let (batches, ids) = (gate.batches(), seen.all().into_iter().map(|event| event.id).collect::<Vec<_>>());
    assert_eq!(batches[..8].to_vec(), vec![batches[0].clone(); 8], "a panic and seven failures");
    assert_eq!(batches[8..].concat(), ids, "then all of them, once");
    assert!(batches.iter().all(|batch| batch.len() <= 100));
    let text = traced.text();
    // Pauses of 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5 and 5 seconds.
    let written_again = "audit events are written again sink=\"gate\" after_ms=16300 failures=8";
    assert_eq!(text.matches("audit events cannot be written").count(), 2, "at most once in ten seconds: {text}");
    assert!(text.contains(written_again), "{text}");
}

#[test]
fn events_outlive_the_runtime_that_was_to_write_them() {
    let gate = Gate::closed();
    let buffer = Buffered::new(gate.clone());
    let server = AuditTool::new().with_buffer(buffer.clone()).layer(server());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    first.block_on(async {
        calls(&server, 3).await;
        settle().await;
    });
    first.shutdown_background();
    assert_eq!(buffer.stats().pending, 3);
    // In no runtime at all: a caller is dropped.
    drop(server.clone());
    gate.open_for(10);
    runtime().block_on(buffer.flush());
    assert_eq!((buffer.stats().written, buffer.stats().pending), (3, 0));
}

#[test]
fn a_runtime_that_shuts_down_drops_its_calls_and_leaves_their_events_in_the_buffer() {
    let gate = Gate::open();
    let buffer = Buffered::new(gate.clone());
    let waits = ScriptedServer::new("s").with_plain("waits", |_| std::future::pending());
    let server = AuditTool::new().with_buffer(buffer.clone()).layer(waits);
    let runtimes = [
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"),
    ];
    for (before, runtime) in runtimes.into_iter().enumerate() {
        let server = server.clone();
        runtime.block_on(async {
            tokio::spawn(async move { call(&server, "waits", json!({})).await.map(drop) });
            settle().await;
            tokio::time::sleep(ms(20)).await;
        });
        drop(runtime);
        assert_eq!(buffer.stats().pending, before + 1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(buffer.flush());
    let batches = gate.0.batches.lock().expect("no panic");
    assert_eq!(batches.concat().iter().map(|event| event.end).collect::<Vec<_>>(), [End::Left, End::Left]);
}

#[test]
fn a_call_that_is_dropped_without_a_runtime_is_recorded() {
    let gate = Gate::open();
    let buffer = Buffered::new(gate.clone());
    let waits = ScriptedServer::new("s").with_plain("waits", |_| std::future::pending());
    let server = AuditTool::new().with_buffer(buffer.clone()).layer(waits);
    let ctx = user("ada");
    let mut call = Box::pin(server.call_tool("waits", json!({}), &ctx));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    assert!(runtime.block_on(async { poll!(call.as_mut()) }).is_pending());
    drop(call);
    assert_eq!(buffer.stats().pending, 1);
    runtime.block_on(buffer.flush());
    assert_eq!((buffer.stats().written, gate.0.batches.lock().expect("no panic")[0][0].end), (1, End::Left));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_server_waits_for_the_buffers_but_not_for_ever() {
    let traced = Traced::start();
    let gate = Gate::closed();
    let buffer = Buffered::new(gate.clone());
    let server = AuditTool::new().with_buffer(buffer.clone()).layer(server());
    server.on_initialize().await.expect("it starts");
    calls(&server, 2).await;
    server.on_shutdown().await.expect("it stops");
    assert_eq!(buffer.stats().pending, 2);
    let text = traced.text();
    assert!(text.contains("the server stops before its audit events are written sink=\"gate\" pending=2"), "{text}");

    let opens = async {
        tokio::time::sleep(ms(500)).await;
        gate.open_for(10);
    };
    let (stopped, ()) = tokio::join!(server.on_shutdown(), opens);
    stopped.expect("it stops");
    assert_eq!(buffer.stats().pending, 0);
}

#[tokio::test]
async fn many_threads_write_each_event_once() {
    let gate = Gate::open();
    let buffer = Buffered::new(gate.clone());
    let audit = AuditTool::new().with_buffer(buffer.clone());
    let server = audit.layer(server());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    calls(&server, 200).await;
                    // The task of this runtime may be the one that writes.
                    buffer.flush().await;
                });
            });
        }
    });
    let ids = gate.batches().concat();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 800, "each event is written");
    assert_eq!((buffer.stats().written, buffer.stats().lost, buffer.stats().pending), (800, 0, 0));
}
