//! Random interleavings of calls, ends of loads, leaving callers and invalidations, against a model, and on many
//! threads at once.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokio::task::JoinHandle;

use super::*;
use crate::cached::{Cache, Handle};
use crate::{CachedTool, Layer, Layered};

const KEYS: usize = 3;

/// The cached source: a version for each key, which a load reads at its beginning and returns at its end.
#[derive(Default)]
struct Source {
    versions: [AtomicU64; KEYS],
    /// One gate for each load, which keeps the load from ending.
    gates: Option<Mutex<Vec<Gate>>>,
}

impl Source {
    async fn read(self: Arc<Self>, key: usize) -> u64 {
        let version = self.version(key);
        match &self.gates {
            Some(gates) => {
                let gate = Gate::closed();
                gates.lock().expect("no panic").push(gate.clone());
                gate.pass().await;
            }
            None => {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }
        }
        version
    }

    fn version(&self, key: usize) -> u64 {
        self.versions[key].load(Ordering::SeqCst)
    }

    fn loads(&self) -> usize {
        self.gates.as_ref().map_or(0, |gates| gates.lock().expect("no panic").len())
    }

    fn finish(&self, load: usize) {
        self.gates.as_ref().expect("loads wait").lock().expect("no panic")[load].open();
    }
}

/// The target of an invalidation.
#[derive(Debug, Clone, Copy)]
enum What {
    Key(usize),
    /// A tag that one key has.
    Tag(usize),
    Tool,
    Everything,
}

impl What {
    fn keys(self) -> std::ops::Range<usize> {
        match self {
            Self::Key(key) | Self::Tag(key) => key..key + 1,
            Self::Tool | Self::Everything => 0..KEYS,
        }
    }
}

/// The layer and the engine, as the model sees them.
trait Subject: Clone + Send + Sync + 'static {
    fn over(source: &Arc<Source>) -> Self;
    fn ask(&self, key: usize) -> impl Future<Output = u64> + Send;
    fn invalidate(&self, what: What);
}

#[derive(Clone)]
struct TheLayer(Layered<CachedTool, ScriptedServer>, Handle);

impl Subject for TheLayer {
    fn over(source: &Arc<Source>) -> Self {
        let source = Arc::clone(source);
        let script = ScriptedServer::new("library").with_read_only("read", move |call| {
            let source = Arc::clone(&source);
            async move {
                let key = call.args["key"].as_u64().and_then(|key| usize::try_from(key).ok()).expect("a key");
                Ok(ToolResult::text(source.read(key).await.to_string()))
            }
        });
        let layer = CachedTool::new().tag("read", |args| [args["key"].to_string()]);
        let handle = layer.handle();
        Self(layer.layer(script), handle)
    }

    async fn ask(&self, key: usize) -> u64 {
        answer(&self.0, "read", json!({"key": key}), &nobody()).await.parse().expect("a version")
    }

    fn invalidate(&self, what: What) {
        match what {
            What::Key(key) => self.1.invalidate("read", &json!({"key": key})),
            What::Tag(key) => self.1.invalidate_tag(&key.to_string()),
            What::Tool => self.1.invalidate_tool("read"),
            What::Everything => self.1.clear(),
        }
    }
}

#[derive(Clone)]
struct TheEngine(Cache<usize, u64>, Arc<Source>);

impl Subject for TheEngine {
    fn over(source: &Arc<Source>) -> Self {
        Self(Cache::new().with_tags(|key: &usize| [key.to_string()]), Arc::clone(source))
    }

    async fn ask(&self, key: usize) -> u64 {
        let source = Arc::clone(&self.1);
        let load = || async move { Ok(source.read(key).await) };
        self.0.get_or_load(&(), key, load).await.expect("a version")
    }

    fn invalidate(&self, what: What) {
        match what {
            What::Key(key) => self.0.invalidate(&key),
            What::Tag(key) => self.0.invalidate_tag(&key.to_string()),
            What::Tool | What::Everything => self.0.clear(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask(usize),
    /// Ends one of the running loads.
    Finish(usize),
    /// Drops one of the callers of a running load.
    Leave(usize),
    Invalidate(What),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let what = prop_oneof![
        3 => (0..KEYS).prop_map(What::Key),
        2 => (0..KEYS).prop_map(What::Tag),
        1 => Just(What::Tool),
        1 => Just(What::Everything),
    ];
    let step = prop_oneof![
        5 => (0..KEYS).prop_map(Step::Ask),
        3 => (0..8_usize).prop_map(Step::Finish),
        1 => (0..8_usize).prop_map(Step::Leave),
        2 => what.prop_map(Step::Invalidate),
    ];
    prop::collection::vec(step, 1..60)
}

/// A running load, in the model.
struct Flight {
    key: usize,
    version: u64,
    load: usize,
    callers: Vec<JoinHandle<u64>>,
}

/// Runs the steps and compares each answer, and the number of loads, with the model.
async fn follow<S: Subject>(steps: Vec<Step>) {
    let source = Arc::new(Source { gates: Some(Mutex::default()), ..Source::default() });
    let subject = S::over(&source);
    let (mut kept, mut flights, mut loads) = ([false; KEYS], Vec::<Flight>::new(), 0);
    for step in steps {
        match step {
            Step::Ask(key) => {
                let asking = subject.clone();
                let caller = tokio::spawn(async move { asking.ask(key).await });
                settle().await;
                let version = source.version(key);
                if kept[key] {
                    assert!(caller.is_finished(), "what is kept is answered at once");
                    assert_eq!(caller.await.expect("an answer"), version);
                } else if let Some(flight) =
                    flights.iter_mut().find(|flight| (flight.key, flight.version) == (key, version))
                {
                    flight.callers.push(caller);
                } else {
                    flights.push(Flight { key, version, load: loads, callers: vec![caller] });
                    loads += 1;
                }
            }
            Step::Finish(at) if !flights.is_empty() => {
                let flight = flights.remove(at % flights.len());
                source.finish(flight.load);
                settle().await;
                for caller in flight.callers {
                    assert!(caller.is_finished(), "a waiting caller gets the end of its load");
                    assert_eq!(caller.await.expect("an answer"), flight.version);
                }
                kept[flight.key] |= flight.version == source.version(flight.key);
            }
            Step::Leave(at) if !flights.is_empty() => {
                let at = at % flights.len();
                flights[at].callers.remove(0).abort();
                settle().await;
                if flights[at].callers.is_empty() {
                    flights.remove(at);
                }
            }
            Step::Invalidate(what) => {
                for key in what.keys() {
                    source.versions[key].fetch_add(1, Ordering::SeqCst);
                    kept[key] = false;
                }
                subject.invalidate(what);
            }
            Step::Finish(_) | Step::Leave(_) => {}
        }
        assert_eq!(source.loads(), loads);
    }
}

fn follow_on_a_paused_clock<S: Subject>(steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(follow::<S>(steps));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_order_of_events_makes_the_layer_return_a_stale_answer_or_load_needlessly(steps in steps()) {
        follow_on_a_paused_clock::<TheLayer>(steps);
    }

    #[test]
    fn no_order_of_events_makes_the_engine_return_a_stale_value_or_load_needlessly(steps in steps()) {
        follow_on_a_paused_clock::<TheEngine>(steps);
    }
}

/// Readers and writers on all threads: no reader gets a value that was overwritten and invalidated before the read.
async fn readers_and_writers<S: Subject>() {
    let source = Arc::new(Source::default());
    let subject = S::over(&source);
    // The version that is written and invalidated by now: an answer may not be older.
    let least: Arc<[AtomicU64; KEYS]> = Arc::default();
    let readers = (0..8).map(|seed| {
        let (subject, least) = (subject.clone(), Arc::clone(&least));
        tokio::spawn(async move {
            let mut chance = fastrand::Rng::with_seed(seed);
            for _ in 0..3_000 {
                let key = chance.usize(0..KEYS);
                let expected = least[key].load(Ordering::SeqCst);
                let version = subject.ask(key).await;
                assert!(version >= expected, "version {version} after {expected} was invalidated");
            }
        })
    });
    let writers = (100..102).map(|seed| {
        let (subject, least, source) = (subject.clone(), Arc::clone(&least), Arc::clone(&source));
        tokio::spawn(async move {
            let mut chance = fastrand::Rng::with_seed(seed);
            for _ in 0..2_000 {
                let key = chance.usize(0..KEYS);
                let version = source.versions[key].fetch_add(1, Ordering::SeqCst) + 1;
                subject.invalidate(match chance.u8(0..6) {
                    0 => What::Tool,
                    1 => What::Everything,
                    2 | 3 => What::Tag(key),
                    _ => What::Key(key),
                });
                least[key].fetch_max(version, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    });
    for task in join_all(readers.chain(writers).collect::<Vec<_>>()).await {
        task.expect("no stale answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_through_the_layer_never_returns_a_value_invalidated_before_it() {
    readers_and_writers::<TheLayer>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_through_the_engine_never_returns_a_value_invalidated_before_it() {
    readers_and_writers::<TheEngine>().await;
}
