//! The content of the database, read without the server.

use std::collections::{BTreeMap, HashMap};

use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::support::Database;

/// All bookings.
#[derive(Debug)]
pub(crate) struct Books {
    /// Number, deposit and balance.
    accounts: Vec<(i64, i64, i64)>,
    /// From, to and amount.
    transfers: Vec<(i64, i64, i64)>,
}

const ACCOUNTS: &str = "select id, deposit_cents, balance_cents from accounts order by id";
const TRANSFERS: &str = "select from_account, to_account, amount_cents from transfers order by id";

impl Books {
    pub(crate) async fn of(database: &Database) -> Self {
        match database {
            Database::Memory => panic!("only the server itself sees a database in its memory"),
            Database::File(_) => {
                let mut db = SqliteConnection::connect(&database.url()).await.expect("no connection");
                let accounts = sqlx::query_as(ACCOUNTS).fetch_all(&mut db).await.expect("no accounts");
                let transfers = sqlx::query_as(TRANSFERS).fetch_all(&mut db).await.expect("no transfers");
                Self { accounts, transfers }
            }
            Database::Postgres { .. } => Self::at(&database.url()).await,
        }
    }

    /// The books in the PostgreSQL at this URL.
    pub(crate) async fn at(url: &str) -> Self {
        let mut db = PgConnection::connect(url).await.expect("no connection");
        let accounts = sqlx::query_as(ACCOUNTS).fetch_all(&mut db).await.expect("no accounts");
        let transfers = sqlx::query_as(TRANSFERS).fetch_all(&mut db).await.expect("no transfers");
        Self { accounts, transfers }
    }

    /// Checks that no money appeared or disappeared, and that every balance follows from the deposit and the history.
    #[track_caller]
    pub(crate) fn check(&self) {
        let deposits: i64 = self.accounts.iter().map(|(_, deposit, _)| deposit).sum();
        let balances: i64 = self.accounts.iter().map(|(_, _, balance)| balance).sum();
        assert_eq!(balances, deposits, "money appeared or disappeared");

        let mut expected: BTreeMap<i64, i64> = self.accounts.iter().map(|&(id, deposit, _)| (id, deposit)).collect();
        for (from, to, cents) in &self.transfers {
            *expected.get_mut(from).expect("a known account") -= cents;
            *expected.get_mut(to).expect("a known account") += cents;
        }
        let actual = self.accounts.iter().map(|&(id, _, balance)| (id, balance)).collect();
        assert_eq!(expected, actual, "the balances are not what the history says");
    }

    /// Returns how often each amount was transferred.
    pub(crate) fn times(&self) -> HashMap<i64, usize> {
        let mut times = HashMap::new();
        for (_, _, cents) in &self.transfers {
            *times.entry(*cents).or_default() += 1;
        }
        times
    }
}
