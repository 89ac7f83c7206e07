//! Draws a plan from a seed.

use fastrand::Rng;
use turbomcp_core::ErrorKind;

use super::callers::{CONNECTIONS, Identities};
use super::log::{Forget, Form};
use super::plan::{
    BackendKind, Behaviour, Call, Kind, Layered, Leaves, Order, Outcome, Plan, Setting, Stack, Step, Way,
};
use super::requests::{Op, Request, WAYS_TO_ASK};

/// Draws the plan of this seed.
pub(super) fn plan(seed: u64, backends: BackendKind) -> Plan {
    let mut rng = Rng::with_seed(seed);
    let mut stack = stack(&mut rng, backends);
    let refreshes = percent(&mut rng, 10);
    if refreshes {
        keep_failures_of_everybody(&mut rng, &mut stack);
    }
    let mut behaviours = behaviours(&mut rng, backends);
    if refreshes && backends == BackendKind::Memory {
        behaviours.iter_mut().for_each(|behaviour| behaviour.millis = one_of(&mut rng, &[0, 40]));
    }
    let script = Script::new(&mut rng, &stack, refreshes).draw();
    Plan { seed, stack, behaviours, script }
}

fn one_of<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}

fn percent(rng: &mut Rng, chance: u8) -> bool {
    rng.u8(..100) < chance
}

fn stack(rng: &mut Rng, backends: BackendKind) -> Stack {
    let has_database = backends != BackendKind::Memory;
    let kinds = [
        (Kind::Own, 10),
        (Kind::Validated, 25),
        (Kind::Session, 40),
        (Kind::Cached, 75),
        (Kind::Batched, 40),
        (Kind::Retry, 45),
        (Kind::Idempotent, 45),
        (Kind::Transactional, if has_database { 90 } else { 0 }),
    ];
    let kinds: Vec<_> = kinds.into_iter().filter(|(_, chance)| percent(rng, *chance)).map(|(kind, _)| kind).collect();
    let layers = kinds.into_iter().map(|kind| Layered { kind, settings: settings(rng, kind, has_database) }).collect();
    let identities = Identities { ignore_rights: percent(rng, 10), know_workspaces: percent(rng, 30) };
    let replicas = if percent(rng, 25) { 2 } else { 1 };
    Stack { layers, identities, replicas, has_staging: percent(rng, 20), backends }
}

/// Failures and what ends them meet too rarely, unless there is one entry for everybody, in which little else happens.
fn keep_failures_of_everybody(rng: &mut Rng, stack: &mut Stack) {
    stack.layers.retain(|layer| layer.kind != Kind::Cached);
    let at = stack.layers.iter().position(|layer| layer.kind > Kind::Cached).unwrap_or(stack.layers.len());
    let settings = match stack.has_database() {
        true => vec![Setting::PublicFor(Op::News)],
        false => vec![
            Setting::PublicFor(Op::News),
            Setting::Ttl(one_of(rng, &[5, 600])),
            Setting::NegativeTtl(one_of(rng, &[60, 600])),
        ],
    };
    stack.layers.insert(at, Layered { kind: Kind::Cached, settings });
    stack.replicas = 1;
}

fn settings(rng: &mut Rng, kind: Kind, has_database: bool) -> Vec<Setting> {
    use Setting::{
        AllowRepeated, AttemptTimeout, BatchTimeout, ByPrincipal, BySession, Deadline, EarlyRefresh, FaultyBackend,
        FirstLevelTtl, Invalidates, KeyLease, KeyTtl, Lease, LoadTimeout, MaxAttempts, MaxDelay, MaxInFlight, MaxQueue,
        MaxSize, NegativeTtl, Only, Optional, PublicFor, RecordsFailures, Required, ResourcesAndPrompts,
        RunsAgainWhenAmbiguous, SecondLevel, Splits, StaleIfError, StaleWhileRevalidate, Ttl, TtlJitter, Wait,
        WaitWhenFull, WithoutBudget, WithoutMeta, WithoutOutputChecks,
    };
    // Timeouts would depend on how fast the machine is where the clock is the real one.
    let timed = |chance: u8| if has_database { 0 } else { chance };
    let drawn: Vec<(Setting, u8)> = match kind {
        Kind::Wrong(_) | Kind::Own => vec![],
        Kind::Validated => vec![(WithoutOutputChecks, 20), (Only(Op::Varies), 40)],
        Kind::Session => vec![(ByPrincipal, 50), (Optional, 30)],
        Kind::Cached => {
            let way = one_of(rng, &[Way::Tool, Way::Tag, Way::Call]);
            let level = percent(rng, 40);
            vec![
                (WithoutMeta, 10),
                (Ttl(one_of(rng, &[5, 30, 600])), timed(60)),
                (StaleWhileRevalidate(one_of(rng, &[10, 60])), timed(25)),
                (StaleIfError(one_of(rng, &[10, 60])), timed(25)),
                (EarlyRefresh, 10),
                (TtlJitter, timed(20)),
                (NegativeTtl(one_of(rng, &[3, 60])), timed(35)),
                (BySession, 15),
                (PublicFor(Op::News), 35),
                (SecondLevel, if level { 100 } else { 0 }),
                (FaultyBackend, if level { timed(15) } else { 0 }),
                (FirstLevelTtl(one_of(rng, &[1, 10])), if level { timed(40) } else { 0 }),
                (Lease, if level { 30 } else { 0 }),
                (ResourcesAndPrompts, 40),
                (Invalidates(way), 80),
                (LoadTimeout(one_of(rng, &[15, 3000])), timed(15)),
            ]
        }
        Kind::Batched => vec![
            (WithoutMeta, 10),
            (Only(one_of(rng, &[Op::Mine, Op::Ask, Op::Check, Op::Slow, Op::Seen])), 60),
            (PublicFor(Op::Price), 30),
            (MaxInFlight(one_of(rng, &[1, 2])), 60),
            (MaxSize(one_of(rng, &[1, 2, 3])), 30),
            (MaxDelay(one_of(rng, &[1, 10])), 25),
            (MaxQueue(one_of(rng, &[1, 3])), 15),
            (WaitWhenFull, 15),
            (Splits, 30),
            (BatchTimeout(one_of(rng, &[15, 3000])), timed(15)),
        ],
        Kind::Retry => vec![
            (WithoutMeta, 10),
            (MaxAttempts(one_of(rng, &[2, 4])), 40),
            (AttemptTimeout(one_of(rng, &[8, 1000])), timed(30)),
            (Deadline(one_of(rng, &[50, 5000])), timed(20)),
            (AllowRepeated(one_of(rng, &[Op::Update, Op::Visit])), 15),
            (WithoutBudget, 50),
        ],
        Kind::Idempotent => vec![
            (WithoutMeta, 10),
            (KeyTtl(one_of(rng, &[10, 90])), timed(50)),
            (Wait(one_of(rng, &[0, 1, 30])), 40),
            (KeyLease(one_of(rng, &[1, 10])), timed(20)),
            (FaultyBackend, timed(12)),
            (RecordsFailures, 25),
            (Required(Op::Pay), 10),
            (RunsAgainWhenAmbiguous, 8),
        ],
        Kind::Transactional => vec![(WithoutMeta, 10), (RecordsFailures, 15), (Required(Op::Book), 10)],
    };
    let mut settings: Vec<_> =
        drawn.into_iter().filter(|(_, chance)| percent(rng, *chance)).map(|(it, _)| it).collect();
    if settings.contains(&BySession) {
        settings.retain(|setting| !matches!(setting, PublicFor(_)));
    }
    settings
}

fn behaviours(rng: &mut Rng, backends: BackendKind) -> Vec<Behaviour> {
    let failing = one_of(rng, &[0, 0, 15, 50]);
    let count = rng.usize(10..50);
    let is_real = backends != BackendKind::Memory;
    let longest = if is_real { &[0, 0, 1, 2] } else { &[0, 2, 10, 40] };
    (0..count)
        .map(|_| Behaviour {
            millis: one_of(rng, longest),
            outcome: if percent(rng, failing) { outcome(rng, is_real) } else { Outcome::Succeeds },
        })
        .collect()
}

fn outcome(rng: &mut Rng, is_real: bool) -> Outcome {
    match rng.u8(..10) {
        0 => Outcome::Panics { early: rng.bool() },
        1 if !is_real => Outcome::Hangs,
        2 => Outcome::Lies,
        _ => {
            let refusals = [
                ErrorKind::Unavailable,
                ErrorKind::RateLimited,
                ErrorKind::ResourceNotFound,
                ErrorKind::InvalidRequest,
            ];
            let others = [ErrorKind::Timeout, ErrorKind::ExternalService, ErrorKind::Internal];
            // A refusal proves that nothing was done, so it comes early.
            let (kind, early) = match rng.u8(..8) {
                0 => (None, rng.bool()),
                1..=4 => (Some(one_of(rng, &refusals)), true),
                _ => (Some(one_of(rng, &others)), rng.bool()),
            };
            Outcome::Fails { kind, form: one_of(rng, &[Form::Error, Form::Result]), early, hints: percent(rng, 20) }
        }
    }
}

/// Draws what is done.
struct Script<'a> {
    rng: &'a mut Rng,
    stack: &'a Stack,
    connections: Vec<usize>,
    /// What this script is about.
    ops: Vec<Op>,
    /// Whether this is about what the handle of the cache calls anew.
    refreshes: bool,
}

impl<'a> Script<'a> {
    fn new(rng: &'a mut Rng, stack: &'a Stack, refreshes: bool) -> Self {
        let count = CONNECTIONS.len();
        let first = rng.usize(..count);
        let mut connections: Vec<_> = (0..rng.usize(2..5)).map(|at| (first + at) % count).collect();
        connections.push(rng.usize(..count));
        let about = |kind: Kind| -> &'static [Op] {
            match kind {
                Kind::Wrong(_) | Kind::Own => &[],
                Kind::Validated => &[Op::Check, Op::Check, Op::Pay],
                Kind::Session => &[Op::Visit, Op::Seen, Op::Visit],
                Kind::Cached => &[Op::News, Op::News, Op::Mine, Op::Mine, Op::Ask, Op::Slow, Op::Seen, Op::Update],
                Kind::Batched => &[Op::Price, Op::Mine, Op::Ask, Op::Slow],
                Kind::Retry => &[Op::News, Op::Slow, Op::Check, Op::Update, Op::Pay],
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
        if refreshes {
            ops = vec![Op::News];
        }
        Self { rng, stack, connections, ops, refreshes }
    }

    fn draw(mut self) -> Vec<Step> {
        let mut script = Vec::new();
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
        let count = self.rng.usize(1..6);
        // Often they all ask for the same.
        let common = percent(self.rng, 40).then(|| self.request());
        let calls = (0..count).map(|_| {
            let request = common.filter(|_| percent(self.rng, 80)).unwrap_or_else(|| self.request());
            self.call(request)
        });
        Step::Calls(calls.collect())
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
            _ => Leaves::Never,
        };
        Call {
            connection: one_of(self.rng, &self.connections.clone()),
            server: self.rng.usize(..self.stack.servers()),
            after: if is_real { 0 } else { after },
            request,
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
        let way = self.stack.layer(Kind::Cached).and_then(|layer| {
            layer.find(|setting| if let Setting::Invalidates(way) = setting { Some(*way) } else { None })
        });
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
                    2 if way == Some(Way::Tag) => Order::Forget(Forget::Topic(request.topic)),
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
