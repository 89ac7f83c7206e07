//! Every answer and every refusal of the tools, on every database and over every transport.

use serde_json::{Value, json};

use super::{balances, data, everywhere, keyed, kind, serve, transfer, two_accounts};
use crate::client::{Transport, arguments, error_text, text};
use crate::support::Database;

everywhere! {
    tools_are_listed_with_their_annotations,
    tools_are_listed_with_their_schemas,
    a_transfer_moves_money_and_confirms_it,
    an_amount_is_exact_as_a_number_and_as_a_string,
    a_refused_transfer_states_the_reason_and_changes_nothing,
    a_wrong_argument_is_a_tool_error_with_the_reason,
    an_opened_account_has_its_deposit,
    an_account_that_cannot_be_opened_has_an_error_with_the_reason,
    history_lists_the_latest_transfer_first,
    a_query_of_an_unknown_account_is_an_error_that_names_it,
}

async fn tools_are_listed_with_their_annotations(database: Database, transport: Transport) {
    let mut server = serve(&database, transport).await;
    let client = server.connect().await;

    let annotations: Value =
        client.tools().await.into_iter().map(|tool| (tool.name.into_owned(), json!(tool.annotations))).collect();
    let read_only = json!({ "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false });
    let write = |destructive| {
        json!({
            "readOnlyHint": false,
            "destructiveHint": destructive,
            "idempotentHint": false,
            "openWorldHint": false,
        })
    };
    assert_eq!(
        annotations,
        json!({
            "transfer": write(true),
            "open_account": write(false),
            "balance": read_only,
            "history": read_only,
        })
    );
}

async fn tools_are_listed_with_their_schemas(database: Database, transport: Transport) {
    let mut server = serve(&database, transport).await;
    let client = server.connect().await;

    let (integer, string, amount) = (json!("integer"), json!("string"), json!(["number", "string"]));
    let tool = client.tool("transfer").await;
    let key = ("idempotency_key", &string);
    let expected = vec![("from_account", &integer), ("to_account", &integer), ("amount", &amount), key];
    assert_eq!(arguments(&tool), (expected, &json!(["from_account", "to_account", "amount"])));
    assert!(tool.input_schema["properties"]["amount"]["description"].is_string());
    let told = tool.input_schema["properties"]["idempotency_key"]["description"].to_string();
    assert!(told.contains("Optional") && told.contains("the same UUID"), "{told}");

    let tool = client.tool("open_account").await;
    let expected = vec![("owner", &string), ("deposit", &amount), key];
    assert_eq!(arguments(&tool), (expected, &json!(["owner", "deposit"])));

    for name in ["balance", "history"] {
        let tool = client.tool(name).await;
        assert_eq!(
            arguments(&tool),
            (vec![("account", &integer)], &json!(["account"])),
            "what changes nothing needs no key"
        );
    }
    for (name, expected) in [
        ("transfer", vec!["from", "to", "amount"]),
        ("open_account", vec!["account", "owner", "balance"]),
        ("balance", vec!["account", "owner", "balance"]),
        ("history", vec!["entries"]),
    ] {
        let tool = client.tool(name).await;
        assert_eq!(tool.input_schema["additionalProperties"], false);
        assert_eq!(tool.output_schema.expect("an output schema")["required"], json!(expected));
    }
}

async fn a_transfer_moves_money_and_confirms_it(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    let answer = client.call("transfer", transfer(12.5)).await;
    assert_eq!(text(&answer), "Transferred $12.50 from 1 to 2");
    assert_eq!(data(&answer), &json!({ "from": 1, "to": 2, "amount": "12.50" }));
    assert_eq!(answer.meta, None);

    let answer = client.call("balance", json!({ "account": 1 })).await;
    assert_eq!(text(&answer), "Account 1 (acme) holds $87.50");
    assert_eq!(data(&answer), &json!({ "account": 1, "owner": "acme", "balance": "87.50" }));
    assert_eq!(balances(&client).await, ["87.50", "112.50"]);
}

async fn an_amount_is_exact_as_a_number_and_as_a_string(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    for (amount, expected) in [
        (json!(1), "1.00"),
        (json!(0.1), "0.10"),
        (json!(0.29), "0.29"),
        (json!(1.10), "1.10"),
        (json!(1e1), "10.00"),
        (json!("0.01"), "0.01"),
        (json!("2"), "2.00"),
        (json!("2.5"), "2.50"),
        (json!("007.10"), "7.10"),
        (json!("3.4000"), "3.40"),
        (json!("12e-1"), "1.20"),
        (json!(" 4.35 "), "4.35"),
    ] {
        let answer = client.call("transfer", transfer(amount.clone())).await;
        assert_eq!(data(&answer)["amount"], expected, "{amount}");
    }
    assert_eq!(balances(&client).await, ["66.95", "133.05"]);
    let answer = client.call("transfer", transfer("66.95")).await;
    assert_eq!(text(&answer), "Transferred $66.95 from 1 to 2");
    assert_eq!(balances(&client).await, ["0.00", "200.00"]);
}

async fn a_refused_transfer_states_the_reason_and_changes_nothing(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    let positive = "Amount must be positive";
    let decimals = "An amount must have at most two decimals";
    let number = "An amount must be a number of dollars, such as 12.50";
    let large = "An amount must be at most 1000000000.00";
    for (amount, expected) in [
        (json!(0), positive),
        (json!(-0.0), positive),
        (json!("0.00"), positive),
        (json!(-1), positive),
        (json!("-0.01"), positive),
        (json!(0.001), decimals),
        (json!(12.345), decimals),
        (json!("12.505"), decimals),
        (json!(1e-7), decimals),
        (json!("NaN"), number),
        (json!("Infinity"), number),
        (json!("-"), number),
        (json!(""), number),
        (json!("ten"), number),
        (json!("1,50"), number),
        (json!("1_000"), number),
        (json!("$5"), number),
        (json!(".5"), number),
        (json!("5."), number),
        (json!("0x10"), number),
        (json!("1e"), number),
        (json!("١٢"), number),
        (json!("1000000000.01"), large),
        (json!(1e300), large),
        (json!(u64::MAX), large),
        (json!("9".repeat(500)), large),
        (json!("1e2147483647"), large),
        (json!(100.01), "Insufficient funds"),
        (json!("1000000000"), "Insufficient funds"),
    ] {
        let answer = client.call("transfer", transfer(amount.clone())).await;
        assert_eq!(error_text(&answer), expected, "{amount}");
        let wanted =
            if [positive, "Insufficient funds"].contains(&expected) { "invalid_request" } else { "invalid_params" };
        assert_eq!(kind(&answer), wanted, "{amount}");
    }
    for (from, to, expected, wanted) in [
        (1, 1, "An account cannot transfer to itself", "invalid_params"),
        (1, 3, "There is no account 3", "invalid_request"),
        (3, 1, "There is no account 3", "invalid_request"),
        (0, 1, "There is no account 0", "invalid_request"),
        (-1, 1, "There is no account -1", "invalid_request"),
        (i64::MAX, 1, "There is no account 9223372036854775807", "invalid_request"),
    ] {
        let answer = client.call("transfer", json!({ "from_account": from, "to_account": to, "amount": 1 })).await;
        assert_eq!((error_text(&answer), kind(&answer)), (expected, json!(wanted)));
    }
    assert_eq!(balances(&client).await, ["100.00", "100.00"]);
    let history = client.call("history", json!({ "account": 1 })).await;
    assert_eq!(data(&history), &json!({ "entries": [] }));
}

async fn a_wrong_argument_is_a_tool_error_with_the_reason(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    for (arguments, culprit) in [
        (json!({ "to_account": 2, "amount": 1 }), "from_account"),
        (json!({ "from_account": 1, "amount": 1 }), "to_account"),
        (json!({ "from_account": 1, "to_account": 2 }), "amount"),
        (transfer(Value::Null), "amount"),
        (transfer(true), "amount"),
        (transfer(json!([1])), "amount"),
        (json!({ "from_account": "1", "to_account": 2, "amount": 1 }), "from_account"),
        (json!({ "from_account": 1.5, "to_account": 2, "amount": 1 }), "from_account"),
        (json!({ "from_account": 1, "to_account": 2, "amount": 1, "tip": 1 }), "tip"),
    ] {
        let answer = client.call("transfer", arguments.clone()).await;
        assert!(error_text(&answer).contains(culprit), "{arguments}: {answer:?}");
        assert_eq!(kind(&answer), "invalid_params", "{arguments}");
    }
    assert_eq!(balances(&client).await, ["100.00", "100.00"]);
}

async fn an_opened_account_has_its_deposit(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    let longest = "ü".repeat(100);
    for (account, owner, deposit, balance) in [
        (3, "initech", json!(10.25), "10.25"),
        (4, "hooli", json!("0"), "0.00"),
        (5, longest.as_str(), json!(1), "1.00"),
    ] {
        let answer = client.call("open_account", json!({ "owner": owner, "deposit": deposit })).await;
        assert_eq!(text(&answer), format!("Opened account {account} for {owner} with ${balance}"));
        let expected = json!({ "account": account, "owner": owner, "balance": balance });
        assert_eq!(data(&answer), &expected);
        let answer = client.call("balance", json!({ "account": account })).await;
        assert_eq!(data(&answer), &expected);
    }
}

async fn an_account_that_cannot_be_opened_has_an_error_with_the_reason(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    for (owner, deposit, expected) in [
        ("", "1", "An account's owner must not be blank"),
        (" \t", "1", "An account's owner must not be blank"),
        (&"x".repeat(101), "1", "An owner's name has at most 100 characters"),
        ("initech", "-1", "Deposit must not be negative"),
        ("initech", "0.001", "An amount must have at most two decimals"),
        ("initech", "much", "An amount must be a number of dollars, such as 12.50"),
        ("initech", "1e12", "An amount must be at most 1000000000.00"),
    ] {
        let answer = client.call("open_account", json!({ "owner": owner, "deposit": deposit })).await;
        assert_eq!(error_text(&answer), expected);
    }
    let third = client.call("balance", json!({ "account": 3 })).await;
    assert_eq!(error_text(&third), "There is no account 3");
}

async fn history_lists_the_latest_transfer_first(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    let none = client.call("history", json!({ "account": 1 })).await;
    assert_eq!(text(&none), "Account 1 has no transfers");
    client.call("transfer", transfer("1.00")).await;
    client.call("transfer", json!({ "from_account": 2, "to_account": 1, "amount": "0.50" })).await;

    for account in [1, 2] {
        let answer = client.call("history", json!({ "account": account })).await;
        let mut answered = data(&answer).clone();
        let mut lines = Vec::new();
        for entry in answered["entries"].as_array_mut().expect("a list") {
            let at = entry["at"].take();
            let at = at.as_str().expect("a time");
            assert!(at.len() == 24 && at.ends_with('Z') && at.contains('T'), "{at}");
            lines.push(format!(
                "{at} ${} from {} to {}",
                entry["amount"].as_str().expect("text"),
                entry["from"],
                entry["to"]
            ));
        }
        let entries = json!({ "entries": [
            { "from": 2, "to": 1, "amount": "0.50", "at": null },
            { "from": 1, "to": 2, "amount": "1.00", "at": null },
        ]});
        assert_eq!(answered, entries);
        assert_eq!(text(&answer), lines.join("\n"));
    }
}

async fn a_query_of_an_unknown_account_is_an_error_that_names_it(database: Database, transport: Transport) {
    let (_server, client) = two_accounts(&database, transport).await;

    for tool in ["balance", "history"] {
        let answer = client.call(tool, json!({ "account": 77 })).await;
        assert_eq!((error_text(&answer), kind(&answer)), ("There is no account 77", json!("invalid_request")));
        let answer = client.call(tool, keyed(json!({ "account": 1 }), "k")).await;
        assert!(error_text(&answer).contains("idempotency_key"), "a question takes no key: {answer:?}");
    }
}
