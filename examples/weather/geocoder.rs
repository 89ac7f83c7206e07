//! Where cities lie: one request for all who ask at the same time.

use std::time::Duration;

use mcp_patterns::batched::{Batcher, Stats};
use mcp_patterns::outcome;
use mcp_patterns::retry::RetryPolicy;
use serde_json::json;
use turbomcp::prelude::*;

use super::client::{OpenMeteo, Place};

/// Looks cities up, together where the service can do that. Clones look up together.
#[derive(Debug, Clone)]
pub struct Geocoder {
    api: OpenMeteo,
    batcher: Batcher<String, Option<Place>>,
}

impl Geocoder {
    /// Makes a geocoder that asks this service.
    #[must_use]
    pub fn new(api: OpenMeteo) -> Self {
        // All who wait share a request, so it is tried again for all of them at once, and by nobody further out.
        let policy = RetryPolicy::new().with_max_attempts(8).with_max_delay(Duration::from_millis(250));
        let asked = api.clone();
        let batcher = Batcher::new(move |cities: Vec<String>| {
            let (api, policy) = (asked.clone(), policy.clone());
            async move {
                let found = policy.run(&(), |_attempt| api.find_places(&cities)).await.map_err(given_up)?;
                Ok::<_, McpError>(found.into_iter().map(Ok).collect::<Vec<_>>())
            }
        });
        Self { api, batcher }
    }

    /// Looks a city up; `None` when there is no such place.
    ///
    /// # Errors
    ///
    /// See [`OpenMeteo`].
    pub async fn find(&self, city: String) -> McpResult<Option<Place>> {
        if self.api.has_bulk_search() { self.batcher.load(&(), city).await } else { self.api.find_place(&city).await }
    }

    /// Says how many cities were looked up together, and in how many requests.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.batcher.stats()
    }
}

/// Keeps a layer of retries further out from trying again what was tried enough.
fn given_up(error: McpError) -> McpError {
    error.with_data(json!({ outcome::EXHAUSTED: "attempts" }))
}
