//! Successful calls of tools that are not read-only: never an error, and nothing of them is lost.

use super::*;
use crate::testing::Traced;

#[tokio::test]
async fn an_answer_of_a_write_is_kept_whole_and_reads_as_a_success() {
    let server = keeping().layer(answering(Ok(ToolResult::text(lines(500)))));
    let answer = call(&server, "write", &user("ada")).await;
    assert_eq!((answer.is_error, status(&answer)), (None, json!("spilled")));
    let [beginning, sentence, _] = &answer.content[..] else { panic!("{answer:?}") };
    let beginning = text(beginning);
    assert!(lines(500).starts_with(beginning) && beginning.len() > 500);
    let expected = format!(
        "Left out of this answer: {} of {} bytes of text. The whole answer can be read for 15 min from the resource that is linked here. \
         The call has succeeded: do not repeat it to see the rest.",
        lines(500).len() - beginning.len(),
        lines(500).len()
    );
    assert_eq!(text(sentence), expected);
    assert_eq!(whole(&server, &answer, &user("ada")).await, Some(vec![lines(500)]));
}

#[tokio::test]
async fn an_answer_of_a_write_that_is_not_kept_is_passed_whole_with_a_warning() {
    let answer = ToolResult { structured_content: Some(json!({ "id": 7 })), ..ToolResult::text(lines(500)) };
    let full = bound().with_spill(Spill::new().with_max_bytes_per_principal(BYTES + 600));
    for (layer, reason) in [(bound(), "answers are not kept"), (full, "there is no room")] {
        let traced = Traced::start();
        let handle = layer.handle();
        let passed = call(&layer.layer(answering(Ok(answer.clone()))), "write", &user("ada")).await;
        assert_eq!((&passed.content, &passed.structured_content), (&answer.content, &answer.structured_content));
        assert_eq!((passed.is_error, status(&passed), handle.stats().whole), (None, json!("whole"), 1));
        let log = traced.text();
        assert!(log.contains("WARN") && log.contains("an answer above the bounds was passed whole"), "{log}");
        assert!(log.contains(reason), "{log}");
    }
}

#[tokio::test]
async fn an_answer_of_a_write_may_be_cut_if_the_author_says_so() {
    let layer = bound().allow_cut(["write"]).with_hint("write", "call `read_log`");
    let answer = call(&layer.layer(answering(Ok(ToolResult::text(lines(500))))), "write", &user("ada")).await;
    let sentence =
        " bytes of text. The call has succeeded: do not repeat it to see the rest. To see the rest, call `read_log`.";
    assert!(text(&answer.content[1]).ends_with(sentence), "{answer:?}");
    assert_eq!((answer.is_error(), status(&answer)), (false, json!("cut")));
}

#[tokio::test]
async fn structured_content_of_a_write_stays_with_its_schema_whatever_its_size() {
    for layer in [bound(), keeping(), bound().allow_cut(["write_rows"])] {
        let answer = call(&layer.layer(answering(Ok(rows(500)))), "write_rows", &user("ada")).await;
        assert_eq!((&answer.content, &answer.structured_content), (&rows(500).content, &rows(500).structured_content));
        assert_eq!((answer.is_error, status(&answer)), (None, json!("whole")));
    }
    // Structured content within the bound stays, and the texts beside it are shortened.
    let large = ToolResult { structured_content: rows(5).structured_content, ..ToolResult::text(lines(500)) };
    let server = keeping().layer(answering(Ok(large.clone())));
    let answer = call(&server, "write_rows", &user("ada")).await;
    assert_eq!((&answer.structured_content, status(&answer)), (&large.structured_content, json!("spilled")));
    assert!(answer_bytes(&answer) <= BYTES);
    let all = whole(&server, &answer, &user("ada")).await.expect("it is kept");
    assert_eq!(all, [lines(500), large.structured_content.unwrap().to_string()]);
}
