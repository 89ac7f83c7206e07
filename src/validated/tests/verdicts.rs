//! The verdict equals that of `jsonschema` with its default options, except that formats are asserted.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::Map;

use super::*;

const NAMES: [&str; 4] = ["a", "b", "ab", "c"];

fn keywords<const N: usize>(all: [(&str, Value); N]) -> Value {
    Value::Object(all.map(|(keyword, value)| (keyword.to_owned(), value)).into_iter().collect())
}

/// Schemas with every keyword that constrains a value, and references.
pub(super) fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        select(vec!["null", "boolean", "integer", "number", "string", "array", "object"])
            .prop_map(|name| json!({"type": name})),
        Just(json!({"type": ["string", "null"]})),
        (0..4_i64).prop_map(|n| json!({"minimum": n, "exclusiveMaximum": n + 3})),
        (0..4_i64).prop_map(|n| json!({"maximum": n, "multipleOf": 2})),
        (0..3_u64).prop_map(|n| json!({"minLength": n, "maxLength": n + 1})),
        select(vec!["^a", "b$", "^[a-c]{1,2}$", "\\d+", "ä|🦀", "^\\w*$"])
            .prop_map(|pattern| json!({"pattern": pattern})),
        select(vec!["email", "date", "date-time", "uuid", "ipv4", "uri", "hostname", "regex", "duration", "unknown"])
            .prop_map(|format| json!({"format": format})),
        Just(json!({"enum": [1, "a", null, [1], {"a": 1}]})),
        Just(json!({"const": 1.0})),
        select(vec!["#", "#/$defs/one", "#/$defs/two"]).prop_map(|reference| json!({"$ref": reference})),
    ];
    let schema = leaf.prop_recursive(3, 24, 4, |inner| {
        let properties = || prop::collection::btree_map(select(NAMES.to_vec()), inner.clone(), 0..3);
        let some = || prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            (properties(), subsequence(NAMES.to_vec(), 0..3), inner.clone()).prop_map(|(properties, required, rest)| {
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": rest})
            }),
            (properties(), 0..3_u64).prop_map(|(properties, n)| {
                json!({"properties": properties, "minProperties": n, "unevaluatedProperties": false})
            }),
            (inner.clone(), inner.clone()).prop_map(|(some, names)| {
                json!({"patternProperties": {"^a": some}, "propertyNames": names, "maxProperties": 3})
            }),
            Just(json!({"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": {"required": ["c"]}}})),
            (inner.clone(), 0..3_u64).prop_map(|(items, n)| json!({"items": items, "minItems": n, "uniqueItems": true})),
            (some(), inner.clone()).prop_map(|(first, rest)| json!({"prefixItems": first, "items": rest, "maxItems": 4})),
            (inner.clone(), 0..3_u64).prop_map(|(one, n)| json!({"contains": one, "minContains": n, "maxContains": 2})),
            some().prop_map(|all| keywords([("allOf", all.into())])),
            some().prop_map(|all| keywords([("anyOf", all.into())])),
            some().prop_map(|all| keywords([("oneOf", all.into())])),
            inner.clone().prop_map(|not| keywords([("not", not)])),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(one, two, three)| keywords([("if", one), ("then", two), ("else", three)])),
        ]
    });
    (schema.clone(), schema.clone(), schema).prop_map(|(root, one, two)| {
        let mut root = match root {
            Value::Object(root) => root,
            other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
        };
        root.insert("$defs".to_owned(), json!({"one": one, "two": two}));
        Value::Object(root)
    })
}

/// Values that meet these schemas half of the time, made of strings and numbers like these.
pub(super) fn values(strings: BoxedStrategy<String>, numbers: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), strings.prop_map(Value::from), numbers];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(select(NAMES.to_vec()), inner, 0..4).prop_map(|entries| json!(entries)),
        ]
    })
}

pub(super) fn plain_values() -> impl Strategy<Value = Value> {
    let strings = prop_oneof![
        "[abc1ä]{0,3}",
        select(vec![
            "ada@example.org",
            "2026-01-31",
            "2026-01-31T00:00:00Z",
            "127.0.0.1",
            "https://example.org/a",
            "(a",
            "P3D"
        ])
        .prop_map(str::to_owned),
    ];
    let numbers = prop_oneof![
        (-1..6_i64).prop_map(Value::from),
        (0..6_i32).prop_map(|n| json!(f64::from(n) / 2.0)),
        any::<u64>().prop_map(Value::from),
    ];
    values(strings.boxed(), numbers.boxed())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_is_that_of_jsonschema(schema in schemas(), value in plain_values()) {
        // `jsonschema` overflows the stack with a schema that refers to itself and constrains nothing.
        prop_assume!(!crate::references::References::of(schema.clone()).is_endless());
        let reference = jsonschema::options().should_validate_formats(true).build(&schema);
        let ours = Schema::compile(&schema);
        prop_assert_eq!(ours.is_ok(), reference.is_ok());
        if let (Ok(ours), Ok(reference)) = (ours, reference) {
            prop_assert_eq!(ours.check(&value).is_ok(), reference.is_valid(&value), "{}", schema);
        }
    }
}

#[test]
fn formats_are_asserted_although_the_draft_only_annotates_them() {
    let schema = json!({"format": "email"});
    assert!(jsonschema::validator_for(&schema).expect("a schema").is_valid(&json!("nonsense")));
    assert!(Schema::compile(&schema).expect("a schema").check(&json!("nonsense")).is_err());
}
