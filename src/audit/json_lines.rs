//! Events as lines of JSON.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::destination::{Destination, DestinationError};
use super::event::Event;

/// Writes each event as one line of JSON: to a file, a socket, or stderr. Over stdio, stdout belongs to the protocol.
///
/// A batch is written and flushed at once. After a failure in the middle of a batch, the next line begins after a line break. So each
/// line is an event, or the beginning of one that follows again.
pub struct JsonLines<W> {
    writer: W,
    /// The lines of the batch. The memory is used again.
    lines: Vec<u8>,
    /// Whether the last batch may have ended in the middle of a line.
    is_cut: bool,
}

impl<W: AsyncWrite + Send + Unpin + 'static> JsonLines<W> {
    /// Creates the destination.
    pub fn new(writer: W) -> Self {
        Self { writer, lines: Vec::new(), is_cut: false }
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin + 'static> Destination for JsonLines<W> {
    fn name(&self) -> &str {
        "json_lines"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<(), DestinationError> {
        self.lines.clear();
        if self.is_cut {
            self.lines.push(b'\n');
        }
        for event in events {
            serde_json::to_writer(&mut self.lines, &**event)?;
            self.lines.push(b'\n');
        }
        // Also if this is dropped.
        self.is_cut = true;
        self.writer.write_all(&self.lines).await?;
        self.writer.flush().await?;
        self.is_cut = false;
        Ok(())
    }
}

impl<W> fmt::Debug for JsonLines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}
