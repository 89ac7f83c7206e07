//! Where a buffer writes its events.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;

use super::event::Event;
use crate::ConfigError;

/// An error of a destination. It is logged.
pub type DestinationError = Box<dyn Error + Send + Sync>;

/// Where a [`Buffered`](super::Buffered) writes its events: [`JsonLines`](super::JsonLines), [`SqlTable`](super::SqlTable), or one of your
/// own.
///
/// ```
/// use std::sync::{Arc, mpsc};
/// use mcp_patterns::audit::{Buffered, Destination, DestinationError, Event};
///
/// /// Sends batches to a collector.
/// struct Collector(mpsc::Sender<String>);
///
/// #[async_trait::async_trait]
/// impl Destination for Collector {
///     fn name(&self) -> &str {
///         "collector"
///     }
///
///     async fn write(&mut self, events: &[Arc<Event>]) -> Result<(), DestinationError> {
///         let events: Vec<&Event> = events.iter().map(|event| &**event).collect();
///         self.0.send(serde_json::to_string(&events)?)?;
///         Ok(())
///     }
/// }
///
/// let buffer = Buffered::new(Collector(mpsc::channel().0));
/// ```
///
/// A later version may add methods with a default.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "audit events cannot be written to `{Self}`",
    label = "not a `Destination`",
    note = "use `JsonLines` or `SqlTable`, or implement `mcp_patterns::audit::Destination`; for a function, use `AuditTool::with_sink`"
)]
pub trait Destination: Send + 'static {
    /// Returns a name for the log and the metrics, such as `json_lines`.
    fn name(&self) -> &str;

    /// Writes a batch of events. After an error, or a panic, the same batch is written again.
    ///
    /// So an event may come twice: ignore an id that is known. An event that can never be written holds up all others: drop it here, and
    /// return `Ok`. Bound the time: no other batch is written until this one is.
    async fn write(&mut self, events: &[Arc<Event>]) -> Result<(), DestinationError>;

    /// Checks that events can be written, when the server starts. A service that is down at the moment is no mistake.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] ends the start of the server.
    async fn check_storage(&mut self) -> Result<(), ConfigError> {
        Ok(())
    }
}
