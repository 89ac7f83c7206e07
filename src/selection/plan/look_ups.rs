//! Decides when a caller's tools are listed because of an unknown name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::masked::error_id;
use crate::telemetry::Warning;

/// The timeout of a listing.
pub(in crate::selection) const TIMEOUT: Duration = Duration::from_secs(5);
/// A caller whose tools were listed within this time gets the result of that listing.
pub(super) const REMEMBERED: Duration = Duration::from_secs(1);
/// How many listings a layer starts per second, and how many at once after a pause. One caller gets one per second.
const PER_SECOND: u32 = 200;
const BURST: u32 = 1_000;
/// How many listings run concurrently.
const MAX_RUNNING: usize = 16;

/// The running listings, and how many more are allowed.
pub(super) struct LookUps {
    under_way: HashMap<Box<[u8]>, UnderWay, RandomState>,
    left: u32,
    refilled: Option<Instant>,
    running: Arc<Semaphore>,
    too_many: Warning,
    /// The id of the refusals since the last log entry.
    too_many_id: Arc<str>,
}

struct UnderWay {
    since: Instant,
    id: Arc<str>,
    ended: watch::Receiver<bool>,
}

/// The next step of a caller who needs a listing.
pub(super) enum Turn {
    /// Waits for the running listing.
    Wait { ended: watch::Receiver<bool>, id: Arc<str> },
    /// Lists them.
    List { end: watch::Sender<bool>, running: Arc<Semaphore>, id: Arc<str> },
    /// The running listing is overdue.
    Overdue { id: Arc<str> },
    /// There were too many. All refusals have one id until the next log entry is due, with this number of suppressed
    /// ones.
    TooMany { id: Arc<str>, unsaid: Option<u64> },
}

impl Default for LookUps {
    fn default() -> Self {
        Self {
            under_way: HashMap::default(),
            left: BURST,
            refilled: None,
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            too_many: Warning::new(),
            too_many_id: Arc::default(),
        }
    }
}

impl LookUps {
    pub(super) fn turn(&mut self, key: &[u8], now: Instant) -> Turn {
        if let Some(under_way) = self.under_way.get(key) {
            let is_overdue = now.duration_since(under_way.since) >= TIMEOUT;
            let id = Arc::clone(&under_way.id);
            return if is_overdue { Turn::Overdue { id } } else { Turn::Wait { ended: under_way.ended.clone(), id } };
        }
        if !self.take(now) {
            let unsaid = self.too_many.due();
            if unsaid.is_some() {
                self.too_many_id = error_id().into();
            }
            return Turn::TooMany { id: Arc::clone(&self.too_many_id), unsaid };
        }
        let (end, ended) = watch::channel(false);
        let id: Arc<str> = error_id().into();
        self.under_way.insert(key.into(), UnderWay { since: now, id: Arc::clone(&id), ended });
        Turn::List { end, running: Arc::clone(&self.running), id }
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
