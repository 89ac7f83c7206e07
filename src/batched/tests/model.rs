//! Callers who come, leave and are cancelled at random, batches that fail in every way, and a shutdown at any moment,
//! against a model that knows the allowed answers of each caller.

use std::collections::HashMap;

use super::*;

/// Each seed is a separate scenario.
const SEEDS: u64 = 1000;
const CALLERS: u64 = 40;

#[derive(Debug, Clone, PartialEq, Eq)]
enum TestError {
    /// The item is bad.
    Bad(u64),
    /// This batch failed.
    Failed(usize),
    /// This batch failed for a temporary reason.
    Down(usize),
    Overloaded,
    TimedOut,
    Aborted,
    Miscounted,
    Cancelled,
    Closed,
}

impl BatchError for TestError {
    fn overloaded(_: Duration) -> Self {
        Self::Overloaded
    }

    fn timed_out(_: Duration) -> Self {
        Self::TimedOut
    }

    fn aborted() -> Self {
        Self::Aborted
    }

    fn miscounted() -> Self {
        Self::Miscounted
    }

    fn cancelled() -> Self {
        Self::Cancelled
    }

    fn closed() -> Self {
        Self::Closed
    }

    fn is_temporary(&self) -> bool {
        matches!(self, Self::Down(_))
    }
}

/// The ways in which a call of the bulk function ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Answers,
    Fails,
    IsDown,
    Panics,
    PanicsAtOnce,
    IsShort,
    IsLong,
    Hangs,
}

/// A call of the bulk function.
#[derive(Debug, Clone)]
struct Bulk {
    keys: Vec<u64>,
    end: End,
    at: Instant,
}

#[derive(Debug, Clone)]
struct World {
    rng: Arc<Mutex<fastrand::Rng>>,
    bulks: Arc<Mutex<Vec<Bulk>>>,
    under_way: Arc<Mutex<(usize, usize)>>,
}

impl World {
    fn chance<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.rng.lock().expect("no panic"))
    }

    fn bulks(&self) -> Vec<Bulk> {
        self.bulks.lock().expect("no panic").clone()
    }

    fn begin(&self, keys: &[u64]) -> (usize, End, Duration, UnderWay) {
        let end = self.chance(|rng| match rng.u8(0..24) {
            0 | 1 => End::Fails,
            2 => End::IsDown,
            3 => End::Panics,
            4 => End::PanicsAtOnce,
            5 => End::IsShort,
            6 => End::IsLong,
            7 => End::Hangs,
            _ => End::Answers,
        });
        let work = Duration::from_millis(self.chance(|rng| rng.u64(0..10)));
        let mut bulks = self.bulks.lock().expect("no panic");
        bulks.push(Bulk { keys: keys.to_vec(), end, at: Instant::now() });
        let mut under_way = self.under_way.lock().expect("no panic");
        under_way.0 += 1;
        under_way.1 = under_way.1.max(under_way.0);
        (bulks.len() - 1, end, work, UnderWay(self.clone()))
    }
}

/// A call of the bulk function that has not ended.
struct UnderWay(World);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.lock().expect("no panic").0 -= 1;
    }
}

fn is_bad(key: u64) -> bool {
    key % 7 == 3
}

fn group(key: u64) -> u64 {
    key % 3
}

fn weight(key: u64) -> u64 {
    key % 5
}

/// The outcome for a caller.
#[derive(Debug)]
enum Saw {
    TestError(Result<u64, TestError>),
    /// It was cancelled while it waited or before.
    Cancelled(Result<u64, TestError>),
    /// It left at this moment.
    Left(Instant),
}

#[derive(Debug)]
struct Limits {
    max_size: usize,
    max_in_flight: usize,
    max_weight: u64,
    splits: bool,
    waits: bool,
    shuts_down: Option<Duration>,
    timeout: Duration,
}

async fn story(seed: u64) {
    let world = World {
        rng: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
        bulks: Arc::default(),
        under_way: Arc::default(),
    };
    let limits = world.chance(|rng| Limits {
        max_size: rng.usize(1..8),
        max_in_flight: rng.usize(1..4),
        max_weight: rng.u64(1..20),
        splits: rng.bool(),
        waits: rng.bool(),
        shuts_down: rng.bool().then(|| Duration::from_millis(rng.u64(0..40))),
        timeout: Duration::from_millis(rng.u64(5..40)),
    });
    let bulk = {
        let world = world.clone();
        move |keys: Vec<u64>| {
            let (number, end, work, under_way) = world.begin(&keys);
            assert!(end != End::PanicsAtOnce, "as it was meant to");
            async move {
                let _under_way = under_way;
                tokio::time::sleep(work).await;
                let answer = |key: &u64| if is_bad(*key) { Err(TestError::Bad(*key)) } else { Ok(key * 10) };
                let mut answers: Vec<_> = keys.iter().map(answer).collect();
                match end {
                    End::Answers => {}
                    End::Fails => return Err(TestError::Failed(number)),
                    End::IsDown => return Err(TestError::Down(number)),
                    End::Panics | End::PanicsAtOnce => panic!("as it was meant to"),
                    End::IsShort => drop(answers.pop()),
                    End::IsLong => answers.push(Ok(0)),
                    End::Hangs => std::future::pending().await,
                }
                Ok(answers)
            }
        }
    };
    let mut batcher = Batcher::<u64, u64, TestError>::new(bulk)
        .with_max_size(limits.max_size)
        .with_max_in_flight(limits.max_in_flight)
        .with_max_weight(limits.max_weight, |key| weight(*key))
        .with_max_delay(Duration::from_millis(world.chance(|rng| rng.u64(0..3) * 4)))
        .with_max_queue(world.chance(|rng| rng.usize(1..30)))
        .with_batch_timeout(limits.timeout)
        .with_groups(|key| group(*key).to_be_bytes());
    if limits.splits {
        batcher = batcher.split_failed_batches();
    }
    if limits.waits {
        batcher = batcher.wait_when_full();
    }

    let callers = (0..CALLERS).map(|key| {
        let (batcher, world) = (batcher.clone(), world.clone());
        let comes = Duration::from_millis(world.chance(|rng| rng.u64(0..20)));
        let leaves = world.chance(|rng| (rng.u8(0..3) == 0).then(|| Duration::from_millis(rng.u64(0..15))));
        let is_cancelled = world.chance(fastrand::Rng::bool);
        tokio::spawn(async move {
            tokio::time::sleep(comes).await;
            match leaves {
                None => Saw::TestError(batcher.load(&(), key).await),
                Some(after) if is_cancelled => {
                    let token = Token::default();
                    let ctx = token.ctx();
                    tokio::spawn(async move {
                        tokio::time::sleep(after).await;
                        token.cancel();
                    });
                    Saw::Cancelled(batcher.load(&ctx, key).await)
                }
                Some(after) => match tokio::time::timeout(after, batcher.load(&(), key)).await {
                    Ok(told) => Saw::TestError(told),
                    Err(_) => Saw::Left(Instant::now()),
                },
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let stops = async {
        if let Some(after) = limits.shuts_down {
            tokio::time::sleep(after).await;
            batcher.shut_down(Duration::from_millis(world.chance(|rng| rng.u64(0..20)))).await;
        }
    };
    let all = async { tokio::join!(join_all(callers), stops).0 };
    let Ok(saw) = tokio::time::timeout(Duration::from_secs(3600), all).await else {
        panic!("seed {seed}: a caller waits for ever: {limits:?}");
    };
    settle().await;
    let bulks = world.bulks();
    judge(seed, &limits, &bulks, saw.into_iter().map(|saw| saw.expect("no caller panics")).collect());
    let stats = batcher.stats();
    assert_eq!((stats.queued, stats.in_flight), (0, 0), "seed {seed}");
    let (under_way, most) = *world.under_way.lock().expect("no panic");
    assert_eq!(under_way, 0, "seed {seed}");
    assert!(most <= limits.max_in_flight, "seed {seed}: {most} at the same time");
}

fn judge(seed: u64, limits: &Limits, bulks: &[Bulk], saw: Vec<Saw>) {
    let mut sent: HashMap<u64, Vec<&Bulk>> = HashMap::new();
    for bulk in bulks {
        assert!(bulk.keys.len() <= limits.max_size, "seed {seed}: {bulk:?}");
        assert!(bulk.keys.iter().all(|key| group(*key) == group(bulk.keys[0])), "seed {seed}: {bulk:?}");
        let together: u64 = bulk.keys.iter().map(|key| weight(*key)).sum();
        assert!(together <= limits.max_weight || bulk.keys.len() == 1, "seed {seed}: {bulk:?}");
        for key in &bulk.keys {
            sent.entry(*key).or_default().push(bulk);
        }
    }
    for (key, saw) in (0..).zip(saw) {
        let sent = sent.get(&key).map_or(&[][..], Vec::as_slice);
        if !limits.splits {
            assert!(sent.len() <= 1, "seed {seed}: {key} was sent {} times", sent.len());
        }
        let answers = sent.iter().filter(|bulk| bulk.end == End::Answers).count();
        assert!(answers <= 1, "seed {seed}: {key} was answered {answers} times");
        let last = sent.last().map(|bulk| bulk.end);
        let is_last = |number: &usize, end| {
            let bulk = &bulks[*number];
            bulk.end == end && sent.last().is_some_and(|last| std::ptr::eq(*last, bulk))
        };
        let is_right = match &saw {
            Saw::Left(at) => sent.first().is_none_or(|first| first.at <= *at),
            Saw::Cancelled(Err(TestError::Cancelled)) => true,
            Saw::TestError(told) | Saw::Cancelled(told) => match told {
                Ok(answer) => *answer == key * 10 && !is_bad(key) && last == Some(End::Answers),
                Err(TestError::Bad(bad)) => *bad == key && is_bad(key) && last == Some(End::Answers),
                Err(TestError::Failed(number)) => is_last(number, End::Fails),
                Err(TestError::Down(number)) => is_last(number, End::IsDown),
                Err(TestError::Aborted) => matches!(last, Some(End::Panics | End::PanicsAtOnce)),
                Err(TestError::Miscounted) => matches!(last, Some(End::IsShort | End::IsLong)),
                // It hung, was too slow, or its half was not sent.
                Err(TestError::TimedOut) => last.is_some(),
                Err(TestError::Overloaded) => sent.is_empty() && !limits.waits,
                Err(TestError::Closed) => limits.shuts_down.is_some(),
                Err(TestError::Cancelled) => false,
            },
        };
        assert!(is_right, "seed {seed}: {key} saw {saw:?} after {sent:?} with {limits:?}");
    }
}

#[test]
fn each_remaining_caller_gets_exactly_its_own_answer_exactly_once() {
    // These panics are intended.
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains("as it was meant to") {
            silent(panic);
        }
    }));
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(story(seed));
    }
}
