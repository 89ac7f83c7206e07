//! Which tools the layer acts on, and which settings it refuses.

use std::panic::{AssertUnwindSafe, catch_unwind};

use turbomcp_types::{Tool, ToolAnnotations};

use super::super::{Budget, RetryPolicy};
use super::*;
use crate::{ConfigError, TryLayer};

fn tool(name: &str, read_only: bool) -> Tool {
    let annotations = ToolAnnotations { read_only_hint: Some(read_only), ..ToolAnnotations::default() };
    Tool { annotations: Some(annotations), ..Tool::new(name, "fails") }
}

/// Two tools that are safe to call twice, and one that is not. All always fail.
fn shop() -> ScriptedServer {
    ScriptedServer::new("shop")
        .with_read_only("get_item", |_| ready(Err(down())))
        .with_read_only("get_price", |_| ready(Err(down())))
        .with_plain("buy_item", |_| ready(Err(down())))
}

/// Calls each tool of the shop once. Returns how often `get_item`, `get_price` and `buy_item` were reached.
async fn reached(retry: RetryTool) -> [usize; 3] {
    let script = shop();
    let server = retry.layer(script.clone());
    for tool in ["get_item", "get_price", "buy_item"] {
        server.call_tool(tool, json!({}), &RequestContext::new()).await.unwrap();
    }
    ["get_item", "get_price", "buy_item"].map(|tool| script.calls(tool))
}

#[tokio::test(start_paused = true)]
async fn the_tools_that_are_safe_to_call_twice_are_selected_by_default() {
    assert_eq!(reached(RetryTool::new()).await, [3, 3, 1]);
    assert_eq!(reached(RetryTool::default()).await, [3, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn selectors_narrow_the_selection() {
    assert_eq!(reached(RetryTool::new().only(["get_price"])).await, [1, 3, 1]);
    assert_eq!(reached(RetryTool::new().only(["get_price"]).only(["get_item"])).await, [3, 3, 1]);
    assert_eq!(reached(RetryTool::new().except(["get_price"])).await, [3, 1, 1]);
    assert_eq!(reached(RetryTool::new().when(|tool| tool.name.ends_with("price"))).await, [1, 3, 1]);
    assert_eq!(reached(RetryTool::new().only(["get_item"]).when(|tool| tool.name != "get_item")).await, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn allowing_repeated_effects_adds_a_tool_to_the_selection() {
    assert_eq!(reached(RetryTool::new().allow_repeated_effects(["buy_item"])).await, [3, 3, 3]);
    assert_eq!(reached(RetryTool::new().only(["get_item"]).allow_repeated_effects(["buy_item"])).await, [3, 1, 3]);
    let neither = RetryTool::new().allow_repeated_effects(["buy_item"]).except(["buy_item"]);
    assert_eq!(reached(neither).await, [3, 3, 1]);
}

#[test]
fn selecting_a_tool_that_may_repeat_its_effect_is_refused_with_the_fixes() {
    let asks = [RetryTool::new().only(["buy_item"]), RetryTool::new().when(|tool| tool.name.contains("item"))];
    for ask in asks {
        let mistake = ask.try_layer(shop()).unwrap_err();
        assert!(matches!(&mistake, ConfigError::UnsafeTool { layer: "RetryTool", tool, .. } if tool == "buy_item"));
        let text = mistake.to_string();
        assert!(text.starts_with("RetryTool is asked to act on `buy_item`, which may repeat its effect: "), "{text}");
        for way_out in ["`idempotent = true`", "`read_only = true`", "`allow_repeated_effects`"] {
            assert!(text.contains(way_out), "{text}");
        }
    }
    assert!(RetryTool::new().only(["buy_item"]).allow_repeated_effects(["buy_item"]).try_layer(shop()).is_ok());
}

#[test]
fn an_unknown_tool_name_is_refused_with_the_nearest_name() {
    let typos = [
        RetryTool::new().only(["get_itme"]),
        RetryTool::new().except(["get_itme"]),
        RetryTool::new().allow_repeated_effects(["get_itme"]),
    ];
    for typo in typos {
        let mistake = typo.try_layer(shop()).unwrap_err();
        assert_eq!(
            mistake.to_string(),
            "RetryTool names the tool `get_itme`, which the server does not have: did you mean `get_item`?"
        );
    }
    let mistake = RetryTool::new().only(["refund"]).try_layer(shop()).unwrap_err();
    assert_eq!(
        mistake,
        ConfigError::UnknownTool { layer: "RetryTool", tool: "refund".into(), nearest: None },
        "nothing comes close"
    );
}

/// Replaces the listing of the server below.
#[derive(Clone)]
struct Lists(Arc<Mutex<Vec<Tool>>>);

impl Middleware for Lists {
    fn list_tools<H: McpHandler>(&self, _: &H) -> Vec<Tool> {
        self.0.lock().unwrap().clone()
    }

    fn list_tools_for<H: McpHandler>(&self, _: &H, _: &RequestContext) -> Vec<Tool> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_of_a_later_listing_is_retried() {
    for listing_is_per_caller in [false, true] {
        let listed = Arc::new(Mutex::new(Vec::new()));
        let script = failing(ALWAYS, down());
        let server = (RetryTool::new(), layer(Lists(Arc::clone(&listed)))).layer(script.clone());
        call(&server).await.unwrap();
        assert_eq!(script.calls("get"), 1, "nothing is known of it");

        listed.lock().unwrap().push(tool("get", true));
        // A clone, like the one that serves a request.
        let connection = server.clone();
        if listing_is_per_caller {
            connection.list_tools_for(&RequestContext::new());
        } else {
            connection.list_tools();
        }
        call(&server).await.unwrap();
        assert_eq!(script.calls("get"), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_whose_annotation_changes_is_no_longer_retried() {
    let listed = Arc::new(Mutex::new(vec![tool("get", true)]));
    let script = failing(ALWAYS, down());
    let server = (RetryTool::new(), layer(Lists(Arc::clone(&listed)))).layer(script.clone());
    call(&server).await.unwrap();
    assert_eq!(script.calls("get"), 3);

    *listed.lock().unwrap() = vec![tool("get", false)];
    server.list_tools();
    call(&server).await.unwrap();
    assert_eq!(script.calls("get"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_tool_selected_by_name_that_becomes_unsafe_is_not_retried() {
    let listed = Arc::new(Mutex::new(vec![tool("get", true)]));
    let script = failing(ALWAYS, down());
    let server = (RetryTool::new().only(["get"]), layer(Lists(Arc::clone(&listed)))).layer(script.clone());
    *listed.lock().unwrap() = vec![tool("get", false)];
    server.list_tools();
    call(&server).await.unwrap();
    assert_eq!(script.calls("get"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_catalogue_is_listed_once_and_not_for_each_call() {
    let script = failing(ALWAYS, down());
    let server = RetryTool::new().layer(script.clone());
    for _ in 0..5 {
        call(&server).await.unwrap();
    }
    assert_eq!(script.listings(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_layer_on_two_servers_knows_the_tools_of_each() {
    let retry = RetryTool::new();
    let unsafe_here = ScriptedServer::new("one").with_plain("get", |_| ready(Err(down())));
    let safe_here = failing(ALWAYS, down());
    let (one, other) = (retry.layer(unsafe_here.clone()), retry.layer(safe_here.clone()));
    call(&one).await.unwrap();
    call(&other).await.unwrap();
    assert_eq!((unsafe_here.calls("get"), safe_here.calls("get")), (1, 3));
}

/// Settings that cannot work: the setter that the error names, the start of its reason, the layer.
fn mistakes() -> Vec<(&'static str, &'static str, RetryTool)> {
    let new = RetryTool::new;
    let budget = |budget| new().with_budget(budget);
    vec![
        ("with_max_attempts", "must be greater than zero", new().with_max_attempts(0)),
        ("with_base_delay", "must be greater than zero", new().with_base_delay(Duration::ZERO)),
        ("with_throttled_delay", "must be greater than zero", new().with_throttled_delay(Duration::ZERO)),
        ("with_max_delay", "must be greater than zero", new().with_max_delay(Duration::ZERO)),
        ("with_factor", "must be a finite number of at least 1", new().with_factor(0.99)),
        ("with_factor", "must be a finite number of at least 1", new().with_factor(-2.0)),
        ("with_factor", "must be a finite number of at least 1", new().with_factor(f64::NAN)),
        ("with_factor", "must be a finite number of at least 1", new().with_factor(f64::INFINITY)),
        ("with_deadline", "must be at least 1 ms", new().with_deadline(Duration::ZERO)),
        ("with_attempt_timeout", "must be at least 1 ms", new().with_attempt_timeout(Duration::ZERO)),
        ("with_budget", "the ratio and the rate must be finite numbers", budget(Budget::new().with_ratio(-0.1))),
        ("with_budget", "the ratio and the rate must be finite numbers", budget(Budget::new().with_ratio(f64::NAN))),
        (
            "with_budget",
            "the ratio and the rate must be finite numbers",
            budget(Budget::new().with_retries_per_second(-1.0)),
        ),
        (
            "with_budget",
            "the ratio and the rate must be finite numbers",
            budget(Budget::new().with_retries_per_second(f64::INFINITY)),
        ),
    ]
}

#[test]
fn a_setting_that_cannot_work_is_a_typed_error_that_names_the_setter() {
    for (setter, why, retry) in mistakes() {
        match retry.try_layer(shop()).unwrap_err() {
            ConfigError::InvalidSetting { layer, setting, reason } => {
                assert_eq!((layer, setting), ("RetryTool", setter));
                assert!(reason.starts_with(why), "{setter}: {reason}");
            }
            other => panic!("{setter}: {other:?}"),
        }
    }
}

#[test]
fn an_infallible_method_panics_with_the_text_of_a_settings_error() {
    for (setter, _, retry) in mistakes() {
        let mistake = retry.try_layer(shop()).unwrap_err();
        let panic = catch_unwind(AssertUnwindSafe(|| retry.layer(shop()))).map(drop).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>(), Some(&mistake.to_string()), "{setter}");
    }
}

#[test]
fn a_policy_checks_the_same_settings() {
    assert_eq!(RetryPolicy::new().check(), Ok(()));
    let mistake = RetryPolicy::new().with_max_attempts(0).check().unwrap_err();
    assert_eq!(mistake, RetryTool::new().with_max_attempts(0).try_layer(shop()).unwrap_err());
}

#[test]
fn settings_at_their_bounds_are_accepted() {
    let bounds = [
        RetryTool::new().with_max_attempts(1),
        RetryTool::new().with_max_attempts(u32::MAX),
        RetryTool::new().with_factor(1.0),
        RetryTool::new().with_base_delay(Duration::from_nanos(1)).with_max_delay(Duration::MAX),
        RetryTool::new().with_deadline(Duration::MAX).with_attempt_timeout(Duration::MAX),
        RetryTool::new().with_budget(Budget::new().with_ratio(0.0).with_retries_per_second(0.0).with_burst(0)),
    ];
    for retry in bounds {
        assert!(retry.try_layer(shop()).is_ok(), "{retry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_deadline_and_timeout_work() {
    let retry = RetryTool::new().with_deadline(Duration::MAX).with_attempt_timeout(Duration::MAX);
    assert_eq!(reached(retry).await, [3, 3, 1]);
}
