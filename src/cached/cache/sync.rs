//! What a cache does for its second level beside its calls: it tells, writes and listens.

use std::future::Future;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join3, select};
use tokio::time::{Instant, sleep};

use super::error::LoadError;
use super::link::{Job, Link, PATIENCE};
use super::loader::{Shared, ended};
use super::settings::Settings;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::Invalidation;

/// How many values are written in one step.
const BATCH: usize = 64;
/// The first and the longest pause before work begins again.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

impl<K, V, E> Shared<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Invalidates `keys` here at once, and everywhere as soon as can be.
    pub(in crate::cached) fn invalidate(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>, keys: &[InvalidationKey]) {
        // First the note, then the deed: a load that begins after the deed must not read from the level what that does not know yet.
        if let Some(link) = &self.link {
            link.tell(keys);
        }
        self.generations.invalidate(keys);
        self.tell_the_level(settings);
    }

    pub(in crate::cached) fn invalidate_everything(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>) {
        if let Some(link) = &self.link {
            link.tell_everything();
        }
        self.generations.invalidate_all();
        self.store.clear();
        self.tell_the_level(settings);
    }

    fn tell_the_level(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>) {
        if let Some(link) = &self.link {
            self.start(settings);
            link.pending.wake();
        }
    }

    /// Starts the work in the background, if there is a second level and a runtime, and it does not run.
    pub(in crate::cached) fn start(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>) {
        let Some(link) = &self.link else { return };
        let mut background = link.background.lock().unwrap_or_else(PoisonError::into_inner);
        if background.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, settings, alive) = (Arc::clone(self), Arc::clone(settings), self.alive());
        *background = Some(runtime.spawn(async move {
            let work = pin!(join3(
                shared.again("tell", || shared.tell_all(&settings)),
                shared.again("write", || shared.write_all(&settings)),
                shared.again("listen", || shared.listen()),
            ));
            select(work, pin!(ended(alive))).await;
            // What this replica has invalidated, the others should know.
            shared.tell_once(&settings).await;
        }));
    }

    /// Does `work`, and does it again after a pause if it panics. What is the level's own is [caught](crate::cached::second_level::resilient) before that;
    /// this is for all else, such as how a value of the user's is written or dropped.
    async fn again<F: Future<Output = ()>>(&self, name: &'static str, work: impl Fn() -> F) {
        let Some(link) = &self.link else { return };
        let mut pause = PAUSES[0];
        while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
            link.guarded.has_panicked(name);
            sleep(pause).await;
            pause = (2 * pause).min(PAUSES[1]);
        }
    }

    /// Tells the level what is invalidated, again and again until it knows.
    async fn tell_all(&self, settings: &Settings<K, V, E>) {
        let Some(link) = &self.link else { return };
        loop {
            let mut pause = Duration::from_millis(100);
            while !self.tell_once(settings).await {
                sleep(pause).await;
                pause = (2 * pause).min(Duration::from_secs(1));
            }
            link.pending.waiting().await;
        }
    }

    /// Says whether the level knows all that was to be told when this began. What came meanwhile has woken the loop above.
    async fn tell_once(&self, settings: &Settings<K, V, E>) -> bool {
        let Some(link) = &self.link else { return true };
        let keys = link.pending.take();
        if keys.is_empty() {
            return true;
        }
        let Some(number) = link.guarded.invalidate(settings.second_level_timeout, link.origin, &keys).await else {
            return false;
        };
        // First the note: from then on, that is what keeps older values out.
        link.known.note(&from_numbers(&keys), number);
        link.pending.has_arrived();
        true
    }

    /// Writes what was loaded, in batches.
    async fn write_all(&self, settings: &Settings<K, V, E>) {
        let Some(link) = &self.link else { return };
        let mut queue = link.queue.lock().await;
        let mut jobs = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut jobs, BATCH).await > 0 {
            let (mut puts, mut releases) = (Vec::new(), Vec::new());
            for job in jobs.drain(..) {
                match job {
                    Job::Put { key, slot, generation } => {
                        // How a value is written is not ours, and must not keep the others.
                        let put = catch_unwind(AssertUnwindSafe(|| link.put(&key, &slot, generation)));
                        if put.is_err() {
                            link.guarded.has_panicked("write");
                        }
                        puts.extend(put.ok().flatten());
                    }
                    Job::Drop { key } => puts.extend(link.put_nothing(&key)),
                    Job::Release { key, token } => releases.push((key, token)),
                }
            }
            let limit = settings.second_level_timeout;
            link.write(limit, &puts).await;
            for (key, token) in releases {
                link.guarded.release(limit, &key, token).await;
            }
        }
    }

    /// Hears of what other replicas invalidate, and trusts its own memory only while it does.
    async fn listen(&self) {
        let Some(link) = &self.link else { return };
        let mut pause = PAUSES[0];
        loop {
            let subscription = link.guarded.subscribe(PATIENCE).await;
            let listening = subscription.as_ref().and_then(Option::as_ref).map(|_| {
                // Whatever was said before is not known.
                self.generations.invalidate_all();
                Listening::new(link)
            });
            link.has_tried.send_replace(true);
            let Some(subscription) = subscription else { return };
            if let Some(mut subscription) = subscription {
                let began = Instant::now();
                while let Some(heard) = link.guarded.next(&mut subscription).await {
                    if heard.origin != link.origin {
                        link.counts.heard.add();
                        self.hear(link, &heard);
                    }
                }
                drop(listening);
                link.guarded.is_unheard();
                // Those that end as soon as they begin are tried less and less often.
                if began.elapsed() >= pause {
                    pause = PAUSES[0];
                }
            }
            sleep(pause).await;
            pause = (2 * pause).min(PAUSES[1]);
        }
    }

    fn hear(&self, link: &Link<K, V>, heard: &Invalidation) {
        let keys = from_numbers(&heard.keys);
        // First the note: a load that begins after the deed must not read what is older from a level that has lost this.
        link.known.note(&keys, heard.number);
        if keys.iter().any(|key| [InvalidationKey::ALL, link.everything].contains(key)) {
            self.generations.invalidate_all();
        }
        self.generations.invalidate(&keys);
    }
}

fn from_numbers(keys: &[u64]) -> Vec<InvalidationKey> {
    keys.iter().map(|key| InvalidationKey::from_number(*key)).collect()
}

/// Says that invalidations are heard. Its drop says that they are not any more, however that came: the subscription ended, the
/// work panicked, or its runtime shut down.
struct Listening<'a>(&'a AtomicBool);

impl<'a> Listening<'a> {
    fn new<K, V>(link: &'a Link<K, V>) -> Self {
        link.is_subscribed.store(true, Ordering::SeqCst);
        Self(&link.is_subscribed)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
