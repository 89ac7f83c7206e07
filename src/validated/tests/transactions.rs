//! Rules in a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use sqlx::{Postgres, Sqlite, SqlitePool};

use super::*;
use crate::TransactionalTool;
use crate::testing::databases::{postgres_options, postgres_schema};
use crate::transactional::{Isolation, TransactionError, Transactor, current, failed};

#[derive(Debug, Deserialize)]
struct Order {
    quantity: i64,
}

async fn stock() -> SqlitePool {
    let pool =
        sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("memory");
    sqlx::raw_sql("create table stock (units integer not null); insert into stock values (3)")
        .execute(&pool)
        .await
        .expect("a table");
    pool
}

fn shop() -> ScriptedServer {
    taking(json!({"type": "object", "properties": {"quantity": {"type": "integer"}}}))
}

/// Takes one unit, which a rule must not do, and refuses an item that is not in stock.
fn validated() -> ValidatedTool {
    ValidatedTool::new().rule("take", |order: Order, cx: RuleContext| async move {
        let mut db = current::<Sqlite>().await?;
        sqlx::query("update stock set units = units - 1").execute(&mut *db).await?;
        let units: i64 = sqlx::query_scalar("select units from stock").fetch_one(&mut *db).await?;
        if units < order.quantity {
            cx.refuse(Violation::new("out_of_stock", format!("Only {units} units available")).at("quantity"));
        }
        Ok(())
    })
}

async fn units(pool: &SqlitePool) -> i64 {
    sqlx::query_scalar("select units from stock").fetch_one(pool).await.expect("a row")
}

#[tokio::test]
async fn a_rule_inside_a_transaction_sees_it_and_is_rolled_back_with_it() {
    let pool = stock().await;
    let server = (TransactionalTool::new(pool.clone()).only(["take"]), validated()).layer(shop());
    let answer = call(&server, "take", json!({"quantity": 3})).await;
    assert_eq!(text(&answer), "`quantity`: Only 2 units available");
    assert_eq!(units(&pool).await, 3, "a refusal rolls back");
    assert!(!call(&server, "take", json!({"quantity": 2})).await.is_error());
    assert_eq!(units(&pool).await, 2, "and a success commits");
}

#[tokio::test]
async fn a_rule_outside_a_transaction_has_none() {
    let pool = stock().await;
    let server = (validated(), TransactionalTool::new(pool.clone()).only(["take"])).layer(shop());
    let answer = Ok(call(&server, "take", json!({"quantity": 1})).await);
    let failure = outcome::failure(&answer).expect("no transaction");
    assert_eq!(failure.kind(), Some(ErrorKind::Unavailable));
    assert_eq!(failure.message(), TransactionError::None.to_string());
    assert_eq!(units(&pool).await, 3);
}

#[tokio::test]
async fn rules_that_share_a_transaction_take_turns() {
    let pool = stock().await;
    let server = (
        TransactionalTool::new(pool.clone()).only(["take"]),
        validated().rule("take", |_: Order, _| async {
            let mut db = current::<Sqlite>().await?;
            sqlx::query("update stock set units = units + 10").execute(&mut *db).await?;
            Ok(())
        }),
    )
        .layer(shop());
    assert!(!call(&server, "take", json!({"quantity": 1})).await.is_error());
    assert_eq!(units(&pool).await, 12);
}

#[tokio::test]
async fn a_database_that_fails_a_rule_is_unavailable_and_masked() {
    let pool = stock().await;
    for rule in ["as it is", "masked by hand"] {
        let by_hand = rule == "masked by hand";
        let broken = ValidatedTool::new().rule("take", move |_: Order, _| async move {
            let mut db = current::<Sqlite>().await?;
            let result = sqlx::query("select s3cret from nowhere").execute(&mut *db).await;
            if by_hand {
                result.map_err(failed)?;
            } else {
                result?;
            }
            Ok(())
        });
        let server = (TransactionalTool::new(pool.clone()).only(["take"]), broken).layer(shop());
        let answer = Ok(call(&server, "take", json!({"quantity": 1})).await);
        let failure = outcome::failure(&answer).expect("no such table");
        let sentence = if by_hand {
            "The database refused a statement (error "
        } else {
            "The input cannot be checked at the moment (error "
        };
        assert!(failure.message().starts_with(sentence), "{}", failure.message());
        let wanted = if by_hand { ErrorKind::Internal } else { ErrorKind::Unavailable };
        assert_eq!(failure.kind(), Some(wanted), "what a rule masks itself has the kind that it gave it");
    }
}

/// How a rule returns an error of the database.
#[derive(Debug, Clone, Copy)]
enum Hands {
    AsItIs,
    Masked,
    /// And another rule finds a violation, by the same stale data.
    BesideARefusal,
}

/// Another caller sells between the read of a rule and its write.
#[tokio::test]
async fn a_rule_that_conflicts_runs_again_in_a_new_transaction() {
    for hands in [Hands::AsItIs, Hands::Masked, Hands::BesideARefusal] {
        let pool = postgres_schema(postgres_options(), 4).await;
        sqlx::raw_sql("create table stock (units bigint not null); insert into stock values (3)")
            .execute(&pool)
            .await
            .expect("a table");
        let asked = Arc::new(AtomicUsize::new(0));
        let (others, times) = (pool.clone(), Arc::clone(&asked));
        let validated = ValidatedTool::new().rule("take", move |order: Order, cx: RuleContext| {
            let (others, times) = (others.clone(), Arc::clone(&times));
            async move {
                let mut db = current::<Postgres>().await?;
                let units: i64 = sqlx::query_scalar("select units from stock").fetch_one(&mut *db).await?;
                if times.fetch_add(1, Ordering::SeqCst) == 0 {
                    sqlx::query("update stock set units = units - 1").execute(&others).await?;
                    if let Hands::BesideARefusal = hands {
                        cx.refuse(Violation::new("stale", "No longer true"));
                    }
                }
                if units < order.quantity {
                    cx.refuse(Violation::new("out_of_stock", format!("Only {units} units available")));
                }
                let sale = sqlx::query("update stock set units = units - $1").bind(order.quantity);
                match hands {
                    Hands::Masked => sale.execute(&mut *db).await.map(|_| ()).map_err(failed)?,
                    Hands::AsItIs | Hands::BesideARefusal => sale.execute(&mut *db).await.map(|_| ())?,
                }
                Ok(())
            }
        });
        let script = shop();
        let transactional =
            TransactionalTool::new(Transactor::new(pool.clone()).with_isolation(Isolation::RepeatableRead))
                .only(["take"]);
        let server = (transactional, validated).layer(script.clone());
        assert_eq!(text(&call(&server, "take", json!({"quantity": 3})).await), "Only 2 units available", "{hands:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{hands:?}");
        assert!(!call(&server, "take", json!({"quantity": 2})).await.is_error(), "{hands:?}");
        assert_eq!((asked.load(Ordering::SeqCst), script.calls("take")), (3, 1), "{hands:?}");
        let units: i64 = sqlx::query_scalar("select units from stock").fetch_one(&pool).await.expect("a row");
        assert_eq!(units, 0, "{hands:?}");
    }
}
