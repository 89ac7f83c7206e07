//! The tour, with its output sent to a file.

use std::{
    env::{self, consts::EXE_SUFFIX},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

/// One run is enough for all tests. A tour that hangs ends itself.
static TOUR: LazyLock<Output> = LazyLock::new(|| {
    let mut tour = tour();
    for variable in ["RUST_LOG", "CLICOLOR_FORCE", "NO_COLOR"] {
        tour.env_remove(variable);
    }
    tour.stdin(Stdio::null())
        .output()
        .expect("the tour does not start: `cargo build --examples --all-features` makes it")
});

fn tour() -> Command {
    let test = env::current_exe().expect("the test binary has no path");
    let profile = test.ancestors().nth(2).expect("a target directory");
    Command::new(profile.join("examples").join(format!("tour{EXE_SUFFIX}")))
}

fn printed() -> &'static str {
    str::from_utf8(&TOUR.stdout).expect("the output is text")
}

fn said_on_stderr() -> &'static str {
    str::from_utf8(&TOUR.stderr).expect("the output is text")
}

#[test]
fn the_tour_keeps_its_promises() {
    assert!(TOUR.status.success(), "{}: {}", TOUR.status, said_on_stderr());
    assert!(printed().contains("Every promise held."), "{}", printed());
}

#[test]
fn every_scene_of_the_tour_is_played() {
    for title in [
        "── 1. Nothing lost ──",
        "── 2. An upstream that fails three requests in ten ──",
        "── 3. An outage, and a flood ──",
        "── 4. Many callers, one load ──",
        "── 5. Two replicas ──",
        "── 6. Each user has their own answers ──",
        "── 7. Data that outlives a call ──",
        "── 8. Many callers, few requests ──",
        "── 9. A retry that would charge twice ──",
        "── 10. Money moves once, or not at all ──",
        "── 11. Bad input never reaches the tool ──",
        "── 12. One answer from several sources ──",
        "── 13. Which layer does what ──",
        "── What each layer did ──",
    ] {
        assert!(printed().contains(title), "no scene has the title {title}");
    }
}

#[test]
fn the_summary_has_a_deed_of_each_layer() {
    let (_, summary) = printed().split_once("── What each layer did ──").expect("the summary");
    for layer in [
        "ValidatedTool",
        "SessionStore",
        "CachedTool",
        "BatchedTool",
        "RetryTool",
        "BreakerTool",
        "LimitedTool",
        "IdempotentTool",
        "TransactionalTool",
        "inside a tool",
        "a layer of your own",
    ] {
        let row = summary.lines().find(|line| line.trim_start().starts_with(layer)).expect("a row");
        let cells = row.trim_start()[layer.len()..].split("  ").filter(|cell| !cell.trim().is_empty());
        assert_eq!(cells.count(), 2, "a deed and a page: {row}");
    }
}

#[test]
fn the_tour_refuses_arguments() {
    let output = tour().arg("--bogus").output().expect("the tour starts");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "The tour takes no arguments, and so not `--bogus`.\n");
}

#[test]
fn output_without_a_terminal_has_no_colours() {
    assert!(!printed().contains('\x1b'), "{:?}", printed());
}

#[test]
fn the_tour_writes_nothing_to_stderr() {
    assert_eq!(said_on_stderr(), "");
}

#[test]
fn no_line_is_wider_than_100_characters() {
    for line in printed().lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}
