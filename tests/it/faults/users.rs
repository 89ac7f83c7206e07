//! Stock and credit: every order is paid for and taken out of stock, and no confirmed order is lost.

use futures_util::future::join_all;
use rmcp::model::CallToolResult;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::transfer::{all_are_served, nothing_is_left};
use super::{CALLERS, World, for_each_seed};

const ORDERS: usize = 90;

/// The known outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Done,
    NotDone,
    Unknown,
}

fn end(answer: Option<&CallToolResult>) -> End {
    let Some(answer) = answer else { return End::Unknown };
    if answer.is_error != Some(true) {
        return End::Done;
    }
    let meta = json!(answer.meta);
    if meta["io.turbomcp/errorData"]["mcp-patterns/transaction"] == "outcome_unknown" {
        return End::Unknown;
    }
    let kind = &meta["io.turbomcp/errorKind"];
    assert!(["unavailable", "timeout", "server_overloaded"].iter().any(|known| kind == known), "{answer:?}");
    End::NotDone
}

/// Makes each caller order tea, one at a time, and returns the outcomes.
async fn order(world: &World, seed: u64, users: &[Value]) -> Vec<End> {
    let callers = users.iter().zip(0..).map(|(user, number)| async move {
        let mut caller = world.caller(None, seed * 100 + number);
        let mut ends = Vec::new();
        while ends.iter().filter(|end| **end == End::Done).count() < ORDERS / CALLERS && ends.len() < ORDERS {
            let order = json!({ "user_id": user, "product_id": 1, "quantity": 1 });
            ends.push(end(caller.call("create_order", order).await.as_ref()));
        }
        ends
    });
    join_all(callers).await.concat()
}

async fn survive(seed: u64) {
    let world = World::on_postgres("users", "--database-url").await;
    let mut caller = world.caller(None, seed);
    let mut users = Vec::new();
    for number in 0..CALLERS {
        let user = json!({ "username": format!("user{number}"), "email": "user@example.org", "age": 30 });
        let created = caller.call("create_user", user).await.expect("nothing fails yet");
        users.push(created.structured_content.expect("it says the number")["id"].clone());
    }
    let mut db = PgConnection::connect(&world.postgres()).await.expect("a connection");
    sqlx::query("update products set stock = 5000 where id = 1").execute(&mut db).await.expect("there is tea");
    // It would not outlive the server.
    drop(db);

    let ends = world.rage(seed, ORDERS, order(&world, seed, &users)).await;

    all_are_served(&world, "get_user", &json!({ "user_id": users[0] })).await;
    nothing_is_left(&world.postgres()).await;
    let mut db = PgConnection::connect(&world.postgres()).await.expect("a connection");
    let mut count = async |sql| -> i64 { sqlx::query_scalar(sql).fetch_one(&mut db).await.expect("it counts") };
    let ordered = count("select count(*) from orders").await;
    assert_eq!(count("select stock from products where id = 1").await, 5_000 - ordered);
    let unpaid = "select count(*) from users where credit_cents <> \
                  100000 - 100 * (select count(*) from orders where user_id = users.id)";
    assert_eq!(count(unpaid).await, 0);
    let [done, unknown] =
        [End::Done, End::Unknown].map(|end| ends.iter().filter(|known| **known == end).count() as i64);
    assert!((done..=done + unknown).contains(&ordered), "{done} done, {unknown} unknown: {ordered} ordered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_pay_and_deliver_every_confirmed_order_under_any_fault() {
    for_each_seed(survive).await;
}
