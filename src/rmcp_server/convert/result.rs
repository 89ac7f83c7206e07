//! Answers: of tools, resources and prompts.

use ::rmcp::model as rmcp;
use serde::{Deserialize, Serialize};
use turbomcp_core::{McpError, McpResult};
use turbomcp_types as own;

use super::content::{
    block_from_rmcp, block_to_rmcp, contents_from_rmcp, contents_to_rmcp, role_from_rmcp, role_to_rmcp,
};
use super::{meta_from_rmcp, meta_to_rmcp};
use crate::cache_hints::CACHE_HINTS;

/// How long clients may keep an answer, and which ones.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheHints {
    ttl_ms: Option<u64>,
    cache_scope: Option<rmcp::CacheScope>,
}

/// The error for content of a kind that a later version of rmcp has.
fn unknown() -> McpError {
    McpError::internal("The answer has content of a kind that the layers do not know: update `mcp-patterns`")
}

pub(in crate::rmcp_server) fn result_from_rmcp(result: rmcp::CallToolResult) -> McpResult<own::ToolResult> {
    Ok(own::ToolResult {
        content: result.content.into_iter().map(block_from_rmcp).collect::<Option<_>>().ok_or_else(unknown)?,
        is_error: result.is_error,
        structured_content: result.structured_content,
        meta: meta_from_rmcp(result.meta),
    })
}

pub(in crate::rmcp_server) fn result_to_rmcp(result: own::ToolResult) -> rmcp::CallToolResult {
    let mut converted = rmcp::CallToolResult::success(result.content.into_iter().map(block_to_rmcp).collect());
    converted.is_error = result.is_error;
    converted.structured_content = result.structured_content;
    converted.meta = meta_to_rmcp(result.meta);
    converted
}

pub(in crate::rmcp_server) fn resource_from_rmcp(result: rmcp::ReadResourceResult) -> McpResult<own::ResourceResult> {
    let mut meta = meta_from_rmcp(result.meta);
    if result.ttl_ms.is_some() || result.cache_scope.is_some() {
        let hints = CacheHints { ttl_ms: result.ttl_ms, cache_scope: result.cache_scope };
        meta.get_or_insert_default().insert(CACHE_HINTS.to_owned(), serde_json::to_value(hints)?);
    }
    let contents = result.contents.into_iter().map(contents_from_rmcp).collect::<Option<_>>().ok_or_else(unknown)?;
    Ok(own::ResourceResult { contents, meta })
}

pub(in crate::rmcp_server) fn resource_to_rmcp(mut result: own::ResourceResult) -> rmcp::ReadResourceResult {
    let hints = result.meta.as_mut().and_then(|meta| meta.remove(CACHE_HINTS));
    if result.meta.as_ref().is_some_and(std::collections::HashMap::is_empty) {
        result.meta = None;
    }
    let mut converted = rmcp::ReadResourceResult::new(result.contents.into_iter().map(contents_to_rmcp).collect());
    if let Some(hints) = hints.and_then(|hints| CacheHints::deserialize(hints).ok()) {
        converted.ttl_ms = hints.ttl_ms;
        converted.cache_scope = hints.cache_scope;
    }
    converted.meta = meta_to_rmcp(result.meta);
    converted
}

pub(in crate::rmcp_server) fn prompt_from_rmcp(result: rmcp::GetPromptResult) -> McpResult<own::PromptResult> {
    let message = |message: rmcp::PromptMessage| {
        let content = block_from_rmcp(message.content)?;
        Some(own::Message { role: role_from_rmcp(&message.role), content })
    };
    Ok(own::PromptResult {
        description: result.description,
        messages: result.messages.into_iter().map(message).collect::<Option<_>>().ok_or_else(unknown)?,
        meta: meta_from_rmcp(result.meta),
    })
}

pub(in crate::rmcp_server) fn prompt_to_rmcp(result: own::PromptResult) -> rmcp::GetPromptResult {
    let message =
        |message: own::Message| rmcp::PromptMessage::new(role_to_rmcp(message.role), block_to_rmcp(message.content));
    let mut converted = rmcp::GetPromptResult::new(result.messages.into_iter().map(message).collect::<Vec<_>>());
    converted.description = result.description;
    converted.meta = meta_to_rmcp(result.meta);
    converted
}
