//! Custom rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Barrier;
use turbomcp_core::McpError;

use super::*;
use crate::testing::Token;

#[derive(Debug, Deserialize)]
struct Order {
    product: String,
    quantity: u32,
}

fn shop() -> ScriptedServer {
    taking(json!({"type": "object", "properties": {
        "product": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1},
    }, "required": ["product", "quantity"]}))
}

fn order(product: &str, quantity: u32) -> Value {
    json!({"product": product, "quantity": quantity})
}

fn stocked() -> ValidatedTool {
    ValidatedTool::new()
        .rule("take", |order: Order, cx: RuleContext| async move {
            if order.product != "tea" {
                cx.refuse(Violation::new("product_not_found", "Product not found").at("product"));
            }
            Ok(())
        })
        .rule("take", |order: Order, cx: RuleContext| async move {
            if order.quantity > 3 {
                let violation = Violation::new("out_of_stock", "Only 3 units available");
                cx.refuse(violation.at("/quantity").with_expected(json!({"max": 3})));
            }
            Ok(())
        })
}

#[tokio::test]
async fn each_rule_adds_its_violations() {
    let script = shop();
    let server = stocked().layer(script.clone());
    assert!(!call(&server, "take", order("tea", 3)).await.is_error());

    let answer = call(&server, "take", order("coffee", 4)).await;
    assert_eq!(text(&answer), "`product`: Product not found\n`quantity`: Only 3 units available");
    assert_eq!(
        data(&answer),
        json!({"violations": [
            {"pointer": "/product", "code": "product_not_found", "message": "Product not found"},
            {"pointer": "/quantity", "code": "out_of_stock", "message": "Only 3 units available", "expected": {"max": 3}},
        ], "omitted": 0})
    );
    assert_eq!(script.calls("take"), 1);
}

#[tokio::test]
async fn arguments_that_the_schema_refuses_reach_no_rule() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = ValidatedTool::new()
        .rule("take", move |_: Order, _| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        })
        .layer(shop());
    let answer = call(&server, "take", order("coffee", 0)).await;
    assert_eq!(listed(&answer), [("/quantity".to_owned(), "minimum".to_owned())]);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn rules_run_concurrently() {
    let meeting = Arc::new(Barrier::new(2));
    let meet = |meeting: &Arc<Barrier>| {
        let meeting = Arc::clone(meeting);
        move |_: Value, _: RuleContext| {
            let meeting = Arc::clone(&meeting);
            async move {
                meeting.wait().await;
                Ok(())
            }
        }
    };
    let server = ValidatedTool::new().rule("take", meet(&meeting)).rule("take", meet(&meeting)).layer(shop());
    let answer = tokio::time::timeout(Duration::from_secs(60), call(&server, "take", order("tea", 1)));
    assert!(!answer.await.expect("both rules are asked before either is done").is_error());
}

#[tokio::test]
async fn a_rule_sees_who_calls() {
    let server = ValidatedTool::new()
        .rule("take", |_: Order, cx: RuleContext| async move {
            if cx.request().subject() != Some("ada") {
                cx.refuse(Violation::new("not_yours", "Only Ada may order"));
            }
            Ok(())
        })
        .layer(shop());
    let ada = RequestContext::new().with_user_id("ada");
    assert!(!server.call_tool("take", order("tea", 1), &ada).await.expect("known").is_error());
    let answer = call(&server, "take", order("tea", 1)).await;
    assert_eq!(text(&answer), "Only Ada may order");
    assert_eq!(listed(&answer), [(String::new(), "not_yours".to_owned())]);
}

#[tokio::test]
async fn a_failed_rule_is_an_error_and_not_a_violation() {
    let script = shop();
    let failing = ValidatedTool::new().rule("take", |_: Order, _| async {
        Err(std::io::Error::other("connect to 10.0.0.7 refused"))?;
        Ok(())
    });
    let answer = Ok(call(&failing.clone().layer(script.clone()), "take", order("tea", 1)).await);
    let failure = outcome::failure(&answer).expect("a failure");
    assert_eq!(failure.kind(), Some(ErrorKind::Unavailable));
    assert!(failure.is_temporary());
    assert!(
        failure.message().starts_with("The input cannot be checked at the moment (error "),
        "{}",
        failure.message()
    );
    assert_eq!(script.calls("take"), 0);

    // A violation of the input is reported whatever service is down.
    let both = failing.rule("take", |_: Order, cx: RuleContext| async move {
        cx.refuse(Violation::new("no", "No"));
        Ok(())
    });
    assert_eq!(text(&call(&both.layer(script.clone()), "take", order("tea", 1)).await), "No");

    let told = ValidatedTool::new().rule("take", |_: Order, _| async { Err(McpError::rate_limited("Ask later"))? });
    let answer = Ok(call(&told.layer(script), "take", order("tea", 1)).await);
    let failure = outcome::failure(&answer).expect("a failure");
    assert_eq!((failure.kind(), failure.message()), (Some(ErrorKind::RateLimited), "Ask later"));
}

#[tokio::test]
async fn a_rule_that_cannot_read_its_input_refuses_it() {
    #[derive(Deserialize)]
    struct Strict {
        #[expect(dead_code, reason = "read by serde")]
        quantity: u8,
    }
    let server = ValidatedTool::new().rule("take", |_: Strict, _| async { Ok(()) }).layer(shop());
    assert_eq!(text(&call(&server, "take", order("tea", 300)).await), "`quantity` must be u8");
}

#[tokio::test]
async fn a_rule_about_a_parameter_reports_places_inside_it() {
    let schema = json!({"type": "object", "properties": {"order": {"type": "object"}, "note": {"type": "string"}}});
    let rule = |order: Order, cx: RuleContext| async move {
        assert_eq!(order.product, "tea");
        cx.refuse(Violation::new("too_many", "Too many").at("quantity"));
        Ok(())
    };
    let by_name = ValidatedTool::new().rule_at("take", "order", rule).layer(taking(schema));
    let answer = call(&by_name, "take", json!({"order": order("tea", 9), "note": "x"})).await;
    assert_eq!(listed(&answer), [("/order/quantity".to_owned(), "too_many".to_owned())]);
    assert!(!call(&by_name, "take", json!({"note": "x"})).await.is_error());

    let only = json!({"type": "object", "properties": {"order": {"type": "object"}}});
    let obvious = ValidatedTool::new().rule("take", rule).layer(taking(only));
    let answer = call(&obvious, "take", json!({"order": order("tea", 9)})).await;
    assert_eq!(listed(&answer), [("/order/quantity".to_owned(), "too_many".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_cancels_waits_for_no_rule_and_calls_no_tool() {
    let script = shop();
    let server = ValidatedTool::new()
        .rule("take", |_: Order, _| async {
            std::future::pending::<()>().await;
            Ok(())
        })
        .layer(script.clone());
    let token = Token::default();
    let ctx = token.ctx();
    let call = server.call_tool("take", order("tea", 1), &ctx);
    let (answer, ()) = tokio::join!(call, token.cancel_after(Duration::from_secs(1)));
    assert_eq!(outcome::failure(&answer).expect("cancelled").kind(), Some(ErrorKind::Cancelled));
    assert_eq!(script.calls("take"), 0);
}

#[tokio::test]
async fn a_caller_who_is_dropped_drops_the_rules() {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&dropped);
    let server = ValidatedTool::new()
        .rule("take", move |_: Order, _| {
            let guard = Guard(Arc::clone(&seen));
            async move {
                let _guard = guard;
                std::future::pending::<()>().await;
                Ok(())
            }
        })
        .layer(shop());
    let ctx = RequestContext::new();
    let call = server.call_tool("take", order("tea", 1), &ctx);
    assert!(futures_util::poll!(Box::pin(call)).is_pending());
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_panic_in_a_rule_affects_only_its_caller() {
    let server = ValidatedTool::new()
        .rule("take", |order: Order, _| async move {
            assert_ne!(order.product, "bomb");
            Ok(())
        })
        .layer(shop());
    let doomed = {
        let server = server.clone();
        tokio::spawn(async move { call(&server, "take", order("bomb", 1)).await })
    };
    assert!(doomed.await.expect_err("it panics").is_panic());
    assert!(!call(&server, "take", order("tea", 1)).await.is_error());
}
