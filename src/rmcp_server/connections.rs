//! The connections of a server: an id for each, and the peers for calls that layers act on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

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
    /// Those whose handshake has begun, and that have made no request yet.
    begun: Vec<Peer<RoleServer>>,
    /// How many there may be before the closed ones are removed.
    limit: usize,
}

impl Table {
    fn make_room(&mut self) {
        if self.open.len() + self.begun.len() >= self.limit {
            self.open.retain(|_, connection| !connection.peer.is_transport_closed());
            self.begun.retain(|peer| !peer.is_transport_closed());
            self.limit = 16.max((self.open.len() + self.begun.len()) * 2);
        }
    }
}

/// Names the handshake of a peer.
fn address(peer: &Peer<RoleServer>) -> Option<usize> {
    peer.peer_info().map(|info| Arc::as_ptr(&info).addr())
}

impl Connections {
    /// Notes that a client begins its handshake.
    pub(super) fn begin(&self, peer: &Peer<RoleServer>) {
        let mut table = self.table();
        table.make_room();
        table.begun.push(peer.clone());
    }

    /// Returns the connection of a peer, or `None` if it has had no handshake: then each request stands for itself. Over HTTP without
    /// sessions rmcp makes a handshake up for each request.
    pub(super) fn of(&self, peer: &Peer<RoleServer>) -> Option<Arc<Connection>> {
        let handshake = address(peer)?;
        let mut table = self.table();
        if let Some(connection) = table.open.get(&handshake) {
            return Some(Arc::clone(connection));
        }
        table.make_room();
        let begun = table.begun.iter().position(|begun| address(begun) == Some(handshake));
        let has_handshake = begun.map(|place| table.begun.swap_remove(place)).is_some();
        let connection = Arc::new(Connection::new(peer.clone(), has_handshake));
        table.open.insert(handshake, Arc::clone(&connection));
        Some(connection)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a client.
pub(super) struct Connection {
    /// `None` if the system has no random numbers.
    id: OnceLock<Option<String>>,
    peer: Peer<RoleServer>,
    /// False if the handshake is made up.
    has_handshake: bool,
    /// Peers without a call. A task that outlives its call sends to one, and straight to the client, all but progress.
    idle: Mutex<Vec<ForwardingPeer>>,
}

impl Connection {
    fn new(peer: Peer<RoleServer>, has_handshake: bool) -> Self {
        Self { id: OnceLock::new(), peer, has_handshake, idle: Mutex::default() }
    }

    /// Returns the name of the session of a connection whose transport names none. No other process has the same.
    pub(super) fn id(&self) -> Option<&str> {
        let id = self.id.get_or_init(|| {
            let mut bits = [0; 16];
            getrandom::fill(&mut bits).is_ok().then(|| format!("rmcp-{:032x}", u128::from_ne_bytes(bits)))
        });
        id.as_deref()
    }

    /// Says whether the client has made a handshake, and so has the session that it names.
    pub(super) fn has_handshake(&self) -> bool {
        self.has_handshake
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
