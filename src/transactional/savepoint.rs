//! Bodies that run inside an existing transaction: as a part of it, or in a savepoint.

use std::future::Future;
use std::sync::Arc;

use super::control::Control;
use super::current::TransactionHandle;
use super::dialect::Dialect;
use super::error::TransactionError;
use super::results::Results;
use crate::scope;

/// Runs a part of a transaction. If it fails, panics or is dropped, the whole transaction fails.
pub(super) async fn join<R>(outer: &Control, results: &impl Results<R>, body: impl Future<Output = R>) -> R {
    let unfinished = DoomOnDrop(Some(outer));
    let result = body.await;
    if results.lets_outer_commit(&result) {
        unfinished.disarm();
    }
    result
}

/// Runs a part of a transaction in a savepoint. Its failure undoes only the part.
pub(super) async fn savepoint<DB: Dialect, R>(
    outer: &TransactionHandle<DB>,
    results: &impl Results<R>,
    body: impl Future<Output = R>,
) -> R {
    // Until the savepoint is released or rolled back, the whole transaction cannot be committed.
    let unfinished = DoomOnDrop(Some(&outer.control));
    let begun = async {
        let mut connection = outer.connection().await?;
        DB::execute(&mut connection, "SAVEPOINT mcp_patterns".into()).await?;
        Ok(())
    };
    if let Err(error) = begun.await {
        return results.failure(error);
    }
    let nested = Arc::new(outer.nested());
    let control = Arc::clone(&nested.control);
    let result = scope::capture().with(nested).with(Arc::clone(&control)).enter(body).await;
    let keep = results.is_success(&result) && !control.is_doomed() && !control.is_rollback_only();
    let ended = async {
        let mut connection = outer.connection().await?;
        if !keep {
            DB::execute(&mut connection, "ROLLBACK TO SAVEPOINT mcp_patterns".into()).await?;
        }
        DB::execute(&mut connection, "RELEASE SAVEPOINT mcp_patterns".into()).await?;
        Ok(())
    };
    if let Err(error) = ended.await {
        return results.failure(error);
    }
    unfinished.disarm();
    if control.has_conflict() {
        outer.control.note_conflict();
    }
    if keep {
        outer.control.adopt(&control);
    }
    if !keep && results.is_success(&result) && control.is_doomed() {
        return results.failure(TransactionError::RolledBack);
    }
    result
}

/// Prevents the commit of a transaction if a part of it does not end properly.
struct DoomOnDrop<'a>(Option<&'a Control>);

impl DoomOnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for DoomOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(control) = self.0 {
            control.doom();
        }
    }
}
