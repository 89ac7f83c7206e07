//! Counters by name, shared by all clients of one server; and preferences and counters of one session.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use mcp_patterns::session::Session;
use turbomcp::prelude::*;

/// The longest name a counter may have, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// The maximum of counters, so that no client can fill the server's memory.
pub const MAX_COUNTERS: usize = 100_000;

type Counters = HashMap<String, i64>;

/// Counts by name. Clones share their counters.
#[derive(Debug, Clone, Default)]
pub struct CounterServer {
    /// Never locked across an `await`: a step on one counter is one short critical section,
    /// which is why no increment is lost.
    counters: Arc<RwLock<Counters>>,
}

#[server(
    name = "counter",
    version = "1.0.0",
    instructions = "Counts by name. A counter starts at 0 and comes into being with its first \
                    `increment`; `get` reads it and `reset` puts it back to 0. All clients \
                    share these counters; `increment_mine` and `get_mine` count for this session \
                    alone, which also keeps preferences."
)]
impl CounterServer {
    #[tool(
        description = "Adds one to a counter and answers its new value",
        read_only = false,
        destructive = false,
        idempotent = false,
        open_world = false
    )]
    async fn increment(
        &self,
        #[description("The counter's name, 1 to 100 characters")] name: String,
    ) -> McpResult<i64> {
        check_name(&name)?;
        let mut counters = self.write();
        let value = counters.get(&name).copied().unwrap_or(0);
        let Some(next) = value.checked_add(1) else {
            return Err(McpError::invalid_request(format!("Counter '{name}' is at its maximum of {value}")));
        };
        if counters.len() >= MAX_COUNTERS && !counters.contains_key(&name) {
            return Err(McpError::invalid_request(format!(
                "There are {MAX_COUNTERS} counters already; reset one first"
            )));
        }
        counters.insert(name, next);
        Ok(next)
    }

    #[tool(
        description = "Reads a counter; one that does not exist is 0",
        read_only = true,
        idempotent = true,
        open_world = false
    )]
    async fn get(&self, #[description("The counter's name, 1 to 100 characters")] name: String) -> McpResult<i64> {
        check_name(&name)?;
        Ok(self.read().get(&name).copied().unwrap_or(0))
    }

    #[tool(
        description = "Puts a counter back to 0",
        read_only = false,
        destructive = true,
        idempotent = true,
        open_world = false
    )]
    async fn reset(&self, #[description("The counter's name, 1 to 100 characters")] name: String) -> McpResult<String> {
        check_name(&name)?;
        self.write().remove(&name);
        Ok(format!("Counter '{name}' reset"))
    }

    #[tool(
        description = "Adds one to a counter of this session and answers its new value",
        read_only = false,
        destructive = false,
        idempotent = false,
        open_world = false
    )]
    async fn increment_mine(
        &self,
        #[description("The counter's name, 1 to 100 characters")] name: String,
    ) -> McpResult<i64> {
        check_name(&name)?;
        let (session, key) = (Session::current()?, counter_key(&name));
        let next = session.update(&key, |value: &mut i64| {
            *value = value.saturating_add(1);
            *value
        });
        Ok(next.await?)
    }

    #[tool(
        description = "Reads a counter of this session; one that does not exist is 0",
        read_only = true,
        idempotent = true,
        open_world = false
    )]
    async fn get_mine(&self, #[description("The counter's name, 1 to 100 characters")] name: String) -> McpResult<i64> {
        check_name(&name)?;
        Ok(Session::current()?.get(&counter_key(&name)).await?.unwrap_or(0))
    }

    #[tool(
        description = "Keeps a preference for this session",
        read_only = false,
        destructive = false,
        idempotent = true,
        open_world = false
    )]
    async fn set_preference(
        &self,
        #[description("The preference's name")] key: String,
        #[description("Its value")] value: String,
    ) -> McpResult<String> {
        Session::current()?.set(&preference_key(&key), &value).await?;
        Ok(format!("Set {key}: {value}"))
    }

    #[tool(description = "Reads a preference of this session", read_only = true, idempotent = true, open_world = false)]
    async fn get_preference(&self, #[description("The preference's name")] key: String) -> McpResult<String> {
        let value: Option<String> = Session::current()?.get(&preference_key(&key)).await?;
        value.ok_or_else(|| McpError::invalid_request("Preference not found"))
    }
}

/// The tools that need a session.
pub const SESSION_TOOLS: [&str; 4] = ["increment_mine", "get_mine", "set_preference", "get_preference"];

fn counter_key(name: &str) -> String {
    format!("counter/{name}")
}

fn preference_key(key: &str) -> String {
    format!("preference/{key}")
}

impl CounterServer {
    // No critical section leaves the map half changed, so a panic in one does no harm.
    fn read(&self) -> RwLockReadGuard<'_, Counters> {
        self.counters.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Counters> {
        self.counters.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a server whose counters start at the given values.
impl FromIterator<(String, i64)> for CounterServer {
    fn from_iter<I: IntoIterator<Item = (String, i64)>>(counters: I) -> Self {
        Self { counters: Arc::new(RwLock::new(counters.into_iter().collect())) }
    }
}

fn check_name(name: &str) -> McpResult<()> {
    if name.trim().is_empty() {
        return Err(McpError::invalid_params("A counter's name must not be blank"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(McpError::invalid_params(format!("A counter's name has at most {MAX_NAME_CHARS} characters")));
    }
    Ok(())
}
