use std::future::Future;
use std::hash::{BuildHasher, RandomState};

use futures_util::future::join_all;
use rmcp::transport::streamable_http_server::session::{SessionState, SessionStore};
use serde_json::{Value, json};

/// Checks that an rmcp [`SessionStore`] does what rmcp's transport needs, and panics where it does not.
///
/// It calls `make_store` for each check. The stores may share their records: every check uses sessions of its own.
///
/// ```
/// use mcp_patterns::rmcp_stores::SessionStates;
/// use mcp_patterns::{session::MemoryBackend, testing::rmcp_session_store_contract};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// rmcp_session_store_contract(|| async { SessionStates::new(MemoryBackend::new()) }).await;
/// # Ok(()) }
/// ```
pub async fn rmcp_session_store_contract<S: SessionStore, F: Future<Output = S>>(make_store: impl Fn() -> F) {
    a_stored_session_is_loaded_with_all_its_fields(&Checked(make_store().await)).await;
    an_unknown_session_is_none(&Checked(make_store().await)).await;
    a_later_state_replaces_an_earlier_one(&Checked(make_store().await)).await;
    a_deleted_session_is_none(&Checked(make_store().await)).await;
    sessions_do_not_mix(&Checked(make_store().await)).await;
    concurrent_states_leave_one_of_them(&Checked(make_store().await)).await;
}

async fn a_stored_session_is_loaded_with_all_its_fields<S: SessionStore>(store: &Checked<S>) {
    let (id, state) = (id(), state("one"));
    store.store(&id, &state).await;
    assert_eq!(store.load(&id).await, Some(json(&state)));
    assert_eq!(store.load(&id).await, Some(json(&state)), "to load a session does not end it");
}

async fn an_unknown_session_is_none<S: SessionStore>(store: &Checked<S>) {
    for unknown in [id(), String::new(), "..".to_owned(), "π 'quoted' \" %s".to_owned(), "x".repeat(10_000)] {
        assert_eq!(store.load(&unknown).await, None, "{unknown}");
    }
}

async fn a_later_state_replaces_an_earlier_one<S: SessionStore>(store: &Checked<S>) {
    let id = id();
    for name in ["one", "two", "two", "three"] {
        store.store(&id, &state(name)).await;
        assert_eq!(store.load(&id).await, Some(json(&state(name))));
    }
}

async fn a_deleted_session_is_none<S: SessionStore>(store: &Checked<S>) {
    let id = id();
    store.delete(&id).await;
    store.store(&id, &state("one")).await;
    store.delete(&id).await;
    assert_eq!(store.load(&id).await, None);
    store.delete(&id).await;
    store.store(&id, &state("new")).await;
    assert_eq!(store.load(&id).await, Some(json(&state("new"))));
}

async fn sessions_do_not_mix<S: SessionStore>(store: &Checked<S>) {
    let (one, two) = (id(), id());
    store.store(&one, &state("one")).await;
    assert_eq!(store.load(&two).await, None);
    store.store(&two, &state("two")).await;
    store.delete(&one).await;
    assert_eq!(store.load(&two).await, Some(json(&state("two"))));
    // Ids are compared by every character.
    assert_eq!(store.load(&two.to_uppercase()).await.is_some(), two == two.to_uppercase());
}

async fn concurrent_states_leave_one_of_them<S: SessionStore>(store: &Checked<S>) {
    let id = id();
    let states: Vec<SessionState> = (0..8).map(|number| state(&number.to_string())).collect();
    join_all(states.iter().map(|state| store.store(&id, state))).await;
    let found = store.load(&id).await.unwrap_or_else(|| panic!("a session was stored"));
    assert!(states.iter().any(|state| json(state) == found), "a mixture was stored: {found}");
}

/// A store whose failures panic.
struct Checked<S>(S);

impl<S: SessionStore> Checked<S> {
    async fn load(&self, id: &str) -> Option<Value> {
        self.0.load(id).await.unwrap_or_else(|error| panic!("{error}")).map(|state| json(&state))
    }

    async fn store(&self, id: &str, state: &SessionState) {
        self.0.store(id, state).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn delete(&self, id: &str) {
        self.0.delete(id).await.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn state(client: &str) -> SessionState {
    let state = json!({"initialize_params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"roots": {"listChanged": true}, "experimental": {"π": {"deep": [1, null, "🦀"]}}},
        "clientInfo": {"name": client, "version": "1", "title": "quoted \"twice\" 'once'"},
    }});
    serde_json::from_value(state).unwrap_or_else(|error| panic!("{error}"))
}

fn json(state: &SessionState) -> Value {
    serde_json::to_value(state).unwrap_or_else(|error| panic!("{error}"))
}

/// The id of a session, as rmcp makes them.
pub(super) fn id() -> String {
    let part = || RandomState::new().hash_one(());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        part() >> 32,
        part() >> 48,
        part() >> 52,
        part() >> 52,
        part() >> 16
    )
}
