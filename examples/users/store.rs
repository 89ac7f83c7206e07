//! Users, products and orders in the database: the same statements on SQLite and on PostgreSQL.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mcp_patterns::transactional::{TransactionError, Transactor, current};
use sqlx::{Pool, Postgres, Sqlite};
use tokio::time::timeout;

/// Steps inside the transaction of a call, or outside any.
type Step<'a, T> = BoxFuture<'a, Result<T, TransactionError>>;

/// A user as it is stored.
#[derive(Debug, Clone)]
pub struct User {
    /// The number.
    pub id: i64,
    /// The name.
    pub username: String,
    /// Where mail goes.
    pub email: String,
    /// In years.
    pub age: i64,
    /// The remaining credit.
    pub credit_cents: i64,
}

/// A product as it is kept.
#[derive(Debug, Clone)]
pub struct Product {
    /// How many there are.
    pub stock: i64,
    /// The price of one.
    pub price_cents: i64,
}

/// A database of users, products and orders.
pub trait Store: Debug + Send + Sync + 'static {
    /// Finds a user, outside of any transaction.
    fn user(&self, id: i64) -> Step<'_, Option<User>>;
    /// Returns whether a name is taken, outside any transaction.
    fn is_taken<'a>(&'a self, username: &'a str) -> Step<'a, bool>;
    /// Finds a product, outside of any transaction.
    fn product(&self, id: i64) -> Step<'_, Option<Product>>;
    /// Adds a user and returns the number; nothing if the name is taken.
    fn add_user<'a>(&'a self, username: &'a str, email: &'a str, age: i64) -> Step<'a, Option<i64>>;
    /// Takes units out of stock and returns the price of one; if the stock is too small, returns the stock.
    fn take(&self, product: i64, quantity: i64) -> Step<'_, Result<i64, i64>>;
    /// Charges a user: false if the credit is too small.
    fn charge(&self, user: i64, cents: i64) -> Step<'_, bool>;
    /// Adds an order and returns the number.
    fn add_order(&self, user: i64, product: i64, quantity: i64) -> Step<'_, i64>;
}

/// The timeout of a statement outside any transaction: a transaction has its own limit.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// Waits for a statement outside any transaction. A server that stops answering closes no connection.
async fn read<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, TransactionError> {
    let read = timeout(LONGEST_READ, statement).await;
    Ok(read.map_err(|_| TransactionError::TimedOut { after: LONGEST_READ })??)
}

/// The store in one kind of database.
#[derive(Debug)]
pub struct Tables<DB: sqlx::Database>(pub Pool<DB>);

macro_rules! impl_store {
    ($database:ident, id: $id:literal) => {
        impl Tables<$database> {
            /// Creates the tables and the products unless they exist. If they do, it waits for no order: to insert a product again
            /// would wait for each transaction that changes its stock.
            ///
            /// # Errors
            ///
            /// Those of the database.
            pub async fn make(pool: &Pool<$database>) -> Result<(), TransactionError> {
                const TABLES: &str = concat!(
                    "create table if not exists users (id ", $id, ", username text not null unique, email text not null, \
                     age bigint not null, credit_cents bigint not null default 100000 check (credit_cents >= 0));
                     create table if not exists products (id bigint primary key, name text not null, \
                     stock bigint not null check (stock >= 0), price_cents bigint not null);
                     create table if not exists orders (id ", $id, ", user_id bigint not null references users (id), \
                     product_id bigint not null references products (id), quantity bigint not null check (quantity > 0));
                     insert into products select * from \
                     (values (1, 'tea', 100, 100), (2, 'teapot', 3, 4500), (3, 'samovar', 2, 250000)) as given \
                     where not exists (select 1 from products) on conflict do nothing;"
                );
                Transactor::new(pool.clone())
                    .run(&(), || async {
                        let mut db = current::<$database>().await?;
                        sqlx::raw_sql(TABLES).execute(&mut *db).await?;
                        Ok(())
                    })
                    .await
            }
        }

        impl Store for Tables<$database> {
            fn user(&self, id: i64) -> Step<'_, Option<User>> {
                Box::pin(async move {
                    let user = "select id, username, email, age, credit_cents from users where id = $1";
                    let found: Option<(i64, String, String, i64, i64)> =
                        read(sqlx::query_as(user).bind(id).fetch_optional(&self.0)).await?;
                    Ok(found.map(|(id, username, email, age, credit_cents)| User { id, username, email, age, credit_cents }))
                })
            }

            fn is_taken<'a>(&'a self, username: &'a str) -> Step<'a, bool> {
                Box::pin(async move {
                    let taken = "select exists (select 1 from users where username = $1)";
                    read(sqlx::query_scalar(taken).bind(username).fetch_one(&self.0)).await
                })
            }

            fn product(&self, id: i64) -> Step<'_, Option<Product>> {
                Box::pin(async move {
                    let product = "select stock, price_cents from products where id = $1";
                    let found: Option<(i64, i64)> =
                        read(sqlx::query_as(product).bind(id).fetch_optional(&self.0)).await?;
                    Ok(found.map(|(stock, price_cents)| Product { stock, price_cents }))
                })
            }

            fn add_user<'a>(&'a self, username: &'a str, email: &'a str, age: i64) -> Step<'a, Option<i64>> {
                Box::pin(async move {
                    let mut db = current::<$database>().await?;
                    let add = "insert into users (username, email, age) values ($1, $2, $3) on conflict do nothing returning id";
                    Ok(sqlx::query_scalar(add).bind(username).bind(email).bind(age).fetch_optional(&mut *db).await?)
                })
            }

            // The condition is part of the statement: only one of two calls gets the last unit.
            fn take(&self, product: i64, quantity: i64) -> Step<'_, Result<i64, i64>> {
                Box::pin(async move {
                    let mut db = current::<$database>().await?;
                    let take = "update products set stock = stock - $2 where id = $1 and stock >= $2 returning price_cents";
                    let price: Option<i64> =
                        sqlx::query_scalar(take).bind(product).bind(quantity).fetch_optional(&mut *db).await?;
                    if let Some(price) = price {
                        return Ok(Ok(price));
                    }
                    let stock = "select stock from products where id = $1";
                    let stock: Option<i64> = sqlx::query_scalar(stock).bind(product).fetch_optional(&mut *db).await?;
                    Ok(Err(stock.unwrap_or(0)))
                })
            }

            fn charge(&self, user: i64, cents: i64) -> Step<'_, bool> {
                Box::pin(async move {
                    let mut db = current::<$database>().await?;
                    let charge = "update users set credit_cents = credit_cents - $2 where id = $1 and credit_cents >= $2";
                    let charged = sqlx::query(charge).bind(user).bind(cents).execute(&mut *db).await?;
                    Ok(charged.rows_affected() == 1)
                })
            }

            fn add_order(&self, user: i64, product: i64, quantity: i64) -> Step<'_, i64> {
                Box::pin(async move {
                    let mut db = current::<$database>().await?;
                    let add = "insert into orders (user_id, product_id, quantity) values ($1, $2, $3) returning id";
                    Ok(sqlx::query_scalar(add).bind(user).bind(product).bind(quantity).fetch_one(&mut *db).await?)
                })
            }
        }
    };
}

impl_store!(Sqlite, id: "integer primary key autoincrement");
impl_store!(Postgres, id: "bigint generated by default as identity primary key");
