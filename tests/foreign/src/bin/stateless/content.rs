//! The content of the fixtures' answers.

use rmcp::model::{
    CallToolResult, ContentBlock, GetPromptResult, PromptMessage, ReadResourceResult, ResourceContents, Role,
};
use serde_json::json;

/// One red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

/// Four silent samples.
const WAV: &str = "UklGRigAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQQAAACAgICA";

pub(crate) fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

pub(crate) fn image() -> ContentBlock {
    ContentBlock::image(PNG, "image/png")
}

pub(crate) fn audio() -> ContentBlock {
    ContentBlock::audio(WAV, "audio/wav")
}

pub(crate) fn embedded(uri: &str) -> ContentBlock {
    ContentBlock::embedded_text(uri, "This is an embedded resource content.")
}

/// Returns the content of a resource.
pub(crate) fn resource(uri: &str) -> Option<ReadResourceResult> {
    let contents = match uri {
        "test://static-text" => {
            ResourceContents::text("This is the content of the static text resource.", uri).with_mime_type("text/plain")
        }
        "test://static-binary" => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
        _ => {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
        }
    };
    Some(ReadResourceResult::new(vec![contents]))
}

/// A prompt with some content, and then an instruction about it.
pub(crate) fn prompt(shown: Option<ContentBlock>, request: impl Into<String>) -> GetPromptResult {
    let shown = shown.map(|shown| PromptMessage::new(Role::User, shown));
    let request = PromptMessage::new_text(Role::User, request.into());
    GetPromptResult::new(shown.into_iter().chain([request]).collect())
}
