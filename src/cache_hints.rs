//! How long a client may keep a resource: [cache hints][spec], which only the official SDK's results have. Between the server and the end
//! of the layers they are an entry of `_meta`.
//!
//! [spec]: https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/caching

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

/// The entry of `_meta`.
pub(crate) const CACHE_HINTS: &str = "mcp-patterns/cache_hints";

/// The entry of the hints with the time that a client may keep the answer, in milliseconds.
const TTL_MS: &str = "ttlMs";

/// The entry of the hints that says who may keep the answer.
#[cfg(feature = "cached")]
const CACHE_SCOPE: &str = "cacheScope";

/// Shortens the time for an answer of this age.
pub(crate) fn subtract_age(meta: &mut HashMap<String, Value>, age: Duration) {
    if let Some(ttl) = meta.get_mut(CACHE_HINTS).and_then(|hints| hints.get_mut(TTL_MS))
        && let Some(millis) = ttl.as_u64()
    {
        *ttl = millis.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)).into();
    }
}

/// Adds hints, unless the answer has some: those of the server count.
#[cfg(feature = "cached")]
pub(crate) fn stamp(meta: &mut Option<HashMap<String, Value>>, ttl: Duration, is_public: bool) {
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let cache_scope = if is_public { "public" } else { "private" };
    let hints = || serde_json::json!({ TTL_MS: ttl, CACHE_SCOPE: cache_scope });
    meta.get_or_insert_default().entry(CACHE_HINTS.to_owned()).or_insert_with(hints);
}
