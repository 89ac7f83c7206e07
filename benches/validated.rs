//! The cost of the validation, compared with direct calls of `jsonschema` and `validator`, and its allocations.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

#[path = "../tests/it/corpus/hostile.rs"]
mod hostile;

use std::hint::black_box;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::validated::{Limits, Schema};
use mcp_patterns::{Layer, ValidatedTool};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use turbomcp::{McpHandler, RequestContext, ToolResult};
use turbomcp_types::{Tool, ToolInputSchema};
use validator::Validate;

/// How often each candidate is timed, in turns. The median counts.
const ROUNDS: usize = 9;
const CALLS: u32 = 20_000;

#[derive(Debug, Deserialize, Validate)]
struct Registration {
    #[validate(length(min = 3, max = 20))]
    username: String,
    #[validate(email)]
    email: String,
    #[validate(range(min = 18, max = 120))]
    age: i32,
    #[validate(length(min = 8))]
    password: String,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"data": {"type": "object", "properties": {
            "username": {"type": "string", "minLength": 3, "maxLength": 20, "pattern": "^[A-Za-z0-9_]*$"},
            "email": {"type": "string", "format": "email"},
            "age": {"type": "integer", "minimum": 18, "maximum": 120},
            "password": {"type": "string", "minLength": 8},
        }, "required": ["username", "email", "age", "password"]}},
        "required": ["data"],
        "additionalProperties": false,
    })
}

fn args() -> Value {
    json!({"data": {"username": "user_1", "email": "user_1@example.org", "age": 36, "password": "correct horse"}})
}

fn server() -> ScriptedServer {
    let tool = Tool { input_schema: ToolInputSchema::from_value(schema()), ..Tool::new("register", "registers") };
    ScriptedServer::new("users").with_tool(tool, |_| async { Ok(ToolResult::text("registered")) })
}

fn time(mut call: impl FnMut()) -> Duration {
    let started = Instant::now();
    (0..CALLS).for_each(|_| call());
    started.elapsed() / CALLS
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let ctx = RequestContext::new();
    let bare = server();
    let by_schema = ValidatedTool::new().layer(server());
    let typed = ValidatedTool::new().typed::<Registration>("register").layer(server());
    let compiled = jsonschema::options().should_validate_formats(true).build(&schema()).expect("a schema");

    let calls = |server: &dyn Fn(Value)| server(args());
    let bare_call = |args| drop(black_box(runtime.block_on(bare.call_tool("register", args, &ctx))));
    let schema_call = |args| drop(black_box(runtime.block_on(by_schema.call_tool("register", args, &ctx))));
    let typed_call = |args| drop(black_box(runtime.block_on(typed.call_tool("register", args, &ctx))));
    let schema_by_hand = |args: Value| {
        assert!(compiled.is_valid(black_box(&args)));
        bare_call(args);
    };
    let typed_by_hand = |args: Value| {
        assert!(compiled.is_valid(black_box(&args)));
        let registration = Registration::deserialize(&args["data"]).expect("it can be read");
        assert!(registration.validate().is_ok());
        black_box((registration.username, registration.email, registration.age, registration.password));
        bare_call(args);
    };
    let ways: [(&str, &dyn Fn(Value)); 5] = [
        ("bare", &bare_call),
        ("schema by hand", &schema_by_hand),
        ("schema", &schema_call),
        ("schema and type by hand", &typed_by_hand),
        ("schema and type", &typed_call),
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            times.push(time(|| calls(*way)));
        }
    }
    println!("{:<26} {:>8} {:>12}", "way", "ns", "allocations");
    for ((name, way), times) in ways.iter().zip(times) {
        let args = args();
        let allocations = measure(|| way(args)).count_total;
        println!("{name:<26} {:>8} {allocations:>12}", median(times).as_nanos());
    }

    println!("\n{:<26} {:>10} {:>10}", "bomb of 1 MiB", "parse us", "refuse us");
    let mebibyte = 1024 * 1024;
    for (name, bomb) in [
        (
            "nested arrays, 120 deep",
            format!("[{}]", vec!["[".repeat(120) + &"]".repeat(120); mebibyte / 241].join(",")),
        ),
        ("empty arrays", format!("[{}]", vec!["[]"; mebibyte / 3].join(","))),
        ("numbers", format!("[{}]", vec!["1"; mebibyte / 2].join(","))),
        ("one string", format!("\"{}\"", "x".repeat(mebibyte))),
        ("strings of 1 KiB", format!("[{}]", vec![format!("\"{}\"", "x".repeat(1022)); 1025].join(","))),
        (
            "properties",
            format!("{{{}}}", (0..mebibyte / 10).map(|n| format!("\"{n:05}\":1")).collect::<Vec<_>>().join(",")),
        ),
    ] {
        let parse = median((0..ROUNDS).map(|_| once(|| serde_json::from_str::<Value>(&bomb).expect("JSON"))).collect());
        let value: Value = serde_json::from_str(&bomb).expect("JSON");
        let refuse = median((0..ROUNDS).map(|_| once(|| Limits::new().check(&value))).collect());
        assert!(Limits::new().check(&value).is_err(), "{name}");
        println!("{name:<26} {:>10.1} {:>10.1}", parse.as_secs_f64() * 1e6, refuse.as_secs_f64() * 1e6);
    }
    refuse_the_worst();
}

/// The schemas of public servers with hostile inputs: the worst of each kind, per KiB.
fn refuse_the_worst() {
    println!("\n{:<22} {:>10} {:>12} {:>12}  schema", "hostile input", "KiB", "us per KiB", "verdict");
    let schemas: Vec<(String, Value)> = include_str!("../tests/it/corpus/schemas.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"))
        .map(|mut entry| (entry["tool"].as_str().expect("a name").to_owned(), entry["schema"].take()))
        .collect();
    let mut worst = std::collections::BTreeMap::new();
    for bytes in [64 * 1024, 512 * 1024] {
        for (tool, schema) in &schemas {
            let alone = jsonschema::options().should_validate_formats(true).build(schema).expect("a schema");
            let Ok(ours) = Schema::compile(schema) else { continue };
            for (kind, value) in hostile::hostile(schema, bytes) {
                let kibibytes = value.to_string().len() as f64 / 1024.0;
                if kibibytes < 1.0 || Limits::new().check(&value).is_err() {
                    continue;
                }
                let per_kibibyte = |time: Duration| time.as_secs_f64() * 1e6 / kibibytes;
                let verdict = per_kibibyte(least(|| alone.is_valid(&value)));
                let told = per_kibibyte(least(|| ours.check(&value).is_ok()));
                let entry = worst.entry(kind).or_insert((0.0, 0.0, 0.0, ""));
                if told > entry.0 {
                    *entry = (told, verdict, kibibytes, tool.as_str());
                }
            }
        }
    }
    for (kind, (told, verdict, kibibytes, tool)) in worst {
        println!("{kind:<22} {kibibytes:>10.1} {told:>12.2} {verdict:>12.2}  {tool}");
    }
}

/// The least of a few times: otherwise the worst of many inputs would be the one during which the machine was busy.
fn least<T>(mut work: impl FnMut() -> T) -> Duration {
    (0..5).map(|_| once(&mut work)).min().unwrap_or_default()
}

fn once<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}
