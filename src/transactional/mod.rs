//! Runs a tool in a transaction that is committed if the tool succeeds, and rolled back whatever else happens:
//! [`TransactionalTool`] for whole tool calls, [`Transactor`] for any function.
//!
//! Use it where a tool writes more than one row, or reads before it writes. A tool that fails surfaces as `Ok` with `isError`;
//! committed by hand on `Ok`, half of a transfer would stay. It cannot undo what a tool does outside the database: for
//! that, see [`IdempotentTool`](crate::IdempotentTool).
//!
//! With [`Idempotency`](crate::idempotency_keys::Idempotency), a call that carries a key takes effect once: the answer is recorded in
//! the same transaction, so neither a crash nor a lost answer can part the two.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{Layer, TransactionalTool, transactional};
//! use sqlx::{Sqlite, SqlitePool};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone)]
//! struct Bank;
//!
//! #[server(name = "bank", version = "1.0.0")]
//! impl Bank {
//!     /// Moves money, in cents.
//!     #[tool(destructive = true)]
//!     async fn transfer(&self, from: i64, to: i64, cents: i64) -> McpResult<String> {
//!         let mut db = transactional::current::<Sqlite>().await?;
//!         sqlx::query("update accounts set cents = cents + $1 where id = $2")
//!             .bind(cents).bind(to).execute(&mut *db).await.map_err(transactional::failed)?;
//!         let debited = sqlx::query("update accounts set cents = cents - $1 where id = $2 and cents >= $1")
//!             .bind(cents).bind(from).execute(&mut *db).await.map_err(transactional::failed)?;
//!         match debited.rows_affected() {
//!             1 => Ok(format!("Transferred {cents} from {from} to {to}")),
//!             _ => Err(McpError::invalid_request("Insufficient funds")), // and the credit is undone
//!         }
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
//! sqlx::query("create table accounts (id integer primary key, cents integer not null)").execute(&pool).await.unwrap();
//! sqlx::query("insert into accounts values (1, 100), (2, 0)").execute(&pool).await.unwrap();
//!
//! let server = TransactionalTool::new(pool.clone()).only(["transfer"]).layer(Bank);
//!
//! let ctx = RequestContext::new();
//! let args = serde_json::json!({"from": 1, "to": 2, "cents": 500});
//! let refused = server.call_tool("transfer", args, &ctx).await?;
//! assert_eq!(refused.first_text(), Some("Insufficient funds"));
//!
//! let credited: i64 = sqlx::query_scalar("select cents from accounts where id = 2").fetch_one(&pool).await.unwrap();
//! assert_eq!(credited, 0);
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: once, whatever happens to the answer
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::idempotency_keys::Idempotency;
//! use mcp_patterns::transactional::{Isolation, Transactor, current};
//! use mcp_patterns::{Layer, RetryTool, TransactionalTool, testing::ScriptedServer};
//! use serde_json::json;
//! use sqlx::{Sqlite, SqlitePool};
//! # use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
//! TransactionalTool::ensure_schema(&pool).await.unwrap();
//!
//! let script = ScriptedServer::new("shop").with_plain("order", |call| async move {
//!     let _db = current::<Sqlite>().await?;
//!     Ok(ToolResult::text(format!("Order {} created", call.number)))
//! });
//! let transactor = Transactor::new(pool).with_isolation(Isolation::Serializable).with_timeout(Duration::from_secs(10));
//! let server = (
//!     RetryTool::new(), // makes a call again if it failed for a moment, and carries a key
//!     TransactionalTool::new(transactor)
//!         .every_write()
//!         .with_idempotency(Idempotency::new().required_for(["order"])),
//! )
//!     .layer(script.clone());
//!
//! let args = json!({"idempotency_key": "7f1c", "item": "tea"});
//! for _ in 0..3 {
//!     let answer = server.call_tool("order", args.clone(), &RequestContext::new()).await?;
//!     assert_eq!(answer.first_text(), Some("Order 1 created"));
//! }
//! assert_eq!(script.calls("order"), 1);
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Defaults
//!
//! - tools: none until you name them ([`only`](TransactionalTool::only), [`every_write`](TransactionalTool::every_write)). A tool that no listing has had
//!   yet is [looked up](crate::guide::catalogues), and refused (tool not found, -32602) if its caller's listing does not have it, unless `only`
//!   leaves it out or [unlisted tools are allowed](TransactionalTool::allow_unlisted_tools)
//! - isolation: the database's own; SQLite's is always serializable
//! - read-only for tools annotated `read_only`, and enforced; SQLite takes its write lock at once for all others
//! - timeout: 30 seconds for the whole, all attempts together, which on PostgreSQL bounds each statement too, and each time without one
//!   ([`with_idle_timeout`](Transactor::with_idle_timeout)); five minutes for the latter where there is no timeout
//! - SQLite has one writer at a time: those of one layer or [`Transactor`], clones included, wait in turn and without a
//!   connection, for 5 seconds; then, like those of other processes, for the `busy_timeout` of the connection
//! - connections: borrowed from the pool for each transaction, which costs sqlx a round trip before it and one after it;
//!   [`with_connection_reuse`](Transactor::with_connection_reuse) spares both, where the pool has no hooks that matter
//! - propagation: [`Propagation::Required`]
//! - conflicts (serialization failures, deadlocks, a busy SQLite file): up to 5 attempts in all, each a whole new transaction,
//!   10 ms before the second and twice as long before each further one, with full jitter
//! - idempotency: none until you ask; then an optional argument `idempotency_key`, remembered for 24 hours, for successes; a
//!   duplicate waits 5 seconds for a first call in the same process; each user ([identity](crate::Identity#defaults)) has keys of
//!   their own
//!
//! # Order
//!
//! Inside everything else: validation and a cache outside it open no transaction in vain, and a retry outside it begins a new
//! one. A cache inside a transaction is passed by. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! A failure of the tool is returned as it came, after the rollback. What goes wrong with the transaction itself is a
//! [`TransactionError`], as a result with `isError`; its reason is in the error's data, under `mcp-patterns/transaction`:
//!
//! | reason | what happened | kind |
//! | --- | --- | --- |
//! | `unavailable` | none could be begun, or committed for want of a connection or of room on the disk; nothing was done | unavailable |
//! | `overloaded` | a transaction inside another one found no connection in time; nothing was done | `server_overloaded` |
//! | `waits_for_itself` | it waits for the only connection of the pool, or on SQLite for the write lock, which the call itself holds; nothing was done | internal |
//! | `conflict` | each attempt gave way to another transaction, or one that had [asked its client](#a-tool-that-asks-its-client); nothing was done | unavailable, exhausted |
//! | `timed_out`, `cancelled` | the time was over, or the caller cancelled; nothing was done | timeout, cancelled |
//! | `rolled_back` | the tool succeeded, but a part of it, or a statement whose error it ignored, had failed | internal |
//! | `ended_early` | the transaction was ended before the tool was: [see below](#a-tool-that-ends-its-transaction) | internal |
//! | `leaked`, `held` | the tool kept the connection, or needs it twice at the same time | internal |
//! | `outcome_unknown` | the connection was lost during the commit, or outside of a transaction during a statement: nobody knows. Not retried unless the tool is idempotent | internal |
//! | `statement_failed` | [`failed`] masked an error of the database | by [what it means](crate::guide::transactions#what-an-error-of-the-database-means) |
//! | `none` | there is no transaction here | internal |
//!
//! `unavailable`, `outcome_unknown` and `statement_failed` have an id in their text, under which the log has the error. A call with a
//! key [looks for its record](crate::guide::transactions#a-commit-that-was-not-answered) before it says `outcome_unknown`, for up to
//! five seconds. Its hooks run if it finds that the transaction was committed.
//!
//! A result that took more than one transaction has `{"attempts": 3}` under `mcp-patterns/transaction` in its `_meta`, unless
//! [it is to say nothing](TransactionalTool::without_meta).
//!
//! With a key: `mcp-patterns/idempotency` is `replayed` in the `_meta` of an answer that was recorded, and `key_reused`,
//! `in_progress`, `ambiguous` or `unresolved` in the data of a refusal.
//!
//! A tool that maps database errors itself should use [`failed`], or `?` on a [`TransactionError`]: the layer then sees a
//! conflict and tries again.
//!
//! A duplicate of a call that is running in the same process waits for it, without a connection, for
//! [five seconds](TransactionalTool::with_wait), and then hears `in_progress`, with `retryAfterMs`. Of a call that runs in another
//! process the database knows: on PostgreSQL a duplicate waits for it there, until the lock timeout or the end of its own time,
//! and hears `in_progress` then. On SQLite it waits for whoever is writing before it can look for its key, hears of a conflict or
//! a timeout if that takes too long, and finds the answer when it comes again.
//!
//! # A tool that ends its transaction
//!
//! A tool that runs `COMMIT` or `ROLLBACK` by itself goes on without a transaction: what it has committed and what follows is done for
//! good, whatever it answers. SQLite does the same by itself after some errors (`ON CONFLICT ROLLBACK`, a full disk). At the end the
//! database has no transaction any more, and that is how it is noticed:
//!
//! - a success becomes the error `ended_early`; a failure of the tool's own keeps its kind and text and is marked `ended_early` in its
//!   `_meta` (its data, where it is a protocol error). Neither proves that nothing was done, and the call is not tried again;
//! - with a key, the call is *ambiguous*: the key is not free, and each further call with it hears so. [`handle`](TransactionalTool::handle)
//!   lists such calls and resolves them, and
//!   [`with_final_refusal_after`](crate::idempotency_keys::Idempotency::with_final_refusal_after) ends them by itself. So it is, too, if the
//!   process dies after such a `COMMIT`. Only a process that dies, or a call that is dropped, between a `ROLLBACK` of the tool's and
//!   the end of the tool leaves a key that is free: such a tool must not do anything after it;
//! - a tool that begins another transaction after its `COMMIT` is not noticed: that one is committed, with the answer in it;
//! - a full disk, an IO error or a want of memory that undoes the transaction of SQLite is a rollback like any other, and nothing is in
//!   doubt, if the tool maps the error with [`failed`] (or `?`) and runs no further statement. Then a `COMMIT` of the tool's before it
//!   is not noticed either.
//!
//! # A tool that asks its client
//!
//! A question (a form, a sample) is answered by a person or a model, in seconds or never. Meanwhile the transaction holds its
//! connection and its locks, on SQLite the database's only write lock. So ask first, and write in a transaction then: leave the
//! tool out of the layer, and put [`Transactor::run`] around what follows the question. The layer does not refuse a tool that
//! asks, since it may ask rarely. It warns once for each tool. What bounds such a call is [`Transactor::with_timeout`] (30
//! seconds).
//!
//! A transaction that has asked and then gives way to another is not begun anew, because the user would be asked again: the call
//! fails with `conflict`, nothing was done, and its key is free.
//!
//! # Cancellation
//!
//! A call that is dropped, cancelled or out of time is rolled back behind the scenes; a statement that runs is not waited for,
//! and PostgreSQL ends it at the timeout. Whoever leaves while waiting for a connection takes none. A begin, a commit and what
//! [`after_commit`] registered for after it are not stopped half-way by a caller who leaves. The answer waits for the hooks, for
//! five seconds at most. What a cache inside or around the transaction invalidates waits for no hook: it is invalidated before the
//! first one runs, and also where the outcome of a commit is unknown. The transaction is known to the task of the call only, not to what it spawns.
//!
//! # Who shares a key
//!
//! **Callers who are not authenticated share their keys**, and read each other's answers: all right for a local server with one user,
//! and not on a network. See [who shares a key](crate::idempotency_keys#who-shares-a-key).
//!
//! # When the backend fails
//!
//! It fails closed: without a transaction the tool is not called.
//!
//! A pool has as many connections as it was given, and a call holds one while it runs. Give it an acquire timeout of a second or
//! three, and see [how large a pool has to be](crate::guide::transactions#how-large-a-pool-has-to-be), in particular where sessions or
//! keys are on the same one: transactions leave them a connection, so that no number of calls makes all of them stand still.
//!
//! # When PostgreSQL, or a process that uses it, falls silent
//!
//! A server that hangs, or a network that vanishes, closes no connection. So each wait has a bound, and a connection that did not
//! answer in time is closed and replaced:
//!
//! | what does not answer | how long it is waited for |
//! | --- | --- |
//! | all that comes before the tool: SQLite's turn, a place, a connection, the `BEGIN` | the pool's acquire timeout, once for all of it, or the transaction's timeout if that is shorter |
//! | an idle connection, asked before it is used, or the `BEGIN` on one that is reused | a third of the acquire timeout, a second at the most; then another takes its place in the same call, and all idle ones are asked |
//! | a statement | the transaction's timeout. [Without one](Transactor::without_timeout) there is no bound |
//! | a commit | the transaction's timeout, and five seconds at least: then `outcome_unknown`. The connection is given up after 30 seconds |
//! | a rollback, and the way of a connection back to its pool, its `after_release` hook included | five seconds, behind the scenes |
//! | what is no part of a call: `ensure_schema`, a sweep's batch | a minute |
//!
//! So a pool has its full size again when the calls that were under way are over, and nothing needs a restart. SQLite is a part of
//! the process: what it does has the `busy_timeout` for a bound, and no connection is closed for being slow.
//!
//! A process that hangs or has vanished keeps the locks of its transaction no longer than the transaction's timeout after its last
//! statement: PostgreSQL ends the transaction then ([`with_idle_timeout`](Transactor::with_idle_timeout)). If the process goes on, the
//! call hears `timed_out`, or a statement or the commit fails; nothing was done. `mcp_patterns::postgres` is about what whoever
//! opens the pool can do: keepalives, and a pool that replaces silent connections also where tools use it by themselves.
//!
//! # The table of keys
//!
//! Environments that share a database, such as staging and production, each need a
//! [`with_namespace`](TransactionalTool::with_namespace) of their own, or a key that was used in one has its answer in the other.
//!
//! [`TransactionalTool::ensure_schema`] makes it; its SQL is [`IDEMPOTENCY_SCHEMA`]. Callers are kept as hashes. Expired records
//! are deleted in batches of 500, once a minute at most, after a call with a key; [`sweep`](TransactionalTool::sweep) does it when you
//! say. A claim without an answer is kept: see above.
//!
//! On PostgreSQL an answer is recorded in the batch that commits, as hexadecimal digits in the statement's text: where statements
//! are logged, by the server or at sqlx's `debug` level, so are answers.
//!
//! # What is counted and logged
//!
//! Counters (feature `metrics`): `mcp_patterns_transactions_total` by `tool` and `outcome`, all attempts together: `committed`,
//! `rolled_back`, `unused` (the key had its answer), `conflict`, `timed_out`, `cancelled` (or left), `leaked`, `panicked`,
//! `unavailable`, `ended_early`, `unknown`. `mcp_patterns_transaction_retries_total` by `tool`: attempts after the first.
//! `mcp_patterns_idempotency_total` by `tool` and `outcome`: `recorded`, `replayed`, `refused`, `in_progress`, `ambiguous`, `unresolved`, `cancelled`. A part
//! that joins another transaction is not counted.
//!
//! Events: `a statement failed`, `the commit failed`, `no transaction could be begun` (warn, with the database's own error, the id that
//! the caller reads, the tool, a hash of the key, the attempt and the database), and `transaction gave way to another, beginning a new one` (debug).

mod answer;
mod current;
mod dialect;
mod drive;
mod error;
mod hooks;
mod in_doubt;
mod in_flight;
mod keyed_call;
mod layer;
mod metrics;
mod open;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
pub(crate) mod records;
mod reuse;
mod savepoint;
#[cfg(feature = "sqlite")]
mod sqlite;
mod transactor;
pub use crate::fault::Fault;
#[cfg(feature = "cached")]
pub(crate) use current::invalidate_after_commit;
pub use current::{Connection, after_commit, after_commit_or_now, current, set_rollback_only};
pub(crate) use current::{Within, within};
pub use dialect::Dialect;
pub use error::{TRANSACTION, TransactionError, failed};
#[cfg(feature = "cached")]
pub(crate) use hooks::invalidating;
pub use layer::TransactionalTool;
pub use options::{Isolation, Propagation};
pub use records::IDEMPOTENCY_SCHEMA;
pub use transactor::Transactor;

#[cfg(test)]
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod tests;
