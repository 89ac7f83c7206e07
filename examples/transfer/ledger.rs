//! The accounts in the database: the same statements on SQLite and on PostgreSQL.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use mcp_patterns::transactional::{TransactionError, Transactor, current, failed};
use sqlx::{Pool, Postgres, Sqlite};
use turbomcp::McpResult;

use super::amount::Cents;

/// An account as it is stored.
#[derive(Debug)]
pub struct Account {
    /// Who owns it.
    pub owner: String,
    /// What is in it.
    pub balance: Cents,
}

/// A transfer as it is stored.
#[derive(Debug)]
pub struct Entry {
    /// The account that was debited.
    pub from: i64,
    /// The account that was credited.
    pub to: i64,
    /// How much.
    pub amount: Cents,
    /// When, in UTC.
    pub at: String,
}

/// A kind of database that keeps accounts. Every step happens in the transaction of the call.
pub trait Ledger: Debug + Send + Sync + 'static {
    /// Locks two accounts, and returns those that exist.
    fn lock(&self, accounts: [i64; 2]) -> BoxFuture<'_, McpResult<Vec<i64>>>;
    /// Takes money out of an account: false if there is not enough in it.
    fn debit(&self, account: i64, amount: Cents) -> BoxFuture<'_, McpResult<bool>>;
    /// Puts money into an account.
    fn credit(&self, account: i64, amount: Cents) -> BoxFuture<'_, McpResult<()>>;
    /// Adds a transfer to the history.
    fn record(&self, from: i64, to: i64, amount: Cents) -> BoxFuture<'_, McpResult<()>>;
    /// Finds an account.
    fn account(&self, account: i64) -> BoxFuture<'_, McpResult<Option<Account>>>;
    /// Opens an account and returns its number.
    fn open<'a>(&'a self, owner: &'a str, deposit: Cents) -> BoxFuture<'a, McpResult<i64>>;
    /// Finds the latest hundred transfers from and to an account, the latest first.
    fn history(&self, account: i64) -> BoxFuture<'_, McpResult<Vec<Entry>>>;
}

/// The tables of a kind of database.
pub trait Tables: Ledger + sqlx::Database {
    /// Creates the tables unless they exist.
    fn make(pool: &Pool<Self>) -> impl Future<Output = Result<(), TransactionError>> + Send;
}

macro_rules! impl_ledger {
    ($database:ident, tables: $tables:expr, for_update: $for_update:literal, at: $at:literal) => {
        impl Tables for $database {
            async fn make(pool: &Pool<Self>) -> Result<(), TransactionError> {
                Transactor::new(pool.clone())
                    .run(&(), || async {
                        let mut db = current::<Self>().await?;
                        sqlx::raw_sql($tables).execute(&mut *db).await?;
                        Ok(())
                    })
                    .await
            }
        }

        impl Ledger for $database {
            // Always in the same order: one of two opposite transfers waits for the other, and never both.
            fn lock(&self, accounts: [i64; 2]) -> BoxFuture<'_, McpResult<Vec<i64>>> {
                Box::pin(async move {
                    let mut db = current::<Self>().await?;
                    sqlx::query_scalar(concat!("select id from accounts where id in ($1, $2) order by id", $for_update))
                        .bind(accounts[0])
                        .bind(accounts[1])
                        .fetch_all(&mut *db)
                        .await
                        .map_err(failed)
                })
            }

            fn debit(&self, account: i64, amount: Cents) -> BoxFuture<'_, McpResult<bool>> {
                Box::pin(async move {
                    let mut db = current::<Self>().await?;
                    let debited = sqlx::query(
                        "update accounts set balance_cents = balance_cents - $1 where id = $2 and balance_cents >= $1",
                    )
                    .bind(amount.0)
                    .bind(account)
                    .execute(&mut *db)
                    .await
                    .map_err(failed)?;
                    Ok(debited.rows_affected() == 1)
                })
            }

            fn credit(&self, account: i64, amount: Cents) -> BoxFuture<'_, McpResult<()>> {
                Box::pin(async move {
                    let mut db = current::<Self>().await?;
                    sqlx::query("update accounts set balance_cents = balance_cents + $1 where id = $2")
                        .bind(amount.0)
                        .bind(account)
                        .execute(&mut *db)
                        .await
                        .map_err(failed)?;
                    Ok(())
                })
            }

            fn record(&self, from: i64, to: i64, amount: Cents) -> BoxFuture<'_, McpResult<()>> {
                Box::pin(async move {
                    let mut db = current::<Self>().await?;
                    sqlx::query("insert into transfers (from_account, to_account, amount_cents) values ($1, $2, $3)")
                        .bind(from)
                        .bind(to)
                        .bind(amount.0)
                        .execute(&mut *db)
                        .await
                        .map_err(failed)?;
                    Ok(())
                })
            }

            fn account(&self, account: i64) -> BoxFuture<'_, McpResult<Option<Account>>> {
                Box::pin(async move {
                    let mut db = current::<Self>().await?;
                    let row: Option<(String, i64)> =
                        sqlx::query_as("select owner, balance_cents from accounts where id = $1")
                            .bind(account)
                            .fetch_optional(&mut *db)
                            .await
                            .map_err(failed)?;
                    Ok(row.map(|(owner, cents)| Account { owner, balance: Cents(cents) }))
                })
            }

            fn open<'a>(&'a self, owner: &'a str, deposit: Cents) -> BoxFuture<'a, McpResult<i64>> {
                Box::pin(async move {
                    let mut db = current::<Self>().await?;
                    sqlx::query_scalar(
                        "insert into accounts (owner, deposit_cents, balance_cents) values ($1, $2, $2) returning id",
                    )
                    .bind(owner)
                    .bind(deposit.0)
                    .fetch_one(&mut *db)
                    .await
                    .map_err(failed)
                })
            }

            fn history(&self, account: i64) -> BoxFuture<'_, McpResult<Vec<Entry>>> {
                Box::pin(async move {
                    let mut db = current::<Self>().await?;
                    let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(concat!(
                        "select from_account, to_account, amount_cents, ",
                        $at,
                        " from transfers where from_account = $1 or to_account = $1 order by id desc limit 100"
                    ))
                    .bind(account)
                    .fetch_all(&mut *db)
                    .await
                    .map_err(failed)?;
                    let entry = |(from, to, cents, at)| Entry { from, to, amount: Cents(cents), at };
                    Ok(rows.into_iter().map(entry).collect())
                })
            }
        }
    };
}

impl_ledger!(
    Sqlite,
    tables: "
create table if not exists accounts (
    id integer primary key,
    owner text not null,
    deposit_cents integer not null check (deposit_cents >= 0),
    balance_cents integer not null check (balance_cents >= 0)
) strict;
create table if not exists transfers (
    id integer primary key,
    from_account integer not null references accounts (id),
    to_account integer not null references accounts (id),
    amount_cents integer not null check (amount_cents > 0),
    at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) strict;
create index if not exists transfers_from_account on transfers (from_account);
create index if not exists transfers_to_account on transfers (to_account);
",
    for_update: "",
    at: "at"
);

impl_ledger!(
    Postgres,
    // Two servers that start at the same time take turns. With `if not exists`, an index that is there would still wait for all
    // transfers under way, and hold up the next ones.
    tables: "
select pg_advisory_xact_lock(8672536);
do $schema$ begin if to_regclass(format('%I.transfers_to_account', current_schema())) is null then
create table if not exists accounts (
    id bigint generated by default as identity primary key,
    owner text not null,
    deposit_cents bigint not null check (deposit_cents >= 0),
    balance_cents bigint not null check (balance_cents >= 0)
);
create table if not exists transfers (
    id bigint generated by default as identity primary key,
    from_account bigint not null references accounts (id),
    to_account bigint not null references accounts (id),
    amount_cents bigint not null check (amount_cents > 0),
    at timestamptz not null default clock_timestamp()
);
create index if not exists transfers_from_account on transfers (from_account);
create index if not exists transfers_to_account on transfers (to_account);
end if; end $schema$;
",
    for_update: " for update",
    at: r#"to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#
);
