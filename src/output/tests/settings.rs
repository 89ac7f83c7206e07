use super::*;

fn mistake(layer: &OutputTool) -> String {
    let made = layer.try_layer(answering(Ok(ToolResult::default())));
    made.map(|_| "none".to_owned()).unwrap_or_else(|mistake| mistake.to_string())
}

#[test]
fn a_setting_that_cannot_work_is_an_error_that_says_what_to_do() {
    let new = OutputTool::new;
    let spill = |spill| mistake(&new().with_spill(spill));
    let cases = [
        (
            mistake(&new().with_max_bytes(1_279)),
            "with_max_bytes: must be at least 1280: the sentence about what is left out needs most of them",
        ),
        (
            mistake(&new().with_max_bytes(1_500).with_hint("read", "x".repeat(219))),
            "with_max_bytes: must be at least 1501: the sentence about what is left out needs most of them",
        ),
        (
            mistake(&new().with_max_items(1)),
            "with_max_items: must be at least 2: one block of the answer, and what says where the rest is",
        ),
        (
            mistake(&keeping().with_max_items(2)),
            "with_max_items: must be at least 3: one block of the answer, and what says where the rest is",
        ),
        (
            spill(Spill::new().with_ttl(Duration::ZERO)),
            "with_spill: no answer could ever be read: set a `with_ttl` of some minutes",
        ),
        (
            spill(Spill::new().with_ttl(Duration::from_nanos(1))),
            "with_spill: no answer could ever be read: set a `with_ttl` of some minutes",
        ),
        (
            spill(Spill::new().with_max_bytes(392 << 10)),
            "with_spill: a principal may keep 98 KiB, which is too little for any answer above `with_max_bytes`: allow more than \
             100512 B",
        ),
        (
            spill(Spill::new().with_max_bytes_per_principal(0)),
            "with_spill: a principal may keep 0 B, which is too little for any answer above `with_max_bytes`: allow more than 100512 B",
        ),
        (
            mistake(&new().with_hint("read", " ")),
            "with_hint: the hint for `read` is empty: say how to ask for less, or remove it",
        ),
        (
            mistake(&new().with_hint("read", "ask").except(["read"])),
            "with_hint: `read` is named here and left out: remove one of the two",
        ),
        (
            mistake(&new().allow_cut(["write"]).only(["read"])),
            "allow_cut: `write` is named here and left out: remove one of the two",
        ),
        (
            mistake(&new().without_redaction_of_structure(["read"])),
            "without_redaction_of_structure: no redaction is set, so nothing is redacted: set `with_redaction`, or remove this setting",
        ),
    ];
    for (mistake, expected) in cases {
        assert_eq!(mistake, format!("OutputTool::{expected}"));
    }
    for misspelt in [new().only(["raed"]), new().with_hint("raed", "ask"), new().allow_cut(["raed"])] {
        assert!(mistake(&misspelt).contains("`raed`"));
    }
    for fits in [new().with_max_bytes(1_280), new().with_max_items(2), keeping().with_max_items(3)] {
        assert_eq!(mistake(&fits), "none");
    }
    assert_eq!(spill(Spill::new().with_ttl(Duration::MAX)), "none");
    assert_eq!(mistake(&new().with_max_bytes(usize::MAX)), "none");
}

#[test]
fn an_explanation_says_what_becomes_of_the_answers_of_each_tool() {
    let explained = |layer: OutputTool| crate::explain(&layer.layer(answering(Ok(ToolResult::default()))));
    let settings = |layer: OutputTool| {
        let explained = explained(layer);
        let tool = |name: &str| {
            let tool = explained.tools().iter().find(|tool| tool.name == name).expect("it is listed");
            tool.layers[0].settings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        ["read", "write", "read_rows", "write_rows"].map(tool)
    };
    assert_eq!(
        settings(OutputTool::new().with_hint("read", "pass a `limit`").allow_cut(["write_rows"])),
        [
            "above the bounds cut, hint pass a `limit`",
            "above the bounds whole",
            "above the bounds cut, or an error",
            "above the bounds cut, or whole"
        ]
    );
    assert_eq!(
        settings(keeping()),
        [
            "above the bounds kept",
            "above the bounds kept",
            "above the bounds kept, or an error",
            "above the bounds kept, or whole"
        ]
    );
    let text = explained(keeping().with_max_items(20).with_redaction(|_, text| text.into())).to_string();
    for words in ["bytes 2000 B", "items 20", "spill 15 min, up to 64 MiB, 16 MiB per principal", "redaction on"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[tokio::test]
async fn the_defaults_are_a_hundred_thousand_bytes_any_number_of_blocks_and_nothing_kept() {
    let fits = ToolResult { content: vec![Content::text("x"); 3_700], ..ToolResult::default() };
    assert!((99_000..100_000).contains(&answer_bytes(&fits)));
    let server = OutputTool::default().layer(answering(Ok(fits.clone())));
    assert_eq!(call(&server, "read", &user("ada")).await, fits);
    let server = OutputTool::default().layer(answering(Ok(ToolResult::text("x".repeat(100_000)))));
    let cut = call(&server, "read", &user("ada")).await;
    assert!(link(&cut).is_none() && answer_bytes(&cut) <= 100_000 && answer_bytes(&cut) > 98_000);
}

#[tokio::test]
async fn selectors_leave_tools_without_bounds() {
    let layer = bound().only(["read"]);
    let handle = layer.handle();
    let server = layer.layer(answering(Ok(ToolResult::text(lines(500)))));
    assert_eq!(text(&call(&server, "read_rows", &user("ada")).await.content[0]), lines(500));
    assert_ne!(text(&call(&server, "read", &user("ada")).await.content[0]), lines(500));
    assert_eq!(handle.tools(), ["read"]);
}
