//! What of a catalogue that changes is remembered, and for how long.

use super::*;

/// Decides by the description, as a layer does by the annotations.
fn by_description(tool: &Tool) -> Option<String> {
    tool.description.clone().filter(|description| !description.is_empty())
}

fn learn(plan: &Plan<String>, tools: impl IntoIterator<Item = impl Into<String>>) {
    learn_as(plan, "acts", tools);
}

fn learn_as(plan: &Plan<String>, description: &str, tools: impl IntoIterator<Item = impl Into<String>>) {
    let tools: Vec<_> = tools.into_iter().map(|name| Tool::new(name, description)).collect();
    plan.learn(&tools, by_description);
}

/// A plan on a server with two tools.
fn plan() -> Plan<String> {
    let plan = Plan::default();
    learn(&plan, ["read", "write"]);
    plan
}

/// How many tools are known that came later, counted one by one.
fn later(plan: &Plan<String>) -> usize {
    let buckets = plan.0.later.buckets.get();
    let counted =
        buckets.iter().flat_map(|buckets| buckets.iter()).filter_map(|bucket| Some(bucket.load().as_ref()?.len()));
    let counted = counted.sum();
    assert_eq!(*plan.0.later.count.lock().expect("nobody panicked"), counted);
    counted
}

fn names(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}_{number}"))
}

#[test]
fn a_catalogue_that_lists_other_names_each_time_does_not_grow_the_plan() {
    let plan = plan();
    for listing in 0..30_000 {
        learn(&plan, [format!("report_{listing}")]);
        assert!(plan.get(&format!("report_{listing}")).is_some(), "the last listing is known");
    }
    assert!(later(&plan) <= MAX_LATER);
    assert!(later(&plan) >= MAX_LATER / 2, "it is not forgotten before it has to be");
    assert_eq!(plan.get("report_0"), None, "what was listed longest ago is forgotten");
}

#[test]
fn the_tools_that_the_layer_was_put_on_are_never_forgotten_and_neither_is_what_was_decided_since() {
    let plan = plan();
    learn_as(&plan, "", ["write"]);
    for listing in 0..3 {
        learn(&plan, names(&format!("flood_{listing}"), MAX_LATER));
    }
    assert_eq!(plan.get("read").as_deref(), Some("acts"));
    assert_eq!(plan.get("write"), None, "it came back to what was decided at first");
}

#[test]
fn a_listing_that_is_larger_than_the_bound_is_known_as_a_whole() {
    let plan = plan();
    learn(&plan, names("old", 5_000));
    let large = 2 * MAX_LATER;
    learn(&plan, names("large", large));
    assert_eq!(later(&plan), large);
    assert!(names("large", large).all(|name| plan.get(&name).is_some()));
    learn(&plan, ["one_more"]);
    assert!(later(&plan) <= MAX_LATER, "a smaller one brings the bound back");
    assert!(plan.get("one_more").is_some());
}

#[test]
fn what_was_listed_longest_ago_is_forgotten_first() {
    let plan = plan();
    learn(&plan, names("first", 4_000));
    learn(&plan, names("second", 4_000));
    learn(&plan, names("first", 4_000));
    learn(&plan, names("third", 4_000));
    let known = |prefix| names(prefix, 4_000).filter(|name| plan.get(name).is_some()).count();
    assert_eq!((known("first"), known("third")), (4_000, 4_000));
    // Of the last listing that has to go, as many stay as there is room for.
    assert_eq!(known("second"), MAX_LATER - MAX_LATER / 8 - 8_000);
}

#[test]
fn listings_that_take_turns_copy_no_bucket() {
    let plan = plan();
    learn(&plan, names("later", 100));
    let buckets = plan.0.later.buckets.get().expect("there are some");
    let before: Vec<_> = buckets.iter().map(|bucket| bucket.load_full().map(|entries| Arc::as_ptr(&entries))).collect();
    for turn in 0..10 {
        let description = ["as the admin sees it", "as others do"][turn % 2];
        learn_as(&plan, description, names("later", 100).chain(["read".to_owned()]));
        for name in ["later_0", "later_99", "read"] {
            assert_eq!(plan.get(name).as_deref(), Some(description));
        }
    }
    let after: Vec<_> = buckets.iter().map(|bucket| bucket.load_full().map(|entries| Arc::as_ptr(&entries))).collect();
    assert_eq!(before, after);
}

#[test]
fn tools_that_the_layer_does_not_act_on_take_no_room() {
    let plan = plan();
    learn_as(&plan, "", names("other", 100));
    assert_eq!(later(&plan), 0);
    learn(&plan, ["other_1"]);
    learn_as(&plan, "", ["other_1"]);
    assert_eq!((plan.get("other_1"), later(&plan)), (None, 1));
}

#[test]
fn of_a_name_that_a_listing_has_twice_the_last_counts() {
    let plan = plan();
    let twice = [Tool::new("twice", "first"), Tool::new("other", "acts"), Tool::new("twice", "second")];
    plan.learn(&twice, by_description);
    assert_eq!((plan.get("twice").as_deref(), later(&plan)), (Some("second"), 2));
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
                    assert!(names.iter().all(|name| plan.get(name).is_some()));
                }
            });
        }
    });
    learn(&plan, ["last"]);
    assert!(later(&plan) <= MAX_LATER);
}
