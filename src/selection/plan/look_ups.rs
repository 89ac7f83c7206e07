//! When a caller's tools are listed because of a name that is not known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// How long a listing may take.
pub(in crate::selection) const TIMEOUT: Duration = Duration::from_secs(5);
/// A caller whose tools were listed so shortly before is told what they were.
pub(super) const REMEMBERED: Duration = Duration::from_secs(1);
/// How many listings a layer asks for in a second, and how many at once after a pause. One caller has one a second.
const PER_SECOND: u32 = 200;
const BURST: u32 = 1_000;
/// How many listings run at the same time.
const MAX_RUNNING: usize = 16;

/// The listings that are under way, and how many more there may be.
pub(super) struct LookUps {
    under_way: HashMap<Box<[u8]>, UnderWay, RandomState>,
    left: u32,
    refilled: Option<Instant>,
    running: Arc<Semaphore>,
}

struct UnderWay {
    since: Instant,
    ended: watch::Receiver<bool>,
}

/// What a caller does who wants the tools to be listed.
pub(super) enum Turn {
    /// Waits for the listing that is under way.
    Wait(watch::Receiver<bool>),
    /// Lists them.
    List(watch::Sender<bool>, Arc<Semaphore>),
    /// The one that is under way should have ended long ago.
    Overdue,
    /// There were too many.
    TooMany,
}

impl Default for LookUps {
    fn default() -> Self {
        Self {
            under_way: HashMap::default(),
            left: BURST,
            refilled: None,
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
        }
    }
}

impl LookUps {
    pub(super) fn turn(&mut self, key: &[u8], now: Instant) -> Turn {
        if let Some(under_way) = self.under_way.get(key) {
            let is_overdue = now.duration_since(under_way.since) >= TIMEOUT;
            return if is_overdue { Turn::Overdue } else { Turn::Wait(under_way.ended.clone()) };
        }
        if !self.take(now) {
            return Turn::TooMany;
        }
        let (end, ended) = watch::channel(false);
        self.under_way.insert(key.into(), UnderWay { since: now, ended });
        Turn::List(end, Arc::clone(&self.running))
    }

    pub(super) fn end(&mut self, key: &[u8]) {
        self.under_way.remove(key);
    }

    fn take(&mut self, now: Instant) -> bool {
        let refilled = *self.refilled.get_or_insert(now);
        let earned = now.duration_since(refilled).as_millis() * u128::from(PER_SECOND) / 1000;
        if earned > 0 {
            self.left = u32::try_from(earned).map_or(BURST, |earned| self.left.saturating_add(earned).min(BURST));
            self.refilled = Some(now);
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}
