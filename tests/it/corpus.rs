//! The schemas of public servers' tools, rewritten in their shapes: each verdict equals that of `jsonschema` alone.

mod hostile;
mod instances;

use std::collections::BTreeSet;

use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::validated::{Limits, Schema};
use mcp_patterns::{Layer, TryLayer, ValidatedTool};
use serde_json::{Value, json};
use turbomcp::{McpHandler, RequestContext, ToolResult};
use turbomcp_types::{Tool, ToolInputSchema};

use instances::{Maker, schemas};

/// How many intended and how many other instances of each schema are judged.
const INSTANCES: u64 = 60;

fn alone(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema).expect("a schema")
}

fn served(schemas: &[(String, Value)]) -> ScriptedServer {
    schemas.iter().fold(ScriptedServer::new("all"), |script, (name, schema)| {
        let tool = Tool { input_schema: ToolInputSchema::from_value(schema.clone()), ..Tool::new(name, "takes") };
        script.with_tool(tool, |call| async move { Ok(ToolResult::text(call.args.to_string())) })
    })
}

#[tokio::test]
async fn schemas_of_public_servers_judge_as_jsonschema_does() {
    let schemas = schemas();
    assert!(schemas.len() >= 300, "{}", schemas.len());
    let server = ValidatedTool::new().layer(served(&schemas));
    let none = json!({});
    let (mut valid, mut invalid) = (0, 0);
    let (mut never_valid, mut never_invalid) = (Vec::new(), Vec::new());
    for (number, (name, schema)) in (0..).zip(&schemas) {
        let alone = alone(schema);
        let mut seen = [false, false];
        let mut maker = Maker::new(schema, number);
        for instance in 0..2 * INSTANCES {
            let args = if instance % 2 == 0 { maker.meant() } else { maker.changed() };
            let answer = server.call_tool(name, args.clone(), &RequestContext::new()).await.expect("the tool is known");
            // Missing arguments are valid for a tool without parameters.
            let is_valid = alone.is_valid(if args.is_null() { &none } else { &args });
            assert_eq!(!answer.is_error(), is_valid, "{name}: {schema}: {args}: {answer:?}");
            if is_valid {
                assert_eq!(
                    answer.first_text(),
                    Some(args.to_string().as_str()),
                    "{name}: what is valid passes untouched"
                );
            } else {
                assert!(
                    answer.first_text().is_some_and(|told| told != "The input does not match the schema"),
                    "{name}: {args}"
                );
            }
            seen[usize::from(is_valid)] = true;
            *(if is_valid { &mut valid } else { &mut invalid }) += 1;
        }
        match seen {
            [_, false] => never_valid.push(name.as_str()),
            [false, _] => never_invalid.push(name.as_str()),
            _ => {}
        }
    }
    assert!(valid > 15_000 && invalid > 8_000, "{valid} are valid and {invalid} are not");
    assert_eq!(never_valid, [""; 0], "nothing that is meant was made for these");
    // Tools without parameters, and objects with any content.
    assert!(never_invalid.len() < 30, "{never_invalid:?}");
}

#[test]
fn the_corpus_covers_every_usual_draft_and_dialect() {
    let all: Vec<_> = schemas().into_iter().map(|(_, schema)| schema.to_string()).collect();
    for (sign, least) in [
        ("draft-04/schema", 10),
        ("draft-06/schema", 1),
        ("draft-07/schema", 100),
        ("draft/2019-09/schema", 5),
        ("draft/2020-12/schema", 30),
        ("\"nullable\":true", 5),
        ("\"format\":\"uint32\"", 4),
        ("\"discriminator\"", 2),
        ("\"x-", 5),
        ("\"$ref\":\"#/$defs/Filter%3COrder%3E\"", 1),
        ("\"$anchor\"", 1),
        ("\"$dynamicRef\"", 1),
        ("\"$recursiveRef\"", 1),
        ("unevaluatedProperties", 4),
        (":false}", 50),
        ("\"default\":null", 20),
    ] {
        let count = all.iter().filter(|schema| schema.contains(sign)).count();
        assert!(count >= least, "{sign}: {count}");
    }
}

#[test]
fn hostile_input_is_judged_and_reported_as_well() {
    let mut refused = BTreeSet::new();
    for (name, schema) in schemas() {
        let (alone, ours) = (alone(&schema), Schema::compile(&schema).expect("a schema"));
        for (kind, value) in hostile::hostile(&schema, 8 * 1024) {
            if Limits::new().check(&value).is_err() {
                continue;
            }
            match ours.check(&value) {
                Ok(()) => assert!(alone.is_valid(&value), "{name}, {kind}"),
                Err(violations) => {
                    assert!(!alone.is_valid(&value), "{name}, {kind}");
                    assert!(violations.iter().len() <= 20, "{name}, {kind}");
                    assert!(violations.to_string().len() < 64 * 1024, "{name}, {kind}");
                    refused.insert(kind);
                }
            }
        }
    }
    assert_eq!(refused.len(), 5, "{refused:?}");
}

#[test]
fn defaults_never_make_a_call_invalid() {
    let schemas = schemas();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let server = ValidatedTool::new().with_defaults().try_layer(served(&schemas)).expect("the corpus");
    for (number, (name, schema)) in (0..).zip(&schemas) {
        let alone = alone(schema);
        let mut maker = Maker::new(schema, 7_000 + number);
        for _ in 0..10 {
            let args = maker.meant();
            if alone.is_valid(&args) {
                let answer =
                    runtime.block_on(server.call_tool(name, args.clone(), &RequestContext::new())).expect("known");
                assert!(!answer.is_error(), "{name}: {args}: {answer:?}");
                let passed: Value = serde_json::from_str(answer.first_text().unwrap_or("null")).expect("the arguments");
                assert!(alone.is_valid(&passed), "{name}: {args}: {passed}");
                assert_ne!(passed, json!(null), "{name}");
            }
        }
    }
}
