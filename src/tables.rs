//! The tables that layers keep their records in, and what is said of a database that does not have one.

use std::time::Duration;

use tokio::time::timeout;

use crate::ConfigError;
use crate::connections::{Connections, no_answer};
use crate::database::SupportedDatabase;
use crate::fault::is_missing_table;

/// A table that this crate keeps records in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) backend: &'static str,
    /// The `from` clause with the table.
    pub(crate) from: &'static str,
    /// The function that creates it.
    pub(crate) create: &'static str,
}

impl Table {
    fn name(self) -> &'static str {
        self.from.trim_start_matches("from ")
    }

    /// The error of a database that does not have the table.
    pub(crate) fn missing(self) -> ConfigError {
        ConfigError::MissingTable { backend: self.backend, table: self.name(), create: self.create }
    }

    /// The error of a statement on this table alone, if it failed because the table does not exist.
    pub(crate) fn missing_by(self, error: &sqlx::Error) -> Option<ConfigError> {
        is_missing_table(error).then(|| self.missing())
    }

    /// Checks that the database has the table. Any other error is only logged: the database may be down now, and up when a call needs it.
    pub(crate) async fn check<DB: SupportedDatabase>(
        self,
        connections: &Connections<DB>,
        limit: Duration,
    ) -> Result<(), ConfigError> {
        let probed = async {
            let mut connection = connections.acquire().await?;
            DB::probe(&mut connection, format!("select 1 {} where 1 = 0", self.from)).await
        };
        match timeout(limit, probed).await.unwrap_or_else(|_| Err(no_answer())) {
            Ok(()) => Ok(()),
            Err(error) => match self.missing_by(&error) {
                Some(missing) => Err(missing),
                None => {
                    tracing::warn!(%error, table = self.name(), backend = DB::NAME, "a table could not be checked at the start");
                    Ok(())
                }
            },
        }
    }
}
