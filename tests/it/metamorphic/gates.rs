//! What the layers do not keep yet, and so is not asked for. Whoever mends it opens the gate.

use super::drive::run;
use super::generate;
use super::oracle::judge;
use super::plan::BackendKind;

/// What is asked for beyond what always is. A gate is open where it is `true`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gates {
    /// A tool that asks its client, or reads what the client can do, answers that client alone.
    pub(super) asking_is_not_shared: bool,
    /// Whoever waits for shared work hears of its progress.
    pub(super) shared_work_reports_progress: bool,
    /// The keys of a tool that was in no listing yet are honoured.
    pub(super) unlisted_tools_are_known: bool,
    /// Where callers see different definitions of a tool, each caller's own decides.
    pub(super) definitions_are_per_caller: bool,
}

pub(super) const NOW: Gates = Gates {
    asking_is_not_shared: false,
    shared_work_reports_progress: false,
    unlisted_tools_are_known: false,
    definitions_are_per_caller: false,
};

#[test]
fn behind_each_closed_gate_is_a_fault() {
    let closed = [
        ("asking_is_not_shared", Gates { asking_is_not_shared: true, ..NOW }, NOW.asking_is_not_shared),
        (
            "shared_work_reports_progress",
            Gates { shared_work_reports_progress: true, ..NOW },
            NOW.shared_work_reports_progress,
        ),
        ("unlisted_tools_are_known", Gates { unlisted_tools_are_known: true, ..NOW }, NOW.unlisted_tools_are_known),
        (
            "definitions_are_per_caller",
            Gates { definitions_are_per_caller: true, ..NOW },
            NOW.definitions_are_per_caller,
        ),
    ];
    for (name, gates, _) in closed.into_iter().filter(|(_, _, is_open)| !is_open) {
        let fault = (0..1_000).find_map(|seed| {
            let plan = generate::plan(seed, BackendKind::Memory);
            Some((seed, judge(&plan, &run(&plan), gates).faults.into_iter().next()?))
        });
        let (seed, fault) = fault.unwrap_or_else(|| panic!("`{name}` is kept now: open its gate"));
        println!("{name}: seed {seed}, {fault}");
    }
}
