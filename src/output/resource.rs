//! A kept answer as a resource.

use turbomcp_types::{
    BlobResourceContents, Content, ResourceContents, ResourceLink, ResourceResult, TextResourceContents, ToolResult,
};

use super::size::{json_bytes, structure_bytes};

/// Identifies a kept answer. It cannot be guessed: a hash with a secret of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(pub(super) u128);

/// Precedes the id in a URI.
const SCHEME: &str = "mcp-patterns-output://";
/// The type of structured content.
const JSON: &str = "application/json";
/// The type of texts.
const TEXT: &str = "text/plain";
/// A tool chooses the types of its blobs. A longer one is not in the link.
const MAX_TYPE: usize = 100;

/// Returns the id in a URI of a kept answer.
pub(super) fn id_in(uri: &str) -> Option<Id> {
    let digits = uri.strip_prefix(SCHEME)?;
    let id = Id(u128::from_str_radix(digits, 16).ok()?);
    // Each answer has one URI.
    (uri == uri_of(id)).then_some(id)
}

fn uri_of(Id(id): Id) -> String {
    format!("{SCHEME}{id:032x}")
}

/// Makes the link to a kept answer.
pub(super) fn link(id: Id, answer: &ToolResult) -> ResourceLink {
    let type_of_block = |block: &Content| match block {
        Content::Text(_) => Some(TEXT.to_owned()),
        Content::Image(image) => Some(image.mime_type.clone()),
        Content::Audio(audio) => Some(audio.mime_type.clone()),
        Content::ResourceLink(_) => Some(JSON.to_owned()),
        Content::Resource(_) => None,
    };
    let mime_type = match (&answer.content[..], &answer.structured_content) {
        ([block], None) => type_of_block(block).filter(|mime_type| mime_type.len() <= MAX_TYPE),
        ([], Some(_)) => Some(JSON.to_owned()),
        _ => None,
    };
    let bytes = answer.content.iter().map(raw_bytes).sum::<usize>() + structure_bytes(answer);
    ResourceLink {
        uri: uri_of(id),
        name: "answer".to_owned(),
        description: Some("The whole answer".to_owned()),
        title: None,
        icons: None,
        mime_type,
        annotations: None,
        size: u64::try_from(bytes).ok(),
        meta: None,
    }
}

/// Returns an answer as contents: each block, and the structured content, is one of them. They have no URI yet.
pub(super) fn contents(answer: &ToolResult) -> Vec<ResourceContents> {
    let text = |mime_type: &str, text: String, meta| {
        let mime_type = Some(mime_type.to_owned());
        ResourceContents::Text(TextResourceContents { uri: String::new(), mime_type, text, meta })
    };
    let blob = |mime_type: &String, data: &String, meta| {
        let mime_type = Some(mime_type.clone());
        ResourceContents::Blob(BlobResourceContents { uri: String::new(), mime_type, blob: data.clone(), meta })
    };
    let blocks = answer.content.iter().map(|block| match block {
        Content::Text(block) => text(TEXT, block.text.clone(), block.meta.clone()),
        Content::Image(image) => blob(&image.mime_type, &image.data, image.meta.clone()),
        Content::Audio(audio) => blob(&audio.mime_type, &audio.data, audio.meta.clone()),
        Content::Resource(embedded) => embedded.resource.clone(),
        Content::ResourceLink(_) => text(JSON, serde_json::to_string(block).unwrap_or_default(), None),
    });
    let structure = answer.structured_content.iter().map(|structure| text(JSON, structure.to_string(), None));
    blocks.chain(structure).collect()
}

/// Reads the kept contents of an answer, and gives them its URI. An embedded resource keeps its own.
pub(super) fn read(id: Id, contents: &str) -> Option<ResourceResult> {
    let mut contents: Vec<ResourceContents> = serde_json::from_str(contents).ok()?;
    for part in &mut contents {
        let uri = match part {
            ResourceContents::Text(text) => &mut text.uri,
            ResourceContents::Blob(blob) => &mut blob.uri,
        };
        if uri.is_empty() {
            *uri = uri_of(id);
        }
    }
    Some(ResourceResult { contents, meta: None })
}

/// Returns the bytes of a block as a resource: those of a blob before it was encoded.
fn raw_bytes(block: &Content) -> usize {
    let decoded = |data: &str| data.trim_end_matches('=').len() * 3 / 4;
    match block {
        Content::Text(text) => text.text.len(),
        Content::Image(image) => decoded(&image.data),
        Content::Audio(audio) => decoded(&audio.data),
        Content::Resource(embedded) => match &embedded.resource {
            ResourceContents::Text(text) => text.text.len(),
            ResourceContents::Blob(blob) => decoded(&blob.blob),
        },
        Content::ResourceLink(_) => json_bytes(block),
    }
}
