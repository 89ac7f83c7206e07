//! Tools that ask their caller's client, or notify it.

use serde_json::json;
use turbomcp::prelude::*;
use turbomcp_types::{CreateMessageRequest, SamplingMessage};

pub(crate) async fn elicit(question: &str, ctx: &RequestContext) -> McpResult<String> {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "age": { "type": "integer" } },
        "required": ["name"],
    });
    let answer = ctx.elicit_form(question, schema).await?;
    Ok(format!("{}: {}", answer.action, answer.content.unwrap_or_default()))
}

pub(crate) async fn sample(prompt: &str, ctx: &RequestContext) -> McpResult<String> {
    let request =
        CreateMessageRequest { messages: vec![SamplingMessage::user(prompt)], max_tokens: 100, ..Default::default() };
    let answer = ctx.sample(request).await?;
    Ok(format!("{} says: {}", answer.model, answer.content.as_text().unwrap_or_default()))
}

pub(crate) async fn roots(ctx: &RequestContext) -> McpResult<String> {
    let roots = ctx.list_roots().await?;
    Ok(roots.iter().map(|root| root.uri.as_str()).collect::<Vec<_>>().join(" "))
}

pub(crate) async fn log(topic: &str, ctx: &RequestContext) -> McpResult<String> {
    for (level, step) in [("debug", 1), ("info", 2), ("warning", 3)] {
        let message = json!({ "level": level, "logger": "driven", "data": { "topic": topic, "step": step } });
        ctx.notify_client("notifications/message", message).await?;
    }
    Ok(format!("Logged {topic}"))
}
