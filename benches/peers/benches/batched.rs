//! Many callers who each need one row, and ways to fetch the rows: one by one, in batches of this crate, with the data
//! loader of async-graphql, and in windows of 10 ms: fixed ones, and ones that end when they are full.
//!
//! The database is simulated: it has four connections, and a query for n rows takes 1 ms and 20 µs for each row.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_graphql::dataloader::{DataLoader, Loader};
use futures_util::future::join_all;
use mcp_patterns::batched::Batcher;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc, oneshot};
use turbomcp_core::McpResult;

/// The maximum of rows of a query, the same for all.
const MAX_SIZE: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(400);

#[derive(Clone)]
struct Database(Arc<Semaphore>);

impl Database {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(4)))
    }

    async fn query(&self, ids: &[u64]) -> Vec<u64> {
        let Ok(_connection) = self.0.acquire().await else { return Vec::new() };
        tokio::time::sleep(Duration::from_millis(1) + Duration::from_micros(20) * ids.len() as u32).await;
        ids.iter().map(|id| id * 10).collect()
    }
}

/// A way to fetch a row.
trait Fetch: Clone + Send + Sync + 'static {
    fn fetch(&self, id: u64) -> impl Future<Output = Option<u64>> + Send;
}

/// Without a batcher.
#[derive(Clone)]
struct OneByOne(Database);

impl Fetch for OneByOne {
    async fn fetch(&self, id: u64) -> Option<u64> {
        self.0.query(&[id]).await.first().copied()
    }
}

impl Fetch for Batcher<u64, u64> {
    async fn fetch(&self, id: u64) -> Option<u64> {
        self.load(&(), id).await.ok()
    }
}

fn batcher(database: Database) -> Batcher<u64, u64> {
    let bulk = move |ids: Vec<u64>| {
        let database = database.clone();
        async move { database.query(&ids).await.into_iter().map(Ok).collect::<Vec<McpResult<u64>>>() }
    };
    Batcher::new(bulk).with_max_size(MAX_SIZE)
}

impl Loader<u64> for Database {
    type Value = u64;
    type Error = Infallible;

    async fn load(&self, ids: &[u64]) -> Result<HashMap<u64, u64>, Infallible> {
        Ok(ids.iter().copied().zip(self.query(ids).await).collect())
    }
}

impl Fetch for Arc<DataLoader<Database>> {
    async fn fetch(&self, id: u64) -> Option<u64> {
        self.load_one(id).await.ok().flatten()
    }
}

fn data_loader(database: Database) -> Arc<DataLoader<Database>> {
    Arc::new(DataLoader::new(database, tokio::spawn).max_batch_size(MAX_SIZE))
}

type Waiting = (u64, oneshot::Sender<u64>);

/// The worker of the snippets: it collects for 10 ms, or until it has enough for a query if `ends_when_full`.
#[derive(Clone)]
struct Window(mpsc::Sender<Waiting>);

impl Window {
    fn new(database: Database, ends_when_full: bool) -> Self {
        let (sender, mut receiver) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Some(first) = receiver.recv().await {
                let mut window: Vec<Waiting> = vec![first];
                let full = async {
                    while !(ends_when_full && window.len() == MAX_SIZE)
                        && let Some(next) = receiver.recv().await
                    {
                        window.push(next);
                    }
                };
                let _ = tokio::time::timeout(Duration::from_millis(10), full).await;
                while !window.is_empty() {
                    let batch: Vec<_> = window.drain(..window.len().min(MAX_SIZE)).collect();
                    tokio::spawn(send(database.clone(), batch));
                }
            }
        });
        Self(sender)
    }
}

async fn send(database: Database, batch: Vec<Waiting>) {
    let (ids, senders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    for (sender, row) in senders.into_iter().zip(database.query(&ids).await) {
        let _ = sender.send(row);
    }
}

impl Fetch for Window {
    async fn fetch(&self, id: u64) -> Option<u64> {
        let (sender, row) = oneshot::channel();
        self.0.send((id, sender)).await.ok()?;
        row.await.ok()
    }
}

/// Makes each caller fetch one row after the other until the time is up. Returns the duration of each row, in
/// microseconds.
async fn round(way: impl Fetch, callers: u64, time: Duration) -> Vec<f64> {
    let ends = Instant::now() + time;
    let callers = (0..callers).map(|caller| {
        let way = way.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            let mut id = caller << 32;
            while Instant::now() < ends {
                let started = Instant::now();
                assert_eq!(way.fetch(id).await, Some(id * 10), "another caller's row");
                took.push(started.elapsed().as_secs_f64() * 1e6);
                id += 1;
            }
            took
        })
    });
    let callers: Vec<_> = callers.collect();
    join_all(callers).await.into_iter().flat_map(Result::unwrap_or_default).collect()
}

/// One line of the table: rows per second, and the median and the 99th percentile of the duration of a row.
struct Line {
    name: &'static str,
    per_second: f64,
    median: f64,
    p99: f64,
}

async fn measure(callers: u64) -> Vec<Line> {
    let database = Database::new();
    let (one_by_one, batcher) = (OneByOne(database.clone()), batcher(database.clone()));
    let data_loader = data_loader(database.clone());
    let (fixed, full) = (Window::new(database.clone(), false), Window::new(database, true));
    let names = ["one by one", "Batcher", "async-graphql", "10 ms, fixed", "10 ms, or full"];
    let mut rounds = names.map(|_| Vec::new());
    // In turns, so that a slow moment of the machine affects all.
    for _ in 0..ROUNDS {
        rounds[0].push(round(one_by_one.clone(), callers, ROUND).await);
        rounds[1].push(round(batcher.clone(), callers, ROUND).await);
        rounds[2].push(round(Arc::clone(&data_loader), callers, ROUND).await);
        rounds[3].push(round(fixed.clone(), callers, ROUND).await);
        rounds[4].push(round(full.clone(), callers, ROUND).await);
    }
    let line = |(name, rounds): (&'static str, Vec<Vec<f64>>)| {
        let mut per_second: Vec<_> = rounds.iter().map(|took| took.len() as f64 / ROUND.as_secs_f64()).collect();
        let mut took = rounds.concat();
        per_second.sort_by(f64::total_cmp);
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
        Line { name, per_second: per_second[ROUNDS / 2], median: at(0.5), p99: at(0.99) }
    };
    names.into_iter().zip(rounds).map(line).collect()
}

fn main() -> std::io::Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    println!("{:<8} {:<16} {:>10} {:>12} {:>12}", "callers", "", "rows/s", "median µs", "p99 µs");
    for callers in [1, 16, 256] {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
        for Line { name, per_second, median, p99 } in runtime.block_on(measure(callers)) {
            println!("{callers:<8} {name:<16} {per_second:>10.0} {median:>12.0} {p99:>12.0}");
        }
    }
    Ok(())
}
