//! The cost that a layer adds to a call: one that it does not act on, and a retry that is not needed.

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use turbomcp::prelude::*;
use turbomcp::{Prompt, PromptResult, Resource, ResourceResult, ServerInfo, Tool, ToolResult};

use rows::Row;
use server::Tools;
use stacks::Visit;

#[path = "support/distribution.rs"]
mod distribution;
#[path = "support/rows.rs"]
mod rows;
#[path = "support/server.rs"]
mod server;
#[path = "support/stacks.rs"]
mod stacks;

/// A handler without macros.
#[derive(Debug, Clone)]
struct Plain;

impl McpHandler for Plain {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("plain", "1.0.0")
    }

    fn list_tools(&self) -> Vec<Tool> {
        vec![Tool::new("noop", "Does nothing")]
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, name: &'a str, _: Value, _: &'a RequestContext) -> McpResult<ToolResult> {
        match name {
            "noop" => Ok(ToolResult::text("")),
            other => Err(McpError::tool_not_found(other)),
        }
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Err(McpError::resource_not_found(uri))
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        _: Option<Value>,
        _: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        Err(McpError::prompt_not_found(name))
    }
}

/// Turns each stack into a row that calls one tool.
struct Calls {
    tool: &'static str,
    args: Value,
    rows: Vec<Row>,
}

impl Visit for Calls {
    fn visit<H: McpHandler>(&mut self, stack: &'static str, server: H) {
        let (tool, args, ctx) = (self.tool, self.args.clone(), RequestContext::new());
        self.rows.push(Row::new(
            stack,
            1,
            move || args.clone(),
            async move |args| server.call_tool(tool, args, &ctx).await,
        ));
    }
}

fn calls(tool: &'static str, args: Value, stacks: impl FnOnce(&mut Calls)) -> Vec<Row> {
    let mut calls = Calls { tool, args, rows: Vec::new() };
    stacks(&mut calls);
    calls.rows
}

fn overhead(criterion: &mut Criterion) {
    let groups = [
        ("plain_noop", calls("noop", json!({}), |calls| stacks::idle(&Plain, calls))),
        ("macro_noop", calls("noop", json!({}), |calls| stacks::idle(&Tools, calls))),
        (
            "macro_add",
            calls("add", json!({"a": 1, "b": 2}), |calls| {
                stacks::idle(&Tools, calls);
                stacks::retrying(&Tools, calls);
            }),
        ),
    ];
    for (group, rows) in &groups {
        distribution::criterion(criterion, group, rows);
    }
    if rows::is_measured() {
        for (group, rows) in &groups {
            print(group, rows);
        }
    }
}

fn print(group: &str, rows: &[Row]) {
    let times = rows::side_by_side(rows);
    let of = |name: &str| rows.iter().position(|row| row.name == name).map_or(f64::NAN, |at| times[at] - times[0]);
    println!("\n{group:<20} {:>10} {:>12} {:>10}", "ns", "over bare", "per layer");
    for (row, time) in rows.iter().zip(&times) {
        let layers = if row.name.ends_with("_6") { 6.0 } else { 1.0 };
        let over = time - times[0];
        println!("{:<20} {time:>10.1} {over:>12.1} {:>10.1}", row.name, over / layers);
    }
    println!("goal: one idle layer {:.1} and {:.1} ns, at most 30", of("retry_1"), of("cached_1"));
    println!(
        "goal: six idle layers {:.1} ns, at most half of turbomcp's six hops: {:.1} ns",
        of("retry_cached_6"),
        of("turbomcp_stack_6") / 2.0
    );
}

criterion_group!(benches, overhead);
criterion_main!(benches);
