//! One name with different schemas or annotations, as different callers see it.

use std::time::Duration;

use mcp_patterns::Middleware;
use tokio::time::advance;

use super::*;

/// The administrator may set a role. Other callers do not see that argument.
fn accounts() -> Catalogue {
    Catalogue::new(|ctx| {
        let is_admin = ctx.is_some_and(|ctx| ctx.subject() == Some("admin"));
        vec![with_arguments("update", if is_admin { &["name", "role"] } else { &["name"] })]
    })
}

const INVALID: Result<String, Option<ErrorKind>> = Err(Some(ErrorKind::InvalidParams));

async fn sets_role(server: &impl McpHandler, who: &str) -> bool {
    let answer = call(server, "update", json!({"name": "bob", "role": "admin"}), &user(who)).await;
    assert!(answer.is_ok() || answer == INVALID, "{answer:?}");
    answer.is_ok()
}

#[tokio::test]
async fn each_caller_is_validated_by_the_schema_of_its_own_listing_whoever_listed_last() {
    let server = ValidatedTool::new().layer(accounts());
    for lister in ["bob", "admin", "bob", "carol", "admin"] {
        server.list_tools_for(&user(lister));
        for (caller, may) in [("bob", false), ("admin", true), ("carol", false)] {
            assert_eq!(sets_role(&server, caller).await, may, "{caller}, after {lister} has listed");
        }
    }
}

#[tokio::test]
async fn no_caller_is_refused_by_the_schema_of_another() {
    let script = accounts();
    let server = ValidatedTool::new().layer(script.clone());
    assert!(sets_role(&server, "admin").await, "who has not listed since the start");
    assert!(!sets_role(&server, "bob").await);
    let listings = script.listings();
    for _ in 0..10 {
        assert!(!sets_role(&server, "bob").await);
    }
    assert_eq!(script.listings(), listings, "bob received it just before");
}

#[tokio::test]
async fn a_key_is_not_lost_if_another_callers_definition_was_read_first() {
    let script = accounts();
    let server =
        (ValidatedTool::new(), IdempotentTool::new(MemoryBackend::new()).only(["update"])).layer(script.clone());
    for _ in 0..2 {
        let args = json!({"name": "bob", "role": "admin", "idempotency_key": "k"});
        let answer = call(&server, "update", args, &user("admin")).await;
        assert_eq!(answer.as_deref(), Ok(r#"1 {"name":"bob","role":"admin"}"#));
    }
    assert_eq!(script.calls("update"), 1);
}

#[tokio::test]
async fn defaults_of_another_callers_schema_are_not_filled_in() {
    let server = ValidatedTool::new().with_defaults().layer(Catalogue::new(|ctx| {
        let is_admin = ctx.is_some_and(|ctx| ctx.subject() == Some("admin"));
        let mut update = with_arguments("update", if is_admin { &["name", "role"] } else { &["name", "team"] });
        if let Some(properties) = update.input_schema.properties.as_mut() {
            properties[if is_admin { "role" } else { "team" }]["default"] = "none".into();
        }
        vec![update]
    }));
    let updated = call(&server, "update", json!({"name": "bob", "role": "chief"}), &user("admin")).await;
    assert_eq!(updated.as_deref(), Ok(r#"1 {"name":"bob","role":"chief"}"#));
    let updated = call(&server, "update", json!({"name": "bob"}), &user("admin")).await;
    assert_eq!(updated.as_deref(), Ok(r#"2 {"name":"bob","role":"none"}"#));
    let updated = call(&server, "update", json!({"name": "bob"}), &user("bob")).await;
    assert_eq!(updated.as_deref(), Ok(r#"3 {"name":"bob","team":"none"}"#));
}

#[tokio::test]
async fn one_user_with_two_tokens_has_the_schema_of_each() {
    let server = ValidatedTool::new().layer(Catalogue::new(|ctx| {
        let is_admin = ctx.is_some_and(|ctx| ctx.has_any_role(&["admin"]));
        vec![with_arguments("update", if is_admin { &["name", "role"] } else { &["name"] })]
    }));
    let ada = |role: &str| nobody().with_principal(turbomcp_core::Principal::new("ada").with_role(role));
    for lister in ["viewer", "admin", "viewer"] {
        server.list_tools_for(&ada(lister));
        for (role, may) in [("viewer", false), ("admin", true)] {
            let answer = call(&server, "update", json!({"name": "bob", "role": "x"}), &ada(role)).await;
            assert_eq!(answer.is_ok(), may, "{role}, after {lister} has listed: {answer:?}");
        }
    }
}

/// `read` is read-only for a reader, and has effects for other callers. `flaky` fails every second time.
fn readers() -> Catalogue {
    Catalogue::new(|ctx| {
        let is_reader = ctx.is_some_and(|ctx| ctx.subject() == Some("reader"));
        ["read", "flaky"].map(|name| if is_reader { read_only(name) } else { tool(name) }).into()
    })
}

#[tokio::test(start_paused = true)]
async fn annotations_count_for_the_caller_who_received_them() {
    for pair in [["reader", "writer"], ["writer", "reader"]] {
        let script = readers();
        let cached = CachedTool::new().layer(script.clone());
        let retried = RetryTool::new().layer(script.clone());
        for who in pair {
            cached.list_tools_for(&user(who));
            retried.list_tools_for(&user(who));
        }
        let mut read = Vec::new();
        for who in ["reader", "reader", "writer", "writer"] {
            read.push(call(&cached, "read", json!({}), &user(who)).await.expect("an answer"));
        }
        assert_eq!(read, ["1 {}", "1 {}", "2 {}", "3 {}"]);
        assert!(call(&retried, "flaky", json!({}), &user("reader")).await.is_ok());
        assert!(call(&retried, "flaky", json!({}), &user("writer")).await.is_err());
        assert_eq!(script.calls("flaky"), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_definition_is_looked_up_again_after_a_minute() {
    let version = Arc::new(AtomicUsize::new(0));
    let of_admin = Arc::clone(&version);
    let script = Catalogue::new(move |ctx| {
        let is_admin = ctx.is_some_and(|ctx| ctx.subject() == Some("admin"));
        let arguments: &[_] = match (is_admin, of_admin.load(Ordering::SeqCst)) {
            (false, _) => &["name"],
            (true, 0) => &["name", "role"],
            (true, _) => &["name", "team"],
        };
        vec![with_arguments("update", arguments)]
    });
    let server = ValidatedTool::new().layer(script.clone());
    assert!(sets_role(&server, "admin").await);
    version.store(1, Ordering::SeqCst);
    advance(Duration::from_secs(59)).await;
    let listings = script.listings();
    assert!(sets_role(&server, "admin").await);
    assert_eq!(script.listings(), listings);
    advance(Duration::from_secs(1)).await;
    assert!(!sets_role(&server, "admin").await);
    assert_eq!(script.listings(), listings + 1);
}

#[tokio::test]
async fn a_notification_of_changed_tools_causes_new_look_ups() {
    let version = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&version);
    let script = Catalogue::new(move |_| {
        let arguments: &[_] = if now.load(Ordering::SeqCst) == 0 { &["name"] } else { &["name", "role"] };
        vec![with_arguments("update", arguments)]
    });
    let server = ValidatedTool::new().layer(script.clone());
    server.list_tools_for(&user("ada"));
    assert!(!sets_role(&server, "ada").await);
    version.store(1, Ordering::SeqCst);
    assert!(!sets_role(&server, "ada").await);
    server.middleware().forget_definitions();
    let listings = script.listings();
    assert!(sets_role(&server, "ada").await);
    assert!(sets_role(&server, "bob").await, "the same for all, as far as is known");
    assert_eq!(script.listings(), listings + 1);
}

#[tokio::test]
async fn a_server_with_one_listing_for_all_callers_is_listed_only_when_layers_are_applied() {
    let script = Catalogue::new(|_| vec![with_arguments("update", &["name"]), read_only("read")]);
    let server = whole(pool().await, script.clone());
    tokio::time::pause();
    let listings = script.listings();
    for number in 0..100 {
        let caller = user(&format!("user {number}"));
        assert!(call(&server, "update", json!({"name": "bob"}), &caller).await.is_ok());
        assert!(call(&server, "read", json!({}), &caller).await.is_ok());
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(script.listings(), listings);
}

#[tokio::test]
async fn a_writer_named_by_a_setting_stays_a_writer_if_its_callers_tools_cannot_be_listed() {
    let script = Catalogue::new(|ctx| {
        let who = ctx.and_then(|ctx| ctx.subject()).unwrap_or_default();
        assert_ne!(who, "carol", "the upstream is away");
        vec![read_only("read"), if who == "ada" { read_only("write") } else { tool("write") }]
    });
    let server = CachedTool::new().with_scope(mcp_patterns::Scope::Public).invalidates("write", ["read"]);
    let server = server.layer(script.clone());
    for who in ["ada", "bob"] {
        server.list_tools_for(&user(who));
    }
    let mut reads = Vec::new();
    for name in ["read", "read", "write", "read"] {
        reads.push(call(&server, name, json!({}), &user("carol")).await.expect("an answer"));
    }
    assert_eq!(reads, ["1 {}", "1 {}", "1 {}", "2 {}"]);
}
