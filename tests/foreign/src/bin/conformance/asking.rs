//! Tools that ask their caller's client, or notify it before they answer.

use std::time::Duration;

use serde_json::{Value, json};
use turbomcp::prelude::*;
use turbomcp_types::{CreateMessageRequest, SamplingMessage};

/// The time that the suite expects between two notifications of a tool.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn sample(prompt: String, ctx: &RequestContext) -> McpResult<String> {
    let request =
        CreateMessageRequest { messages: vec![SamplingMessage::user(prompt)], max_tokens: 100, ..Default::default() };
    let answer = ctx.sample(request).await?;
    Ok(format!("LLM response: {}", answer.content.as_text().unwrap_or_default()))
}

pub(crate) async fn elicit(
    message: &str,
    properties: Value,
    required: Value,
    ctx: &RequestContext,
) -> McpResult<String> {
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    let answer = ctx.elicit_form(message, schema).await?;
    Ok(format!("Elicitation completed: action={}, content={}", answer.action, answer.content.unwrap_or_default()))
}

pub(crate) fn user() -> Value {
    json!({
        "username": { "type": "string", "description": "The user's name" },
        "email": { "type": "string", "description": "The user's email address" },
    })
}

/// A default for each primitive type.
pub(crate) fn defaults() -> Value {
    json!({
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    })
}

/// Each form of a choice, the deprecated one too.
pub(crate) fn enums() -> Value {
    let titled = |title: &str| -> Value {
        (1..=3).map(|n| json!({ "const": format!("value{n}"), "title": format!("{title} {n}") })).collect()
    };
    json!({
        "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": ["option1", "option2", "option3"] } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    })
}

pub(crate) async fn log(ctx: &RequestContext) -> McpResult<String> {
    for (number, message) in
        ["Tool execution started", "Tool processing data", "Tool execution completed"].into_iter().enumerate()
    {
        if number > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        ctx.notify_client("notifications/message", json!({ "level": "info", "data": message })).await?;
    }
    Ok("Logged three messages".into())
}

pub(crate) async fn progress(ctx: &RequestContext) -> McpResult<String> {
    for done in [0.0, 50.0, 100.0] {
        if done > 0.0 {
            tokio::time::sleep(PAUSE).await;
        }
        ctx.report_progress(done, Some(100.0), None).await?;
    }
    Ok("Reported progress three times".into())
}
