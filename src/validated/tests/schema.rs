//! The violations of a value, as text and as data.

use super::*;
use crate::validated::hints::Hints;
use crate::validated::violations::Collector;

/// Returns the violations of the value: pointer, code and text of each.
fn told(schema: &Value, value: &Value) -> Vec<String> {
    let schema = Schema::compile(schema).expect("a schema");
    match schema.check(value) {
        Ok(()) => Vec::new(),
        Err(violations) => violations
            .iter()
            .map(|violation| format!("{} {} {violation}", violation.pointer(), violation.code()))
            .collect(),
    }
}

#[test]
fn each_keyword_has_a_message() {
    for (schema, value, sentence) in [
        (json!({"type": "integer"}), json!("1"), "type The input must be an integer"),
        (json!({"type": ["string", "null"]}), json!(1), "type The input must be null or a string"),
        (json!({"type": "array"}), json!({}), "type The input must be an array"),
        (json!({"const": "on"}), json!("off"), "const The input must be \"on\""),
        (json!({"enum": ["c", "f", 1]}), json!("kelvin"), "enum The input must be \"c\", \"f\" or 1"),
        (json!({"minLength": 1}), json!(""), "minLength The input must have at least 1 character"),
        (json!({"maxLength": 2}), json!("üüü"), "maxLength The input must have at most 2 characters"),
        (json!({"minItems": 2}), json!([1]), "minItems The input must have at least 2 items"),
        (json!({"maxItems": 1}), json!([1, 2]), "maxItems The input must have at most 1 item"),
        (json!({"minProperties": 1}), json!({}), "minProperties The input must have at least 1 property"),
        (json!({"maxProperties": 0}), json!({"a": 1}), "maxProperties The input must have at most 0 properties"),
        (json!({"minimum": 18}), json!(17), "minimum The input must be at least 18"),
        (json!({"maximum": 1.5}), json!(2), "maximum The input must be at most 1.5"),
        (json!({"exclusiveMinimum": 0}), json!(0), "exclusiveMinimum The input must be greater than 0"),
        (json!({"exclusiveMaximum": 9}), json!(9), "exclusiveMaximum The input must be less than 9"),
        (json!({"multipleOf": 5}), json!(7), "multipleOf The input must be a multiple of 5"),
        (json!({"pattern": "^a+$"}), json!("b"), "pattern The input must match the pattern `^a+$`"),
        (json!({"format": "email"}), json!("b"), "format The input must be an email address"),
        (json!({"format": "date"}), json!("b"), "format The input must be a date, such as 2026-01-31"),
        (json!({"uniqueItems": true}), json!([1, 1.0]), "uniqueItems The input must not have the same item twice"),
        (
            json!({"contains": {"const": 1}}),
            json!([2]),
            "contains The input does not have the items that it must contain",
        ),
        (json!(false), json!(1), "falseSchema The input is not allowed here"),
        (
            json!({"oneOf": [{"required": ["id"]}, {"required": ["slug", "site"]}]}),
            json!({"id": 1, "slug": 1, "site": 1}),
            "oneOf The input must have only one of `id` and `slug` with `site`",
        ),
        (json!({"not": {"type": "null"}}), json!(null), "not The input has a form that is not allowed"),
        (
            json!({"oneOf": [{"minimum": 1}, {"minimum": 2}]}),
            json!(3),
            "oneOf The input matches more than one of the forms that exclude each other",
        ),
        (
            json!({"propertyNames": {"maxLength": 2}}),
            json!({"abc": 1}),
            "propertyNames The input has a property whose name is wrong: it must have at most 2 characters",
        ),
    ] {
        assert_eq!(told(&schema, &value), [format!(" {sentence}")], "{schema}");
    }
}

#[test]
fn every_violation_is_reported_with_its_place() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "others": {"type": "array", "items": {
                "type": "object",
                "properties": {"zipCode": {"type": "string", "pattern": "^[0-9]{5}$"}, "a/b": {"type": "integer"}},
                "required": ["zipCode"],
            }},
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let value = json!({"name": 1, "others": [{"zipCode": "1"}, {"a/b": "x"}], "nane": true});
    assert_eq!(
        told(&schema, &value),
        [
            "/age required `age` is missing",
            "/name type `name` must be a string",
            "/nane additionalProperties `nane` is not known here",
            "/others/0/zipCode pattern `others[0].zipCode` must match the pattern `^[0-9]{5}$`",
            "/others/1/a~1b type `others[1].a/b` must be an integer",
            "/others/1/zipCode required `others[1].zipCode` is missing",
        ]
    );
}

#[test]
fn the_nearest_unused_name_is_suggested() {
    let schema = json!({
        "properties": {"user_name": {}, "user": {}, "mode": {"enum": ["fast", "slow"]}},
        "additionalProperties": false,
    });
    for (value, wanted) in [
        (
            json!({"userName": 1}),
            "/userName additionalProperties `userName` is not known here; did you mean `user_name`?",
        ),
        (json!({"usr": 1}), "/usr additionalProperties `usr` is not known here; did you mean `user`?"),
        (json!({"usr": 1, "user": 1}), "/usr additionalProperties `usr` is not known here"),
        (json!({"colour": 1}), "/colour additionalProperties `colour` is not known here"),
        (json!({"mode": "Fast"}), "/mode enum `mode` must be \"fast\" or \"slow\"; did you mean `fast`?"),
    ] {
        assert_eq!(told(&schema, &value), [wanted]);
    }
}

#[test]
fn the_intended_one_of_several_alternatives_is_reported() {
    let optional = json!({"properties": {"address": {"anyOf": [
        {"$ref": "#/$defs/Address"}, {"type": "null"},
    ]}}, "$defs": {"Address": {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["city"]}}});
    assert_eq!(
        told(&optional, &json!({"address": {"zip": 1}})),
        ["/address/city required `address.city` is missing", "/address/zip type `address.zip` must be a string"]
    );
    assert_eq!(told(&optional, &json!({"address": 1})), ["/address type `address` must be an object or null"]);

    let tagged = json!({"oneOf": [
        {"type": "object", "properties": {"kind": {"const": "card"}, "number": {"type": "string"}}, "required": ["kind", "number"]},
        {"type": "object", "properties": {"kind": {"const": "iban"}, "iban": {"type": "string"}}, "required": ["kind", "iban"]},
    ]});
    assert_eq!(told(&tagged, &json!({"kind": "iban"})), ["/iban required `iban` is missing"]);
    assert_eq!(
        told(&tagged, &json!({"kind": "ibam"})),
        ["/kind enum `kind` must be \"card\" or \"iban\"; did you mean `iban`?"]
    );
    let options = json!({"oneOf": [{"const": "a"}, {"const": "b"}]});
    assert_eq!(told(&options, &json!("c")), [" enum The input must be \"a\" or \"b\""]);
    let vague = json!({"anyOf": [{"minLength": 3}, {"pattern": "^x"}]});
    assert_eq!(told(&vague, &json!("c")), [" anyOf The input does not match any of the 2 forms that are allowed"]);
}

#[test]
fn if_one_of_several_names_is_required_the_missing_ones_are_listed() {
    let schema = json!({"required": ["id"], "anyOf": [{"required": ["title"]}, {"required": ["body"]}]});
    assert_eq!(told(&schema, &json!({"id": 1})), [" anyOf The input must have `title` or `body`"]);
    let nested = json!({"properties": {"to": {"oneOf": [{"required": ["user"]}, {"required": ["room", "server"]}]}}});
    assert_eq!(told(&nested, &json!({"to": {}})), ["/to oneOf `to` must have `user` or `room` with `server`"]);
    assert_eq!(told(&nested, &json!({"to": {"room": 1}})), ["/to oneOf `to` must have `user` or `server`"]);
    let violations = Schema::compile(&nested).expect("a schema").check(&json!({"to": {}})).expect_err("it is wrong");
    assert_eq!(
        violations.iter().next().expect("one").expected(),
        Some(&json!({"oneOf": [{"required": ["user"]}, {"required": ["room", "server"]}]}))
    );
    let mixed = json!({"anyOf": [{"required": ["title"]}, {"minProperties": 3}]});
    assert_eq!(told(&mixed, &json!({})), [" anyOf The input does not match any of the 2 forms that are allowed"]);
}

#[test]
fn a_forbidden_property_is_reported_as_forbidden_whatever_its_name() {
    for name in ["customProperties", "additionalProperties", "unevaluatedProperties", "a/Properties", "x"] {
        let escaped = name.replace('/', "~1");
        let forbidden = [format!("/{escaped} falseSchema `{name}` is not allowed here")];
        assert_eq!(told(&json!({"properties": {name: false}}), &json!({name: {"a": 1}})), forbidden);
        assert_eq!(told(&json!({"allOf": [{"properties": {name: false}}]}), &json!({name: {"a": 1}})), forbidden);
        let defined = json!({"$ref": "#/$defs/additionalProperties", "$defs": {"additionalProperties": {"properties": {name: false}}}});
        assert_eq!(told(&defined, &json!({name: {"a": 1}})), forbidden);
    }
    let below = json!({"properties": {"properties": {"additionalProperties": false}}});
    assert_eq!(
        told(&below, &json!({"properties": {"a": 1}})),
        ["/properties/a additionalProperties `properties.a` is not known here"]
    );
}

#[test]
fn a_violation_states_what_was_expected() {
    for (schema, value, expected) in [
        (json!({"type": "integer"}), json!("1"), json!({"type": "integer"})),
        (json!({"type": ["integer", "null"]}), json!("1"), json!({"type": ["null", "integer"]})),
        (json!({"maxLength": 2}), json!("abc"), json!({"maxLength": 2})),
        (json!({"format": "uuid"}), json!("abc"), json!({"format": "uuid"})),
        (json!({"enum": [1, "a"]}), json!("abc"), json!({"enum": [1, "a"]})),
        (json!({"const": {"a": 1}}), json!("abc"), json!({"const": {"a": 1}})),
        (
            json!({"properties": {"a": {}}, "additionalProperties": false}),
            json!({"b": 1}),
            json!({"properties": ["a"]}),
        ),
    ] {
        let violations = Schema::compile(&schema).expect("a schema").check(&value).expect_err("it is wrong");
        assert_eq!(violations.iter().next().expect("one").expected(), Some(&expected), "{schema}");
    }
}

#[test]
fn the_list_of_violations_is_sorted_by_place_and_ends_after_twenty() {
    let schema = json!({"items": {"type": "string"}});
    let value: Value = (0..1_000).collect();
    let violations = Schema::compile(&schema).expect("a schema").check(&value).expect_err("all are wrong");
    let places: Vec<_> = violations.iter().map(|violation| violation.pointer().to_owned()).collect();
    assert_eq!(places, (0..20).map(|index| format!("/{index}")).collect::<Vec<_>>());
    assert_eq!(violations.omitted(), 980);
    assert!(violations.to_string().ends_with("\nAnd 980 more"), "{violations}");
}

#[test]
fn a_name_of_the_caller_is_shortened_and_escaped() {
    let schema = json!({"additionalProperties": false});
    let told = told(&schema, &json!({"x".repeat(5_000): 1, "a\nb`": 1}));
    assert_eq!(told[0], "/a\u{fffd}b' additionalProperties `a\u{fffd}b'` is not known here");
    assert!(told[1].chars().count() < 300, "{}", told[1]);
}

#[test]
fn a_schema_that_cannot_be_checked_does_not_compile() {
    for (schema, why) in [
        (json!({"type": "strange"}), "strange"),
        (json!({"$ref": "https://example.org/schema.json"}), "https://example.org/schema.json"),
        (json!({"$ref": "file:///etc/passwd"}), "file:///etc/passwd"),
        (json!({"$schema": "https://example.org/dialect"}), "https://example.org/dialect"),
        (json!({"pattern": "(?=a)b"}), "the pattern `(?=a)b` has look-around, which cannot be matched in linear time"),
        (
            json!({"pattern": "(a)\\1"}),
            "the pattern `(a)\\1` has a back-reference, which cannot be matched in linear time",
        ),
        (json!({"patternProperties": {"^(?!x)": {}}}), "the pattern `^(?!x)` has look-around"),
        (json!({"pattern": "(a"}), "pattern"),
        (json!({"$ref": "#/$defs/none"}), "/$defs/none"),
        (json!([]), ""),
    ] {
        let error = Schema::compile(&schema).expect_err("it has no meaning here").to_string();
        assert!(error.contains(why), "{schema}: {error}");
    }
}

#[test]
fn an_older_dialect_is_judged_by_its_own_rules() {
    let schema = |dialect| json!({"$schema": dialect, "items": [{"type": "string"}], "additionalItems": false});
    assert_eq!(told(&schema("http://json-schema.org/draft-07/schema#"), &json!(["a", 1])).len(), 1);
    let recent = json!({"prefixItems": [{"type": "string"}], "items": false});
    assert_eq!(told(&recent, &json!(["a", 1])).len(), 1);
}

#[test]
fn the_search_ends_after_a_thousand_violations_and_reports_it() {
    let schema = Schema::compile(&json!({"items": {"type": "string"}})).expect("a schema");
    let violations = schema.check(&(0..1_001).collect()).expect_err("all are wrong");
    assert!(!violations.is_complete());
    assert_eq!(violations.omitted(), 980);
    assert!(violations.to_string().ends_with("\nAnd at least 980 more"), "{violations}");
    assert_eq!(violations.to_json()["complete"], false);
    let violations = schema.check(&(0..1_000).collect()).expect_err("all are wrong");
    assert!(violations.is_complete());
    assert_eq!(violations.to_json().get("complete"), None);
}

#[test]
fn each_unknown_name_is_counted_even_if_none_is_listed() {
    let schema = Schema::compile(&json!({"items": {"additionalProperties": false}})).expect("a schema");
    let wrong = Value::Array(vec![json!({"a": 1, "b": 1}); 30]);
    let violations = schema.check(&wrong).expect_err("all are wrong");
    assert_eq!((violations.iter().count(), violations.omitted()), (20, 40));
}

#[test]
fn an_unlisted_name_costs_no_message() {
    let known: serde_json::Map<_, _> = (0..50).map(|at| (format!("known_{at}"), json!({}))).collect();
    let schema = json!({"properties": known, "additionalProperties": false});
    let schema = Schema::compile(&schema).expect("a schema");
    let allocations = |count: usize| {
        let unknown = Value::Object((0..count).map(|at| (format!("x{at:05}"), json!(1))).collect());
        let mut found = Collector::new(20);
        let allocations = allocation_counter::measure(|| {
            schema.find(&unknown, &mut Hints::off(), &mut found);
        });
        assert_eq!(found.count(), count);
        allocations.count_total
    };
    // The validator itself stores each name.
    let each = (allocations(900) - allocations(100)) / 800;
    assert!(each < 10, "{each} allocations for each name");
}

#[test]
fn the_number_of_kept_violations_is_bounded_by_a_multiple_of_the_listed_ones() {
    let kept = |count: usize| {
        let mut found = Collector::new(20);
        let push = |at: usize| found.push(Violation::new("wrong", "it is wrong").at(&format!("{at:06}")));
        allocation_counter::measure(|| (0..count).for_each(push)).bytes_max
    };
    assert!(kept(100_000) < 4 * kept(100), "{} bytes, of a hundred {}", kept(100_000), kept(100));
}

#[test]
fn a_violation_at_an_overlong_place_is_still_refused() {
    let schema = Schema::compile(&json!({"additionalProperties": {"items": {"type": "string"}}})).expect("a schema");
    let told = |name: usize| {
        let violations = schema.check(&json!({"x".repeat(name): [1]})).expect_err("it is wrong");
        violations.iter().next().expect("one").code().to_owned()
    };
    assert_eq!((told(60_000).as_str(), told(70_000).as_str()), ("type", "schema"));
}

#[test]
fn a_schema_that_refers_to_itself_and_constrains_nothing_does_not_compile() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"anyOf": [{"$ref": "#"}, {"type": "string"}]}),
        json!({"allOf": [{"$ref": "#"}, {"type": "string"}]}),
        json!({"$dynamicRef": "#"}),
        json!({"$anchor": "a", "not": {"$ref": "#a"}}),
        json!({"$id": "https://example.org/a", "if": {"$ref": "https://example.org/a"}}),
        json!({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"oneOf": [{"$ref": "#/$defs/a"}]}}}),
    ] {
        let error = Schema::compile(&schema).expect_err("it has no end");
        assert!(error.to_string().contains("refers to itself"), "{schema}: {error}");
    }
    let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "items": {"$ref": "#"}, "type": ["object", "array"]});
    assert_eq!(
        told(&tree, &json!({"left": {"right": [1]}})),
        ["/left/right/0 type `left.right[0]` must be an array or an object"]
    );
}

#[test]
fn a_schema_too_deep_for_the_compiler_is_refused() {
    let deep =
        (0..100_000).fold(json!({}), |inner, _| Value::Object([("not".to_owned(), inner)].into_iter().collect()));
    let error = Schema::compile(&deep).expect_err("the compiler recurses");
    assert!(error.to_string().contains("deeper"), "{error}");
    // A value of that depth must not be dropped by recursion, either.
    std::mem::forget(deep);
}
