//! The users example, through a real client.

use futures_util::future::join_all;
use rmcp::model::CallToolResult;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::client::{Client, Server, Transport, error_text, patiently, text};
use crate::support::Database;

async fn serve(database: &Database, transport: Transport) -> (Server, Client) {
    let mut server = Server::start("users", transport, &["--database-url", &database.url()]).await;
    let client = server.connect().await;
    (server, client)
}

fn ada() -> Value {
    json!({"username": "user_1", "email": "user_1@example.org", "age": 36})
}

/// Pointer and code of each violation.
fn told(answer: &CallToolResult) -> Vec<String> {
    assert_eq!(answer.is_error, Some(true), "{answer:?}");
    let meta = json!(answer.meta);
    assert_eq!(meta["io.turbomcp/errorKind"], "invalid_params");
    let list =
        meta["io.turbomcp/errorData"]["mcp-patterns/validation"]["violations"].as_array().expect("a list").clone();
    let word = |violation: &Value, name: &str| violation[name].as_str().expect("a string").to_owned();
    list.iter().map(|violation| format!("{} {}", word(violation, "pointer"), word(violation, "code"))).collect()
}

fn with(mut arguments: Value, name: &str, value: impl Into<Value>) -> Value {
    arguments[name] = value.into();
    arguments
}

#[tokio::test]
async fn every_case_of_bad_input_has_a_clear_message() {
    patiently(async {
        let (_server, client) = serve(&Database::Memory, Transport::Stdio).await;
        let answer = client.call("create_user", ada()).await;
        assert_eq!(text(&answer), "User created: user_1 (user_1@example.org)");
        assert_eq!(answer.structured_content, Some(json!({"id": 1})));

        let long = "u".repeat(21);
        for (arguments, place, sentence) in [
            (with(ada(), "username", "ab"), "/username minLength", "`username` must have at least 3 characters"),
            (with(ada(), "username", long), "/username maxLength", "`username` must have at most 20 characters"),
            (
                with(ada(), "username", "a b c"),
                "/username pattern",
                r"`username` must match the pattern `^[\p{L}\p{N}_]*$`",
            ),
            (with(ada(), "email", "nonsense"), "/email format", "`email` must be an email address"),
            (with(ada(), "email", "a@b@c.d"), "/email format", "`email` must be an email address"),
            (with(ada(), "age", 17), "/age minimum", "`age` must be at least 18"),
            (with(ada(), "age", 121), "/age maximum", "`age` must be at most 120"),
            (with(ada(), "age", "36"), "/age type", "`age` must be an integer"),
            (with(ada(), "nickname", "x"), "/nickname additionalProperties", "`nickname` is not known here"),
            (ada(), "/username username_taken", "`username`: This username is taken"),
        ] {
            let answer = client.call("create_user", arguments.clone()).await;
            assert_eq!(error_text(&answer), sentence, "{arguments}");
            assert_eq!(told(&answer), [place]);
        }
        let answer = client.call("create_user", json!({"username": "a!", "email": "x", "usernme": 1})).await;
        assert_eq!(
            told(&answer),
            [
                "/age required",
                "/email format",
                "/username minLength",
                "/username pattern",
                "/usernme additionalProperties"
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn a_registration_is_checked_by_its_type() {
    patiently(async {
        let database = Database::file();
        let (_server, client) = serve(&database, Transport::Http).await;
        let data = |password: &str| json!({"data": with(ada(), "password", password)});
        let answer = client.call("register", data("correct horse")).await;
        assert_eq!(text(&answer), "User user_1 registered successfully");
        assert_eq!(answer.structured_content, Some(json!({"id": 1})));

        let answer = client.call("register", data("1234567")).await;
        assert_eq!(error_text(&answer), "`data.password` must have at least 8 characters");
        assert_eq!(told(&answer), ["/data/password minLength"]);
        let answer = client.call("register", data("12345678")).await;
        assert_eq!(error_text(&answer), "`data.password`: This password is the first that is tried");
        assert_eq!(told(&answer), ["/data/password guessable"]);
        assert!(!format!("{answer:?}").contains("12345678"));
        let answer = client.call("register", data("correct horse")).await;
        assert_eq!(told(&answer), ["/data/username username_taken"]);
    })
    .await;
}

#[tokio::test]
async fn an_order_follows_the_business_rules() {
    patiently(async {
        let database = Database::postgres().await;
        let (_server, client) = serve(&database, Transport::Http).await;
        client.call("create_user", ada()).await;
        let order = |user: i64, product: i64, quantity: i64| {
            client.call("create_order", json!({"user_id": user, "product_id": product, "quantity": quantity}))
        };
        assert_eq!(text(&order(1, 2, 1).await), "Order 1 created successfully");
        for ((user, product, quantity), places, sentence) in [
            ((1, 2, 0), vec!["/quantity minimum"], "`quantity` must be at least 1"),
            ((7, 2, 1), vec!["/user_id user_not_found"], "`user_id`: User not found"),
            ((1, 9, 1), vec!["/product_id product_not_found"], "`product_id`: Product not found"),
            ((1, 2, 3), vec!["/quantity out_of_stock"], "`quantity`: Only 2 units available"),
            ((1, 3, 1), vec!["/quantity credit_limit"], "`quantity`: Credit limit exceeded"),
            (
                (7, 9, 1),
                vec!["/product_id product_not_found", "/user_id user_not_found"],
                "`product_id`: Product not found\n`user_id`: User not found",
            ),
        ] {
            let answer = order(user, product, quantity).await;
            assert_eq!(
                (error_text(&answer), told(&answer)),
                (sentence, places.into_iter().map(str::to_owned).collect())
            );
        }
        let user = client.call("get_user", json!({"user_id": 1})).await;
        assert_eq!(text(&user), "User 1: user_1 (user_1@example.org), 36 years old");
        assert_eq!(error_text(&client.call("get_user", json!({"user_id": 7})).await), "User not found");
        client.close().await;
    })
    .await;
}

async fn a_hundred_units_for_five_hundred_orders(database: Database) {
    let (_server, client) = serve(&database, Transport::Http).await;
    client.call("create_user", ada()).await;
    let orders = (0..500).map(|_| client.call("create_order", json!({"user_id": 1, "product_id": 1, "quantity": 1})));
    let (mut ordered, mut refused) = (0, 0);
    for answer in join_all(orders).await {
        if answer.is_error == Some(true) {
            assert!(error_text(&answer).ends_with("Only 0 units available"), "{answer:?}");
            refused += 1;
        } else {
            ordered += 1;
        }
    }
    assert_eq!((ordered, refused), (100, 400));
    let answer = client.call("create_order", json!({"user_id": 1, "product_id": 1, "quantity": 1})).await;
    assert_eq!(error_text(&answer), "`quantity`: Only 0 units available");
    let (stock, orders) = match &database {
        // A database in the server's memory is visible only to the server.
        Database::Memory => return,
        Database::File(_) => {
            let mut db = SqliteConnection::connect(&database.url()).await.expect("no connection");
            sqlx::query_as(STOCK_AND_ORDERS).fetch_one(&mut db).await.expect("no stock")
        }
        Database::Postgres { .. } => {
            let mut db = PgConnection::connect(&database.url()).await.expect("no connection");
            sqlx::query_as::<_, (i64, i64)>(STOCK_AND_ORDERS).fetch_one(&mut db).await.expect("no stock")
        }
    };
    assert_eq!((stock, orders), (0, 100));
}

const STOCK_AND_ORDERS: &str = "select stock, (select count(*) from orders) from products where id = 1";

#[tokio::test]
async fn stock_is_never_oversold_in_memory() {
    patiently(a_hundred_units_for_five_hundred_orders(Database::Memory)).await;
}

#[tokio::test]
async fn stock_is_never_oversold_in_a_file() {
    patiently(a_hundred_units_for_five_hundred_orders(Database::file())).await;
}

#[tokio::test]
async fn stock_is_never_oversold_in_postgres() {
    patiently(async { a_hundred_units_for_five_hundred_orders(Database::postgres().await).await }).await;
}
