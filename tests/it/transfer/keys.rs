//! The effect of an idempotency key on the tools, on every database and over every transport.

use serde_json::json;

use super::{balances, data, everywhere, keyed, kind, replayed, serve, transfer, two_accounts};
use crate::client::{Client, Server, Transport, error_text, patiently, text};
use crate::support::Database;

everywhere! {
    the_same_key_gets_the_same_answer_and_one_transfer,
    the_same_key_with_other_arguments_is_refused,
    a_malformed_key_is_refused,
    a_refused_call_does_not_use_up_its_key,
    a_key_opens_one_account,
}

async fn the_same_key_gets_the_same_answer_and_one_transfer(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    let first = client.call("transfer", keyed(transfer("12.50"), "order-1")).await;
    assert!(!replayed(&first));
    for _ in 0..3 {
        // The order of the arguments does not matter.
        let arguments = json!({ "idempotency_key": "order-1", "amount": "12.50", "to_account": 2, "from_account": 1 });
        let again = client.call("transfer", arguments).await;
        assert!(replayed(&again));
        assert_eq!((&again.content, &again.structured_content), (&first.content, &first.structured_content));
    }
    assert_eq!(balances(&client).await, ["87.50", "112.50"]);

    let other = client.call("transfer", keyed(transfer("12.50"), "order-2")).await;
    assert!(!replayed(&other));
    let none = client.call("transfer", transfer("12.50")).await;
    assert!(!replayed(&none));
    assert_eq!(balances(&client).await, ["62.50", "137.50"]);
}

async fn the_same_key_with_other_arguments_is_refused(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    client.call("transfer", keyed(transfer("12.50"), "order-1")).await;
    for arguments in [transfer("12.51"), json!({ "from_account": 2, "to_account": 1, "amount": "12.50" })] {
        let refused = client.call("transfer", keyed(arguments, "order-1")).await;
        assert!(error_text(&refused).contains("`order-1` was used for a call with other arguments"), "{refused:?}");
        assert_eq!(kind(&refused), "invalid_params");
        let reason = &json!(refused.meta)["io.turbomcp/errorData"]["mcp-patterns/idempotency"];
        assert_eq!(reason, "key_reused");
    }
    assert_eq!(balances(&client).await, ["87.50", "112.50"]);
}

async fn a_malformed_key_is_refused(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    for key in [json!(""), json!("a b"), json!("ä"), json!("k".repeat(256)), json!(7), json!({})] {
        let mut arguments = transfer(1);
        arguments["idempotency_key"] = key.clone();
        let refused = client.call("transfer", arguments).await;
        assert!(error_text(&refused).contains("1 to 255 characters"), "{key}: {refused:?}");
        assert_eq!(kind(&refused), "invalid_params");
    }
    assert_eq!(balances(&client).await, ["100.00", "100.00"]);
    let longest = client.call("transfer", keyed(transfer(1), &"k-_.:9".repeat(42))).await;
    assert_eq!(text(&longest), "Transferred $1.00 from 1 to 2");
}

async fn a_refused_call_does_not_use_up_its_key(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    let broke = client.call("transfer", keyed(transfer("150.00"), "order-1")).await;
    assert_eq!(error_text(&broke), "Insufficient funds");
    client.call("transfer", json!({ "from_account": 2, "to_account": 1, "amount": 50 })).await;
    let rich = client.call("transfer", keyed(transfer("150.00"), "order-1")).await;
    assert_eq!(text(&rich), "Transferred $150.00 from 1 to 2");
    assert!(!replayed(&rich));
}

async fn a_key_opens_one_account(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    // A key belongs to one tool: on another tool the same key is another call.
    client.call("transfer", keyed(transfer(1), "k")).await;
    let arguments = keyed(json!({ "owner": "initech", "deposit": 5 }), "k");
    let first = client.call("open_account", arguments.clone()).await;
    let again = client.call("open_account", arguments).await;
    assert_eq!((replayed(&first), replayed(&again)), (false, true));
    assert_eq!((data(&first), data(&again)["account"].as_i64()), (data(&again), Some(3)));
}

#[tokio::test]
async fn a_restarted_server_on_a_file_has_its_data() {
    patiently(async {
        let database = Database::file();
        let (server, client) = two_accounts(&database, Transport::Stdio).await;
        let key = keyed(transfer("12.50"), "order-1");
        client.call("transfer", key.clone()).await;
        end(server, client).await;

        let mut server = serve(&database, Transport::Stdio).await;
        let client = server.connect().await;
        assert!(replayed(&client.call("transfer", key).await));
        assert_eq!(balances(&client).await, ["87.50", "112.50"]);
        end(server, client).await;
    })
    .await;
}

async fn end(mut server: Server, client: Client) {
    client.close().await;
    let status = server.ended().await;
    assert!(status.success(), "{status}");
}
