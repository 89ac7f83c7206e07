//! Divides a bounded table among its callers, so that the entries of one caller never block those of another.
//!
//! The rule is that of dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
//! 1998): a caller who holds no more than the free room may take more. A single caller gets half of the table, and each further caller
//! up to half of the rest, so that there is always room for one more. As entries come and go, `n` callers who take all they can
//! converge to `1/(n+1)` each. No entry is ever taken away, and the rule needs no setting.
//!
//! Anonymous callers are one caller with many connections: together they get the share of one caller, and the same rule divides this
//! share among their connections.

use std::collections::HashMap;
use std::sync::Arc;

/// A part of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

/// The room that each caller holds.
#[derive(Debug)]
pub(crate) struct Shares {
    pub(crate) max: Room,
    held: Room,
    callers: HashMap<Arc<str>, Share, foldhash::fast::RandomState>,
}

#[derive(Debug, Default)]
struct Share {
    held: Room,
    connections: HashMap<Arc<str>, Room, foldhash::fast::RandomState>,
}

/// The caller, and the connection, whose share an entry is in.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    caller: Arc<str>,
    connection: Option<Arc<str>>,
}

impl Shares {
    pub(crate) fn new(max: Room) -> Self {
        Self { max, held: Room::default(), callers: HashMap::default() }
    }

    /// Takes room for a new entry, or returns `None` if the caller, or the connection, may take no more.
    pub(crate) fn take(&mut self, caller: &str, connection: Option<&str>, room: Room) -> Option<Holder> {
        if !self.has_room(caller, connection, room) {
            return None;
        }
        let caller = name(&self.callers, caller);
        let connections = self.callers.get(&caller).map(|share| &share.connections);
        let connection =
            connection.map(|connection| connections.map_or(connection.into(), |all| name(all, connection)));
        let holder = Holder { caller, connection };
        self.change(&holder, |held| *held = held.plus(room));
        Some(holder)
    }

    /// Takes more room for an existing entry. Returns false, and changes nothing, if there is none.
    pub(crate) fn grow(&mut self, holder: &Holder, bytes: usize) -> bool {
        let room = Room { entries: 0, bytes };
        let has_room = bytes == 0 || self.has_room(&holder.caller, holder.connection.as_deref(), room);
        if has_room {
            self.change(holder, |held| *held = held.plus(room));
        }
        has_room
    }

    pub(crate) fn give_back(&mut self, holder: &Holder, room: Room) {
        self.change(holder, |held| *held = held.minus(room));
        let Some(share) = self.callers.get_mut(&holder.caller) else { return };
        if let Some(connection) = &holder.connection
            && share.connections.get(connection).is_some_and(|held| held.entries == 0)
        {
            share.connections.remove(connection);
        }
        if share.held.entries == 0 {
            self.callers.remove(&holder.caller);
        }
    }

    fn has_room(&self, caller: &str, connection: Option<&str>, room: Room) -> bool {
        let share = self.callers.get(caller);
        let held = share.map(|share| share.held).unwrap_or_default();
        let mut may_take = self.max.minus(self.held).beyond(held);
        if let Some(connection) = connection {
            let held = share.and_then(|share| share.connections.get(connection)).copied().unwrap_or_default();
            may_take = may_take.beyond(held);
        }
        room.entries <= may_take.entries && room.bytes <= may_take.bytes
    }

    fn change(&mut self, holder: &Holder, change: impl Fn(&mut Room)) {
        change(&mut self.held);
        let share = self.callers.entry(Arc::clone(&holder.caller)).or_default();
        change(&mut share.held);
        if let Some(connection) = &holder.connection {
            change(share.connections.entry(Arc::clone(connection)).or_default());
        }
    }
}

/// The name as the table already has it, so that it is stored once.
fn name<T>(known: &HashMap<Arc<str>, T, foldhash::fast::RandomState>, name: &str) -> Arc<str> {
    known.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
}

impl Room {
    /// Returns how much of the free room a caller with this much may take: afterwards, the caller holds as much as is free. Rounded up, so
    /// that a table for one entry works.
    fn beyond(self, held: Self) -> Self {
        let half = |free: usize, held: usize| free.saturating_sub(held).div_ceil(2);
        Self { entries: half(self.entries, held.entries), bytes: half(self.bytes, held.bytes) }
    }

    fn plus(self, more: Self) -> Self {
        Self { entries: self.entries + more.entries, bytes: self.bytes + more.bytes }
    }

    fn minus(self, less: Self) -> Self {
        Self { entries: self.entries.saturating_sub(less.entries), bytes: self.bytes.saturating_sub(less.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Room = Room { entries: 1, bytes: 10 };

    fn shares(entries: usize) -> Shares {
        Shares::new(Room { entries, bytes: usize::MAX })
    }

    /// Counts the entries that a caller gets who takes all that is allowed.
    fn taken(shares: &mut Shares, caller: &str, connection: Option<&str>) -> usize {
        std::iter::from_fn(|| shares.take(caller, connection, ENTRY)).count()
    }

    #[test]
    fn a_lone_caller_gets_half_and_each_further_one_half_of_the_rest() {
        let mut shares = shares(1_000);
        assert_eq!(taken(&mut shares, "mallory", None), 500);
        assert_eq!(taken(&mut shares, "ada", None), 250);
        assert_eq!(taken(&mut shares, "bob", None), 125);
        assert_eq!(taken(&mut shares, "mallory", None), 0);
    }

    #[test]
    fn callers_who_alternate_get_equal_shares_and_leave_as_much_for_the_next() {
        let mut shares = shares(1_000);
        let callers = ["a", "b", "c", "d"];
        for _ in 0..1_000 {
            for caller in callers {
                shares.take(caller, None, ENTRY);
            }
        }
        assert_eq!(callers.map(|caller| shares.callers[caller].held.entries), [200; 4]);
        assert_eq!(taken(&mut shares, "next", None), 100);
    }

    #[test]
    fn anonymous_connections_share_what_one_caller_gets() {
        let mut shares = shares(1_000);
        let taken_by = |shares: &mut Shares, connections: std::ops::Range<usize>| {
            connections.map(|number| taken(shares, "nobody", Some(&number.to_string()))).sum::<usize>()
        };
        assert_eq!(taken_by(&mut shares, 0..1), 250);
        assert_eq!(taken_by(&mut shares, 1..2), 125);
        assert!(taken_by(&mut shares, 2..1_000) <= 125, "together they get half");
        assert!(taken(&mut shares, "ada", None) >= 250, "and the other half is for others");
    }

    #[test]
    fn returned_room_can_be_taken_again_and_callers_without_entries_are_forgotten() {
        let mut shares = shares(100);
        for connection in [None, Some("1")] {
            let holders: Vec<_> = std::iter::from_fn(|| shares.take("ada", connection, ENTRY)).collect();
            assert!(!holders.is_empty());
            holders.iter().for_each(|holder| shares.give_back(holder, ENTRY));
            assert_eq!((shares.held, shares.callers.len()), (Room::default(), 0));
        }
    }

    #[test]
    fn bytes_are_shared_like_entries() {
        let mut shares = Shares::new(Room { entries: 1_000, bytes: 1_000 });
        let room = |bytes| Room { entries: 1, bytes };
        assert!(shares.take("mallory", None, room(501)).is_none(), "more than a caller may hold");
        let holder = shares.take("mallory", None, room(400)).unwrap();
        assert!(!shares.grow(&holder, 101));
        assert!(shares.grow(&holder, 100));
        assert!(shares.grow(&holder, 0) && !shares.grow(&holder, 1));
        assert!(shares.take("ada", None, room(250)).is_some());
    }

    #[test]
    fn a_table_for_one_entry_works() {
        let mut shares = shares(1);
        assert_eq!(taken(&mut shares, "ada", Some("1")), 1);
    }
}
