//! The queue of calls that wait to be sent: groups that take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::instruments::InQueue;
use super::settings::Settings;
use crate::clock::later;

/// The key of a group. A batch has calls of one group only.
pub(super) type Group = Arc<[u8]>;

/// A waiting call.
pub(super) struct QueuedItem<K, V, E> {
    pub(super) key: K,
    pub(super) reply: oneshot::Sender<Reply<V, E>>,
    pub(super) weight: u64,
    /// The share of the queue that it counts for.
    pub(super) share: u64,
    pub(super) queued: Instant,
    pub(super) in_queue: Option<InQueue>,
    /// Its permit in a queue whose callers wait for room.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// The answer to a caller.
pub(super) struct Reply<V, E> {
    pub(super) result: Result<V, E>,
    /// The number of calls in the batch. Zero for a call that was not sent.
    pub(super) size: usize,
    /// Whether an error describes the whole effect: the call was sent once and answered, or not sent at all.
    pub(super) is_certain: bool,
}

impl<K, V, E> QueuedItem<K, V, E> {
    /// Tells the caller that the call is not sent.
    pub(super) fn reject(self, error: E) {
        let _ = self.reply.send(Reply { result: Err(error), size: 0, is_certain: true });
    }

    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }
}

pub(super) struct Queue<K, V, E> {
    groups: HashMap<Group, Waiting<K, V, E>, foldhash::fast::RandomState>,
    /// The groups that have calls, next one first.
    turns: VecDeque<Group>,
    len: usize,
}

struct Waiting<K, V, E> {
    items: VecDeque<QueuedItem<K, V, E>>,
    /// The total of its items.
    weight: u128,
}

/// The next thing to do.
pub(super) enum Next<K, V, E> {
    Batch(Vec<QueuedItem<K, V, E>>),
    /// No group is full, and the first delay ends at this moment.
    Wait(Instant),
    Nothing,
}

impl<K, V, E> Queue<K, V, E> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a call. Returns whether its group is full now.
    pub(super) fn push(&mut self, group: Group, item: QueuedItem<K, V, E>, settings: &Settings<K, V, E>) -> bool {
        let waiting = match self.groups.get_mut(&group) {
            Some(waiting) => waiting,
            None => {
                self.turns.push_back(Arc::clone(&group));
                self.groups.entry(group).or_default()
            }
        };
        waiting.weight += u128::from(item.weight);
        waiting.items.push_back(item);
        self.len += 1;
        waiting.is_full(settings)
    }

    /// Takes the next batch: as many calls of the group whose turn it is as a batch may have. The next turn of the group comes after
    /// those of all others. With a `delay`, a group that is not full has no turn until its first call has waited for `delay`.
    pub(super) fn next(&mut self, settings: &Settings<K, V, E>, delay: Duration, now: Instant) -> Next<K, V, E> {
        let mut until: Option<Instant> = None;
        let mut at = 0;
        while let Some(group) = self.turns.get(at) {
            let Some(waiting) = self.groups.get_mut(group) else {
                self.turns.remove(at);
                continue;
            };
            self.len -= waiting.drop_abandoned();
            let Some(first) = waiting.items.front() else {
                self.groups.remove(group);
                self.turns.remove(at);
                continue;
            };
            let ripe = later(first.queued, delay);
            if ripe > now && !waiting.is_full(settings) {
                until = Some(until.map_or(ripe, |until| until.min(ripe)));
                at += 1;
                continue;
            }
            let batch = waiting.take(settings);
            self.len -= batch.len();
            let is_spent = waiting.items.is_empty();
            if let Some(group) = self.turns.remove(at) {
                if is_spent {
                    self.groups.remove(&group);
                } else {
                    self.turns.push_back(group);
                }
            }
            return Next::Batch(batch);
        }
        until.map_or(Next::Nothing, Next::Wait)
    }

    /// Makes room for a call, first by removing calls whose callers have left. Otherwise returns the call that is displaced: the
    /// newest call of the caller with most calls in the queue. Returns an error if that is the caller of the new call, unless another
    /// group of this caller has more calls.
    pub(super) fn make_room(
        &mut self,
        share: u64,
        group: &Group,
        max: usize,
    ) -> Result<Option<QueuedItem<K, V, E>>, ()> {
        if self.len < max {
            return Ok(None);
        }
        self.len -= self.groups.values_mut().map(Waiting::drop_abandoned).sum::<usize>();
        if self.len < max {
            return Ok(None);
        }
        let mut held: HashMap<u64, usize, foldhash::fast::RandomState> = HashMap::default();
        for item in self.groups.values().flat_map(|waiting| &waiting.items) {
            *held.entry(item.share).or_default() += 1;
        }
        let own = held.get(&share).copied().unwrap_or_default();
        let most = held.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > own + 1);
        let loser = most.map_or(share, |(loser, _)| loser);
        let own_in_group = self.groups.get(group).map_or(0, |waiting| waiting.count_of(share));
        let groups = self.groups.values_mut().map(|waiting| (waiting.count_of(loser), waiting));
        let (count, largest) = groups.max_by_key(|(count, _)| *count).ok_or(())?;
        if loser == share && count <= own_in_group + 1 {
            return Err(());
        }
        let newest = largest.take_newest_of(loser).ok_or(())?;
        self.len -= 1;
        Ok(Some(newest))
    }

    /// Takes all calls.
    pub(super) fn drain(&mut self) -> Vec<QueuedItem<K, V, E>> {
        self.turns.clear();
        self.len = 0;
        self.groups.drain().flat_map(|(_, waiting)| waiting.items).collect()
    }
}

impl<K, V, E> Waiting<K, V, E> {
    fn is_full(&self, settings: &Settings<K, V, E>) -> bool {
        self.items.len() >= settings.max_size
            || settings.max_weight.as_ref().is_some_and(|weight| self.weight >= u128::from(weight.max))
    }

    /// Removes the calls whose callers have left, and returns their number.
    fn drop_abandoned(&mut self) -> usize {
        let before = self.items.len();
        self.items.retain(QueuedItem::is_awaited);
        let dropped = before - self.items.len();
        if dropped > 0 {
            self.weight = weight(&self.items);
        }
        dropped
    }

    fn count_of(&self, share: u64) -> usize {
        self.items.iter().filter(|item| item.share == share).count()
    }

    fn take_newest_of(&mut self, share: u64) -> Option<QueuedItem<K, V, E>> {
        let newest = self.items.iter().rposition(|item| item.share == share)?;
        let newest = self.items.remove(newest)?;
        self.weight -= u128::from(newest.weight);
        Some(newest)
    }

    /// Takes as many calls from the front as a batch may have: at least one, however heavy.
    fn take(&mut self, settings: &Settings<K, V, E>) -> Vec<QueuedItem<K, V, E>> {
        let mut taken: u128 = 0;
        let fits = |item: &&QueuedItem<K, V, E>| {
            taken += u128::from(item.weight);
            settings.max_weight.as_ref().is_none_or(|weight| taken <= u128::from(weight.max))
        };
        let fitting = self.items.iter().take(settings.max_size).take_while(fits).count();
        let batch: Vec<_> = self.items.drain(..fitting.max(1).min(self.items.len())).collect();
        self.weight -= weight(&batch);
        batch
    }
}

fn weight<'a, K: 'a, V: 'a, E: 'a>(items: impl IntoIterator<Item = &'a QueuedItem<K, V, E>>) -> u128 {
    items.into_iter().map(|item| u128::from(item.weight)).sum()
}

impl<K, V, E> Default for Waiting<K, V, E> {
    fn default() -> Self {
        Self { items: VecDeque::new(), weight: 0 }
    }
}

impl<K, V, E> Default for Queue<K, V, E> {
    fn default() -> Self {
        Self { groups: HashMap::default(), turns: VecDeque::new(), len: 0 }
    }
}
