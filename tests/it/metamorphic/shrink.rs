//! Makes a plan that fails smaller, as long as it fails in the same respect.

use super::callers::Identities;
use super::drive::run;
use super::oracle::{Fault, judge};
use super::plan::{BackendKind, Behaviour, Leaves, Outcome, Plan, Sdk, Step};

/// How often a plan is run, to find a smaller one: less often where a run takes long.
fn tries(backends: BackendKind) -> usize {
    match backends {
        BackendKind::Memory => 4_000,
        BackendKind::Sqlite => 1_000,
        BackendKind::Servers => 100,
    }
}

/// Runs a plan, and returns what is wrong with it.
pub(super) fn faults(plan: &Plan) -> Vec<Fault> {
    judge(plan, &run(plan)).faults
}

/// Returns a plan that breaks the same rule, from which nothing can be taken, and how it does.
pub(super) fn shrink(mut plan: Plan, rule: &str) -> (Plan, String) {
    let broken = |plan: &Plan| faults(plan).into_iter().find(|fault| fault.rule == rule);
    let Some(mut fault) = broken(&plan) else { return (plan, "it does not happen again".into()) };
    let mut left = tries(plan.stack.backends);
    'smaller: loop {
        for smaller in candidates(&plan) {
            if left == 0 {
                return (plan, fault.text);
            }
            left -= 1;
            if let Some(same) = broken(&smaller) {
                (plan, fault) = (smaller, same);
                continue 'smaller;
            }
        }
        return (plan, fault.text);
    }
}

/// Plans with a little less, those with least first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut smaller = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        if candidate != *plan {
            smaller.push(candidate);
        }
    };
    with(&|plan| plan.stack.sdk = Sdk::Turbomcp);
    with(&|plan| plan.behaviours.clear());
    with(&|plan| plan.behaviours.truncate(plan.behaviours.len() / 2));
    // What is taken away had executions, which behaved in some way.
    for executions in 0..4 {
        for at in 0..plan.script.len() {
            with(&|plan| {
                plan.script.remove(at);
                plan.behaviours.drain(..executions.min(plan.behaviours.len()));
            });
        }
    }
    for at in 0..plan.stack.layers.len() {
        with(&|plan| drop(plan.stack.layers.remove(at)));
    }
    with(&|plan| plan.stack.identities = Identities::default());
    with(&|plan| plan.stack.has_small_store = false);
    with(&|plan| plan.stack.session_room = None);
    with(&|plan| plan.stack.keeps_in_database = false);
    if plan.stack.has_staging {
        with(&|plan| {
            let staging = plan.stack.replicas;
            plan.stack.has_staging = false;
            move_servers(plan, staging);
        });
    }
    if plan.stack.replicas > 1 {
        with(&|plan| {
            plan.stack.replicas -= 1;
            move_servers(plan, plan.stack.replicas);
        });
    }
    for executions in 0..3 {
        for (at, step) in plan.script.iter().enumerate() {
            let Step::Calls(calls) = step else { continue };
            for call in 0..calls.len() {
                with(&|plan| {
                    if let Step::Calls(calls) = &mut plan.script[at] {
                        calls.remove(call);
                    }
                    plan.behaviours.drain(..executions.min(plan.behaviours.len()));
                });
            }
        }
    }
    for at in 0..plan.stack.layers.len() {
        for setting in 0..plan.stack.layers[at].settings.len() {
            with(&|plan| {
                plan.stack.layers[at].settings.remove(setting);
            });
        }
    }
    for at in 0..plan.behaviours.len() {
        with(&|plan| plan.behaviours[at] = Behaviour::default());
        with(&|plan| plan.behaviours[at].outcome = Outcome::Succeeds);
        with(&|plan| {
            plan.behaviours.remove(at);
        });
    }
    with(&|plan| {
        plan.behaviours.pop();
    });
    for (at, step) in plan.script.iter().enumerate() {
        if let Step::Calls(calls) = step {
            for call in 0..calls.len() {
                with(&|plan| edit(plan, at, call, |call| call.leaves = Leaves::Never));
                with(&|plan| edit(plan, at, call, |call| call.after = 0));
                with(&|plan| edit(plan, at, call, |call| call.listens = false));
            }
        }
    }
    smaller
}

fn edit(plan: &mut Plan, at: usize, call: usize, edit: impl FnOnce(&mut super::plan::Call)) {
    if let Step::Calls(calls) = &mut plan.script[at] {
        edit(&mut calls[call]);
    }
}

/// Has what went to a server that is gone go to the first one, and moves up those behind it.
fn move_servers(plan: &mut Plan, gone: usize) {
    let moved = |server: &mut usize| match (*server).cmp(&gone) {
        std::cmp::Ordering::Less => {}
        std::cmp::Ordering::Equal => *server = 0,
        std::cmp::Ordering::Greater => *server -= 1,
    };
    for step in &mut plan.script {
        match step {
            Step::Calls(calls) => calls.iter_mut().for_each(|call| moved(&mut call.server)),
            Step::Handle(server, _) | Step::Meanwhile(_, server, _) | Step::Restart(server) | Step::List(server, _) => {
                moved(server);
            }
            Step::Pause(_) | Step::AddLate => {}
        }
    }
}
