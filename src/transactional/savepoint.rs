//! Parts of a transaction.

use std::future::Future;
use std::sync::Arc;

use super::current::{Control, Part};
use super::dialect::Dialect;
use super::drive::Results;
use super::error::TransactionError;
use crate::scope;

/// Runs a part of a transaction whose failure is the failure of the whole, also if it panics or is dropped.
pub(super) async fn join<R>(outer: &Control, results: &impl Results<R>, body: impl Future<Output = R>) -> R {
    let unfinished = Doom(Some(outer));
    let result = body.await;
    if results.spares_the_whole(&result) {
        unfinished.spare();
    }
    result
}

/// Runs a part of a transaction whose failure undoes the part only.
pub(super) async fn savepoint<DB: Dialect, R>(
    outer: &Part<DB>,
    results: &impl Results<R>,
    body: impl Future<Output = R>,
) -> R {
    // From here on until the savepoint is released or undone, the whole cannot be committed.
    let unfinished = Doom(Some(&outer.control));
    let begun = async {
        let mut connection = outer.connection().await?;
        DB::execute(&mut connection, "SAVEPOINT mcp_patterns".into()).await?;
        Ok(())
    };
    if let Err(error) = begun.await {
        return results.failed(error);
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
        return results.failed(error);
    }
    unfinished.spare();
    if control.has_conflict() {
        outer.control.note_conflict();
    }
    if keep {
        outer.control.adopt(&control);
    }
    if !keep && results.is_success(&result) && control.is_doomed() {
        return results.failed(TransactionError::RolledBack);
    }
    result
}

/// Keeps a transaction from being committed if a part of it does not come to its end.
struct Doom<'a>(Option<&'a Control>);

impl Doom<'_> {
    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Doom<'_> {
    fn drop(&mut self) {
        if let Some(control) = self.0 {
            control.doom();
        }
    }
}
