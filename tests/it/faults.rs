//! The example servers under faults: two replicas each, whose processes, clocks, connections and backend fail as a seed
//! decides.
//!
//! Ten seeds of each run with the other tests. `FAULTS_SEEDS=200` runs as many, and `FAULTS_SEED=7` runs that one.

mod counter;
mod replicas;
mod storm;
mod transfer;
mod users;
mod weather;

use std::env;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use futures_util::{StreamExt, stream};
use sqlx::ConnectOptions;
use tokio::task::spawn_blocking;

use crate::private_postgres::PrivatePostgres;
use crate::private_redis::PrivateRedis;
use crate::proxy::Proxy;
use replicas::{Caller, Replicas};
use storm::Backend;

/// How many seeds run concurrently: they wait most of their time.
const AT_ONCE: usize = 4;

/// The number of callers.
const CALLERS: usize = 6;

/// The number in the environment variable `name`.
fn number(name: &str) -> Option<u64> {
    let number = env::var(name).ok()?;
    Some(number.parse().unwrap_or_else(|_| panic!("{name} is a number, not {number}")))
}

/// Runs `test` for each seed.
async fn for_each_seed<F: Future<Output = ()> + Send + 'static>(test: impl Fn(u64) -> F) {
    let seeds = match number("FAULTS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FAULTS_SEEDS").unwrap_or(10),
    };
    let tests = seeds.map(|seed| {
        let test = test(seed);
        async move { (seed, tokio::spawn(test).await) }
    });
    let ended: Vec<_> = stream::iter(tests).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<_> = ended.into_iter().filter(|(_, ended)| ended.is_err()).map(|(seed, _)| seed).collect();
    assert!(failed.is_empty(), "these seeds failed, each can be run again by FAULTS_SEED: {failed:?}");
}

/// Two replicas, their shared backend, and the proxy to it.
struct World {
    replicas: Replicas,
    line: Proxy,
    backend: Mutex<Backend>,
    /// The number of calls that were made.
    calls: AtomicUsize,
}

impl World {
    async fn on_postgres(example: &'static str, flag: &str) -> Self {
        let backend = spawn_blocking(|| Backend::Postgres(PrivatePostgres::start(""))).await.expect("it begins");
        let line = Proxy::to(backend.upstream()).await;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", line.port());
        Self::new(example, vec![flag.to_owned(), url], line, backend).await
    }

    async fn on_redis(example: &'static str, flag: &str, more: &[&str]) -> Self {
        let backend = spawn_blocking(|| Backend::Redis(PrivateRedis::start())).await.expect("it begins");
        let line = Proxy::to(backend.upstream()).await;
        let args = [flag, &line.redis_url()].iter().chain(more).map(|arg| (*arg).to_owned()).collect();
        Self::new(example, args, line, backend).await
    }

    async fn new(example: &'static str, args: Vec<String>, line: Proxy, backend: Backend) -> Self {
        let replicas = Replicas::start(example, args).await;
        Self { replicas, line, backend: Mutex::new(backend), calls: AtomicUsize::new(0) }
    }

    /// The address of the PostgreSQL itself, without the proxy.
    fn postgres(&self) -> String {
        match &*self.backend.lock().expect("no test panics in it") {
            Backend::Postgres(postgres) => postgres.options().to_url_lossy().into(),
            Backend::Redis(_) => panic!("this is a Redis"),
        }
    }

    /// Makes this many calls while the faults of the seed happen. Afterwards, connections that stopped answering still
    /// do not answer, and wrong clocks are still wrong; everything else works again.
    async fn rage<T>(&self, seed: u64, calls: usize, are_made: impl Future<Output = T>) -> T {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = storm::plan(&mut rng, calls);
        eprintln!("seed {seed}: {plan:?}");
        let rage = storm::rage(&plan, rng, &self.calls, (&self.replicas, &self.line, &self.backend));
        tokio::join!(are_made, rage).0
    }

    fn caller(&self, token: Option<&'static str>, seed: u64) -> Caller<'_> {
        Caller::new(&self.replicas, &self.calls, token, seed)
    }
}
