//! A result in which every field is set.

use std::collections::HashMap;

use serde_json::json;
use turbomcp::prelude::*;

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

pub(crate) fn gallery() -> ToolResult {
    let priority = Annotations { audience: Some(vec![Role::User]), priority: Some(0.5), last_modified: None };
    let linked = Resource::new("driven://linked", "linked");
    let meta = HashMap::from([("example.org/gallery".to_owned(), json!({ "pieces": 5, "é": [1.5, null, true] }))]);
    ToolResult::text("A gallery: \"quotes\", \u{1F980} and \\ backslashes")
        .with_content(Content::image(PIXEL, "image/png").with_annotations(priority))
        .with_content(Content::audio("UklGRgAAAABXQVZF", "audio/wav"))
        .with_content(Content::resource_link(linked))
        .with_content(Content::resource("driven://embedded", "embedded"))
        .with_meta(meta)
}
