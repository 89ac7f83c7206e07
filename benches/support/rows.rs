//! Durations of several candidates, measured side by side.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

/// Something to be timed.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) run: Box<dyn Fn(u64) -> Duration>,
}

impl Row {
    /// Times `call` on `threads` threads at once. `make` creates the input of each call before the clock starts.
    pub(crate) fn new<T, R>(
        name: impl Into<String>,
        threads: usize,
        make: impl Fn() -> T + Sync + 'static,
        call: impl AsyncFn(T) -> R + Sync + 'static,
    ) -> Self {
        let run = move |calls| {
            let barrier = Barrier::new(threads);
            let thread = || {
                let runtime = Builder::new_current_thread().enable_time().build().ok()?;
                runtime.block_on(time(1, &make, &call));
                barrier.wait();
                Some(runtime.block_on(time(calls, &make, &call)))
            };
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(thread)).collect();
                let times = threads.into_iter().filter_map(|thread| thread.join().ok().flatten());
                times.max().unwrap_or_default()
            })
        };
        Self { name: name.into(), run: Box::new(run) }
    }
}

async fn time<T, R>(calls: u64, make: impl Fn() -> T, call: impl AsyncFn(T) -> R) -> Duration {
    const AT_ONCE: u64 = 128;
    let mut inputs = Vec::with_capacity(128);
    let mut left = calls;
    let mut total = Duration::ZERO;
    while left > 0 {
        let batch = left.min(AT_ONCE);
        inputs.extend((0..batch).map(|_| make()));
        let started = Instant::now();
        for input in inputs.drain(..) {
            black_box(call(black_box(input)).await);
        }
        total += started.elapsed();
        left -= batch;
    }
    total
}

/// Returns the median nanoseconds per call of each row.
///
/// The rows take turns, so that a slow moment of the machine affects all of them.
pub(crate) fn side_by_side(rows: &[Row]) -> Vec<f64> {
    const ROUNDS: usize = 151;
    const TURN: f64 = 500_000.0;
    let per_call = |row: &Row, calls: u64| (row.run)(calls).as_nanos() as f64 / calls as f64;
    let calls: Vec<_> = rows.iter().map(|row| (TURN / per_call(row, 200)).max(10.0) as u64).collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); rows.len()];
    for _ in 0..ROUNDS {
        for ((row, calls), times) in rows.iter().zip(&calls).zip(&mut times) {
            times.push(per_call(row, *calls));
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.into_iter().map(median).collect()
}

/// Returns whether this is a benchmark run, and not a test run of the benchmark.
pub(crate) fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}
