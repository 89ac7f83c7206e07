//! No input causes a panic or a hang, and no value of it is in an answer or in the log.

use proptest::prelude::*;
use serde::Deserialize;
use validator::Validate;

use super::verdicts::{schemas, values};
use super::*;
use crate::testing::Traced;

const MARK: &str = "M4RK";
const NUMBER: i64 = 987_654_321_012_345;

/// A type that reads anything, with a rule for every field.
#[derive(Debug, Deserialize, Validate)]
#[validate(schema(function = "refuse"))]
struct Suspicious {
    #[serde(default)]
    #[validate(length(min = 90), email, url, contains(pattern = "needle"))]
    a: String,
    #[serde(default)]
    #[validate(must_match(other = "a"), custom(function = "refuse_text"))]
    b: String,
    #[serde(default)]
    #[validate(range(max = 1), custom(function = "refuse_number"))]
    c: Option<i64>,
    #[serde(default)]
    #[validate(nested)]
    ab: Vec<Suspicious>,
}

fn refuse(_: &Suspicious) -> Result<(), validator::ValidationError> {
    Err(validator::ValidationError::new("suspicious"))
}

fn refuse_text(text: &str) -> Result<(), validator::ValidationError> {
    let mut error = validator::ValidationError::new("suspicious");
    error.add_param("min".into(), &text);
    error.add_param("found".into(), &text);
    Err(error)
}

fn refuse_number(number: i64) -> Result<(), validator::ValidationError> {
    let mut error = validator::ValidationError::new("range");
    error.add_param("found".into(), &number);
    Err(error)
}

/// A date whose parse error contains the input.
#[derive(Debug)]
struct Talkative;

impl<'de> Deserialize<'de> for Talkative {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Err(serde::de::Error::custom(format!("{value} is no date")))
    }
}

impl Validate for Talkative {
    fn validate(&self) -> Result<(), validator::ValidationErrors> {
        Ok(())
    }
}

fn marked() -> impl Strategy<Value = Value> {
    let strings = "[abc, `\n]{0,5}".prop_map(|rest| format!("{MARK}{rest}, expected {MARK}")).boxed();
    values(strings, (0..9_i64).prop_map(|n| json!(NUMBER + n)).boxed())
}

fn answer(server: &impl McpHandler, args: Value) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let answer = runtime.block_on(server.call_tool("take", args, &RequestContext::new())).expect("the tool is known");
    serde_json::to_string(&answer).expect("an answer is JSON")
}

/// The answer and the log of a refused call; nothing for an accepted one.
fn heard(validated: &ValidatedTool, schema: &Value, args: Value) -> String {
    let traced = Traced::start();
    let script = ScriptedServer::new("server")
        .with_tool(tool("take", schema.clone()), |_| async { Ok(ToolResult::text("taken")) });
    match validated.clone().try_layer(script) {
        Ok(server) => format!("{}{}", answer(&server, args), traced.text()),
        Err(_) => String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_refused_value_is_in_no_answer_and_in_no_log(schema in schemas(), args in marked()) {
        for validated in [
            ValidatedTool::new().with_defaults(),
            ValidatedTool::new().typed::<Suspicious>("take"),
            ValidatedTool::new().typed::<Talkative>("take"),
        ] {
            let heard = heard(&validated, &schema, args.clone());
            prop_assert!(!heard.contains(MARK) && !heard.contains("98765432101234"), "{}", heard);
        }
    }

    #[test]
    fn no_type_repeats_a_refused_value(args in marked()) {
        for validated in [
            ValidatedTool::new().typed::<Suspicious>("take"),
            ValidatedTool::new().typed::<Talkative>("take"),
            ValidatedTool::new().rule("take", |_: Suspicious, cx| async move {
                cx.refuse(Violation::new("no", "No"));
                Ok(())
            }),
        ] {
            let heard = heard(&validated, &json!({"type": "object"}), args.clone());
            prop_assert!(!heard.contains(MARK) && !heard.contains("98765432101234"), "{}", heard);
        }
    }
}

#[test]
fn the_leak_test_checks_real_answers() {
    let args = json!({"a": format!("{MARK}x"), "b": MARK, "c": NUMBER, "ab": [{"a": MARK}]});
    let heard = heard(&ValidatedTool::new().typed::<Suspicious>("take"), &json!({"type": "object"}), args);
    for told in ["/ab/0/a", "suspicious", "at least 90", "an email address", "needle", "refused"] {
        assert!(heard.contains(told), "{told}: {heard}");
    }
}
