//! Answers above a bound.

use std::time::Duration;

use mcp_patterns::output::Spill;
use mcp_patterns::{CachedTool, OutputTool, outcome};
use serde_json::{Value, json};
use turbomcp_types::Content;

use crate::both_sdks::script::Script;
use crate::both_sdks::{Answer, in_both_columns, mark, rmcp, text};

fn bound() -> OutputTool {
    OutputTool::new().with_max_bytes(2_000)
}

/// The arguments of a call whose answer is long.
fn long() -> Value {
    json!({ "topic": "tea".repeat(2_000) })
}

/// The whole answer of the first call.
fn whole(tool: &str) -> String {
    format!("{tool} {}: 1", "tea".repeat(2_000))
}

fn link(answer: &Answer) -> String {
    match answer.as_ref().expect("a result").content.last() {
        Some(Content::ResourceLink(link)) => link.uri.clone(),
        _ => panic!("no link: {answer:?}"),
    }
}

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn a_long_answer_of_a_read_is_cut_and_one_of_a_write_is_not() {
        let script = Script::new();
        let client = serve(&script, bound().with_hint("read", "name a shorter topic")).client("ada").await;
        let cut = client.call("read", long()).await;
        assert!(whole("read").starts_with(&text(&cut)) && text(&cut).len() < 2_000);
        let sentence = cut.as_ref().expect("a result").content[1].as_text().expect("a sentence");
        assert!(sentence.ends_with(" To get less, name a shorter topic."), "{sentence}");
        assert_eq!(mark(&cut, outcome::OUTPUT)["status"], "cut");
        let written = client.call("write", long()).await;
        assert_eq!((text(&written), &mark(&written, outcome::OUTPUT)["status"]), (whole("write"), &json!("whole")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_answer_is_read_by_its_caller_only_and_for_its_time_only() {
        let script = Script::new();
        let server = serve(&script, bound().with_spill(Spill::new().with_ttl(Duration::from_secs(600))));
        let ada = server.client("ada").await;
        let uri = link(&ada.call("write", long()).await);
        let read = |answer: turbomcp_core::McpResult<turbomcp_types::ResourceResult>| {
            answer.expect("a resource").contents[0].text().expect("a text").to_owned()
        };
        assert_eq!(read(server.client("ada").await.read(&uri).await), whole("write"), "over another connection, too");
        // The server has a resource for every URI.
        assert_eq!(read(server.client("bob").await.read(&uri).await), format!("{uri}: 1"));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(read(ada.read(&uri).await), format!("{uri}: 2"));
    }

    #[tokio::test(start_paused = true)]
    async fn hits_of_a_cache_further_in_have_one_link() {
        let script = Script::new();
        let client = serve(&script, (bound().with_spill(Spill::new()), CachedTool::new())).client("ada").await;
        let (first, hit) = (client.call("read", long()).await, client.call("read", long()).await);
        assert_eq!((link(&first), script.calls("read")), (link(&hit), 1));
        assert_eq!(mark(&hit, outcome::CACHE)["status"], "hit");
    }

    #[tokio::test(start_paused = true)]
    async fn texts_and_errors_are_redacted() {
        let script = Script::new();
        let client = serve(&script, OutputTool::new().with_redaction(|_, text| text.replace("tea", "***").into())).client("ada").await;
        assert_eq!(text(&client.call("read", json!({"topic": "tea"})).await), "read ***: 1");
        let client = serve(&script, OutputTool::new().with_redaction(|_, text| text.replace("Internal", "***").into())).client("ada").await;
        for how in ["error", "result"] {
            let failed = client.call("fail", json!({"kind": "internal", "how": how})).await;
            assert!(text(&failed).starts_with("*** at "), "{failed:?}");
            assert_eq!(outcome::failure(&failed).and_then(|failure| failure.kind()), Some(outcome::ErrorKind::Internal));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_of_around_reads_only_its_own_answers() {
    let script = Script::new();
    let stack = rmcp::serve(&script, bound().with_spill(Spill::new()));
    let (one, other) = (stack.around(&script), stack.around(&script));
    let uri = link(&one.client("ada").await.call("write", long()).await);
    for (server, expected) in [(one, whole("write")), (other, format!("{uri}: 1"))] {
        let read = server.client("ada").await.read(&uri).await.expect("a resource");
        assert_eq!(read.contents[0].text(), Some(&*expected));
    }
}
