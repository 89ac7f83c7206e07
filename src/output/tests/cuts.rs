//! Answers of tools that are read-only.

use turbomcp_types::{AudioContent, EmbeddedResource, Resource, ResourceContents, TextResourceContents};

use super::*;
use crate::output::cut::beginning;

fn image(bytes: usize) -> Content {
    Content::image("A".repeat(bytes), "image/png")
}

async fn cut(layer: OutputTool, content: Vec<Content>) -> Vec<Content> {
    let answer = ToolResult { content, ..ToolResult::default() };
    call(&layer.layer(answering(Ok(answer))), "read", &user("ada")).await.content
}

#[tokio::test]
async fn an_answer_within_the_bounds_is_passed_as_it_is() {
    let within = ToolResult { structured_content: Some(json!({ "a": [1, 2] })), ..ToolResult::text("x".repeat(1_940)) };
    assert!((1_950..=BYTES).contains(&answer_bytes(&within)), "close to the bound");
    let layer = bound();
    let handle = layer.handle();
    let server = layer.layer(answering(Ok(within.clone())));
    for tool in ["read", "write", "read_rows", "write_rows"] {
        assert_eq!(call(&server, tool, &user("ada")).await, within);
    }
    let stats = handle.stats();
    assert_eq!((stats.cut, stats.spilled, stats.whole, stats.too_large), (0, 0, 0, 0));
    assert_eq!(handle.tools(), ["read", "read_rows", "write", "write_rows"]);
}

#[tokio::test]
async fn a_text_is_cut_after_a_line_and_a_sentence_says_what_is_left_out() {
    let text_of_tool = lines(500);
    let layer = bound();
    let handle = layer.handle();
    let answer = call(&layer.layer(answering(Ok(ToolResult::text(&*text_of_tool)))), "read", &user("ada")).await;
    let [beginning, sentence] = &answer.content[..] else { panic!("{answer:?}") };
    let beginning = text(beginning);
    assert!(text_of_tool.starts_with(beginning) && beginning.ends_with('\n') && beginning.len() > 500, "{beginning}");
    let left_out = text_of_tool.len() - beginning.len();
    let expected = format!(
        "Left out of this answer: {left_out} of {} bytes of text. To get less, call the tool with arguments that select less.",
        text_of_tool.len()
    );
    assert_eq!((text(sentence), answer.is_error()), (&*expected, false));
    assert!(answer_bytes(&answer) <= BYTES);
    assert_eq!(answer.meta.unwrap()[OUTPUT], json!({ "status": "cut", "bytes": 2 + 25 + 500 + text_of_tool.len() }));
    assert_eq!(handle.stats().cut, 1);
}

#[tokio::test]
async fn a_hint_of_the_author_says_how_to_ask_for_less() {
    let layer = bound().with_hint("read", "pass a smaller `limit`").without_meta();
    let answer = call(&layer.layer(answering(Ok(ToolResult::text(lines(500))))), "read", &user("ada")).await;
    assert!(text(&answer.content[1]).ends_with(" bytes of text. To get less, pass a smaller `limit`."), "{answer:?}");
    assert_eq!(answer.meta, None);
}

#[tokio::test]
async fn images_sounds_and_resources_are_kept_or_left_out_whole() {
    let audio = AudioContent { data: "A".repeat(3_000), mime_type: "audio/wav".into(), annotations: None, meta: None };
    let (small, large) = (image(100), image(3_000));
    let link = Content::resource_link(Resource::new("file:///a", "a"));
    let embedded = Content::resource("file:///b", "y".repeat(3_000));
    let blocks = vec![large, small.clone(), Content::Audio(audio), Content::text("short"), embedded, link.clone()];
    let left = cut(bound(), blocks).await;
    assert_eq!(left[..3], [small, Content::text("short"), link]);
    let sentence = "Left out of this answer: 3 of 5 images, sounds and resources.";
    assert!(text(&left[3]).starts_with(sentence) && left.len() == 4, "{left:?}");
}

#[tokio::test]
async fn nothing_follows_a_text_that_was_cut() {
    let left = cut(bound(), vec![Content::text(lines(500)), Content::text("the end"), image(4)]).await;
    assert_eq!(left.len(), 2);
    assert!(text(&left[1]).contains(" bytes of text and 1 of 1 images, sounds and resources."), "{left:?}");
}

#[tokio::test]
async fn more_blocks_than_items_are_left_out() {
    let blocks: Vec<_> = (0..10).map(|number| Content::text(format!("block {number}"))).collect();
    let left = cut(bound().with_max_items(4), blocks.clone()).await;
    assert_eq!(left[..3], blocks[..3]);
    assert!(text(&left[3]).starts_with("Left out of this answer: 49 of 70 bytes of text."), "{left:?}");
    assert_eq!(left.len(), 4);
    assert_eq!(cut(bound().with_max_items(10), blocks.clone()).await, blocks);
    let empty = cut(bound().with_max_items(2), vec![Content::text(""); 3]).await;
    assert!(text(&empty[1]).starts_with("Left out of this answer: empty texts."), "{empty:?}");
}

#[tokio::test]
async fn structured_content_without_a_schema_is_left_out_whole_and_the_text_stays() {
    let answer =
        ToolResult { structured_content: Some(json!({ "rows": vec![0; 5_000] })), ..ToolResult::text("5000 rows") };
    let answer = call(&bound().layer(answering(Ok(answer))), "read", &user("ada")).await;
    assert_eq!((text(&answer.content[0]), &answer.structured_content), ("5000 rows", &None));
    assert!(
        text(&answer.content[1]).starts_with("Left out of this answer: the structured content. To get"),
        "{answer:?}"
    );
    // If only blocks are too many, it stays.
    let structured = Some(json!({ "a": 1 }));
    let many = ToolResult {
        content: vec![Content::text("a"); 5],
        structured_content: structured.clone(),
        ..ToolResult::default()
    };
    let many = call(&bound().with_max_items(3).layer(answering(Ok(many))), "read", &user("ada")).await;
    assert_eq!((many.content.len(), many.structured_content), (3, structured));
}

#[tokio::test]
async fn annotations_and_meta_of_a_text_that_was_cut_stay() {
    let mut block =
        json!({ "type": "text", "text": lines(500), "annotations": { "priority": 1.0 }, "_meta": { "a": 1 } });
    let left = cut(bound(), vec![serde_json::from_value(block.clone()).expect("a block")]).await;
    let mut kept = serde_json::to_value(&left[0]).expect("JSON");
    (block["text"], kept["text"]) = (Value::Null, Value::Null);
    assert_eq!(kept, block);
}

#[tokio::test]
async fn a_tool_that_no_listing_has_is_bounded_too_and_its_answer_is_never_cut() {
    let layer = keeping();
    let handle = layer.handle();
    let server = layer.layer(Unlisted);
    for name in ["made up", "another"] {
        let answer = server.call_tool(name, json!({}), &user("ada")).await.expect("a result");
        assert_eq!(status(&answer), "spilled");
    }
    assert_eq!(handle.stats().kept, 1, "the same answer");
    let answer = bound().layer(Unlisted).call_tool("made up", json!({}), &user("ada")).await.expect("a result");
    assert_eq!(status(&answer), "whole");
}

/// Answers calls of any name, and lists no tool.
#[derive(Clone)]
struct Unlisted;

impl McpHandler for Unlisted {
    fn server_info(&self) -> turbomcp_types::ServerInfo {
        turbomcp_types::ServerInfo::new("unlisted", "1.0.0")
    }

    fn list_tools(&self) -> Vec<Tool> {
        Vec::new()
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<turbomcp_types::Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, _: &'a str, _: Value, _: &'a RequestContext) -> McpResult<ToolResult> {
        Ok(ToolResult::text(lines(500)))
    }

    async fn read_resource<'a>(
        &'a self,
        uri: &'a str,
        _: &'a RequestContext,
    ) -> McpResult<turbomcp_types::ResourceResult> {
        Err(turbomcp_core::McpError::resource_not_found(uri))
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        _: Option<Value>,
        _: &'a RequestContext,
    ) -> McpResult<turbomcp_types::PromptResult> {
        Err(turbomcp_core::McpError::prompt_not_found(name))
    }
}

#[test]
fn the_beginning_of_a_text_ends_after_a_line_or_a_word_or_a_character() {
    assert_eq!(beginning("one two three", 100), "one two three");
    assert_eq!(beginning("", 0), "");
    assert_eq!(beginning("abc", 0), "");
    // Only the last eighth is searched for an end.
    let long = "a".repeat(80);
    assert_eq!(beginning(&format!("{long} bc defgh"), 85), format!("{long} bc "));
    assert_eq!(beginning(&format!("{long}\nbc defgh"), 86), format!("{long}\n"));
    assert_eq!(beginning(&format!("a b {long}"), 80), &format!("a b {long}")[..80]);
    // A character of two bytes and one of four.
    assert_eq!((beginning("ää", 3), beginning("a🦀", 4), beginning("a🦀", 5)), ("ä", "a", "a🦀"));
    // Escapes count as they are sent.
    assert_eq!((beginning("\"\"\"", 5), beginning("\u{1}\u{1}", 11)), ("\"\"", "\u{1}"));
}

#[tokio::test]
async fn an_embedded_text_counts_as_it_is_sent() {
    let contents = TextResourceContents { uri: "a:b".into(), mime_type: None, text: "\"".repeat(1_200), meta: None };
    let resource = EmbeddedResource { resource: ResourceContents::Text(contents), annotations: None, meta: None };
    let left = cut(bound(), vec![Content::Resource(resource)]).await;
    assert!(text(&left[0]).starts_with("Left out of this answer: 1 of 1 images"), "2,400 bytes with the escapes");
}
