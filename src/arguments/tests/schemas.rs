//! A schema with an added argument, compared with the author's schema by the arguments that each accepts.

use proptest::prelude::*;
use serde_json::Map;

use super::*;

fn accepts(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().offline().build(schema).unwrap_or_else(|error| panic!("{error} in {schema}"))
}

fn listed(own: &Value, argument: &LayerArgument) -> Value {
    let mut tool = tool(own.clone());
    assert!(argument.add_to(&mut tool), "{own}");
    serde_json::to_value(tool.input_schema).expect("a schema")
}

/// Objects of up to three properties, of which some are objects.
fn inputs() -> Vec<Value> {
    let values = [None, Some(json!(1)), Some(json!("s")), Some(json!({"a": 1})), Some(json!({"a": {"a": 1}}))];
    let mut inputs = Vec::new();
    for a in &values {
        for b in &values[..3] {
            for x in &values[..3] {
                let all = [("a", a), ("b", b), ("x-1", x)];
                let given = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
                inputs.push(Value::Object(given.collect()));
            }
        }
    }
    inputs
}

fn with_key(input: &Value, key: Value) -> Value {
    let mut input = input.clone();
    input["key"] = key;
    input
}

/// How the schema with the argument differs from the author's: narrower, which is always wrong, or wider.
fn differences(own: &Value) -> (Vec<String>, Vec<String>) {
    let (mut narrower, mut wider) = (Vec::new(), Vec::new());
    for argument in [key(), key().required()] {
        let listed = listed(own, &argument);
        let (before, after) = (accepts(own), accepts(&listed));
        for input in inputs() {
            let (is_valid, given) = (before.is_valid(&input), with_key(&input, json!("k")));
            let mut hold = |is_wanted: bool, input: &Value| match (is_wanted, after.is_valid(input)) {
                (true, false) => narrower.push(format!("{input} by {listed} of {own}")),
                (false, true) => wider.push(format!("{input} by {listed} of {own}")),
                _ => {}
            };
            hold(is_valid, &given);
            hold(is_valid && !argument.is_required, &input);
            hold(false, &with_key(&input, json!(7)));
        }
    }
    (narrower, wider)
}

#[test]
fn a_plain_object_schema_accepts_exactly_the_added_argument() {
    let plain = [
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"additionalProperties": false}}}),
        json!({"type": "object", "properties": {"a": {}}, "patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {}}, "unevaluatedProperties": false}),
        json!({"type": "object", "propertyNames": {"maxLength": 1}}),
        json!({"type": "object", "dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": {"required": ["x-1"]}}}),
    ];
    for own in plain {
        assert_eq!(differences(&own), (vec![], vec![]), "{own}");
    }
}

#[test]
fn references_and_combinations_without_a_count_are_widened_exactly() {
    let a = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let b = json!({"type": "object", "properties": {"b": {}}, "required": ["b"], "additionalProperties": false});
    let exact = [
        json!({"type": "object", "$ref": "#/$defs/A", "$defs": {"A": a}}),
        json!({"type": "object", "title": "T", "$ref": "#/definitions/A%3Cint%3E", "definitions": {"A<int>": a}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/A", "additionalProperties": false, "definitions": {"A": a}}),
        json!({"$ref": "#/$defs/A", "minProperties": 0, "$defs": {"A": a}}),
        json!({"$ref": "#/$defs/A", "required": ["b"], "$defs": {"A": {"properties": {"a": {}, "b": {}}, "additionalProperties": false}}}),
        json!({"$ref": "#/$defs/B", "$defs": {"A": a, "B": {"$ref": "#/$defs/A"}}}),
        json!({"$ref": "#/$defs/A", "allOf": [{"propertyNames": {"pattern": "^[a-z]"}}], "$defs": {"A": a}}),
        json!({"not": {"$ref": "#/$defs/A", "allOf": [{"propertyNames": {"pattern": "^[a-z]"}}]}, "$defs": {"A": a}}),
        json!({"oneOf": [a, b]}),
        json!({"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}], "$defs": {"A": a, "B": b}}),
        json!({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {}}, "additionalProperties": false}),
        json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}], "unevaluatedProperties": false}),
        json!({"allOf": [{"$ref": "#/$defs/A"}, {"propertyNames": {"pattern": "^[a-z]$"}}], "$defs": {"A": a}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "oneOf": [{"$ref": "#/definitions/A", "maxProperties": 1}, {"$ref": "#/definitions/B"}], "definitions": {"A": a, "B": b}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "oneOf": [{"$ref": "#/definitions/A", "maxProperties": 0}, {"$ref": "#/definitions/B"}], "definitions": {"A": {"required": ["a"]}, "B": {"required": ["b"]}}}),
        json!({"not": a}),
        json!({"if": a, "then": {"properties": {"a": {"const": 1}}, "unevaluatedProperties": false}, "else": b}),
        json!({"properties": {"a": {"type": "object", "$ref": "#"}, "b": {}}, "additionalProperties": false}),
        json!({"$id": "https://x.org/s", "properties": {"a": {"anyOf": [{"type": "integer"}, {"$ref": "https://x.org/s"}]}}, "additionalProperties": false}),
        json!({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/$defs/Arguments"}}, "additionalProperties": false, "$defs": {"Arguments": {"type": "integer"}}}),
        json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "properties": {"a": {"$recursiveRef": "#"}, "b": {}}, "additionalProperties": false}),
        json!({"$anchor": "me", "properties": {"a": {"$ref": "#me"}, "b": {}}, "additionalProperties": false}),
        json!({"$id": "https://x.org/all", "properties": {"a": {"$ref": "all"}, "b": {}}, "additionalProperties": false}),
        json!({"$id": "https://x.org/all", "allOf": [{"$ref": "https://x.org/all#/$defs/A"}], "$defs": {"A": {"additionalProperties": {"type": "integer"}}}}),
        json!({"allOf": [true]}),
        json!({"allOf": [false]}),
    ];
    for own in exact {
        assert_eq!(differences(&own), (vec![], vec![]), "{own}");
    }
}

#[test]
fn a_schema_that_cannot_be_widened_exactly_accepts_more_and_never_less() {
    let wider = [
        json!({"type": "object", "maxProperties": 2}),
        json!({"type": "object", "minProperties": 1, "maxProperties": 1}),
        json!({"type": "object", "patternProperties": {"^[a-z]+$": {"type": "integer"}}, "additionalProperties": false}),
        json!({"oneOf": [{"maxProperties": 1}, {"minProperties": 2, "maxProperties": 2}]}),
        json!({"oneOf": [{"maxProperties": 1}, {"required": ["a"]}], "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        json!({"not": {"minProperties": 2}}),
        json!({"if": {"maxProperties": 1}, "then": {"required": ["a"]}, "else": false}),
        json!({"enum": [{"a": 1}, {"b": 1}]}),
        json!({"const": {"a": 1}}),
        json!({"anyOf": [{"const": {"a": 1}}, {"maxProperties": 1}]}),
        json!({"dependentSchemas": {"a": {"maxProperties": 1}}}),
        json!({"$ref": "#here", "$defs": {"A": {"$anchor": "here", "properties": {"a": {}}, "additionalProperties": false}}}),
        json!({"$dynamicRef": "#here", "$defs": {"A": {"$dynamicAnchor": "here", "properties": {"a": {}}, "additionalProperties": false}}}),
        json!({"$ref": "#/allOf/0/not", "allOf": [{"not": {"maxProperties": 0}}]}),
        json!({"if": {"maxProperties": 1}, "then": {"properties": {"a": {}}}, "else": {"properties": {"a": {}, "b": {}}}, "unevaluatedProperties": false}),
        json!({"allOf": [{"if": {"maxProperties": 1}, "then": {"properties": {"a": {}}}}], "unevaluatedProperties": false}),
        json!({"properties": {"a": {"$ref": "#/not"}}, "not": {"minProperties": 2}}),
    ];
    for own in wider {
        let (narrower, wider) = differences(&own);
        assert_eq!(narrower, Vec::<String>::new());
        assert!(!wider.is_empty(), "{own} is said exactly");
    }
}

#[test]
fn arguments_that_no_alternative_and_no_pattern_accepts_are_still_refused() {
    let bounded = json!({"oneOf": [{"maxProperties": 1}, {"minProperties": 2, "maxProperties": 2}]});
    let many = json!({"a": 1, "b": 1, "x-1": 1, "key": "k"});
    assert!(!accepts(&listed(&bounded, &key())).is_valid(&many), "four are too many for each");
    let patterns = json!({"patternProperties": {"^[a-z]+$": {"type": "integer"}}});
    assert!(!accepts(&listed(&patterns, &key())).is_valid(&json!({"a": {}})), "neither an integer nor a key");
}

#[test]
fn a_required_argument_does_not_count_towards_min_properties() {
    let listed = listed(&json!({"type": "object", "minProperties": 1}), &key().required());
    assert!(accepts(&listed).is_valid(&json!({"a": 1, "key": "k"})));
    assert!(!accepts(&listed).is_valid(&json!({"key": "k"})), "{listed}");
}

#[test]
fn a_recursive_schema_is_copied_to_the_definitions_of_its_draft() {
    for (dialect, definitions) in [
        ("http://json-schema.org/draft-07/schema#", "definitions"),
        ("https://json-schema.org/draft/2020-12/schema", "$defs"),
    ] {
        let own =
            json!({"$schema": dialect, "properties": {"a": {"$ref": "#"}, "b": {}}, "additionalProperties": false});
        assert!(listed(&own, &key())[definitions]["Arguments"]["properties"]["b"].is_object(), "{dialect}");
        assert_eq!(differences(&own), (vec![], vec![]), "{dialect}");
    }
}

#[test]
fn a_schema_whose_parts_have_names_is_not_copied_into_itself() {
    let own = json!({"properties": {"a": {"$anchor": "a", "required": ["b"]}, "b": {"$ref": "#"}}, "additionalProperties": false});
    let (narrower, wider) = differences(&own);
    assert_eq!(narrower, Vec::<String>::new());
    assert!(!wider.is_empty());
}

#[test]
fn a_schema_that_refers_to_itself_in_many_ways_is_rewritten_in_bounded_time() {
    let level = |at: usize| json!({"oneOf": [{"$ref": format!("#/$defs/{at}")}, {"$ref": format!("#/$defs/{at}")}], "maxProperties": 1});
    let mut all: Map<_, _> = (0..25).map(|at| (at.to_string(), level(at + 1))).collect();
    all.insert("25".to_owned(), json!({"additionalProperties": false}));
    let listed = listed(&json!({"$ref": "#/$defs/0", "$defs": all}), &key());
    assert!(accepts(&listed).is_valid(&json!({"key": "k"})));
    // Wide instead of deep.
    let level = |at: usize| json!({"oneOf": vec![json!({"$ref": format!("#/$defs/{at}")}); 40], "maxProperties": 1});
    let mut all: Map<_, _> = (0..9).map(|at| (at.to_string(), level(at + 1))).collect();
    all.insert("9".to_owned(), json!({"additionalProperties": false}));
    let wide = tool(json!({"$ref": "#/$defs/0", "$defs": all}));
    assert!(key().add_to(&mut wide.clone()), "and it ends");
}

fn schemas() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("a"), Just("b"), Just("x-1")];
    let small = 0..3_u64;
    let inside = prop_oneof![
        Just(json!({})),
        Just(json!({"type": "integer"})),
        Just(json!({"$ref": "#"})),
        Just(json!({"$ref": "#/$defs/A"}))
    ];
    let property = (name.clone(), inside).prop_map(|(name, is)| json!({"properties": {name: is}}));
    let leaf = prop_oneof![
        property,
        name.clone().prop_map(|name| json!({"required": [name]})),
        small.clone().prop_map(|count| json!({"maxProperties": count})),
        small.prop_map(|count| json!({"minProperties": count})),
        Just(json!({"properties": {"a": {}}, "additionalProperties": false})),
        Just(json!({"properties": {"b": {}}, "additionalProperties": {"type": "integer"}})),
        Just(json!({"properties": {"a": {}}, "unevaluatedProperties": false})),
        Just(json!({"unevaluatedProperties": false})),
        Just(json!({"propertyNames": {"maxLength": 1}})),
        Just(json!({"patternProperties": {"^[a-z]+$": {"type": "integer"}}})),
        Just(json!({"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": false})),
        Just(json!({"const": {"a": 1}})),
        Just(json!({"$ref": "#/$defs/A"})),
        Just(json!(true)),
        Just(json!(false)),
        (name.clone(), name).prop_map(|(on, needed)| json!({"dependentRequired": {on: [needed]}})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            some.clone().prop_map(|all| json!({"allOf": all})),
            some.clone().prop_map(|all| json!({"anyOf": all})),
            some.prop_map(|all| json!({"oneOf": all})),
            inner.clone().prop_map(|one| json!({"not": one})),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(condition, yes, no)| json!({"if": condition, "then": yes, "else": no})),
            inner.clone().prop_map(|one| json!({"dependentSchemas": {"a": one}})),
            // The keywords of two schemas in one.
            (inner.clone(), inner).prop_map(|(one, other)| match (one, other) {
                (Value::Object(one), Value::Object(other)) => Value::Object(one.into_iter().chain(other).collect()),
                (one, _) => one,
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_schema_gets_narrower_by_an_argument(root in schemas(), a in schemas(), is_old in any::<bool>()) {
        let mut own = if root.is_object() { root } else { json!({"allOf": [root]}) };
        let refers_to_itself = a.to_string().contains("\"$ref\"");
        own["$defs"] = json!({"A": if refers_to_itself { json!({"required": ["a"]}) } else { a }});
        if is_old {
            own["$schema"] = "http://json-schema.org/draft-07/schema#".into();
        }
        let (narrower, _) = differences(&own);
        prop_assert_eq!(narrower, Vec::<String>::new());
    }
}
