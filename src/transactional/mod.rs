//! Runs a tool in a transaction: it is committed if the tool succeeds, and rolled back in every other case.
//! [`TransactionalTool`] does that for whole tool calls, [`Transactor`] for any function.
//!
//! Use it for a tool that writes more than one row, or reads before it writes. A tool that fails returns `Ok` with `isError`; if a server
//! commits by hand on `Ok`, half of a transfer stays. A transaction cannot undo an effect outside the database: for that, see
//! [`IdempotentTool`](crate::IdempotentTool).
//!
//! With [`Idempotency`](crate::idempotency_keys::Idempotency), a call that carries a key takes effect once. Its answer is recorded in the
//! same transaction, so neither a crash nor a lost answer can separate the two.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features transactional,testing,sqlite
//! cargo add turbomcp serde_json
//! cargo add tokio --features macros,rt-multi-thread
//! cargo add sqlx@0.9 --no-default-features --features runtime-tokio,sqlite-bundled
//! ```
//!
//! For PostgreSQL: the feature `postgres` of both crates.
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
//!             .bind(cents)
//!             .bind(to)
//!             .execute(&mut *db)
//!             .await
//!             .map_err(transactional::failed)?;
//!         let debited = sqlx::query(
//!             "update accounts set cents = cents - $1 where id = $2 and cents >= $1",
//!         )
//!         .bind(cents)
//!         .bind(from)
//!         .execute(&mut *db)
//!         .await
//!         .map_err(transactional::failed)?;
//!         match debited.rows_affected() {
//!             1 => Ok(format!("Transferred {cents} from {from} to {to}")),
//!             // The credit is undone.
//!             _ => Err(McpError::invalid_request("Insufficient funds")),
//!         }
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
//! sqlx::query("create table accounts (id integer primary key, cents integer not null)")
//!     .execute(&pool)
//!     .await
//!     .unwrap();
//! sqlx::query("insert into accounts values (1, 100), (2, 0)").execute(&pool).await.unwrap();
//!
//! let server = TransactionalTool::new(pool.clone()).only(["transfer"]).layer(Bank);
//!
//! let ctx = RequestContext::new();
//! let args = serde_json::json!({"from": 1, "to": 2, "cents": 500});
//! let refused = server.call_tool("transfer", args, &ctx).await?;
//! assert_eq!(refused.first_text(), Some("Insufficient funds"));
//!
//! let credited: i64 = sqlx::query_scalar("select cents from accounts where id = 2")
//!     .fetch_one(&pool)
//!     .await
//!     .unwrap();
//! assert_eq!(credited, 0);
//! # Ok(()) }
//! ```
//!
//! # Example: one effect, even if the answer is lost
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::idempotency_keys::Idempotency;
//! use mcp_patterns::transactional::{Isolation, Transactor, current};
//! use mcp_patterns::{Layer, RetryTool, TransactionalTool, testing::ScriptedServer};
//! use serde_json::json;
//! use sqlx::{Sqlite, SqlitePool};
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
//! TransactionalTool::ensure_schema(&pool).await.unwrap();
//!
//! let script = ScriptedServer::new("shop").with_plain("order", |call| async move {
//!     let _db = current::<Sqlite>().await?;
//!     Ok(ToolResult::text(format!("Order {} created", call.number)))
//! });
//! let transactor = Transactor::new(pool)
//!     .with_isolation(Isolation::Serializable)
//!     .with_timeout(Duration::from_secs(10));
//! let server = (
//!     RetryTool::new(), // makes a call again after a temporary failure, if it carries a key
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
//! # Ok(()) }
//! ```
//!
//! # Defaults
//!
//! - tools: none until you name them ([`only`](TransactionalTool::only), [`every_write`](TransactionalTool::every_write)). A tool that no
//!   listing has had yet is [looked up](crate::guide::catalogues), and refused (tool not found, -32602) if its caller's listing does not
//!   have it, unless `only` leaves it out or [unlisted tools are allowed](TransactionalTool::allow_unlisted_tools)
//! - isolation: the database's own; SQLite's is always serializable
//! - read-only for tools annotated `read_only`, and the database refuses their writes. For all other tools, SQLite takes its write lock at
//!   the begin
//! - timeout: 30 seconds for the whole call, all attempts together. On PostgreSQL it also bounds each statement, and each time without a
//!   statement ([`with_idle_timeout`](Transactor::with_idle_timeout)); without a timeout, the latter is five minutes
//! - SQLite has one writer at a time. The writers of one layer or [`Transactor`], clones included, wait in the order in which they came,
//!   without a connection, for 5 seconds. Then, like those of other processes, they wait for the `busy_timeout` of the connection
//! - connections: borrowed from the pool for each transaction, which costs one round trip of sqlx before it and one after it.
//!   [`with_connection_reuse`](Transactor::with_connection_reuse) saves both, for a pool without hooks that matter
//! - propagation: [`Propagation::Required`]
//! - conflicts (serialization failures, deadlocks, a busy SQLite file): up to 5 attempts in all, each a whole new transaction, 10 ms before
//!   the second and twice as long before each further one, with full jitter
//! - idempotency: none until you set it. Then an optional argument `idempotency_key`, and answers of successes are kept for 24 hours; a
//!   duplicate waits 5 seconds for a first call in the same process; each user ([identity](crate::Identity#defaults)) has keys of their
//!   own
//!
//! # Order
//!
//! Inside everything else: validation and a cache outside it open no transaction without need, and a retry outside it begins a new one. A
//! cache inside a transaction is bypassed. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! A failure of the tool is returned unchanged, after the rollback. An error of the transaction itself is a [`TransactionError`], as a
//! result with `isError`. Its reason is in the error's data, under `mcp-patterns/transaction`:
//!
//! | reason | what happened | kind |
//! | --- | --- | --- |
//! | `unavailable` | no transaction could be begun, or it could not be committed for want of a connection or of room on the disk; nothing was done | unavailable |
//! | `overloaded` | a transaction inside another one found no connection in time; nothing was done | `server_overloaded` |
//! | `waits_for_itself` | the call waits for the only connection of the pool, or on SQLite for the write lock, and holds it itself; nothing was done | internal |
//! | `conflict` | each attempt conflicted with another transaction, or one attempt that had [asked its client](#a-tool-that-asks-its-client); nothing was done | unavailable, exhausted |
//! | `timed_out`, `cancelled` | the time was over, or the caller cancelled; nothing was done | timeout, cancelled |
//! | `rolled_back` | the tool succeeded, but a part of it had failed, or a statement whose error it ignored | internal |
//! | `ended_early` | the transaction ended before the tool did: [see below](#a-tool-that-ends-its-transaction) | internal |
//! | `leaked`, `held` | the tool kept the connection, or needs it twice at the same time | internal |
//! | `outcome_unknown` | the connection was lost during the commit, or outside a transaction during a statement: it is not known whether it was done. Not retried unless the tool is idempotent | internal |
//! | `statement_failed` | [`failed`] masked an error of the database | by [its meaning](crate::guide::transactions#what-an-error-of-the-database-means) |
//! | `none` | there is no transaction here: the layer leaves the tool out, or the code runs in a spawned task | internal |
//! | `task` | the tool started a task, which cannot be a part of a transaction; the transaction was rolled back, and the task may still run | internal |
//! | `other_database` | the transaction here is on another kind of database than the code asks for | internal |
//! | `no_table` | the database has no [table](IDEMPOTENCY_SCHEMA) for idempotency keys; nothing was done. The text names the function that creates it | internal |
//!
//! The texts of `unavailable`, `outcome_unknown` and `statement_failed` have an id, and the log has the error under that id. Before a call
//! with a key returns `outcome_unknown`, it [looks for its record](crate::guide::transactions#a-commit-that-was-not-answered), for up to
//! five seconds. If it finds that the transaction was committed, its hooks run.
//!
//! A result that took more than one transaction has `{"attempts": 3}` under `mcp-patterns/transaction` in its `_meta`, unless
//! [`without_meta`](TransactionalTool::without_meta) is set.
//!
//! With a key: `mcp-patterns/idempotency` is `replayed` in the `_meta` of a recorded answer, and `key_reused`, `in_progress`, `ambiguous`
//! or `unresolved` in the data of a refusal.
//!
//! If the layer has keys and their table is missing, the server does not start: `on_initialize` fails, and its text names
//! [`ensure_schema`](TransactionalTool::ensure_schema).
//!
//! A tool that maps database errors itself should use [`failed`], or `?` on a [`TransactionError`]. Then the layer sees a conflict and
//! tries again.
//!
//! A duplicate of a call that runs in the same process waits for it, without a connection, for
//! [five seconds](TransactionalTool::with_wait). Then it returns `in_progress`, with `retryAfterMs`. If the first call runs in another
//! process, only the database knows. On PostgreSQL, the duplicate waits for it there, until the lock timeout or the end of its own time,
//! and then returns `in_progress`. On SQLite, it waits for the current writer before it can look for its key; if that takes too long, it
//! returns a conflict or a timeout, and a later call finds the answer.
//!
//! # A tool that ends its transaction
//!
//! A tool that runs `COMMIT` or `ROLLBACK` by itself continues without a transaction: everything that it has committed, and everything
//! that follows, is kept, whatever it returns. SQLite ends a transaction by itself after some errors (`ON CONFLICT ROLLBACK`, a full
//! disk). The layer notices it at the end, because the database has no transaction any more:
//!
//! - a success becomes the error `ended_early`. A failure of the tool keeps its kind and text and is marked `ended_early` in its `_meta` (in
//!   its data, if it is a protocol error). Neither proves that nothing was done, and the call is not made again;
//! - with a key, the call is *ambiguous*: the key is not free, and each further call with it returns so. [`handle`](TransactionalTool::handle)
//!   lists such calls and resolves them, and
//!   [`with_final_refusal_after`](crate::idempotency_keys::Idempotency::with_final_refusal_after) ends them after a time. The call is
//!   ambiguous, too, if the process dies after such a `COMMIT`. The key is free only if the process dies, or the call is dropped, between
//!   a `ROLLBACK` of the tool and the end of the tool: such a tool must not do anything after the `ROLLBACK`;
//! - the layer does not notice a tool that begins another transaction after its `COMMIT`: that one is committed, with the answer in it;
//! - if a full disk, an IO error or a want of memory undoes the transaction of SQLite, that is a rollback like any other, and nothing is in
//!   doubt, as long as the tool maps the error with [`failed`] (or `?`) and runs no further statement. In that case, the layer does not
//!   notice an earlier `COMMIT` of the tool either.
//!
//! # A tool that asks its client
//!
//! A person or a model answers a question (a form, a sample) in seconds or never. Meanwhile the transaction holds its connection and its
//! locks, on SQLite the database's only write lock. So ask first, and write in a transaction afterwards: leave the tool out of the layer,
//! and put [`Transactor::run`] around the part that follows the question. The layer does not refuse a tool that asks, since it may ask
//! rarely; it warns once for each tool. [`Transactor::with_timeout`] (30 seconds) bounds such a call.
//!
//! A transaction that has asked and then conflicts with another is not begun again, because the user would be asked again: the call fails
//! with `conflict`, nothing was done, and its key is free.
//!
//! # Cancellation
//!
//! A call that is dropped, cancelled or out of time is rolled back in the background. The call does not wait for a running statement;
//! PostgreSQL ends it at the timeout. A caller who leaves while waiting for a connection takes none. A caller who leaves does not stop a
//! begin, a commit, or a hook that was registered with [`after_commit`]. The answer waits for the hooks, for five seconds at most.
//!
//! The invalidations of a cache inside or around the transaction wait for no hook: they run before the first hook, and also if the outcome
//! of a commit is unknown. Only the task of the call knows the transaction, not a task that it spawns.
//!
//! # Who shares a key
//!
//! **Callers who are not authenticated share their keys**, and read each other's answers. That is right for a local server with one user,
//! and wrong on a network. See [who shares a key](crate::idempotency_keys#who-shares-a-key).
//!
//! # When the backend fails
//!
//! The layer fails closed: without a transaction the tool is not called.
//!
//! A pool has a fixed number of connections, and a call holds one while it runs. Give the pool an acquire timeout of one to three seconds,
//! and see [how large a pool has to be](crate::guide::transactions#how-large-a-pool-has-to-be), in particular if sessions or keys use the
//! same pool: transactions leave them a connection, so that no number of calls can bring all of them to a halt.
//!
//! # When PostgreSQL, or a process that uses it, stops answering
//!
//! A server that hangs, or a network that vanishes, closes no connection. So each wait has a bound, and a connection that did not answer
//! in time is closed and replaced:
//!
//! | without an answer | how long a call waits |
//! | --- | --- |
//! | everything before the tool: SQLite's write queue, a place, a connection, the `BEGIN` | the pool's acquire timeout, once for all of it, or the transaction's timeout if that is shorter |
//! | an idle connection that is tested before it is used, or the `BEGIN` on one that is reused | a third of the acquire timeout, at most a second; then another takes its place in the same call, and all idle ones are tested |
//! | a statement | the transaction's timeout. [Without one](Transactor::without_timeout) there is no bound |
//! | a commit | the transaction's timeout, and at least five seconds: then `outcome_unknown`. The connection is closed after 30 seconds |
//! | a rollback, and the return of a connection to its pool, its `after_release` hook included | five seconds, in the background |
//! | work outside of calls: `ensure_schema` | a minute |
//! | a sweep's batch | ten seconds, and its connection is asked first; it is closed, and a server that is only slow goes on with the batch |
//!
//! So a pool has its full size again when the current calls have ended, and nothing needs a restart. SQLite is a part of the process: the
//! `busy_timeout` bounds its work, and no connection is closed for being slow.
//!
//! A process that hangs or has vanished keeps the locks of its transaction no longer than the transaction's timeout after its last
//! statement: then PostgreSQL ends the transaction ([`with_idle_timeout`](Transactor::with_idle_timeout)). If the process continues, the
//! call returns `timed_out`, or a statement or the commit fails; nothing was done. `mcp_patterns::postgres` says how to set up a pool:
//! keepalives, and the replacement of connections that stop answering, also if tools use the pool directly.
//!
//! # The table of keys
//!
//! Environments that share a database, such as staging and production, each need a
//! [`with_namespace`](TransactionalTool::with_namespace) of their own. Otherwise, a key that was used in one has its answer in the other.
//!
//! [`TransactionalTool::ensure_schema`] creates the table; its SQL is [`IDEMPOTENCY_SCHEMA`]. The table has hashes of callers only. Expired
//! records are deleted in batches of 500, once a minute at most, after a call with a key; [`sweep`](TransactionalTool::sweep) deletes them
//! when you call it. A claim without an answer is kept: see above.
//!
//! On PostgreSQL, the answer is recorded in the batch that commits, as hexadecimal digits in the statement's text. If the server, or sqlx
//! at its `debug` level, logs statements, the log has the answers, too.
//!
//! # What is counted and logged
//!
//! Counters (feature `metrics`): `mcp_patterns_transactions_total` by `tool` and `outcome`, all attempts together: `committed`,
//! `rolled_back`, `unused` (the key had its answer), `conflict`, `timed_out`, `cancelled` (or dropped), `leaked`, `panicked`,
//! `unavailable`, `ended_early`, `unknown`. `mcp_patterns_transaction_retries_total` by `tool`: attempts after the first.
//! `mcp_patterns_idempotency_total` by `tool` and `outcome`: `recorded`, `replayed`, `refused`, `in_progress`, `ambiguous`, `unresolved`,
//! `cancelled`. A part that joins another transaction is not counted.
//!
//! Events: `a statement failed`, `the commit failed`, `no transaction could be begun` (warn, with the database's own error, the id that
//! the caller reads, the tool, a hash of the key, the attempt and the database), and `a transaction conflicted with another: a new one begins` (debug).

mod ambiguous;
mod answer;
mod attempt;
mod begin;
mod builder;
mod control;
mod current;
mod describe;
mod dialect;
mod drive;
mod error;
mod failed;
mod hooks;
mod in_doubt;
mod in_flight;
mod keyed_call;
mod layer;
mod metrics;
mod open;
mod options;
mod plan;
#[cfg(feature = "postgres")]
mod postgres;
pub(crate) mod records;
mod results;
mod reuse;
mod savepoint;
#[cfg(feature = "sqlite")]
mod sqlite;
mod transactor;
pub use crate::fault::Fault;
pub use builder::TransactionalTool;
#[cfg(feature = "cached")]
pub(crate) use control::invalidate_after_commit;
pub use control::{after_commit, after_commit_or_now, set_rollback_only};
pub use current::{Connection, current};
pub(crate) use current::{Within, within};
pub use dialect::Dialect;
pub use error::{TRANSACTION, TransactionError};
pub use failed::failed;
#[cfg(feature = "cached")]
pub(crate) use hooks::invalidating;
pub use options::{Isolation, Propagation};
pub use records::IDEMPOTENCY_SCHEMA;
pub use transactor::Transactor;

#[cfg(test)]
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod tests;
