//! Limits on the size of an input.

use super::*;

fn refused(limits: &Limits, value: &Value) -> (String, String, String) {
    let violation = limits.check(value).expect_err("too large");
    (violation.pointer().to_owned(), violation.code().to_owned(), violation.to_string())
}

fn nested(levels: usize) -> Value {
    (1..levels).fold(json!([]), |inner, _| Value::Array(vec![inner]))
}

#[test]
fn each_limit_is_reported_with_its_place() {
    let limits = Limits::new()
        .with_max_bytes(100)
        .with_max_depth(3)
        .with_max_values(13)
        .with_max_items(4)
        .with_max_properties(3)
        .with_max_string_bytes(8);
    for (value, pointer, code, sentence) in [
        (json!({"a": [[[]]]}), "/a/0/0", "max_depth", "`a[0][0]` is nested deeper than 3 levels"),
        (json!({"a": [1, 2, 3, 4, 5]}), "/a", "max_items", "`a` has more than 4 items"),
        (json!({"a": 1, "b": 1, "c": 1, "d": 1}), "", "max_properties", "The input has more than 3 properties"),
        (json!({"a": ["123456789"]}), "/a/0", "max_string_bytes", "`a[0]` is longer than 8 bytes"),
        (
            json!({"a": {"123456789": 1}}),
            "/a",
            "max_string_bytes",
            "`a` has a property whose name is longer than 8 bytes",
        ),
        (json!([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]), "", "max_values", "The input has more than 13 values"),
        (
            json!([
                ["12345678", "12345678", "12345678"],
                ["12345678", "12345678", "12345678"],
                ["12345678", "12345678", "12345678"]
            ]),
            "",
            "max_bytes",
            "The input is larger than 100 bytes",
        ),
    ] {
        assert_eq!(refused(&limits, &value), (pointer.to_owned(), code.to_owned(), sentence.to_owned()));
    }
    let largest = json!({"a": [[], "12345678"], "b": {"12345678": 1}, "c": [1, 2, 3, 4]});
    assert_eq!(limits.check(&largest), Ok(()));
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let limits = Limits::new();
    assert_eq!(limits.check(&nested(32)), Ok(()));
    assert_eq!(refused(&limits, &nested(33)).1, "max_depth");
    assert_eq!(limits.check(&vec![1; 10_000].into()), Ok(()));
    assert_eq!(refused(&limits, &vec![1; 10_001].into()).1, "max_items");
    let object = |entries: usize| Value::Object((0..entries).map(|entry| (entry.to_string(), json!(1))).collect());
    assert_eq!(limits.check(&object(1_000)), Ok(()));
    assert_eq!(refused(&limits, &object(1_001)).1, "max_properties");
    assert_eq!(limits.check(&"x".repeat(512 * 1024).into()), Ok(()));
    assert_eq!(refused(&limits, &"x".repeat(512 * 1024 + 1).into()).1, "max_string_bytes");
    let values: Value = vec![json!(vec![1; 9_999]); 5].into();
    assert_eq!(refused(&limits, &values).1, "max_values");
    let strings: Value = vec![json!("x".repeat(350_000)); 3].into();
    assert_eq!(refused(&limits, &strings).1, "max_bytes");
}

#[test]
fn an_input_deeper_than_the_stack_ends_the_walk() {
    let deep = nested(1_000_000);
    assert_eq!(refused(&Limits::new(), &deep).1, "max_depth");
    let all = Limits::new().with_max_depth(128);
    assert_eq!(refused(&all, &deep).1, "max_depth");
    std::mem::forget(deep);
}

#[test]
fn the_size_limit_counts_the_json_text() {
    let values = [
        json!({"name": "Ada", "tags": ["a", "b"], "n": [1, -2, 0, 1.5, 1e300, u64::MAX], "on": [true, false, null]}),
        json!([[], {}, "", 10, 99, 100]),
    ];
    for value in values {
        let size = value.to_string().len();
        assert_eq!(Limits::new().with_max_bytes(size + 10).check(&value), Ok(()), "{value}");
        assert!(Limits::new().with_max_bytes(size - 1).check(&value).is_err(), "{value}");
    }
}

#[tokio::test]
async fn limits_of_one_tool_apply_without_other_checks() {
    let script = taking(json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}}))
        .with_tool(tool("other", json!({"type": "object", "properties": {"a": {}}})), |_| async {
            Ok(ToolResult::text("ok"))
        });
    let server = ValidatedTool::new().with_limits_for("take", Limits::new().with_max_items(2)).layer(script.clone());
    let args = json!({"a": [1, 2, 3]});
    let answer = call(&server, "take", args.clone()).await;
    assert_eq!(listed(&answer), [("/a".to_owned(), "max_items".to_owned())]);
    assert_eq!(violations(&answer)[0]["expected"], json!({"max_items": 2}));
    assert_eq!(text(&call(&server, "other", args).await), "ok");
    assert_eq!((script.calls("take"), script.calls("other")), (0, 1));
}

#[test]
fn limits_that_refuse_every_input_are_configuration_errors() {
    for (limits, reason) in [
        (Limits::new().with_max_depth(0), "`with_max_depth` must be greater than zero"),
        (Limits::new().with_max_depth(129), "`with_max_depth` must be at most 128"),
        (Limits::new().with_max_values(0), "`with_max_values` must be greater than zero"),
        (Limits::new().with_max_bytes(0), "`with_max_bytes` must be greater than zero"),
    ] {
        let server = || taking(json!({"type": "object"}));
        let mistake = ValidatedTool::new().with_limits(limits.clone()).try_layer(server()).expect_err("a mistake");
        assert_eq!(mistake.to_string(), format!("ValidatedTool::with_limits: {reason}"));
        assert_eq!(limits.check_settings(), Err(mistake), "the limits themselves say the same");
        assert!(ValidatedTool::new().with_limits_for("take", limits).try_layer(server()).is_err());
    }
}
