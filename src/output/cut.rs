//! What is left of an answer above the bounds.

use turbomcp_types::{Content, ResourceLink, TextContent, ToolResult};

use super::settings::Bounds;
use super::size::{char_bytes, json_bytes, structure_bytes};

/// The bytes that are free for the sentence about what is left out, without the author's hint, and for the link.
pub(super) const RESERVED: usize = 1 << 10;

/// What an answer has, and what is left out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The bytes of its texts.
    pub(super) text: Part,
    /// The blocks that are no text.
    pub(super) blocks: Part,
    pub(super) has_structure: bool,
}

/// A part of a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) left_out: usize,
    pub(super) of: usize,
}

/// How an answer is cut.
pub(super) struct Cut<'a> {
    pub(super) bounds: Bounds,
    /// The bytes that the sentence and the link may have.
    pub(super) reserved: usize,
    /// Whether the structured content stays. Otherwise it is left out if there are too many bytes.
    pub(super) keeps_structure: bool,
    pub(super) link: Option<ResourceLink>,
    /// Writes the sentence.
    pub(super) sentence: &'a dyn Fn(LeftOut) -> String,
}

impl Cut<'_> {
    /// Returns the beginning of an answer, with the sentence and the link behind it. Only a text is ever divided.
    pub(super) fn apply(self, answer: &ToolResult) -> ToolResult {
        let (content_bytes, structure_bytes) = (json_bytes(&answer.content), structure_bytes(answer));
        let stays = self.keeps_structure || content_bytes + structure_bytes <= self.bounds.bytes;
        let structured_content = answer.structured_content.clone().filter(|_| stays);
        // The brackets of the list are two more bytes.
        let taken = self.reserved + 2 + if stays { structure_bytes } else { 0 };
        let own = 1 + usize::from(self.link.is_some());
        let mut room = Room {
            bytes: self.bounds.bytes.saturating_sub(taken),
            items: self.bounds.items.map_or(usize::MAX, |items| items.saturating_sub(own)),
        };
        let mut content = Vec::new();
        let mut left_out =
            LeftOut { has_structure: answer.structured_content.is_some() && !stays, ..LeftOut::default() };
        for block in &answer.content {
            let kept = room.take(block);
            match block {
                Content::Text(text) => {
                    let kept = kept.as_ref().and_then(Content::as_text).map_or(0, str::len);
                    left_out.text.of += text.text.len();
                    left_out.text.left_out += text.text.len() - kept;
                }
                _ => {
                    left_out.blocks.of += 1;
                    left_out.blocks.left_out += usize::from(kept.is_none());
                }
            }
            content.extend(kept);
        }
        content.push(Content::text((self.sentence)(left_out)));
        content.extend(self.link.map(Content::ResourceLink));
        ToolResult { content, structured_content, is_error: answer.is_error, meta: answer.meta.clone() }
    }
}

/// The room for further blocks.
struct Room {
    bytes: usize,
    items: usize,
}

impl Room {
    /// Returns the block, or the beginning of a text, if there is room for it. After a text that was cut, there is none.
    fn take(&mut self, block: &Content) -> Option<Content> {
        if self.items == 0 {
            return None;
        }
        // With the comma behind it.
        let bytes = json_bytes(block) + 1;
        let kept = match (self.bytes.checked_sub(bytes), block) {
            (Some(rest), block) => {
                self.bytes = rest;
                block.clone()
            }
            (None, Content::Text(text)) => {
                let around = bytes - json_bytes(&text.text);
                let beginning = beginning(&text.text, self.bytes.saturating_sub(around + 2));
                self.bytes = 0;
                if beginning.is_empty() {
                    return None;
                }
                Content::Text(TextContent { text: beginning.to_owned(), ..without_text(text) })
            }
            (None, _) => return None,
        };
        self.items -= 1;
        Some(kept)
    }
}

/// The annotations and `_meta` of a text, without a copy of it.
fn without_text(text: &TextContent) -> TextContent {
    TextContent { text: String::new(), annotations: text.annotations.clone(), meta: text.meta.clone() }
}

/// Returns the beginning of a text that has at most so many bytes in a string of JSON.
///
/// It ends after the last line, or else after the last word, in its last eighth; or else after a character.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    let mut free = bytes;
    let fitting = text.char_indices().find(|(_, char)| match free.checked_sub(char_bytes(*char)) {
        Some(rest) => {
            free = rest;
            false
        }
        None => true,
    });
    let Some((end, _)) = fitting else { return text };
    let fitting = &text[..end];
    let last_part = fitting.floor_char_boundary(end - end / 8);
    let after = |found: Option<(usize, &str)>| found.map(|(at, space)| last_part + at + space.len());
    let tail = &fitting[last_part..];
    let line = || after(tail.rmatch_indices('\n').next());
    let word = || after(tail.rmatch_indices(char::is_whitespace).next());
    &fitting[..line().or_else(word).unwrap_or(end)]
}
