//! Which tools a layer acts on.

use std::sync::Arc;

use mcp_patterns::ConfigError;
use mcp_patterns::selection::{Hints, Known, Plan, Rule, Selection, check_names};
use turbomcp_core::{RequestContext, ToolAnnotations};
use turbomcp_types::Tool;

fn tool(name: &str) -> Tool {
    Tool::new(name, "a tool")
}

fn annotated(annotations: ToolAnnotations) -> Tool {
    Tool { annotations: Some(annotations), ..tool("annotated") }
}

fn read_only(name: &str) -> Tool {
    let annotations = ToolAnnotations { read_only_hint: Some(true), ..Default::default() };
    Tool { annotations: Some(annotations), ..tool(name) }
}

/// Read-only, destructive, idempotent, open world.
fn hints(tool: &Tool) -> (bool, bool, bool, bool) {
    let hints = Hints::of(tool);
    (hints.read_only, hints.destructive, hints.idempotent, hints.open_world)
}

#[test]
fn missing_annotations_have_the_defaults_of_the_specification() {
    assert_eq!(hints(&tool("silent")), (false, true, false, true));
    assert_eq!(hints(&annotated(ToolAnnotations::default())), (false, true, false, true));
}

#[test]
fn each_annotation_has_the_value_of_its_hint() {
    let none = ToolAnnotations::default;
    let of = |annotations| hints(&annotated(annotations));
    assert_eq!(of(ToolAnnotations { destructive_hint: Some(false), ..none() }), (false, false, false, true));
    assert_eq!(of(ToolAnnotations { idempotent_hint: Some(true), ..none() }), (false, true, true, true));
    assert_eq!(of(ToolAnnotations { open_world_hint: Some(false), ..none() }), (false, true, false, false));
    assert_eq!(of(ToolAnnotations { read_only_hint: Some(false), ..none() }), (false, true, false, true));
}

#[test]
fn a_read_only_tool_is_idempotent_and_not_destructive_whatever_its_other_annotations() {
    assert_eq!(hints(&read_only("reader")), (true, false, true, true));
    let contradictory = ToolAnnotations {
        read_only_hint: Some(true),
        destructive_hint: Some(true),
        idempotent_hint: Some(false),
        ..Default::default()
    };
    assert_eq!(hints(&annotated(contradictory)), (true, false, true, true));
}

fn nearest(named: &str, tools: &[&str]) -> Option<String> {
    let tools: Vec<_> = tools.iter().map(|name| tool(name)).collect();
    match check_names("SomeTool", [named], &tools) {
        Err(ConfigError::UnknownTool { layer: "SomeTool", tool, nearest, .. }) => {
            assert_eq!(tool, named);
            nearest
        }
        other => panic!("an unknown tool, not {other:?}"),
    }
}

#[test]
fn an_unknown_tool_name_is_reported_with_the_most_similar_one() {
    let tools = ["update_user", "get_user", "get_order"];
    assert_eq!(nearest("get_users", &tools).as_deref(), Some("get_user"));
    assert_eq!(nearest("get_oder", &tools).as_deref(), Some("get_order"));
    assert_eq!(nearest("GET_USER", &["get_user"]), None, "a third of the letters may differ, not all of them");
}

#[test]
fn transposed_letters_are_one_mistake() {
    assert_eq!(nearest("dad", &["add"]).as_deref(), Some("add"));
    assert_eq!(nearest("get_suer", &["get_user"]).as_deref(), Some("get_user"));
}

#[test]
fn no_name_is_suggested_if_none_is_near() {
    assert_eq!(nearest("weather", &["get_user", "add"]), None);
    assert_eq!(nearest("weather", &[]), None);
    assert_eq!(nearest("", &["add"]), None);
}

#[test]
fn the_suggestion_does_not_depend_on_the_order_of_the_tools() {
    assert_eq!(nearest("get_x", &["get_b", "get_a"]), nearest("get_x", &["get_a", "get_b"]));
}

#[test]
fn a_settings_error_names_layer_tool_and_fix() {
    let tools = [tool("get_user")];
    let text = |name| check_names("CachedTool", [name], &tools).expect_err("no tool bears it").to_string();
    assert_eq!(
        text("get_users"),
        "CachedTool names the tool `get_users`, which the server does not have: did you mean `get_user`?"
    );
    assert_eq!(
        text("weather"),
        "CachedTool names the tool `weather`, which the server does not have: use a name from its tool list"
    );
    assert!(check_names("CachedTool", ["get_user"], &tools).is_ok());
}

const RULE: Rule = Rule::new("SomeTool", |tool| Hints::of(tool).read_only, "which it may break");

/// The tools that a selection takes of a read-only tool `read`, a read-only tool `look` and a tool `write`.
fn selected(selection: &Selection) -> Vec<String> {
    let tools = [read_only("read"), read_only("look"), tool("write")];
    tools.into_iter().filter(|tool| selection.includes(tool, RULE)).map(|tool| tool.name).collect()
}

fn selection(select: impl FnOnce(&mut Selection)) -> Selection {
    let mut selection = Selection::new();
    select(&mut selection);
    selection
}

#[test]
fn safe_tools_are_selected_by_default() {
    assert_eq!(selected(&Selection::new()), ["read", "look"]);
    assert_eq!(selected(&selection(|s| s.only(["read"]))), ["read"]);
    assert_eq!(selected(&selection(|s| s.except(["read"]))), ["look"]);
    assert_eq!(selected(&selection(|s| s.when(|tool| tool.name.starts_with('l')))), ["look"]);
}

#[test]
fn repeated_and_combined_selectors_narrow_as_documented() {
    let twice = selection(|s| {
        s.only(["read"]);
        s.only(["look"]);
    });
    assert_eq!(selected(&twice), ["read", "look"]);
    let both = selection(|s| {
        s.only(["read", "look"]);
        s.when(|tool| tool.name == "look");
    });
    assert_eq!(selected(&both), ["look"]);
    let both = selection(|s| {
        s.only(["look"]);
        s.when(|_| true);
    });
    assert_eq!(selected(&both), ["look"]);
    let not = selection(|s| {
        s.opt_in(["write"]);
        s.except(["write"]);
    });
    assert_eq!(selected(&not), ["read", "look"]);
}

#[test]
fn an_unsafe_tool_is_never_selected_without_permission() {
    assert!(selected(&selection(|s| s.only(["write"]))).is_empty());
    assert_eq!(selected(&selection(|s| s.when(|_| true))), ["read", "look"]);
    assert_eq!(selected(&selection(|s| s.opt_in(["write"]))), ["read", "look", "write"]);
}

#[test]
fn selecting_an_unsafe_tool_is_an_error_that_states_the_consequence() {
    let tools = [read_only("read"), tool("write")];
    let check = |selection: Selection| selection.check(&tools, RULE);
    let mistake = check(selection(|s| s.only(["read", "write"]))).expect_err("it is not safe");
    assert!(
        matches!(&mistake, ConfigError::UnsafeTool { layer: "SomeTool", tool, .. } if tool == "write"),
        "{mistake:?}"
    );
    assert_eq!(mistake.to_string(), "SomeTool is asked to act on `write`, which it may break");
    assert!(check(selection(|s| s.when(|_| true))).is_err());
    assert!(check(selection(|s| s.opt_in(["write"]))).is_ok());
    assert!(check(Selection::new()).is_ok(), "no call asked");
}

#[test]
fn every_selector_that_takes_names_checks_them() {
    let tools = [read_only("read")];
    let unknown = |select: fn(&mut Selection)| {
        matches!(selection(select).check(&tools, RULE), Err(ConfigError::UnknownTool { .. }))
    };
    assert!(unknown(|s| s.only(["raed"])));
    assert!(unknown(|s| s.except(["raed"])));
    assert!(unknown(|s| s.opt_in(["raed"])));
}

/// Decides by the description, as a layer does by the annotations.
fn by_description(tool: &Tool) -> Option<String> {
    tool.description.clone().filter(|description| !description.is_empty())
}

fn known<T: Clone + PartialEq>(plan: &Plan<T>, tool: &str) -> Known<T> {
    plan.get(tool, &RequestContext::with_id("1"))
}

fn decided(decision: &str) -> Known<String> {
    Known::Decided(Some(decision.to_owned()))
}

#[test]
fn a_plan_has_the_decided_tools_and_no_others() {
    let plan = Plan::default();
    assert_eq!(known(&plan, "a"), Known::Unknown);
    plan.learn(&[Tool::new("a", "first"), Tool::new("b", "")], None, by_description);
    assert_eq!(known(&plan, "a"), decided("first"));
    assert_eq!(known(&plan, "b"), Known::Decided(None));
    assert_eq!(known(&plan, "c"), Known::Unknown);
}

#[test]
fn a_plan_takes_changes_from_a_listing_and_keeps_missing_tools() {
    let plan = Plan::default();
    plan.learn(&[Tool::new("a", "first"), Tool::new("b", "second")], None, by_description);
    plan.learn(&[Tool::new("a", "changed"), Tool::new("c", "third")], None, by_description);
    let all = ["a", "b", "c"].map(|name| known(&plan, name));
    assert_eq!(all, [decided("changed"), decided("second"), decided("third")]);
    assert_eq!(plan.of_anybody("a").as_deref(), Some("changed"));
}

#[test]
fn a_plan_forgets_a_tool_that_is_decided_against() {
    let plan = Plan::default();
    plan.learn(&[Tool::new("a", "first"), Tool::new("b", "second")], None, by_description);
    plan.learn(&[Tool::new("a", "")], None, by_description);
    assert_eq!([known(&plan, "a"), known(&plan, "b")], [Known::Decided(None), decided("second")]);
}

#[test]
fn clones_of_a_plan_learn_together() {
    let plan = Plan::default();
    let clone = plan.clone();
    plan.learn(&[Tool::new("a", "first")], None, by_description);
    assert_eq!(known(&clone, "a"), decided("first"));
}

#[test]
fn a_decision_stays_the_same_object_while_it_stays_the_same() {
    let plan = Plan::default();
    let decide = |tool: &Tool| by_description(tool).map(Arc::new);
    plan.learn(&[Tool::new("a", "first")], None, decide);
    let before = plan.of_anybody("a").expect("it was decided");
    plan.learn(&[Tool::new("a", "first")], None, decide);
    assert!(Arc::ptr_eq(&before, &plan.of_anybody("a").expect("it still is")));
}

#[test]
fn a_look_up_of_a_late_tool_allocates_nothing() {
    let plan = Plan::default();
    for (listing, names) in [["first", "changed"], ["later", "changed"]].iter().enumerate() {
        plan.learn(&names.map(tool), None, |_| Some(listing));
    }
    let ctx = RequestContext::with_id("1");
    let look_up = || {
        let decided = ["first", "changed", "later"].map(|name| plan.get(name, &ctx));
        assert_eq!(decided, [Some(0), Some(1), Some(1)].map(Known::Decided));
        assert_eq!(plan.get("unknown", &ctx), Known::Unknown);
    };
    // The first call in a thread initializes it.
    look_up();
    assert_eq!(allocation_counter::measure(look_up).count_total, 0);
}
