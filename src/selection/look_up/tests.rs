//! The log entry and the answer when tools cannot be listed.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::json;
use tokio::time::advance;
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_types::Tool;

use super::LookedUp;
use crate::selection::plan::{Asked, Plan, ask};
use crate::testing::{ScriptedServer, Token, Traced};
use crate::{Layer, Middleware, ValidatedTool, layer};

/// Runs a closure each time a caller's own tools are listed.
#[derive(Clone)]
struct Lists(Arc<dyn Fn() + Send + Sync>);

impl Middleware for Lists {
    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        (self.0)();
        inner.list_tools_for(ctx)
    }
}

fn server(lists: impl Fn() + Send + Sync + 'static) -> impl McpHandler {
    (ValidatedTool::new(), layer(Lists(Arc::new(lists)))).layer(ScriptedServer::new("server"))
}

fn user(name: &str) -> RequestContext {
    RequestContext::with_id("1").with_user_id(name)
}

/// The error id that a caller of the tool gets.
async fn told(server: &impl McpHandler, tool: &str, ctx: &RequestContext) -> String {
    match server.call_tool(tool, json!({}), ctx).await {
        Err(refused) => id(&refused.to_string()),
        Ok(answer) => panic!("the tools cannot be listed: {answer:?}"),
    }
}

fn id(text: &str) -> String {
    let id = text.split_once("Nothing was done (error ").and_then(|(_, id)| id.split_once(')'));
    id.unwrap_or_else(|| panic!("{text}")).0.to_owned()
}

/// The only line of the log with the id.
fn line(log: &str, id: &str) -> String {
    let lines: Vec<_> = log.lines().filter(|line| line.contains(id)).collect();
    let [line] = lines[..] else { panic!("{id} in {log}") };
    line.to_owned()
}

#[tokio::test(start_paused = true)]
async fn all_calls_that_fail_by_one_listing_get_one_error_id_and_the_log_has_it_once_with_the_cause() {
    let traced = Traced::start();
    let server = server(|| panic!("the upstream is away"));
    let (ada, long) = (user("ada"), "a".repeat(1_000));
    let first = told(&server, &long, &ada).await;
    for _ in 0..100 {
        assert_eq!(told(&server, "another", &ada).await, first, "it is not tried again at once");
    }
    let bobs = told(&server, "late", &user("bob")).await;
    advance(Duration::from_secs(1)).await;
    let second = told(&server, "late", &ada).await;
    assert!(first != bobs && first != second && bobs != second, "each listing has its own");
    let log = traced.text();
    for (id, tool) in [(first, &long[..100]), (bobs, "late"), (second, "late")] {
        let line = line(&log, &id);
        let tool = format!("tool=\"{tool}\"");
        assert!(line.contains("cannot be listed: the listing panicked") && line.contains(&tool), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_listing_has_one_error_id_for_all_waiting_and_later_callers() {
    let traced = Traced::start();
    let (go_on, wait) = mpsc::channel::<()>();
    let (began, wait) = (Arc::new(tokio::sync::Notify::new()), Mutex::new(wait));
    let begins = Arc::clone(&began);
    let server = server(move || {
        begins.notify_one();
        drop(wait.lock().map(|wait| wait.recv()));
    });
    let (ada, token) = (user("ada"), Arc::new(Token::default()));
    let leaves = ada.clone().with_cancellation_token(Arc::clone(&token) as _);
    let late = async {
        began.notified().await;
        token.cancel();
        advance(Duration::from_millis(50)).await;
        tokio::task::yield_now().await;
        advance(Duration::from_secs(5)).await;
        // The listing task logs it when it runs.
        tokio::task::yield_now().await;
    };
    let (first, other, left, ()) =
        tokio::join!(told(&server, "first", &ada), told(&server, "other", &ada), told(&server, "left", &leaves), late);
    assert_eq!((&other, &left, &told(&server, "later", &ada).await), (&first, &first, &first));
    let log = traced.text();
    let (warned, rest): (Vec<_>, Vec<_>) =
        log.lines().filter(|line| line.contains(&first)).partition(|line| line.contains("WARN"));
    assert!(
        matches!(warned[..], [line] if line.contains("not listed in time") && line.contains("tool=\"first\"")),
        "{log}"
    );
    assert!(
        matches!(rest[..], [line] if line.contains("was cancelled while") && line.contains("tool=\"left\"")),
        "{log}"
    );
    drop(go_on);
}

#[tokio::test(start_paused = true)]
async fn refusals_for_too_many_look_ups_have_one_error_id_for_ten_seconds() {
    let traced = Traced::start();
    let plan = Plan::<()>::default();
    for number in 0..1_000 {
        let Asked::Lists(listing) = ask(&plan, "made_up", &user(&number.to_string()), false) else {
            panic!("{number}")
        };
        listing.succeed();
    }
    let refused = |name: &str| {
        let Asked::Answered(answer) = ask(&plan, "made_up", &user(name), false) else { panic!("too many") };
        let refused = LookedUp(answer).or_refuse("made_up", true, |_| None);
        id(&refused.expect_err("it may be listed").to_string())
    };
    let first = refused("late");
    for number in 0..10 {
        assert_eq!(refused(&format!("later {number}")), first);
    }
    let line = line(&traced.text(), &first);
    assert!(line.contains("too many callers ask for tools that are not known"), "{line}");
    assert!(line.contains("tool=\"made_up\"") && line.contains("unsaid=0"), "{line}");
}
