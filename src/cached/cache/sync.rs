//! The work in the background that keeps a cache and its second level in step: it sends invalidations, writes values, and listens.

use std::future::Future;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join3, select};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::error::LoadError;
use super::load::ended;
use super::second_level_client::{Job, SUBSCRIBE_TIMEOUT, SecondLevelClient};
use crate::cached::first_level::FirstLevel;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::Invalidation;

/// How many values are written in one step.
const BATCH: usize = 64;
/// The first and the longest pause before work begins again.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// Starts the work, if there is a runtime and it does not run. Each step may take `timeout`; the work ends when the sender of
/// `alive` is dropped.
pub(in crate::cached) fn start<K, V, E>(
    client: &Arc<SecondLevelClient<K, V>>,
    first_level: &Arc<FirstLevel<K, V, E>>,
    timeout: Duration,
    alive: &watch::Receiver<()>,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    let mut background = client.background.lock().unwrap_or_else(PoisonError::into_inner);
    if background.as_ref().is_some_and(|task| !task.is_finished()) {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let (client, first_level, alive) = (Arc::clone(client), Arc::clone(first_level), alive.clone());
    *background = Some(runtime.spawn(async move {
        let work = SyncWork { client: &client, first_level: &first_level, timeout };
        let all = pin!(join3(
            work.restarting("tell", || work.send_all()),
            work.restarting("write", || work.write_all()),
            work.restarting("listen", || work.listen()),
        ));
        select(all, pin!(ended(alive))).await;
        // The other replicas need the invalidations of this one.
        work.send_once().await;
    }));
}

struct SyncWork<'a, K, V, E> {
    client: &'a SecondLevelClient<K, V>,
    first_level: &'a FirstLevel<K, V, E>,
    timeout: Duration,
}

impl<K, V, E> SyncWork<'_, K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Does `work`, and does it again after a pause if it panics. The panics of the level itself are
    /// [caught](crate::cached::second_level::resilient) before that; this is for all others, such as those of the user's code that
    /// encodes or drops a value.
    async fn restarting<F: Future<Output = ()>>(&self, name: &'static str, work: impl Fn() -> F) {
        let mut pause = PAUSES[0];
        while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
            self.client.level.has_panicked(name);
            sleep(pause).await;
            pause = (2 * pause).min(PAUSES[1]);
        }
    }

    /// Sends invalidations to the level, and repeats each until the level has received it.
    async fn send_all(&self) {
        loop {
            let mut pause = Duration::from_millis(100);
            while !self.send_once().await {
                sleep(pause).await;
                pause = (2 * pause).min(Duration::from_secs(1));
            }
            self.client.outbox.waiting().await;
        }
    }

    /// Says whether the level has received all invalidations that were noted when this began. Later ones have woken the loop above.
    async fn send_once(&self) -> bool {
        let client = self.client;
        let keys = client.outbox.take();
        if keys.is_empty() {
            return true;
        }
        let Some(number) = client.level.invalidate(self.timeout, client.origin, &keys).await else {
            return false;
        };
        // First the note: from then on, it keeps older values out.
        client.known.note(&from_numbers(&keys), number);
        client.outbox.has_arrived();
        true
    }

    /// Writes loaded values, in batches.
    async fn write_all(&self) {
        let client = self.client;
        let mut queue = client.queue.lock().await;
        let mut jobs = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut jobs, BATCH).await > 0 {
            let (mut puts, mut releases) = (Vec::new(), Vec::new());
            for job in jobs.drain(..) {
                match job {
                    Job::Put { key, entry, generation } => {
                        // The user's code encodes the value. If it panics, the other values are still written.
                        let put = catch_unwind(AssertUnwindSafe(|| client.put(&key, &entry, generation)));
                        if put.is_err() {
                            client.level.has_panicked("write");
                        }
                        puts.extend(put.ok().flatten());
                    }
                    Job::Remove { key } => puts.extend(client.put_nothing(&key)),
                    Job::Release { key, token } => releases.push((key, token)),
                }
            }
            client.write(self.timeout, &puts).await;
            for (key, token) in releases {
                client.level.release(self.timeout, &key, token).await;
            }
        }
    }

    /// Receives the invalidations of other replicas. The first level is trusted for its full ttl only while this works.
    async fn listen(&self) {
        let client = self.client;
        let mut pause = PAUSES[0];
        loop {
            let subscription = client.level.subscribe(SUBSCRIBE_TIMEOUT).await;
            let listening = subscription.as_ref().and_then(Option::as_ref).map(|_| {
                // Earlier invalidations may have been missed.
                self.first_level.generations.invalidate_all();
                Listening::new(client)
            });
            client.has_tried.send_replace(true);
            let Some(subscription) = subscription else { return };
            if let Some(mut subscription) = subscription {
                let began = Instant::now();
                while let Some(received) = client.level.next(&mut subscription).await {
                    if received.origin != client.origin {
                        client.counts.received.add();
                        self.receive(&received);
                    }
                }
                drop(listening);
                client.level.subscription_has_ended();
                // Subscriptions that end as soon as they begin are tried less and less often.
                if began.elapsed() >= pause {
                    pause = PAUSES[0];
                }
            }
            sleep(pause).await;
            pause = (2 * pause).min(PAUSES[1]);
        }
    }

    fn receive(&self, received: &Invalidation) {
        let (client, generations) = (self.client, &self.first_level.generations);
        let keys = from_numbers(&received.keys);
        // First the note: a load that begins after the invalidation must not read older values from a level that has lost it.
        client.known.note(&keys, received.number);
        if keys.iter().any(|key| [InvalidationKey::ALL, client.everything].contains(key)) {
            generations.invalidate_all();
        }
        generations.invalidate(&keys);
    }
}

fn from_numbers(keys: &[u64]) -> Vec<InvalidationKey> {
    keys.iter().map(|key| InvalidationKey::from_number(*key)).collect()
}

/// Says that invalidations are received. Its drop says that they are not any more, for whatever reason: the subscription ended, the
/// work panicked, or its runtime shut down.
struct Listening<'a>(&'a AtomicBool);

impl<'a> Listening<'a> {
    fn new<K, V>(client: &'a SecondLevelClient<K, V>) -> Self {
        client.is_subscribed.store(true, Ordering::SeqCst);
        Self(&client.is_subscribed)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
