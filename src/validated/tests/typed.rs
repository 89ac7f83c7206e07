//! Types with their own rules, and their names in JSON.

use std::borrow::Cow;
use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;
use turbomcp::prelude::*;
use validator::{Validate, ValidationError};

use super::*;

#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct UserRegistration {
    #[validate(length(min = 3, max = 20))]
    username: String,
    #[validate(email)]
    email: String,
    #[validate(range(min = 18, max = 120))]
    age: i32,
    #[validate(length(min = 8))]
    password: String,
}

/// The same rules, which are not in the schema.
#[derive(Debug, Deserialize, Validate)]
#[serde(rename_all = "camelCase")]
struct Order {
    #[validate(range(min = 1, max = 9))]
    how_many: i64,
    #[validate(nested)]
    ship_to: Address,
    #[validate(nested)]
    other_addresses: Vec<Address>,
    #[serde(default)]
    #[validate(nested)]
    by_name: HashMap<String, Address>,
    #[serde(rename = "code", default)]
    #[validate(custom(function = "is_even"))]
    discount: String,
    #[serde(flatten)]
    #[validate(nested)]
    contact: Contact,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(rename_all = "camelCase")]
struct Address {
    #[validate(length(equal = 5))]
    zip_code: String,
}

#[derive(Debug, Deserialize, Validate)]
struct Contact {
    #[validate(email(message = "this is not how one writes to you"))]
    mail: String,
}

fn is_even(code: &str) -> Result<(), ValidationError> {
    match code.len() % 2 {
        0 => Ok(()),
        _ => {
            let mut error = ValidationError::new("odd");
            error.add_param(Cow::from("min"), &code);
            Err(error)
        }
    }
}

fn order_schema() -> Value {
    let address = json!({"type": "object", "properties": {"zipCode": {"type": "string"}}});
    json!({
        "type": "object",
        "properties": {
            "howMany": {"type": "integer"},
            "shipTo": {"$ref": "#/$defs/Address"},
            "otherAddresses": {"type": "array", "items": {"$ref": "#/$defs/Address"}},
            "byName": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Address"}},
            "code": {"type": "string"},
            "mail": {"type": "string"},
        },
        "$defs": {"Address": address},
    })
}

fn order() -> Value {
    json!({"howMany": 1, "shipTo": {"zipCode": "12345"}, "otherAddresses": [], "mail": "ada@example.org"})
}

#[derive(Clone)]
struct Users;

#[server(name = "users", version = "1.0.0")]
impl Users {
    /// Registers a user.
    #[tool]
    async fn register(&self, data: UserRegistration) -> McpResult<String> {
        assert!(data.password.len() >= 8 && data.age >= 18 && !data.email.is_empty());
        Ok(format!("User {} registered successfully", data.username))
    }
}

fn pairs<const N: usize>(wanted: [(&str, &str); N]) -> Vec<(String, String)> {
    wanted.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())).to_vec()
}

#[tokio::test]
async fn the_only_parameter_is_validated_by_default() {
    let server = ValidatedTool::new().typed::<UserRegistration>("register").layer(Users);
    let good = json!({"data": {"username": "ada", "email": "ada@example.org", "age": 36, "password": "12345678"}});
    assert_eq!(text(&call(&server, "register", good).await), "User ada registered successfully");

    let bad = json!({"data": {"username": "al", "email": "nonsense", "age": 17, "password": "1234567"}});
    let answer = call(&server, "register", bad).await;
    assert_eq!(
        listed(&answer),
        pairs([
            ("/data/age", "minimum"),
            ("/data/email", "format"),
            ("/data/password", "minLength"),
            ("/data/username", "minLength"),
        ]),
        "a place that the schema reported is not reported again"
    );
    let answer = call(&server, "register", json!({"data": {"username": "ada"}})).await;
    assert_eq!(
        listed(&answer),
        pairs([("/data/age", "required"), ("/data/email", "required"), ("/data/password", "required")])
    );
}

#[tokio::test]
async fn every_place_has_its_name_in_json() {
    let server = ValidatedTool::new().typed::<Order>("take").layer(taking(order_schema()));
    assert!(!call(&server, "take", order()).await.is_error());

    let bad = json!({
        "howMany": 10,
        "shipTo": {"zipCode": "1"},
        "otherAddresses": [{"zipCode": "12345"}, {"zipCode": "2"}],
        "byName": {"home": {"zipCode": "3"}},
        "code": "odd",
        "mail": "nonsense",
    });
    let answer = call(&server, "take", bad).await;
    assert_eq!(
        text(&answer),
        "`byName.zipCode` must have exactly 5 characters\n\
         `discount` is not valid (odd)\n\
         `howMany` must be at least 1 and at most 9\n\
         `mail`: this is not how one writes to you\n\
         `otherAddresses[1].zipCode` must have exactly 5 characters\n\
         `shipTo.zipCode` must have exactly 5 characters",
        "a field with another name altogether is not found in the schema"
    );
}

#[tokio::test]
async fn a_renamed_field_is_reported_by_its_json_name() {
    let validated = ValidatedTool::new().typed::<Order>("take");
    let mut bad = order();
    bad["code"] = json!("odd");
    let answer = call(&validated.clone().layer(taking(order_schema())), "take", bad.clone()).await;
    assert_eq!(listed(&answer), pairs([("/discount", "odd")]));

    let named = validated.with_name("take", "discount", "code").layer(taking(order_schema()));
    let answer = call(&named, "take", bad).await;
    assert_eq!(listed(&answer), pairs([("/code", "odd")]));
    assert_eq!(
        violations(&answer)[0]["expected"],
        Value::Null,
        "parameters of a custom function may contain the value"
    );
}

#[tokio::test]
async fn a_parameter_can_be_selected_by_name() {
    let schema = json!({"type": "object", "properties": {
        "order": {"$ref": "#/$defs/Order"}, "dry_run": {"type": "boolean"},
    }, "$defs": {"Order": order_schema(), "Address": order_schema()["$defs"]["Address"]}});
    let server = ValidatedTool::new().typed_at::<Order>("take", "order").layer(taking(schema.clone()));
    let mut bad = order();
    bad["howMany"] = json!(0);
    let answer = call(&server, "take", json!({"order": bad, "dry_run": true})).await;
    assert_eq!(listed(&answer), pairs([("/order/howMany", "range")]));
    assert_eq!(violations(&answer)[0]["expected"], json!({"min": 1, "max": 9}));
    assert!(!call(&server, "take", json!({"dry_run": true})).await.is_error(), "what is not there is not asked");

    let mistake =
        ValidatedTool::new().typed_at::<Order>("take", "ordr").try_layer(taking(schema)).expect_err("no such");
    assert!(mistake.to_string().contains("did you mean `order`?"), "{mistake}");
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_reported_with_its_place() {
    #[derive(Debug, Deserialize, Validate)]
    struct Loose {
        #[expect(dead_code, reason = "read by serde")]
        items: Vec<Item>,
    }
    #[derive(Debug, Deserialize, Validate)]
    struct Item {
        #[expect(dead_code, reason = "read by serde")]
        count: u8,
        #[expect(dead_code, reason = "read by serde")]
        unit: Unit,
    }
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Unit {
        Gram,
        Litre,
    }
    let server = ValidatedTool::new().typed::<Loose>("take").layer(taking(json!({"type": "object"})));
    for (args, told) in [
        (json!({}), "/items required `items` is missing"),
        (
            json!({"items": [{"count": 1, "unit": "gram"}, {"unit": "gram"}]}),
            "/items/1/count required `items[1].count` is missing",
        ),
        (json!({"items": [{"count": 300, "unit": "gram"}]}), "/items/0/count decode `items[0].count` must be u8"),
        (json!({"items": [{"count": "s3cret", "unit": "gram"}]}), "/items/0/count decode `items[0].count` must be u8"),
        (
            json!({"items": [{"count": 1, "unit": "s3cret"}]}),
            "/items/0/unit decode `items[0].unit` must be `gram` or `litre`",
        ),
        (json!({"items": "s3cret"}), "/items decode `items` must be a sequence"),
    ] {
        let answer = call(&server, "take", args).await;
        let [(pointer, code)] = &listed(&answer)[..] else { panic!("one violation: {answer:?}") };
        assert_eq!(format!("{pointer} {code} {}", text(&answer)), told);
        assert!(!format!("{answer:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn of_very_many_violations_of_a_type_the_first_are_listed_and_the_rest_counted() {
    #[derive(Debug, Deserialize, Validate)]
    struct Many {
        #[validate(nested)]
        items: Vec<Address>,
    }
    let items = json!({"type": "array", "items": {"properties": {"zipCode": {}}}});
    let schema = json!({"type": "object", "properties": {"items": items, "more": {}}});
    let server = ValidatedTool::new().typed::<Many>("take").layer(taking(schema));
    let items: Vec<_> = (0..5_000).map(|_| json!({"zipCode": "1"})).collect();
    let refused = call(&server, "take", json!({"items": items})).await;
    let places: Vec<_> = listed(&refused).into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, (0..20).map(|index| format!("/items/{index}/zipCode")).collect::<Vec<_>>());
    assert_eq!(data(&refused)["omitted"], 4_980);
}

#[test]
fn an_unlisted_violation_of_a_type_costs_no_message() {
    use crate::references::References;
    use crate::validated::typed::WireNames;
    use crate::validated::violations::Collector;

    #[derive(Debug, Validate)]
    struct Many {
        #[validate(nested)]
        items: Vec<Address>,
    }
    let references = References::of(json!({"properties": {"items": {"items": {"properties": {"zipCode": {}}}}}}));
    let allocations = |count: usize| {
        let items = (0..count).map(|_| Address { zip_code: "1".to_owned() }).collect();
        let errors = Many { items }.validate().expect_err("none is a code");
        let names = WireNames { references: &references, explicit: None };
        let mut found = Collector::new(20);
        let allocations =
            allocation_counter::measure(|| names.report(&errors, "", Some(references.root()), &mut found));
        assert_eq!(found.count(), count);
        allocations.count_total
    };
    assert_eq!(allocations(5_000), allocations(50));
}

#[tokio::test]
async fn a_value_is_not_coerced() {
    let server = ValidatedTool::new().typed::<UserRegistration>("register").layer(Users);
    let args = json!({"data": {"username": "ada", "email": "ada@example.org", "age": "36", "password": "12345678"}});
    assert_eq!(listed(&call(&server, "register", args).await), pairs([("/data/age", "type")]));
}

#[tokio::test]
async fn an_argument_of_another_layer_is_no_parameter() {
    use crate::IdempotentTool;
    use crate::idempotent::MemoryBackend;

    let server = (
        ValidatedTool::new().typed::<UserRegistration>("register"),
        IdempotentTool::new(MemoryBackend::new()).only(["register"]),
    )
        .layer(Users);
    let mut args = json!({"data": {"username": "ada", "email": "ada@example.org", "age": 36, "password": "12345678"}});
    args["idempotency_key"] = json!("k1");
    assert_eq!(text(&call(&server, "register", args.clone()).await), "User ada registered successfully");
    args["idempotency_key"] = json!("no key");
    let refused = call(&server, "register", args).await;
    assert!(text(&refused).starts_with("An idempotency key has "), "its layer says what is wrong with it");
}
