//! No schema and no arguments make the validation panic, hang, judge differently from `jsonschema` alone, or repeat a
//! refused value.

#![no_main]

use jsonschema::PatternOptions;
use libfuzzer_sys::fuzz_target;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::validated::{Limits, Schema};
use mcp_patterns::{TryLayer, ValidatedTool};
use serde_json::Value;
use tokio::runtime::Builder;
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_types::{Tool, ToolInputSchema, ToolResult};

const MARK: &str = "M4RK";

// The input is a schema, a line break, and arguments.
fuzz_target!(|input: &str| {
    let Some((schema, args)) = input.split_once('\n') else { return };
    let (Ok(schema), Ok(mut args)) = (serde_json::from_str::<Value>(schema), serde_json::from_str::<Value>(args))
    else {
        return;
    };
    judge(&schema, &args);
    if schema.to_string().contains(MARK) {
        return;
    }
    mark(&mut args);
    let tool = Tool { input_schema: ToolInputSchema::from_value(schema), ..Tool::new("take", "takes") };
    let script = ScriptedServer::new("server").with_tool(tool, |_| async { Ok(ToolResult::text("taken")) });
    let validated = ValidatedTool::new().with_defaults().allow_invalid_schemas();
    let Ok(server) = validated.try_layer(script) else { return };
    let Ok(runtime) = Builder::new_current_thread().build() else { return };
    let answer = runtime.block_on(server.call_tool("take", args, &RequestContext::new()));
    let heard = serde_json::to_string(&answer.expect("the tool is known")).expect("an answer is JSON");
    assert!(!heard.contains(MARK), "{heard}");
});

/// Compares the verdict with that of the library, which gets only schemas that do not overflow its stack.
fn judge(schema: &Value, args: &Value) {
    let Ok(ours) = Schema::compile(schema) else { return };
    if Limits::new().check(args).is_err() {
        return;
    }
    let options = jsonschema::options().should_validate_formats(true).with_pattern_options(PatternOptions::regex());
    let alone = options.offline().build(schema).expect("it compiles for us too");
    assert_eq!(ours.check(args).is_ok(), alone.is_valid(args), "{schema}\n{args}");
}

/// Makes each string recognizable.
fn mark(value: &mut Value) {
    match value {
        Value::String(text) => text.insert_str(0, MARK),
        Value::Array(items) => items.iter_mut().for_each(mark),
        Value::Object(entries) => entries.values_mut().for_each(mark),
        _ => {}
    }
}
