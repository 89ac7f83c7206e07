//! Content of answers.

use rmcp::model as rmcp;
use turbomcp_types as own;

use super::{by_json, meta_from_rmcp, meta_to_rmcp};

pub(super) fn role_from_rmcp(role: &rmcp::Role) -> own::Role {
    match role {
        rmcp::Role::User => own::Role::User,
        rmcp::Role::Assistant => own::Role::Assistant,
    }
}

pub(super) fn role_to_rmcp(role: own::Role) -> rmcp::Role {
    match role {
        own::Role::User => rmcp::Role::User,
        own::Role::Assistant => rmcp::Role::Assistant,
    }
}

fn annotations_from_rmcp(annotations: Option<rmcp::Annotations>) -> Option<own::Annotations> {
    annotations.map(|annotations| own::Annotations {
        audience: annotations.audience.map(|roles| roles.iter().map(role_from_rmcp).collect()),
        priority: annotations.priority.map(f64::from),
        last_modified: annotations.last_modified,
    })
}

fn annotations_to_rmcp(annotations: Option<own::Annotations>) -> Option<rmcp::Annotations> {
    annotations.map(|annotations| {
        let mut converted = rmcp::Annotations::default();
        converted.audience = annotations.audience.map(|roles| roles.into_iter().map(role_to_rmcp).collect());
        // It comes from an `f32`.
        converted.priority = annotations.priority.map(|priority| priority as f32);
        converted.last_modified = annotations.last_modified;
        converted
    })
}

/// Returns `None` for contents of a kind that is not known here.
pub(super) fn contents_from_rmcp(contents: rmcp::ResourceContents) -> Option<own::ResourceContents> {
    Some(match contents {
        rmcp::ResourceContents::TextResourceContents { uri, mime_type, text, meta } => {
            own::ResourceContents::Text(own::TextResourceContents { uri, mime_type, text, meta: meta_from_rmcp(meta) })
        }
        rmcp::ResourceContents::BlobResourceContents { uri, mime_type, blob, meta } => {
            own::ResourceContents::Blob(own::BlobResourceContents { uri, mime_type, blob, meta: meta_from_rmcp(meta) })
        }
        _ => return None,
    })
}

pub(super) fn contents_to_rmcp(contents: own::ResourceContents) -> rmcp::ResourceContents {
    match contents {
        own::ResourceContents::Text(own::TextResourceContents { uri, mime_type, text, meta }) => {
            rmcp::ResourceContents::TextResourceContents { uri, mime_type, text, meta: meta_to_rmcp(meta) }
        }
        own::ResourceContents::Blob(own::BlobResourceContents { uri, mime_type, blob, meta }) => {
            rmcp::ResourceContents::BlobResourceContents { uri, mime_type, blob, meta: meta_to_rmcp(meta) }
        }
    }
}

/// Returns `None` for a block of a kind that is not known here.
pub(super) fn block_from_rmcp(block: rmcp::ContentBlock) -> Option<own::Content> {
    Some(match block {
        rmcp::ContentBlock::Text(text) => own::Content::Text(own::TextContent {
            text: text.text,
            annotations: annotations_from_rmcp(text.annotations),
            meta: meta_from_rmcp(text.meta),
        }),
        rmcp::ContentBlock::Image(image) => own::Content::Image(own::ImageContent {
            data: image.data,
            mime_type: image.mime_type,
            annotations: annotations_from_rmcp(image.annotations),
            meta: meta_from_rmcp(image.meta),
        }),
        rmcp::ContentBlock::Audio(audio) => own::Content::Audio(own::AudioContent {
            data: audio.data,
            mime_type: audio.mime_type,
            annotations: annotations_from_rmcp(audio.annotations),
            meta: meta_from_rmcp(audio.meta),
        }),
        rmcp::ContentBlock::Resource(embedded) => own::Content::Resource(own::EmbeddedResource {
            resource: contents_from_rmcp(embedded.resource)?,
            annotations: annotations_from_rmcp(embedded.annotations),
            meta: meta_from_rmcp(embedded.meta),
        }),
        rmcp::ContentBlock::ResourceLink(link) => own::Content::ResourceLink(link_from_rmcp(link)),
        _ => return None,
    })
}

pub(super) fn block_to_rmcp(block: own::Content) -> rmcp::ContentBlock {
    match block {
        own::Content::Text(text) => {
            let mut converted = rmcp::TextContent::new(text.text);
            converted.annotations = annotations_to_rmcp(text.annotations);
            converted.meta = meta_to_rmcp(text.meta);
            rmcp::ContentBlock::Text(converted)
        }
        own::Content::Image(image) => {
            let mut converted = rmcp::ImageContent::new(image.data, image.mime_type);
            converted.annotations = annotations_to_rmcp(image.annotations);
            converted.meta = meta_to_rmcp(image.meta);
            rmcp::ContentBlock::Image(converted)
        }
        own::Content::Audio(audio) => {
            let mut converted = rmcp::AudioContent::new(audio.data, audio.mime_type);
            converted.annotations = annotations_to_rmcp(audio.annotations);
            converted.meta = meta_to_rmcp(audio.meta);
            rmcp::ContentBlock::Audio(converted)
        }
        own::Content::Resource(embedded) => {
            let mut converted = rmcp::EmbeddedResource::new(contents_to_rmcp(embedded.resource));
            converted.annotations = annotations_to_rmcp(embedded.annotations);
            converted.meta = meta_to_rmcp(embedded.meta);
            rmcp::ContentBlock::Resource(converted)
        }
        own::Content::ResourceLink(link) => rmcp::ContentBlock::ResourceLink(link_to_rmcp(link)),
    }
}

fn link_from_rmcp(link: rmcp::Resource) -> own::ResourceLink {
    own::ResourceLink {
        uri: link.uri,
        name: link.name,
        description: link.description,
        title: link.title,
        icons: link.icons.as_ref().and_then(by_json),
        mime_type: link.mime_type,
        annotations: annotations_from_rmcp(link.annotations).map(|annotations| own::ResourceAnnotations {
            audience: annotations.audience,
            priority: annotations.priority,
            last_modified: annotations.last_modified,
        }),
        size: link.size,
        meta: meta_from_rmcp(link.meta),
    }
}

fn link_to_rmcp(link: own::ResourceLink) -> rmcp::Resource {
    let mut converted = rmcp::Resource::new(link.uri, link.name);
    converted.description = link.description;
    converted.title = link.title;
    converted.icons = link.icons.as_ref().and_then(by_json);
    converted.mime_type = link.mime_type;
    converted.annotations = annotations_to_rmcp(link.annotations.map(|annotations| own::Annotations {
        audience: annotations.audience,
        priority: annotations.priority,
        last_modified: annotations.last_modified,
    }));
    converted.size = link.size;
    converted.meta = meta_to_rmcp(link.meta);
    converted
}
