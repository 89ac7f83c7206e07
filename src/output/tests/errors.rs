//! Failures, and answers that are not finished.

use turbomcp_core::{ErrorKind, McpError};

use super::*;
use crate::outcome::{EXHAUSTED, Unfinished};

fn failed() -> McpError {
    McpError::unavailable(format!("The database is down.\n{}", lines(500)))
        .with_data(json!({ "retryAfterMs": 5, EXHAUSTED: "attempts" }))
}

#[tokio::test]
async fn a_long_error_is_cut_and_stays_an_error_with_its_kind_and_marks() {
    let layer = keeping().with_hint("read", "pass a smaller `limit`");
    let handle = layer.handle();
    for answer in [Err(failed()), Ok(failed().to_tool_result())] {
        for tool in ["read", "write", "read_rows", "write_rows"] {
            let server = raising(&layer, answer.clone());
            let cut = server.call_tool(tool, json!({}), &user("ada")).await;
            assert_eq!(cut.is_ok(), answer.is_ok(), "in the form that it had");
            let failure = outcome::failure(&cut).expect("a failure");
            assert_eq!(
                (failure.kind(), failure.data()),
                (Some(ErrorKind::Unavailable), outcome::failure(&answer).unwrap().data())
            );
            assert_eq!((failure.is_exhausted(), failure.retry_after()), (true, Some(Duration::from_millis(5))));
            assert!(failure.message().starts_with("The database is down.\nThis is line 0"), "{cut:?}");
            let all = format!("{cut:?}");
            assert!(all.contains("Left out of this error: ") && !all.contains("To get less"), "{all}");
            assert!(failure.message().len() < BYTES && !all.contains("This is line 499"));
        }
    }
    assert_eq!((handle.stats().cut, handle.stats().kept), (8, 0));
}

#[tokio::test]
async fn structured_content_of_an_error_may_be_left_out_also_with_a_schema() {
    let error = ToolResult { is_error: Some(true), ..rows(500) };
    let cut = call(&bound().layer(answering(Ok(error))), "read_rows", &user("ada")).await;
    assert_eq!((text(&cut.content[0]), &cut.structured_content, cut.is_error()), ("500 rows", &None, true));
    assert_eq!(text(&cut.content[1]), "Left out of this error: the structured content.");
}

#[tokio::test]
async fn an_answer_that_is_not_finished_passes_untouched() {
    let layer = bound().with_redaction(|_, _| "redacted".into());
    for reason in [Unfinished::InputRequired, Unfinished::Task] {
        let unfinished = reason.into_error(lines(500));
        let server = raising(&layer, Err(unfinished.clone()));
        let answer = server.call_tool("write", json!({}), &user("ada")).await;
        let error = answer.expect_err("it is not finished");
        assert_eq!((&error.message, error.data()), (&unfinished.message, unfinished.data()));
        let server = raising(&layer, Ok(unfinished.to_tool_result()));
        assert_eq!(call(&server, "write", &user("ada")).await, unfinished.to_tool_result());
    }
}
