//! The table of records as a [`Handle`](crate::idempotency_keys::Handle) sees it.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Pool;

use super::dialect::Dialect;
use super::records;
use crate::idempotency_keys::{AmbiguousCalls, AmbiguousClaims, ClaimsError, Page, Resolved};

/// The claims in a table of records.
pub(super) struct RecordedClaims<DB: Dialect>(pub(super) Pool<DB>);

#[async_trait]
impl<DB: Dialect> AmbiguousClaims for RecordedClaims<DB> {
    async fn list(&self, page: Page<'_>) -> Result<AmbiguousCalls, ClaimsError> {
        Ok(records::list(&self.0, page).await?)
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, ClaimsError> {
        Ok(records::resolve(&self.0, id, record, ttl).await?)
    }
}
