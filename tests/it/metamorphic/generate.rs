//! Draws a plan from a seed.

mod script;

use fastrand::Rng;
use turbomcp_core::ErrorKind;

use self::script::Script;
use super::callers::Identities;
use super::log::Form;
use super::plan::{BackendKind, Behaviour, Half, Kind, Layered, Outcome, Plan, Sdk, SessionRoom, Setting, Stack, Way};
use super::requests::Op;

/// Draws the plan of this seed.
pub(super) fn plan(seed: u64, backends: BackendKind) -> Plan {
    let mut rng = Rng::with_seed(seed);
    let mut stack = stack(&mut rng, backends);
    stack.sdk = if seed.is_multiple_of(5) { Sdk::Rmcp } else { Sdk::Turbomcp };
    let refreshes = percent(&mut rng, 10);
    if refreshes {
        keep_failures_of_everybody(&mut rng, &mut stack);
    }
    // By a chance of its own, so that the other layers of a seed stay the same.
    if percent(&mut Rng::with_seed(!seed), 12) {
        stack.layers.insert(0, Layered { kind: Kind::Output, settings: Vec::new() });
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
        (Kind::Breaker, 30),
        (Kind::Limited, 25),
        (Kind::Idempotent, 45),
        (Kind::Transactional, if has_database { 90 } else { 0 }),
    ];
    let kinds: Vec<_> = kinds.into_iter().filter(|(_, chance)| percent(rng, *chance)).map(|(kind, _)| kind).collect();
    let mut layers: Vec<_> =
        kinds.into_iter().map(|kind| Layered { kind, settings: settings(rng, kind, has_database) }).collect();
    if let Some(at) = layers.iter().position(|layer| layer.kind == Kind::Retry).filter(|_| percent(rng, 15)) {
        layers.insert(at, Layered { kind: Kind::Retry, settings: settings(rng, Kind::Retry, has_database) });
    }
    if layers.iter().any(|layer| layer.kind == Kind::Cached) && percent(rng, 25) {
        add_a_cache(rng, &mut layers, has_database);
    }
    let identities = Identities {
        ignore_rights: percent(rng, 10),
        know_workspaces: percent(rng, 30),
        anonymous_by_session: percent(rng, 30),
    };
    let keeps_in_database = has_database && rng.bool();
    // What a database alone keeps apart needs more than one process: each lets its own callers take turns.
    let replicas = if percent(rng, if keeps_in_database { 60 } else { 25 }) { 2 } else { 1 };
    let has_small_store = layers.iter().any(|layer| layer.kind == Kind::Idempotent) && percent(rng, 25);
    let room = match rng.u8(..12) {
        0 | 1 => Some(SessionRoom::Sessions(rng.usize(1..5))),
        // An empty session takes 256 bytes, one with a visit 280, and each further visit up to 4.
        2 => Some(SessionRoom::Bytes(one_of(rng, &[580, 600, 900, 1200]))),
        _ => None,
    };
    Stack {
        layers,
        identities,
        replicas,
        has_staging: percent(rng, 20),
        backends,
        sdk: Sdk::default(),
        keeps_in_database,
        has_small_store,
        session_room: room,
    }
}

/// Adds a second cache: for one half of what they keep, or for all; beside the first, around the sessions, or behind the batches.
fn add_a_cache(rng: &mut Rng, layers: &mut Vec<Layered>, has_database: bool) {
    let place = |kind: Kind| layers.iter().position(|layer| layer.kind == kind);
    let first = place(Kind::Cached).unwrap_or_default();
    let (session, batched) = (place(Kind::Session), place(Kind::Batched));
    let half = |rng: &mut Rng| one_of(rng, &[None, Some(Half::One), Some(Half::Other)]);
    let (mut halves, mut at) = ([half(rng), half(rng)], first);
    match (rng.u8(..4), session, batched) {
        // A hit of what reads a session would get around the refusal of a call without one.
        (0, Some(session), _) => (halves[0], at) = (Some(Half::One), session),
        (1, _, Some(batched)) => at = batched + 1,
        _ => {}
    }
    layers.insert(at, Layered { kind: Kind::Cached, settings: settings(rng, Kind::Cached, has_database) });
    for (layer, half) in layers.iter_mut().filter(|layer| layer.kind == Kind::Cached).zip(halves) {
        layer.settings.extend(half.map(Setting::Keeps));
    }
    if let Some(inner) = layers.iter_mut().rfind(|layer| layer.kind == Kind::Cached).filter(|_| percent(rng, 30)) {
        inner.settings.retain(|setting| !matches!(setting, Setting::PublicFor(_) | Setting::BySession));
        inner.settings.push(Setting::BySession);
    }
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
        AllowRepeated, AllowRepeatedQuestions, AttemptTimeout, BatchTimeout, Burst, ByHandle, ByPrincipal, BySession,
        CallTimeout, Deadline, EarlyRefresh, FaultyBackend, FirstLevelTtl, Invalidates, KeyLease, KeyTtl, Lease,
        LoadTimeout, MaxAttempts, MaxDelay, MaxInFlight, MaxQueue, MaxSize, MinCalls, NegativeTtl, Only, Optional,
        Places, PublicFor, RecordsFailures, Required, ResourcesAndPrompts, RunsAgainWhenAmbiguous, SecondLevel, Splits,
        StaleIfError, StaleWhileRevalidate, Ttl, TtlJitter, Wait, WaitWhenFull, WithoutBudget, WithoutMeta,
        WithoutOutputChecks,
    };
    // Timeouts would depend on how fast the machine is where the clock is the real one.
    let timed = |chance: u8| if has_database { 0 } else { chance };
    let drawn: Vec<(Setting, u8)> = match kind {
        Kind::Wrong(_) | Kind::Output | Kind::Own => vec![],
        Kind::Validated => vec![(WithoutOutputChecks, 20), (Only(Op::Varies), 40)],
        Kind::Session => {
            let mode = one_of(rng, &[None, Some(ByPrincipal), Some(ByHandle)]);
            mode.map(|mode| (mode, 100)).into_iter().chain([(Optional, 30)]).collect()
        }
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
            (AllowRepeatedQuestions, 20),
        ],
        Kind::Breaker => vec![(WithoutMeta, 10), (MinCalls(one_of(rng, &[2, 3])), 70)],
        Kind::Limited => vec![
            (Burst(one_of(rng, &[2, 8, 30])), 60),
            (Places(one_of(rng, &[1, 2, 4])), 60),
            (CallTimeout(one_of(rng, &[8, 1000])), timed(40)),
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
