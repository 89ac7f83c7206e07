//! The author's function that replaces texts, and the texts that it gets.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::{McpResult, meta_keys};
use turbomcp_types::{Content, ResourceContents, ToolResult};

type Replace = dyn for<'a> Fn(&str, &'a str) -> Cow<'a, str> + Send + Sync;

/// Replaces texts.
#[derive(Clone)]
pub(super) struct Redaction(Arc<Replace>);

/// The entries of an error's data that layers write and read.
const MARKS: &str = "mcp-patterns/";

impl Redaction {
    pub(super) fn new(replace: impl for<'a> Fn(&str, &'a str) -> Cow<'a, str> + Send + Sync + 'static) -> Self {
        Self(Arc::new(replace))
    }

    /// Replaces the texts of an answer.
    pub(super) fn apply(&self, tool: &str, answer: &mut McpResult<ToolResult>, with_structure: bool) {
        match answer {
            Ok(answer) => {
                answer.content.iter_mut().for_each(|block| self.block(tool, block));
                if let Some(structure) = answer.structured_content.as_mut().filter(|_| with_structure) {
                    self.value(tool, structure);
                }
                if let Some(data) = answer.meta.as_mut().and_then(|meta| meta.get_mut(meta_keys::ERROR_DATA)) {
                    self.data(tool, data);
                }
            }
            Err(error) => {
                self.text(tool, &mut error.message);
                if let Some(data) = error.context.as_mut().and_then(|context| context.data.as_mut()) {
                    self.data(tool, data);
                }
            }
        }
    }

    fn block(&self, tool: &str, block: &mut Content) {
        match block {
            Content::Text(text) => self.text(tool, &mut text.text),
            Content::Resource(embedded) => match &mut embedded.resource {
                ResourceContents::Text(text) => self.text(tool, &mut text.text),
                ResourceContents::Blob(_) => {}
            },
            Content::ResourceLink(link) => {
                self.text(tool, &mut link.name);
                let described = [link.title.as_mut(), link.description.as_mut()];
                described.into_iter().flatten().for_each(|text| self.text(tool, text));
            }
            Content::Image(_) | Content::Audio(_) => {}
        }
    }

    /// Replaces the texts that a tool has attached to its error.
    fn data(&self, tool: &str, data: &mut Value) {
        match data {
            Value::Object(entries) => {
                let own = entries.iter_mut().filter(|(key, _)| !key.starts_with(MARKS));
                own.for_each(|(_, value)| self.value(tool, value));
            }
            data => self.value(tool, data),
        }
    }

    /// Replaces all strings at any depth. Keys stay.
    fn value(&self, tool: &str, value: &mut Value) {
        let mut left = vec![value];
        while let Some(value) = left.pop() {
            match value {
                Value::String(text) => self.text(tool, text),
                Value::Array(items) => left.extend(items),
                Value::Object(entries) => left.extend(entries.values_mut()),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
    }

    fn text(&self, tool: &str, text: &mut String) {
        let replaced = (self.0)(tool, text);
        if replaced != *text {
            *text = replaced.into_owned();
        }
    }
}
