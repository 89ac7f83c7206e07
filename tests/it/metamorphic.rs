//! Random stacks: layers in the documented order, with random settings, around a server with tools of every kind. Whatever such a
//! stack answers a caller, the bare server could have answered this caller. Every fifth stack is around the same server, written with
//! rmcp.
//!
//! A [plan](plan) is drawn from a seed. It is [run](drive), and what happened is [judged](oracle): each answer names the execution
//! that it comes from, so that the judge knows whose it was, how old it is, and how often it was made. A plan that fails is made
//! [smaller](shrink) before it is printed.
//!
//! - `RANDOM_STACKS=100000` runs that many instead of those of the gate.
//! - `RANDOM_STACKS_SEED=42` runs the one with this seed, and prints it.

mod backends;
mod callers;
mod drive;
mod explained;
mod faulty;
mod generate;
mod log;
mod long;
mod oracle;
mod plan;
mod requests;
mod rmcp_end;
mod shrink;
mod stack;
mod world;
mod wrong;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use drive::run;
use oracle::judge;
use plan::BackendKind;
use shrink::shrink;

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Runs all stacks, and shows for each rule that is broken the smallest stack that breaks it.
fn each(backends: BackendKind, count: u64, threads: usize) -> BTreeMap<&'static str, u64> {
    let seeds = match from_environment("RANDOM_STACKS_SEED") {
        Some(seed) => {
            println!("seed {seed}, {}", generate::plan(seed, backends));
            seed..seed + 1
        }
        None => 0..from_environment("RANDOM_STACKS").unwrap_or(count),
    };
    let next = AtomicU64::new(seeds.start);
    let (broken, seen) = (Mutex::new(BTreeMap::<_, BTreeSet<u64>>::new()), Mutex::new(BTreeMap::<_, u64>::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    let plan = generate::plan(seed, backends);
                    let verdict = judge(&plan, &run(&plan));
                    for fault in verdict.faults {
                        broken.lock().expect("nobody panicked").entry(fault.rule).or_default().insert(seed);
                    }
                    let mut seen = seen.lock().expect("nobody panicked");
                    verdict.seen.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
                }
            });
        }
    });
    let broken = broken.into_inner().expect("nobody panicked");
    let shown: Vec<_> = broken.iter().map(|(rule, seeds)| show(rule, seeds, backends)).collect();
    assert!(shown.is_empty(), "{} rules are broken.\n\n{}", shown.len(), shown.join("\n\n"));
    let seen = seen.into_inner().expect("nobody panicked");
    println!("{seen:#?}");
    seen
}

/// Says which stacks break a rule, and what is left of the first when nothing more can be taken from it.
fn show(rule: &'static str, seeds: &BTreeSet<u64>, backends: BackendKind) -> String {
    let seed = *seeds.first().expect("a seed");
    let test = match backends {
        BackendKind::Memory => "answer",
        BackendKind::Sqlite => "on_sqlite",
        BackendKind::Servers => "on_servers",
    };
    let (plan, fault) = shrink(generate::plan(seed, backends), rule);
    format!(
        "{rule} ({} stacks)\n{fault}\n{plan}Again: RANDOM_STACKS_SEED={seed} scripts/test --test it metamorphic::random_stacks_{test}",
        seeds.len()
    )
}

/// Each kind of event that the rules are about has happened so often, where all stacks were run.
fn is_enough(seen: &BTreeMap<&'static str, u64>, least: u64, expected: &[&'static str]) {
    if from_environment::<u64>("RANDOM_STACKS_SEED").is_none() && from_environment::<u64>("RANDOM_STACKS").is_none() {
        let rare: Vec<_> = expected.iter().filter(|what| seen.get(**what).is_none_or(|count| *count < least)).collect();
        assert!(rare.is_empty(), "too rare to be judged: {rare:?} of {seen:#?}");
    }
}

#[test]
fn random_stacks_answer_as_the_bare_server_could() {
    let seen = each(BackendKind::Memory, 5_000, 2);
    is_enough(
        &seen,
        20,
        &[
            "a call that was repeated",
            "a call that was repeated in two layers of retries",
            "a caller who was dropped",
            "a failure of the server",
            "a failure that was kept",
            "a hit",
            "a key with an effect",
            "a question",
            "a panic",
            "a replay",
            "a session",
            "a session that was closed",
            "a session that was opened",
            "a session with a handle",
            "a stale hit",
            "a valid call",
            "an answer",
            "an answer of a call of others",
            "an answer out of one of two caches",
            "an answer out of the cache after an invalidation",
            "an answer out of the cache, or of a load of others",
            "an event: answered",
            "an event: cancelled",
            "an event: failed",
            "an event: hit",
            "an event: left",
            "an event: panicked",
            "an event: refused",
            "an event: replayed",
            "an event: stale",
            "an event: timed out",
            "progress",
            "refused: a call with the key is running",
            "refused: by an open breaker",
            "refused: cancelled",
            "refused: it takes too long",
            "refused: nobody knows what became of the call with the key",
            "refused: not valid",
            "refused: overloaded",
            "refused: shared work has panicked",
            "refused: the answer breaks its promise",
            "refused: the key was used for another call",
            "refused: the session is not known",
            "refused: too many at the same time",
            "refused: too often",
            "refused: there is no key",
            "refused: there is no room for the key",
            "refused: there is no room for the session",
            "refused: there is no session",
            "refused: there is no such tool",
        ],
    );
}

#[test]
fn random_stacks_on_sqlite_answer_as_the_bare_server_could() {
    let seen = each(BackendKind::Sqlite, 200, 2);
    is_enough(
        &seen,
        5,
        &["a commit", "a rollback", "a replay", "a session", "an answer out of the cache after an invalidation"],
    );
}

#[test]
fn random_stacks_on_servers_answer_as_the_bare_server_could() {
    let seen = each(BackendKind::Servers, 60, 4);
    is_enough(&seen, 5, &["a commit", "a replay", "a hit"]);
}
