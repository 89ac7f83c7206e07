use std::fmt;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use rmcp::transport::streamable_http_server::session::{
    EventStore, RestoreOutcome, ServerSseMessage, SessionId, SessionManager,
};

use super::events::{EventLog, Log, mark};

/// rmcp's [`LocalSessionManager`] with an event store, for a server of several processes: a client that resumes a call whose process has
/// died gets an error. See the [manual](super#a-process-that-dies).
pub struct ReplicaSessionManager {
    local: LocalSessionManager,
}

impl ReplicaSessionManager {
    /// Creates a manager whose streams are kept in `events`, and whose process has a [lease](EventLog::with_lease) there.
    #[must_use]
    pub fn new<L: Log>(events: EventLog<L>) -> Self {
        Self { local: LocalSessionManager::default().with_event_store(Arc::new(events.owned())) }
    }

    /// Sets rmcp's settings of a session.
    #[must_use]
    pub fn with_session_config(mut self, config: SessionConfig) -> Self {
        self.local.session_config = config;
        self
    }
}

type Error = <LocalSessionManager as SessionManager>::Error;
type Transport = <LocalSessionManager as SessionManager>::Transport;

impl SessionManager for ReplicaSessionManager {
    type Error = Error;
    type Transport = Transport;

    async fn create_session(&self) -> Result<(SessionId, Transport), Error> {
        self.local.create_session().await
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Error> {
        self.local.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Error> {
        self.local.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Error> {
        self.local.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Error> {
        let request = match &message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let events = self.local.create_stream(id, message).await?;
        Ok(events.map(move |mut event| {
            if let (Some(id), Some(request)) = (&event.event_id, &request)
                && let Some(marked) = mark(id, request)
            {
                event.event_id = Some(marked);
            }
            event
        }))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Error> {
        self.local.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Error> {
        self.local.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Error> {
        self.local.resume(id, last_event_id).await
    }

    async fn restore_session(&self, id: SessionId) -> Result<RestoreOutcome<Transport>, Error> {
        self.local.restore_session(id).await
    }

    fn event_store(&self) -> Option<Arc<dyn EventStore>> {
        self.local.event_store()
    }
}

impl fmt::Debug for ReplicaSessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaSessionManager").finish_non_exhaustive()
    }
}
