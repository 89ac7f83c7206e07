//! Random answers under random bounds.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use turbomcp_types::Resource;

use super::*;

/// Texts with characters of each length, escapes, lines and words.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("word ".to_owned()),
        Just("\n".to_owned()),
        Just("ä€🦀".to_owned()),
        Just("\"\\\u{1}\t".to_owned()),
        "[a-z]{1,40}",
        any::<char>().prop_map(String::from),
    ];
    (vec(piece, 0..12), 0_usize..60).prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

fn any_block() -> impl Strategy<Value = Content> {
    let data = || "[A-Za-z0-9+/]{0,40}".prop_flat_map(|data| (0_usize..80).prop_map(move |times| data.repeat(times)));
    prop_oneof![
        4 => any_text().prop_map(Content::text),
        1 => data().prop_map(|data| Content::image(data, "image/png")),
        1 => data().prop_map(|data| Content::audio(data, "audio/wav")),
        1 => any_text().prop_map(|text| Content::resource("file:///a", text)),
        1 => "[a-z]{1,20}".prop_map(|name| Content::resource_link(Resource::new(format!("file:///{name}"), name))),
    ]
}

fn any_answer() -> impl Strategy<Value = ToolResult> {
    let structure = option::of(vec(any_text(), 0..6).prop_map(|rows| json!({ "rows": rows })));
    (vec(any_block(), 0..8), structure, option::weighted(0.3, any::<bool>())).prop_map(
        |(content, structured_content, is_error)| ToolResult { content, structured_content, is_error, meta: None },
    )
}

/// Whether the texts and blocks of the answer, without the sentence and the link, are the beginning of what was given: each block
/// whole, or a text cut where a character begins.
fn is_beginning(left: &[Content], given: &[Content]) -> bool {
    let mut given = given.iter();
    left.iter().all(|block| {
        given.any(|given| match (block, given) {
            (Content::Text(block), Content::Text(given)) => given.text.starts_with(&block.text),
            (block, given) => block == given,
        })
    })
}

/// Says whether the official SDK reads the answer too, and reads the same.
fn is_valid(answer: &ToolResult) -> bool {
    let json = serde_json::to_value(answer).expect("JSON");
    let own: ToolResult = serde_json::from_value(json.clone()).expect("turbomcp reads it");
    let official: rmcp::model::CallToolResult = serde_json::from_value(json.clone()).expect("rmcp reads it");
    own == *answer && serde_json::to_value(official).expect("JSON") == json
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_answer_is_valid_and_bounded_and_nothing_is_lost_that_cannot_be_asked_for_again(
        given in any_answer(),
        bytes in 1_280_usize..6_000,
        items in option::of(3_usize..8),
        keeps in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let layer = OutputTool::new().with_max_bytes(bytes);
        let layer = items.into_iter().fold(layer, OutputTool::with_max_items);
        let layer = if keeps { layer.with_spill(Spill::new()) } else { layer };
        let server = layer.layer(answering(Ok(given.clone())));
        let is_within = answer_bytes(&given) <= bytes && items.is_none_or(|items| given.content.len() <= items);
        for tool in ["read", "write", "read_rows", "write_rows"] {
            let (answer, all) = runtime.block_on(async {
                let answer = call(&server, tool, &user("ada")).await;
                let all = match link(&answer).filter(|link| link.name == "answer") {
                    Some(_) => whole(&server, &answer, &user("ada")).await,
                    None => None,
                };
                (answer, all)
            });
            prop_assert!(is_valid(&answer), "{answer:?}");
            if is_within {
                prop_assert_eq!(&answer, &given);
                continue;
            }
            let (status, is_write, has_schema) = (status(&answer), tool.starts_with("write"), tool.ends_with("rows"));
            let is_bounded = answer_bytes(&answer) <= bytes && items.is_none_or(|items| answer.content.len() <= items);
            prop_assert!(is_bounded || (status == "whole" && is_write), "{tool} {status}: {answer:?}");
            if status == "whole" {
                prop_assert_eq!((&answer.content, &answer.structured_content), (&given.content, &given.structured_content));
            }
            if given.is_error() {
                prop_assert!(answer.is_error());
            } else if is_write {
                prop_assert!(!answer.is_error(), "it has taken effect");
                prop_assert!(status == "whole" || all.is_some(), "{tool} {status}: something is lost");
            }
            if has_schema && !answer.is_error() {
                prop_assert_eq!(&answer.structured_content, &given.structured_content);
            }
            if keeps && !given.is_error() && status != "whole" {
                prop_assert!(all.is_some(), "{tool} {status}: it is not kept");
            }
            if status == "cut" || status == "spilled" {
                let own = 1 + usize::from(status == "spilled");
                let (left, own) = answer.content.split_at(answer.content.len() - own);
                prop_assert!(is_beginning(left, &given.content), "{answer:?}");
                prop_assert!(text(&own[0]).starts_with("Left out of this "));
            }
        }
    }
}
