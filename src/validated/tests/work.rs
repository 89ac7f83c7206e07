//! The cost of judging an input and of reporting its violations, counted in steps and in allocated bytes, never in
//! time.

use allocation_counter::measure;
use proptest::prelude::*;

use super::verdicts::{plain_values, schemas};
use super::*;
use crate::validated::hints::Hints;
use crate::validated::violations::Collector;
use crate::validated::walk::Extent;

/// The work for one input.
#[derive(Debug, Clone, Copy)]
struct Work {
    /// The amount that the validator read for its verdict.
    verdict: u64,
    /// The amount that was read, compared and written for the report.
    telling: u64,
    /// The bytes allocated for both.
    bytes: u64,
}

fn work(schema: &Schema, value: &Value) -> Work {
    let mut counted = (0, 0);
    let bytes = measure(|| {
        let mut hints = Hints::new();
        let mut found = Collector::new(20);
        let (verdict, telling) = schema.find(value, &mut hints, &mut found);
        let told = found.into_result().map_or_else(|violations| violations.to_string().len(), |()| 0);
        counted = (verdict, telling + (hints.pairs() + told) as u64 / 16);
    });
    Work { verdict: counted.0, telling: counted.1, bytes: bytes.bytes_total }
}

fn list(count: usize, item: &Value) -> Value {
    Value::Array(vec![item.clone(); count])
}

fn object(count: usize, entry: &Value) -> Value {
    Value::Object((0..count).map(|index| (format!("some_property_{index:05}"), entry.clone())).collect())
}

/// A value nested as deep as the default limits allow, and wider with `count`.
fn nested(count: usize, name: &str) -> Value {
    let deep = (0..26).fold(json!({"eq": 1}), |inner, _| json!({ name: inner }));
    list(count / 26 + 1, &deep)
}

/// The name of a keyword, a schema with it, and a value for each size that causes the most work.
type Keyword = (&'static str, Value, fn(usize) -> Value);

fn keywords() -> Vec<Keyword> {
    let known: Value = (0..400)
        .map(|index| (format!("some_property_{index:03}x"), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let options: Vec<_> = (0..400).map(|index| format!("some_option_{index:03}")).collect();
    let alternatives: Vec<_> = (0..20).map(|index| json!({"properties": {"kind": {"const": index}, "n": {"type": "string"}}, "required": ["kind", "a", "b", "c"]})).collect();
    let node = json!([
        {"properties": {"not": {"$ref": "#/$defs/n"}}, "required": ["not"]},
        {"properties": {"not": {"$ref": "#/$defs/n"}, "or": {"$ref": "#/$defs/n"}}, "required": ["not", "or"]},
        {"properties": {"eq": {"type": "string"}}, "required": ["eq"]},
    ]);
    let d7 = "http://json-schema.org/draft-07/schema#";
    let d19 = "https://json-schema.org/draft/2019-09/schema";
    let items = |schema: Value| json!({"items": schema});
    let nodes = |keyword: &str| json!({"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {keyword: node}}});
    vec![
        ("type", items(json!({"type": "string"})), |n| list(n, &json!(1))),
        ("const", items(json!({"const": {"a": [1, 2, 3]}})), |n| list(n, &json!({"a": [1, 2, 4]}))),
        ("enum", items(json!({"enum": options})), |n| list(n, &json!("some_option_x"))),
        ("enum of objects", items(json!({"enum": [{"a": [1, 2]}, {"a": [1, 3]}]})), |n| list(n, &json!({"a": [1, 4]}))),
        ("minimum", items(json!({"minimum": 2, "maximum": 0, "multipleOf": 7})), |n| list(n, &json!(1))),
        ("minLength", items(json!({"minLength": 99, "pattern": "^b+$"})), |n| list(n, &json!("aaaaaaaaaaaaaaaa"))),
        ("maxLength", json!({"maxLength": 2}), |n| json!("ü".repeat(16 * n))),
        ("pattern", json!({"pattern": "^(a|a)*b$"}), |n| json!("a".repeat(16 * n))),
        ("format", json!({"format": "email"}), |n| json!("a@".repeat(8 * n))),
        ("format regex", json!({"format": "regex"}), |n| json!("(".repeat(n.min(400)))),
        ("contentEncoding", json!({"$schema": d7, "contentEncoding": "base64"}), |n| json!("?".repeat(16 * n))),
        ("contentMediaType", json!({"$schema": d7, "contentMediaType": "application/json"}), |n| {
            json!("[".repeat(16 * n))
        }),
        ("required", items(json!({"required": ["a", "b", "c", "d", "e"]})), |n| list(n, &json!({}))),
        ("additionalProperties", json!({"properties": known, "additionalProperties": false}), |n| object(n, &json!(1))),
        ("additionalProperties of a schema", json!({"additionalProperties": {"type": "string"}}), |n| {
            object(n, &json!(1))
        }),
        (
            "patternProperties",
            json!({"patternProperties": {"^some": {"type": "string"}, "0$": {"type": "null"}}}),
            |n| object(n, &json!(1)),
        ),
        ("propertyNames", json!({"propertyNames": {"maxLength": 3, "pattern": "^x"}}), |n| object(n, &json!(1))),
        ("maxProperties", items(json!({"maxProperties": 1, "minProperties": 9})), |n| {
            list(n, &json!({"a": 1, "b": 1}))
        }),
        (
            "unevaluatedProperties",
            json!({"anyOf": [{"properties": known}, {"patternProperties": {"^z": {}}}], "unevaluatedProperties": false}),
            |n| object(n, &json!(1)),
        ),
        ("dependentRequired", items(json!({"dependentRequired": {"a": ["b", "c"]}})), |n| list(n, &json!({"a": 1}))),
        ("dependentSchemas", items(json!({"dependentSchemas": {"a": {"required": ["b"]}}})), |n| {
            list(n, &json!({"a": 1}))
        }),
        ("dependencies", items(json!({"$schema": d7, "dependencies": {"a": ["b"], "c": {"required": ["d"]}}})), |n| {
            list(n, &json!({"a": 1, "c": 1}))
        }),
        ("maxItems", items(json!({"maxItems": 1, "minItems": 9})), |n| list(n, &json!([1, 2]))),
        ("prefixItems", json!({"prefixItems": [{"type": "string"}], "items": false}), |n| list(n, &json!(1))),
        ("additionalItems", json!({"$schema": d7, "items": [{}], "additionalItems": {"type": "string"}}), |n| {
            list(n, &json!(1))
        }),
        ("contains", items(json!({"contains": {"type": "string"}, "minContains": 2})), |n| list(n, &json!([1, 2, 3]))),
        ("maxContains", json!({"contains": {"type": "integer"}, "maxContains": 2}), |n| list(n, &json!(1))),
        ("uniqueItems", json!({"uniqueItems": true}), |n| {
            (0..n).map(|index| json!({"a": [index, index]})).chain([json!({"a": [0, 0]})]).collect()
        }),
        (
            "uniqueItems below each other",
            json!({"uniqueItems": true, "items": {"uniqueItems": true, "items": {"uniqueItems": true}}}),
            |n| list(n, &json!([[1, 1], [1, 1]])),
        ),
        (
            "unevaluatedItems",
            json!({"prefixItems": [{}], "contains": {"type": "string"}, "unevaluatedItems": false}),
            |n| list(n, &json!(1)),
        ),
        ("allOf", items(json!({"allOf": alternatives})), |n| list(n, &json!({"kind": 77}))),
        ("anyOf", items(json!({"anyOf": alternatives})), |n| list(n, &json!({"kind": 77}))),
        ("oneOf", items(json!({"oneOf": alternatives})), |n| list(n, &json!({"kind": 3}))),
        ("oneOf of several", items(json!({"oneOf": [{"minimum": 0}, {"maximum": 9}, {"type": "integer"}]})), |n| {
            list(n, &json!(1))
        }),
        ("not", items(json!({"not": {"required": ["a"]}})), |n| list(n, &json!({"a": 1}))),
        ("if", items(json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": false})), |n| {
            list(n, &json!({"a": 1}))
        }),
        ("false", json!({"properties": {"a": false}, "additionalProperties": false}), |n| object(n, &json!(1))),
        ("$ref in anyOf", nodes("anyOf"), |n| nested(n, "not")),
        ("$ref in oneOf", nodes("oneOf"), |n| nested(n, "not")),
        ("$ref in allOf", nodes("allOf"), |n| nested(n, "not")),
        (
            "$recursiveRef",
            json!({"$schema": d19, "$recursiveAnchor": true, "type": ["array", "object"], "items": {"$recursiveRef": "#"}, "properties": {"not": {"$recursiveRef": "#"}, "eq": {"type": "string"}}}),
            |n| nested(n, "not"),
        ),
        (
            "$dynamicRef",
            json!({"$dynamicAnchor": "n", "type": ["array", "object"], "items": {"$dynamicRef": "#n"}, "properties": {"not": {"$dynamicRef": "#n"}}, "unevaluatedProperties": false}),
            |n| nested(n, "not"),
        ),
        (
            "long names",
            json!({"additionalProperties": {"items": {"type": "string"}}}),
            |n| json!({"x".repeat(16 * n): list(n, &json!(1))}),
        ),
    ]
}

#[test]
fn the_work_grows_no_faster_than_the_input_whatever_the_keyword() {
    for (keyword, source, value) in keywords() {
        let schema = Schema::compile(&source).expect("a schema");
        let alone = jsonschema::options().should_validate_formats(true).build(&source).expect("a schema");
        assert!(!alone.is_valid(&value(128)), "{keyword}: nothing is wrong with it");
        let sizes = [128, 256, 512, 1024, 2048];
        let all: Vec<_> = sizes.map(|size| work(&schema, &value(size))).to_vec();
        assert!(all.iter().all(|work| work.telling > 0), "{keyword}: it is not reported");
        for (work, size) in all.windows(2).zip(sizes) {
            let [one, two] = work else { unreachable!("windows of two") };
            let grows = |one: u64, two: u64, least: u64| two <= least.max(one * 5 / 2);
            assert!(grows(one.verdict, two.verdict, 2_000), "{keyword} at {size}, verdict: {all:?}");
            assert!(grows(one.telling, two.telling, 60_000), "{keyword} at {size}, telling: {all:?}");
            assert!(grows(one.bytes, two.bytes, 1_000_000), "{keyword} at {size}, allocations: {all:?}");
        }
    }
}

#[test]
fn the_cost_of_a_schema_with_several_references_to_itself_does_not_grow_with_each_level() {
    let again = json!({"properties": {"not": {"$ref": "#/$defs/n"}}});
    let other = json!({"properties": {"not": {"$ref": "#/$defs/n"}}, "maxProperties": 9});
    for (keyword, node) in [
        ("anyOf", json!({"anyOf": [again, other, {"required": ["x"]}]})),
        ("oneOf", json!({"oneOf": [again, other, {"required": ["x"]}]})),
        ("allOf", json!({"allOf": [again, other, again]})),
        ("if", json!({"if": again, "then": again, "else": other})),
        ("not", json!({"not": {"not": again}, "allOf": [again, other]})),
        ("dependentSchemas", json!({"dependentSchemas": {"not": again}, "allOf": [again, other]})),
        ("unevaluatedProperties", json!({"anyOf": [again, other], "unevaluatedProperties": false})),
        (
            "patternProperties",
            json!({"patternProperties": {"n": {"$ref": "#/$defs/n"}, "o": {"$ref": "#/$defs/n"}, "t": {"$ref": "#/$defs/n"}}}),
        ),
    ] {
        let mut node = node;
        node["type"] = json!("object");
        let schema = Schema::compile(&json!({"$ref": "#/$defs/n", "$defs": {"n": node}})).expect("a schema");
        let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"not": inner}));
        let [shallow, middle, deep] = [7, 14, 28].map(|levels| work(&schema, &deep(levels)));
        let all = [shallow, middle, deep];
        assert!(deep.telling > 0, "{keyword}: nothing is wrong with it");
        assert!(deep.verdict <= 500.max(middle.verdict * 5), "{keyword}, verdict: {all:?}");
        assert!(deep.telling <= 80_000, "{keyword}, telling: {all:?}");
    }
}

#[test]
fn the_tests_of_cost_cover_every_asserting_keyword() {
    let all = keywords().into_iter().map(|(_, schema, _)| schema.to_string()).collect::<String>();
    for keyword in [
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "contains",
        "contentEncoding",
        "contentMediaType",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "enum",
        "format",
        "if",
        "items",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "patternProperties",
        "prefixItems",
        "properties",
        "propertyNames",
        "required",
        "then",
        "type",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
    ] {
        assert!(all.contains(&format!("\"{keyword}\":")), "{keyword}");
    }
}

/// The value, with each of its lists and objects that many times as long.
fn repeated(value: &Value, times: usize) -> Value {
    match value {
        Value::Array(items) => (0..times).flat_map(|_| items.iter().map(|item| repeated(item, 1))).collect(),
        Value::Object(entries) => {
            let copies = (0..times).flat_map(|copy| {
                let name = move |name: &str| if copy == 0 { name.to_owned() } else { format!("{name}{copy}") };
                entries.iter().map(move |(known, entry)| (name(known), repeated(entry, times)))
            });
            Value::Object(copies.collect())
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_report_reads_at_most_a_fixed_multiple_of_the_input_and_of_the_verdict(schema in schemas(), value in plain_values(), times in 1..5_usize) {
        let Ok(schema) = Schema::compile(&schema) else { return Ok(()) };
        let value = repeated(&value, times);
        let work = work(&schema, &value);
        let most = 20_000 + 64 * Extent::of(&value).steps + 4 * work.verdict + 20_000;
        prop_assert!(work.telling <= most, "{work:?}: more than {most}");
        prop_assert!(work.bytes <= 100_000 + 64 * (work.verdict + work.telling), "{work:?}: what is allocated is not counted");
    }
}
