//! The content of the fixtures' answers.

use serde_json::json;
use turbomcp::prelude::*;

/// One red pixel.
pub(crate) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

/// Four silent samples.
const WAV: &str = "UklGRigAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQQAAACAgICA";

pub(crate) fn image() -> ToolResult {
    ToolResult::empty().with_image(PNG, "image/png")
}

pub(crate) fn audio() -> ToolResult {
    ToolResult::empty().with_content(Content::audio(WAV, "audio/wav"))
}

pub(crate) fn embedded() -> ToolResult {
    let resource = Content::resource("test://embedded-resource", "This is an embedded resource content.");
    ToolResult::empty().with_content(resource)
}

pub(crate) fn mixed() -> ToolResult {
    let resource = TextResourceContents {
        uri: "test://mixed-content-resource".into(),
        mime_type: Some("application/json".into()),
        text: json!({ "test": "data", "value": 123 }).to_string(),
        meta: None,
    };
    let resource = EmbeddedResource { resource: ResourceContents::Text(resource), annotations: None, meta: None };
    ToolResult::text("Multiple content types test:")
        .with_image(PNG, "image/png")
        .with_content(Content::Resource(resource))
}

/// A prompt with some content, and then an instruction about it.
pub(crate) fn prompt(shown: Content, request: &str) -> PromptResult {
    PromptResult::new(vec![Message::new(Role::User, shown), Message::user(request)])
}
