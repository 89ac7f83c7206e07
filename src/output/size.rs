//! How many bytes an answer has when it is sent.

use std::io::{self, Write};

use serde::Serialize;
use turbomcp_types::ToolResult;

/// Counts what is written.
#[derive(Default)]
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the bytes of a value as JSON, without making a text of it.
pub(super) fn json_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut counted = Counted::default();
    // Neither the writer nor a value of JSON can fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

/// Returns the bytes that the bound of an answer counts: its content and its structured content.
pub(super) fn answer_bytes(answer: &ToolResult) -> usize {
    json_bytes(&answer.content) + structure_bytes(answer)
}

/// Returns the bytes of the structured content.
pub(super) fn structure_bytes(answer: &ToolResult) -> usize {
    answer.structured_content.as_ref().map_or(0, json_bytes)
}

/// Returns the bytes of a character in a string of JSON.
pub(super) fn char_bytes(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..' ' => 6,
        _ => char.len_utf8(),
    }
}
