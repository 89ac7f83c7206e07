//! Which parts of a changing catalogue are remembered, for which caller, and for how long.

use std::time::Duration;

use tokio::time::advance;

use super::callers::{MAX_CALLERS, MAX_DEFINITIONS};
use super::look_ups::REMEMBERED;
use super::*;

/// Decides by the description, as a layer does by the annotations.
fn by_description(tool: &Tool) -> Option<String> {
    tool.description.clone().filter(|description| !description.is_empty())
}

fn nobody() -> RequestContext {
    RequestContext::with_id("1")
}

fn user(name: &str) -> RequestContext {
    nobody().with_user_id(name)
}

fn learn(plan: &Plan<String>, tools: impl IntoIterator<Item = impl Into<String>>) {
    learn_as(plan, "acts", tools);
}

fn learn_as(plan: &Plan<String>, description: &str, tools: impl IntoIterator<Item = impl Into<String>>) {
    learn_for(plan, None, description, tools);
}

fn learn_for(
    plan: &Plan<String>,
    ctx: Option<&RequestContext>,
    description: &str,
    tools: impl IntoIterator<Item = impl Into<String>>,
) {
    let tools: Vec<_> = tools.into_iter().map(|name| Tool::new(name, description)).collect();
    plan.learn(&tools, ctx, by_description);
}

fn get(plan: &Plan<String>, tool: &str) -> Known<String> {
    plan.get(tool, &nobody())
}

fn acts(plan: &Plan<String>, tool: &str) -> bool {
    get(plan, tool) == decided("acts")
}

fn decided(decision: &str) -> Known<String> {
    Known::Decided(Some(decision.to_owned()))
}

/// A plan on a server with two tools, one of which is named.
fn plan() -> Plan<String> {
    let plan = Plan::new(&Identity::new(), ["write"], Unknown::Counts);
    learn(&plan, ["read", "write"]);
    plan
}

/// Returns how many later tools are known, counted one by one.
fn later(plan: &Plan<String>) -> usize {
    let counted = plan.0.later.count();
    assert_eq!(plan.state().later, counted);
    counted
}

fn names(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}_{number}"))
}

#[test]
fn a_catalogue_with_new_names_in_each_listing_does_not_grow_the_plan() {
    let plan = plan();
    for listing in 0..30_000 {
        learn(&plan, [format!("report_{listing}")]);
        assert!(acts(&plan, &format!("report_{listing}")), "the last listing is known");
    }
    assert!(later(&plan) <= MAX_LATER);
    assert!(later(&plan) >= MAX_LATER / 2, "it is not forgotten before it has to be");
    assert_eq!(get(&plan, "report_0"), Known::Unknown, "what was listed longest ago is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_tool_missing_from_listings_for_two_minutes_is_forgotten_unless_a_setting_names_it() {
    let plan = plan();
    learn(&plan, ["late"]);
    advance(FRESH).await;
    learn(&plan, ["other"]);
    assert!(acts(&plan, "read") && acts(&plan, "late"), "they may be away for one listing");
    advance(FRESH - Duration::from_millis(1)).await;
    learn(&plan, ["other"]);
    assert!(acts(&plan, "read") && acts(&plan, "late"));
    advance(Duration::from_millis(1)).await;
    learn(&plan, ["other"]);
    assert_eq!((get(&plan, "read"), get(&plan, "late")), (Known::Unknown, Known::Unknown));
    assert!(acts(&plan, "write") && acts(&plan, "other"));
    assert_eq!(later(&plan), 1);
    learn_as(&plan, "again", ["read"]);
    assert_eq!(get(&plan, "read"), decided("again"));
}

#[tokio::test(start_paused = true)]
async fn without_listings_nothing_is_forgotten() {
    let plan = plan();
    advance(100 * FRESH).await;
    assert!(acts(&plan, "read"));
    learn(&plan, ["other"]);
    assert!(acts(&plan, "read"), "one listing without it is not enough");
}

#[test]
fn a_notification_of_changed_tools_makes_all_tools_unknown_that_no_setting_names() {
    let plan = plan();
    learn(&plan, ["late"]);
    plan.forget();
    assert_eq!((get(&plan, "read"), get(&plan, "late")), (Known::Unknown, Known::Unknown));
    assert_eq!((acts(&plan, "write"), later(&plan)), (true, 0));
    // It was forgotten, so the first new listing decides for all callers.
    learn_for(&plan, Some(&user("ada")), "changed", ["read"]);
    assert_eq!(get(&plan, "read"), decided("changed"));
}

#[test]
fn a_tool_that_a_setting_names_is_never_forgotten_and_neither_is_its_last_decision() {
    let plan = plan();
    learn_as(&plan, "", ["write"]);
    for listing in 0..3 {
        learn(&plan, names(&format!("flood_{listing}"), MAX_LATER));
    }
    assert_eq!(get(&plan, "write"), Known::Decided(None), "it came back to what was decided at first");
}

#[test]
fn a_named_tool_that_is_listed_late_is_not_evicted() {
    let plan = Plan::new(&Identity::new(), ["late"], Unknown::Counts);
    learn(&plan, ["read"]);
    learn(&plan, ["late"]);
    for listing in 0..3 {
        learn(&plan, names(&format!("flood_{listing}"), MAX_LATER));
    }
    assert!(acts(&plan, "late"));
}

#[test]
fn a_listing_larger_than_the_bound_is_kept_as_a_whole() {
    let plan = plan();
    learn(&plan, names("old", 5_000));
    let large = 2 * MAX_LATER;
    learn(&plan, names("large", large));
    assert_eq!(later(&plan), large);
    assert!(names("large", large).all(|name| acts(&plan, &name)));
    learn(&plan, ["one_more"]);
    assert!(later(&plan) <= MAX_LATER, "a smaller one brings the bound back");
    assert!(acts(&plan, "one_more"));
}

#[test]
fn the_tools_listed_longest_ago_are_forgotten_first() {
    let plan = plan();
    learn(&plan, names("first", 4_000));
    learn(&plan, names("second", 4_000));
    learn(&plan, names("first", 4_000));
    learn(&plan, names("third", 4_000));
    let known = |prefix| names(prefix, 4_000).filter(|name| acts(&plan, name)).count();
    assert_eq!((known("first"), known("third")), (4_000, 4_000));
    // Of the last listing that is evicted, as many tools stay as there is room for.
    assert_eq!(known("second"), MAX_LATER - MAX_LATER / 8 - 8_000);
}

#[test]
fn alternating_listings_copy_no_bucket() {
    let plan = plan();
    learn(&plan, names("later", 100));
    let before = plan.0.later.buckets();
    for turn in 0..10 {
        let description = ["as it was", "as it is"][turn % 2];
        learn_as(&plan, description, names("later", 100).chain(["read".to_owned()]));
        for name in ["later_0", "later_99", "read"] {
            assert_eq!(get(&plan, name), decided(description));
        }
    }
    for turn in 0..10 {
        let (ctx, description) = [(user("ada"), "as ada sees it"), (user("bob"), "as bob sees it")][turn % 2].clone();
        learn_for(&plan, Some(&ctx), description, names("later", 100));
    }
    assert_eq!(before, plan.0.later.buckets());
}

#[test]
fn the_last_of_duplicate_names_in_a_listing_counts() {
    let plan = plan();
    let twice = [Tool::new("twice", "first"), Tool::new("other", "acts"), Tool::new("twice", "second")];
    plan.learn(&twice, None, by_description);
    assert_eq!((get(&plan, "twice"), later(&plan)), (decided("second"), 2));
}

#[test]
fn listings_on_many_threads_keep_the_bound_and_lose_no_tool_that_is_listed() {
    let plan = plan();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let plan = &plan;
            scope.spawn(move || {
                for round in 0..40 {
                    let names: Vec<_> = names(&format!("of_{thread}_{round}"), 200).collect();
                    learn(plan, names.clone());
                    assert!(names.iter().all(|name| acts(plan, name)));
                }
            });
        }
    });
    learn(&plan, ["last"]);
    assert!(later(&plan) <= MAX_LATER);
}

#[test]
fn callers_with_different_definitions_keep_their_own_whoever_listed_last() {
    let plan = plan();
    let (ada, bob) = (user("ada"), user("bob"));
    learn_for(&plan, Some(&ada), "as ada sees it", ["read", "late"]);
    learn_for(&plan, Some(&bob), "as bob sees it", ["read", "late"]);
    for _ in 0..2 {
        // Ada's first listing came before the difference was known.
        learn_for(&plan, Some(&ada), "as ada sees it", ["read", "late"]);
        for name in ["read", "late"] {
            assert_eq!(plan.get(name, &ada), decided("as ada sees it"));
            assert_eq!(plan.get(name, &bob), decided("as bob sees it"));
            assert_eq!(plan.get(name, &user("carol")), Known::Unknown, "carol's definition is unknown");
        }
        learn_for(&plan, Some(&bob), "as bob sees it", ["read", "late"]);
    }
    assert!(acts(&plan, "write"), "which is the same for all");
}

#[test]
fn one_caller_with_different_rights_has_separate_definitions() {
    let plan = plan();
    let ada = |scope: &str| {
        let principal = turbomcp_core::Principal::new("ada").with_claim("scope", scope.into());
        nobody().with_principal(principal)
    };
    for turn in 0..4 {
        let scope = ["read", "read write"][turn % 2];
        learn_for(&plan, Some(&ada(scope)), scope, ["read"]);
    }
    assert_eq!(plan.get("read", &ada("read")), decided("read"));
    assert_eq!(plan.get("read", &ada("write read")), decided("read write"));
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_definition_counts_for_a_minute_and_the_difference_is_never_forgotten() {
    let plan = plan();
    let (ada, bob) = (user("ada"), user("bob"));
    for (ctx, description) in [(&ada, "ada"), (&bob, "bob"), (&ada, "ada")] {
        learn_for(&plan, Some(ctx), description, ["read"]);
    }
    advance(FRESH - Duration::from_millis(1)).await;
    assert_eq!(plan.get("read", &ada), decided("ada"));
    advance(Duration::from_millis(1)).await;
    assert_eq!(plan.get("read", &ada), Known::Unknown);
    for _ in 0..3 {
        advance(FRESH).await;
        learn(&plan, ["other"]);
    }
    plan.forget();
    learn_for(&plan, Some(&bob), "bob", ["read"]);
    assert_eq!(plan.get("read", &bob), decided("bob"));
    assert_eq!(plan.get("read", &ada), Known::Unknown, "bob's definition is not ada's");
}

#[test]
fn a_changed_definition_holds_for_all_callers_while_only_one_caller_has_listed() {
    let plan = Plan::default();
    let ada = user("ada");
    learn_for(&plan, Some(&ada), "before", ["read"]);
    learn_for(&plan, Some(&ada), "after", ["read"]);
    assert_eq!(get(&plan, "read"), decided("after"));
}

#[test]
fn equal_definitions_of_many_callers_are_kept_once() {
    let plan: Plan<Arc<String>> = Plan::default();
    let listed = |ctx: &RequestContext, description: &str| {
        plan.learn(&[Tool::new("read", description)], Some(ctx), |tool| by_description(tool).map(Arc::new));
        match plan.get("read", ctx) {
            Known::Decided(Some(decision)) => decision,
            other => panic!("{other:?}"),
        }
    };
    listed(&user("first"), "viewer");
    listed(&user("second"), "admin");
    let [one, other] = ["third", "fourth"].map(|name| listed(&user(name), "viewer"));
    assert!(Arc::ptr_eq(&one, &other));
    assert!(plan.find("read", |decision| **decision == "admin").is_some());
    assert!(plan.find("read", |decision| **decision == "else").is_none());
}

#[tokio::test(start_paused = true)]
async fn callers_and_their_definitions_are_bounded_and_the_oldest_are_forgotten_first() {
    let plan = plan();
    learn_for(&plan, Some(&user("other")), "other", ["read"]);
    let callers = 3 * MAX_CALLERS;
    for number in 0..callers {
        advance(Duration::from_micros(1)).await;
        learn_for(&plan, Some(&user(&number.to_string())), "acts", ["read"]);
    }
    let (known, definitions) = plan.state().callers.counts();
    assert!(known <= MAX_CALLERS && definitions <= MAX_DEFINITIONS, "{known} {definitions}");
    assert!(known > MAX_CALLERS / 2);
    assert_eq!(plan.get("read", &user(&(callers - 1).to_string())), decided("acts"));
    assert_eq!(plan.get("read", &user("0")), Known::Unknown);
    // A listing in which everything varies is kept as a whole.
    let large = 2 * MAX_DEFINITIONS;
    learn_for(&plan, Some(&user("ada")), "ada", names("large", large));
    for _ in 0..2 {
        advance(Duration::from_micros(1)).await;
        learn_for(&plan, Some(&user("bob")), "bob", names("large", large));
    }
    assert!(names("large", large).all(|name| plan.get(&name, &user("bob")) == decided("bob")));
    assert!(plan.state().callers.counts().1 <= large);
}

#[tokio::test(start_paused = true)]
async fn callers_who_have_not_listed_for_a_minute_or_two_are_forgotten() {
    let plan = plan();
    for number in 0..100 {
        learn_for(&plan, Some(&user(&number.to_string())), &number.to_string(), ["read"]);
    }
    assert_eq!(plan.state().callers.counts().0, 100);
    advance(FRESH).await;
    learn_for(&plan, Some(&user("0")), "0", ["read"]);
    assert_eq!(plan.state().callers.counts(), (1, 1));
}

#[test]
fn a_layer_that_passes_unknown_tools_on_looks_up_only_tools_it_may_have_acted_on() {
    let plan = Plan::new(&Identity::new(), [], Unknown::LeftAlone);
    learn(&plan, ["read"]);
    learn_as(&plan, "", ["stop"]);
    assert_eq!(get(&plan, "something_else"), Known::Decided(None));
    assert_eq!(get(&plan, "stop"), Known::Decided(None));
    plan.forget();
    assert_eq!(get(&plan, "read"), Known::Unknown);
}

#[tokio::test(start_paused = true)]
async fn one_caller_gets_one_listing_a_second_and_all_callers_together_200() {
    let plan = plan();
    let list = |ctx: &RequestContext| match ask(&plan, "made_up", ctx, false) {
        Asked::Lists(listing) => {
            learn_for(&plan, Some(ctx), "acts", ["read"]);
            listing.succeed();
            true
        }
        Asked::Answered(_) => false,
        Asked::Waits { .. } => panic!("none is under way"),
    };
    let (eve, ada) = (user("eve"), user("ada"));
    for _ in 0..10 {
        assert!(list(&eve));
        assert!((0..1_000).all(|_| !list(&eve)));
        assert!(list(&ada), "what eve asks for is not ada's");
        advance(Duration::from_secs(1)).await;
    }
    let crowd = || (0..3_000).filter(|number| list(&user(&number.to_string()))).count();
    assert_eq!(crowd(), 1_000, "what was saved up");
    advance(Duration::from_secs(2)).await;
    assert_eq!(crowd(), 400);
    let answer = ask(&plan, "made_up", &user("late"), false);
    assert!(matches!(answer, Asked::Answered(Answer::TooMany { exists: false, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_is_not_tried_again_at_once() {
    let plan = plan();
    let ada = user("ada");
    let asked = || ask(&plan, "late", &ada, false);
    let Asked::Lists(listing) = asked() else { panic!("it is not known") };
    assert!(matches!(asked(), Asked::Waits { .. }));
    drop(listing);
    assert!(matches!(asked(), Asked::Answered(Answer::Failed { .. })));
    advance(REMEMBERED).await;
    let Asked::Lists(_overdue) = asked() else { panic!("a second later") };
    advance(TIMEOUT).await;
    assert!(matches!(asked(), Asked::Answered(Answer::Failed { .. })), "it should have ended");
}
