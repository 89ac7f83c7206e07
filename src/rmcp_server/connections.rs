//! The connections of a server: an id for each, and the peers for calls that layers act on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::RoleServer;
use rmcp::service::Peer;
use serde_json::Value;
use turbomcp_core::McpSession;

use super::client::Client;
use super::forwarding_peer::ForwardingPeer;

/// How many idle peers a connection keeps.
const MAX_IDLE: usize = 64;

/// The connections of a server and its clones. They are told apart by their handshake, which each peer of a connection shares.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By the address of the handshake. The connection holds the handshake, so no other one gets that address.
    open: HashMap<usize, Arc<Connection>>,
    /// How many there may be before the closed ones are removed.
    limit: usize,
}

impl Connections {
    /// Returns the connection of a peer, or `None` if it has had no handshake: then each request stands for itself.
    pub(super) fn of(&self, peer: &Peer<RoleServer>) -> Option<Arc<Connection>> {
        let address = Arc::as_ptr(&peer.peer_info()?).addr();
        let mut table = self.table();
        if let Some(connection) = table.open.get(&address) {
            return Some(Arc::clone(connection));
        }
        if table.open.len() >= table.limit {
            table.open.retain(|_, connection| !connection.peer.is_transport_closed());
            table.limit = 16.max(table.open.len() * 2);
        }
        let connection = Arc::new(Connection::new(peer.clone()));
        table.open.insert(address, Arc::clone(&connection));
        Some(connection)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a client.
pub(super) struct Connection {
    /// `None` if the system has no random numbers.
    id: Option<String>,
    peer: Peer<RoleServer>,
    /// Peers without a call. A task that outlives its call sends to one, and straight to the client, all but progress.
    idle: Mutex<Vec<ForwardingPeer>>,
}

impl Connection {
    fn new(peer: Peer<RoleServer>) -> Self {
        let mut bits = [0; 16];
        let id = getrandom::fill(&mut bits).is_ok().then(|| format!("rmcp-{:032x}", u128::from_ne_bytes(bits)));
        Self { id, peer, idle: Mutex::default() }
    }

    /// Returns the name of the session of a connection whose transport names none. No other process has the same.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns a peer that forwards to this session, with the progress of this token.
    pub(super) fn forwarding_to(&self, session: Arc<dyn McpSession>, token: Option<Value>) -> ForwardingPeer {
        match self.idle().pop() {
            Some(peer) => {
                peer.forward_to(session, token);
                peer
            }
            None => ForwardingPeer::new(session, token, self.peer.peer_info().map(|info| (*info).clone())),
        }
    }

    /// Takes back the peer of a call that has ended.
    pub(super) fn put_back(&self, peer: ForwardingPeer) {
        peer.forward_to(Arc::new(Client::of_connection(self.peer.clone())), None);
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(peer);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<ForwardingPeer>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}
