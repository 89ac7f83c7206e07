//! Draws what is done with a stack.

use fastrand::Rng;

use super::{one_of, percent};
use crate::metamorphic::callers::CONNECTIONS;
use crate::metamorphic::log::Forget;
use crate::metamorphic::plan::{Call, Kind, Leaves, Order, Setting, Stack, Step, Way};
use crate::metamorphic::requests::{Op, Request, WAYS_TO_ASK};

/// Draws what is done.
pub(super) struct Script<'a> {
    rng: &'a mut Rng,
    stack: &'a Stack,
    connections: Vec<usize>,
    /// What this script is about.
    ops: Vec<Op>,
    /// Whether this is about what the handle of the cache calls anew.
    refreshes: bool,
    /// Whether sessions have handles.
    has_handles: bool,
    /// Who has opened a session, so far.
    openers: Vec<usize>,
}

impl<'a> Script<'a> {
    pub(super) fn new(rng: &'a mut Rng, stack: &'a Stack, refreshes: bool) -> Self {
        let count = CONNECTIONS.len();
        let first = rng.usize(..count);
        let mut connections: Vec<_> = (0..rng.usize(2..5)).map(|at| (first + at) % count).collect();
        connections.push(rng.usize(..count));
        let about = |kind: Kind| -> &'static [Op] {
            match kind {
                Kind::Wrong(_) | Kind::Output | Kind::Own => &[],
                Kind::Validated => &[Op::Check, Op::Check, Op::Pay],
                Kind::Session => &[Op::Visit, Op::Seen, Op::Visit, Op::Seen],
                Kind::Cached => &[Op::News, Op::News, Op::Mine, Op::Mine, Op::Ask, Op::Slow, Op::Seen, Op::Update],
                Kind::Batched => &[Op::Price, Op::Mine, Op::Ask, Op::Slow],
                Kind::Retry => &[Op::News, Op::Slow, Op::Check, Op::Update, Op::Pay, Op::Ask],
                Kind::Breaker => &[Op::News, Op::Slow, Op::Update, Op::Pay],
                Kind::Limited => &[Op::News, Op::Slow, Op::Slow, Op::Pay],
                Kind::Idempotent => &[Op::Pay, Op::Pay, Op::Pay, Op::Late, Op::Varies],
                Kind::Transactional => &[Op::Book, Op::Book, Op::Balance],
            }
        };
        let mut pool: Vec<_> = stack.layers.iter().flat_map(|layer| about(layer.kind)).copied().collect();
        for layer in &stack.layers {
            for setting in &layer.settings {
                match *setting {
                    Setting::Only(op) | Setting::PublicFor(op) | Setting::AllowRepeated(op) => pool.extend([op; 3]),
                    Setting::ResourcesAndPrompts => pool.extend([Op::Note, Op::Greeting]),
                    Setting::Invalidates(_) => pool.extend([Op::Update; 3]),
                    _ => {}
                }
            }
        }
        pool.extend([Op::News, Op::Check, Op::Ghost]);
        let mut ops: Vec<_> = (0..rng.usize(1..5)).map(|_| one_of(rng, &pool)).collect();
        let has_invalidation = ops.iter().any(|op| matches!(op, Op::News | Op::Mine | Op::Note | Op::Greeting));
        if has_invalidation && percent(rng, 70) {
            ops.push(Op::Update);
        }
        // Sessions in a database are rare otherwise, and two servers that write to one at the same time.
        if stack.keeps_in_database && stack.layer(Kind::Session).is_some() && percent(rng, 50) {
            ops = vec![Op::Visit, Op::Visit, Op::Seen];
        }
        let has_handles = stack.layer(Kind::Session).is_some_and(|layer| layer.has(Setting::ByHandle));
        if has_handles && ops.iter().any(|op| op.takes_handle()) {
            ops.push(Op::Open);
            ops.extend(percent(rng, 40).then_some(Op::Close));
        }
        if stack.has_small_store {
            ops.extend([Op::Pay; 2]);
        }
        if refreshes {
            ops = vec![Op::News];
        }
        Self { rng, stack, connections, ops, refreshes, has_handles, openers: Vec::new() }
    }

    pub(super) fn draw(mut self) -> Vec<Step> {
        let mut script = Vec::new();
        if self.ops.contains(&Op::Open) {
            // Some of those who call have a session from the beginning.
            let open = Request { op: Op::Open, topic: 0, n: 0, key: None };
            let calls = (0..self.rng.usize(1..4)).map(|_| self.call(open)).collect();
            script.push(Step::Calls(calls));
        }
        for _ in 0..self.rng.usize(3..10) {
            script.push(self.calls());
            if percent(self.rng, 55) {
                let step = self.other();
                script.push(step);
            }
        }
        script
    }

    fn calls(&mut self) -> Step {
        if self.stack.keeps_in_database && percent(self.rng, 35) {
            return self.crowd();
        }
        let count = self.rng.usize(1..6);
        // Often they all ask for the same.
        let common = percent(self.rng, 40).then(|| self.request());
        let calls = (0..count).map(|_| {
            let request = common.filter(|_| percent(self.rng, 80)).unwrap_or_else(|| self.request());
            self.call(request)
        });
        Step::Calls(calls.collect())
    }

    /// One caller asks all servers for the same at the same time: only the database keeps them apart.
    fn crowd(&mut self) -> Step {
        let request = self.request();
        let call = Call { leaves: Leaves::Never, ..self.call(request) };
        let servers = (0..self.stack.servers()).cycle().take(4);
        Step::Calls(servers.map(|server| Call { server, ..call }).collect())
    }

    fn call(&mut self, request: Request) -> Call {
        let is_real = self.stack.has_database();
        let after = if percent(self.rng, 30) { one_of(self.rng, &[1, 5, 15]) } else { 0 };
        let leaves = match self.rng.u8(..20) {
            // After its effect, and before its end.
            0..5 if request.op.has_effect() => Leaves::Polls(self.rng.u32(1..5)),
            0 => Leaves::Polls(self.rng.u32(..4)),
            1 => Leaves::Polls(self.rng.u32(4..12)),
            2 if !is_real => Leaves::Cancels(one_of(self.rng, &[0, 1, 10, 100])),
            3 if request.op == Op::Ask && !is_real => Leaves::HangsUp,
            _ => Leaves::Never,
        };
        let mut connection = one_of(self.rng, &self.connections.clone());
        let takes_handle = self.has_handles && request.op.takes_handle();
        let handle = (takes_handle && percent(self.rng, 90)).then(|| one_of(self.rng, &[0, 0, 1, 2, 9]));
        if let Some(opener) = handle.and_then(|opened| self.openers.iter().rev().nth(opened))
            && percent(self.rng, 70)
        {
            connection = *opener;
        }
        if request.op == Op::Open {
            self.openers.push(connection);
        }
        Call {
            connection,
            server: self.rng.usize(..self.stack.servers()),
            after: if is_real { 0 } else { after },
            request,
            handle,
            leaves,
            listens: percent(self.rng, 50),
        }
    }

    fn request(&mut self) -> Request {
        let op = one_of(self.rng, &self.ops);
        let n = match op {
            Op::Ask => self.rng.u8(..WAYS_TO_ASK.len() as u8),
            Op::Pay | Op::Late | Op::Book | Op::Varies | Op::Check => {
                if percent(self.rng, 15) {
                    one_of(self.rng, &[0, 7, 12])
                } else {
                    self.rng.u8(1..3)
                }
            }
            _ => self.rng.u8(..2),
        };
        let key = (op.takes_key() && percent(self.rng, 80)).then(|| self.rng.u8(..2));
        Request { op, topic: self.rng.u8(..2), n, key }
    }

    fn other(&mut self) -> Step {
        let server = self.rng.usize(..self.stack.servers());
        let is_tagged = self.stack.layers(Kind::Cached).all(|layer| layer.has(Setting::Invalidates(Way::Tag)));
        if self.refreshes && self.rng.bool() {
            let order = Order::Refresh(self.request());
            // A load that takes 40 ms has read, and has not ended.
            let after = if self.stack.has_database() { 0 } else { one_of(self.rng, &[1, 30, 30]) };
            return if self.rng.bool() { Step::Handle(server, order) } else { Step::Meanwhile(after, server, order) };
        }
        match self.rng.u8(..20) {
            0..4 => {
                let op = one_of(self.rng, &[Op::News, Op::Mine]);
                let request = Request { op, ..self.request() };
                let order = match self.rng.u8(..6) {
                    0 => Order::Forget(Forget::All(op)),
                    1 => Order::Forget(Forget::Everything),
                    2 if is_tagged => Order::Forget(Forget::Topic(request.topic)),
                    2 | 3 => Order::Forget(Forget::Call(request)),
                    _ => Order::Refresh(request),
                };
                match self.rng.bool() {
                    true => Step::Handle(server, order),
                    false if self.stack.has_database() => Step::Meanwhile(0, server, order),
                    false => Step::Meanwhile(one_of(self.rng, &[1, 4, 8, 20]), server, order),
                }
            }
            4 => Step::Restart(server),
            5 => Step::AddLate,
            6 => Step::List(server, one_of(self.rng, &self.connections.clone())),
            _ if self.stack.has_database() => Step::Pause(one_of(self.rng, &[0, 1])),
            _ => Step::Pause(one_of(self.rng, &[1, 20, 1_000, 4_000, 12_000, 31_000, 100_000, 400_000])),
        }
    }
}
