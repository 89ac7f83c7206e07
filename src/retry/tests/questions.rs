//! Tools that ask their client: a question is not repeated automatically.

use futures_util::future::join_all;
use tokio::time::sleep;
use turbomcp_core::ErrorKind;

use super::*;
use crate::testing::client::{Client, ask_by, ask_name};
use crate::{CachedTool, TryLayer, outcome};

/// A server whose `get` asks in this way from its `first` call on, and then fails.
fn asking(way: &'static str, first: usize) -> ScriptedServer {
    ScriptedServer::new("upstream").with_read_only("get", move |call| async move {
        if call.number >= first {
            ask_by(way, &call.ctx).await?;
        }
        Err::<ToolResult, _>(down())
    })
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_has_asked_its_client_is_the_last_one() {
    for way in ["elicit", "sample", "by itself"] {
        for first in 1..=3 {
            let (script, laptop) = (asking(way, first), Client::new("laptop"));
            let server = RetryTool::new().with_max_attempts(5).layer(script.clone());
            for ctx in [laptop.ctx("ada"), laptop.quiet_ctx("ada")] {
                let script_before = script.calls("get");
                let result = call_with(&server, &ctx).await;
                let attempts = if script_before == 0 { first } else { 1 };
                assert_eq!(notes(&result), (json!(attempts), json!("asked")), "{way}");
                assert_eq!(outcome::failure(&result).expect("a failure").kind(), Some(ErrorKind::Unavailable));
            }
            assert_eq!(laptop.asked().len(), 2, "{way}: once in each call");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_person_answers_is_no_question() {
    for way in ["roots", "capabilities", "version"] {
        let (script, laptop) = (asking(way, 1), Client::new("laptop"));
        let server = RetryTool::new().layer(script.clone());
        assert_eq!(notes(&call_with(&server, &laptop.ctx("ada")).await), (json!(3), json!("attempts")), "{way}");
        assert_eq!(script.calls("get"), 3, "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_be_asked_was_not_asked() {
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| async move {
        ask_name(&call.ctx).await.map(ToolResult::text).map_err(|_| down())
    });
    let server = RetryTool::new().layer(script.clone());
    call_with(&server, &Client::shy("shy").ctx("ada")).await.expect("a result");
    assert_eq!(script.calls("get"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_question_from_a_task_of_the_tool_ends_the_retries_too() {
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| async move {
        tokio::spawn(async move { ask_name(&call.ctx).await }).await.expect("no panic")?;
        Err::<ToolResult, _>(down())
    });
    let laptop = Client::new("laptop");
    call_with(&RetryTool::new().layer(script), &laptop.ctx("ada")).await.expect("a result");
    assert_eq!(laptop.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_during_a_question_does_not_cause_a_second_question() {
    let (script, laptop) = (asking("elicit", 1), Client::thinking("laptop"));
    let server = RetryTool::new().with_attempt_timeout(ms(1_000)).layer(script.clone());
    let result = call_with(&server, &laptop.ctx("ada")).await;
    assert_eq!(outcome::failure(&result).expect("a failure").kind(), Some(ErrorKind::Timeout));
    assert_eq!(notes(&result), (json!(1), json!("asked")));
    sleep(ms(60_000)).await;
    assert_eq!((laptop.asked().len(), script.calls("get")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_in_each_attempt_if_the_setting_allows_it() {
    let (script, laptop) = (asking("elicit", 1), Client::new("laptop"));
    let server = RetryTool::new().allow_repeated_questions(["get"]).layer(script);
    assert_eq!(notes(&call_with(&server, &laptop.ctx("ada")).await), (json!(3), json!("attempts")));
    assert_eq!(laptop.asked().len(), 3);
    let misspelled = RetryTool::new().allow_repeated_questions(["gett"]).try_layer(failing(0, down()));
    assert_eq!(
        misspelled.map(drop).expect_err("a mistake").to_string(),
        "RetryTool names the tool `gett`, which the server does not have: did you mean `get`?"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outer_retry_does_not_ask_again_either() {
    let (script, laptop) = (asking("elicit", 1), Client::new("laptop"));
    let raised = layer(Raises(down())).layer(RetryTool::new().layer(script.clone()));
    for server in [
        crate::boxed((RetryTool::new(), RetryTool::new()).layer(script.clone())),
        // Between them is a server that drops the mark of the inner one.
        crate::boxed(RetryTool::new().layer(raised)),
    ] {
        let before = laptop.asked().len();
        let _ = call_with(&server, &laptop.ctx("ada")).await;
        assert_eq!(laptop.asked().len(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn each_waiting_caller_of_one_load_is_asked_once() {
    let (script, server) = (asking("elicit", 1), (CachedTool::new(), RetryTool::new()));
    let server = server.layer(script.clone());
    let clients = ["laptop", "phone", "tablet"].map(Client::new);
    let ctxs: Vec<_> = clients.iter().map(|client| client.ctx("ada")).collect();
    for result in join_all(ctxs.iter().map(|ctx| call_with(&server, ctx))).await {
        assert_eq!(notes(&result), (json!(1), json!("asked")));
    }
    assert!(clients.iter().all(|client| client.asked().len() == 1));
    assert_eq!(script.calls("get"), 3);
}
