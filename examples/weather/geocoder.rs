//! The positions of cities: one request for all concurrent callers.

use std::time::Duration;

use mcp_patterns::batched::{Batcher, Stats};
use mcp_patterns::outcome;
use mcp_patterns::retry::RetryPolicy;
use serde_json::json;
use turbomcp::prelude::*;

use super::client::{OpenMeteo, Place};

/// Looks cities up, in one request if the service supports it. Clones share requests.
#[derive(Debug, Clone)]
pub struct Geocoder {
    api: OpenMeteo,
    batcher: Batcher<String, Option<Place>>,
}

impl Geocoder {
    /// Creates a geocoder for this service.
    #[must_use]
    pub fn new(api: OpenMeteo) -> Self {
        // All waiting callers share a request, so it is retried here for all of them, and by no outer layer.
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

    /// Returns how many cities were looked up, and in how many requests.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.batcher.stats()
    }
}

/// Prevents an outer retry layer from repeating an exhausted request.
fn given_up(error: McpError) -> McpError {
    error.with_data(json!({ outcome::EXHAUSTED: "attempts" }))
}
