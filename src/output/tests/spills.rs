//! Answers that are kept whole.

use futures_util::FutureExt;
use tokio::time::advance;
use turbomcp_core::auth::Principal;
use turbomcp_server::CompositeHandler;
use turbomcp_types::{Resource, ResourceResult};

use super::*;
use crate::Identity;

/// A server that answers with as many lines as the argument `lines` says.
fn printer() -> ScriptedServer {
    ScriptedServer::new("printer").with_read_only("print", |call| async move {
        let count = call.args["lines"].as_u64().and_then(|count| usize::try_from(count).ok());
        Ok(ToolResult::text(lines(count.expect("a number"))))
    })
}

async fn print(server: &impl McpHandler, count: usize, ctx: &RequestContext) -> ToolResult {
    server.call_tool("print", json!({ "lines": count }), ctx).await.expect("a result")
}

fn person(name: &str, role: &str, tenant: &str) -> RequestContext {
    let principal = Principal::new(name).with_claim("tid", json!(tenant)).with_claim("scope", json!(role));
    RequestContext::new().with_principal(principal)
}

#[tokio::test]
async fn only_the_same_principal_with_the_same_rights_can_read_an_answer() {
    let layer = keeping();
    let handle = layer.handle();
    let server = layer.layer(printer());
    let ada = || person("ada", "read write", "acme");
    let answer = print(&server, 500, &ada()).await;
    assert_eq!(whole(&server, &answer, &person("ada", "write read", "acme")).await, Some(vec![lines(500)]));
    let uri = &link(&answer).expect("a link").uri;
    let unknown = format!("{}{}", &uri[..uri.len() - 1], if uri.ends_with('0') { '1' } else { '0' });
    let none = server.read_resource(&unknown, &ada()).await.expect_err("there is none");
    let others = [
        person("bob", "read write", "acme"),
        person("ada", "read", "acme"),
        person("ada", "read write", "globex"),
        user("ada"),
        RequestContext::new(),
    ];
    for other in others {
        let refused = server.read_resource(uri, &other).await.expect_err("it is another's");
        let as_none = format!("{none:?}").replace(&unknown, uri);
        assert_eq!((refused.kind, format!("{refused:?}").len()), (none.kind, as_none.len()), "as if it did not exist");
        assert_eq!(refused.message, none.message.replace(&unknown, uri));
    }
    assert_eq!(handle.stats().read, 1);
    // Any other spelling of the URI is another URI.
    let upper = uri.replace("output://", "output://+");
    assert!(server.read_resource(&upper, &ada()).await.is_err());
}

#[tokio::test]
async fn a_caller_whose_credentials_were_not_read_shares_nothing() {
    let headers = [("authorization".to_owned(), "Bearer x".to_owned())].into_iter().collect();
    let unread = RequestContext { headers: Some(headers), ..RequestContext::new() };
    let answer = print(&keeping().layer(printer()), 500, &unread).await;
    assert_eq!((link(&answer), status(&answer)), (None, json!("cut")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_read_until_its_time_has_passed() {
    let layer = bound().with_spill(Spill::new().with_ttl(secs(60)));
    let handle = layer.handle();
    let server = layer.layer(printer());
    let answer = print(&server, 500, &user("ada")).await;
    advance(secs(59)).await;
    assert_eq!(whole(&server, &answer, &user("ada")).await, Some(vec![lines(500)]));
    assert!(handle.stats().kept_bytes > lines(500).len());
    advance(secs(1)).await;
    assert_eq!(whole(&server, &answer, &user("ada")).await, None);
    assert_eq!((handle.stats().kept, handle.stats().kept_bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_kept_for_as_long_as_a_duration_can_say() {
    for ttl in [Duration::MAX, Duration::MAX / 4, secs(u64::MAX / 4)] {
        let server = bound().with_spill(Spill::new().with_ttl(ttl)).layer(printer());
        let answer = print(&server, 500, &user("ada")).await;
        advance(secs(10 * 365 * 24 * 60 * 60)).await;
        assert_eq!(whole(&server, &answer, &user("ada")).await, Some(vec![lines(500)]), "{ttl:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_equal_answer_has_the_same_link_takes_no_more_room_and_stays_from_then_on() {
    let layer = bound().with_spill(Spill::new().with_ttl(secs(60)));
    let handle = layer.handle();
    let server = layer.layer(printer());
    let (first, other) = (print(&server, 500, &user("ada")).await, print(&server, 501, &user("ada")).await);
    let stats = handle.stats();
    advance(secs(40)).await;
    let again = print(&server, 500, &user("ada")).await;
    assert_eq!(first.content, again.content);
    assert_eq!((handle.stats().kept, handle.stats().kept_bytes), (2, stats.kept_bytes));
    advance(secs(40)).await;
    assert_eq!(whole(&server, &other, &user("ada")).await, None);
    assert_eq!(whole(&server, &first, &user("ada")).await, Some(vec![lines(500)]));
    let bobs = print(&server, 500, &user("bob")).await;
    assert_ne!(link(&bobs), link(&again), "another caller has another link");
}

#[tokio::test(start_paused = true)]
async fn one_principal_takes_no_more_than_its_share_and_all_together_no_more_than_the_bytes() {
    let spill = Spill::new().with_ttl(secs(60)).with_max_bytes(90_000).with_max_bytes_per_principal(32_000);
    let layer = bound().with_spill(spill);
    let handle = layer.handle();
    let server = layer.layer(printer());
    // Each answer has about 10,000 bytes.
    let kept = async |name: &str| {
        let mut kept = 0;
        for count in 500..510 {
            kept += usize::from(link(&print(&server, count, &user(name)).await).is_some());
        }
        kept
    };
    assert_eq!((kept("ada").await, kept("bob").await, kept("cleo").await), (3, 3, 3));
    assert_eq!(kept("dora").await, 0, "there is no room, and nobody loses an answer");
    assert!(handle.stats().kept_bytes <= 90_000 && handle.stats().kept == 9, "{:?}", handle.stats());
    let cut = print(&server, 500, &user("dora")).await;
    assert_eq!((status(&cut), cut.is_error()), (json!("cut"), false));
    advance(secs(60)).await;
    assert_eq!(kept("dora").await, 3);
}

#[tokio::test]
async fn anonymous_callers_share_the_room_by_connection() {
    let spill = Spill::new().with_max_bytes(100_000).with_max_bytes_per_principal(15_000);
    let server = bound().with_spill(spill).layer(printer());
    let on = |connection: &str| RequestContext::new().with_session_id(connection);
    assert!(link(&print(&server, 500, &on("a")).await).is_some());
    assert!(link(&print(&server, 501, &on("a")).await).is_none());
    assert!(link(&print(&server, 501, &on("b")).await).is_some());
}

#[tokio::test]
async fn anonymous_callers_can_be_kept_apart_by_their_sessions() {
    let on = |session: &str| RequestContext::new().with_session_id(session);
    for (identity, is_read) in [(Identity::new(), true), (Identity::new().with_anonymous_by_session(), false)] {
        let server = keeping().with_identity(identity).layer(printer());
        let answer = print(&server, 500, &on("a")).await;
        assert!(whole(&server, &answer, &on("a")).await.is_some());
        assert_eq!(whole(&server, &answer, &on("b")).await.is_some(), is_read);
    }
}

#[tokio::test]
async fn an_answer_that_one_replica_keeps_is_unknown_to_another() {
    let layer = keeping();
    let (one, other) = (layer.layer(printer()), layer.layer(printer()));
    let answer = print(&one, 500, &user("ada")).await;
    assert!(whole(&one, &answer, &user("ada")).await.is_some());
    assert_eq!(whole(&other, &answer, &user("ada")).await, None);
    assert_ne!(link(&answer), link(&print(&other, 500, &user("ada")).await));
}

#[tokio::test]
async fn an_answer_can_be_read_around_a_composite_and_not_within_it() {
    let around = keeping().layer(CompositeHandler::new("all", "1.0.0").mount(printer(), "part"));
    let args = json!({ "lines": 500 });
    let answer = around.call_tool("part_print", args.clone(), &user("ada")).await.expect("a result");
    assert_eq!(whole(&around, &answer, &user("ada")).await, Some(vec![lines(500)]));
    let within = CompositeHandler::new("all", "1.0.0").mount(keeping().layer(printer()), "part");
    let answer = within.call_tool("part_print", args, &user("ada")).await.expect("a result");
    assert_eq!(whole(&within, &answer, &user("ada")).await, None);
}

#[tokio::test]
async fn nothing_is_kept_for_a_caller_who_left() {
    let layer = keeping();
    let handle = layer.handle();
    let script = ScriptedServer::new("slow").with_read_only("read", |_| async {
        tokio::task::yield_now().await;
        Ok(ToolResult::text(lines(500)))
    });
    let server = layer.layer(script.clone());
    let ada = user("ada");
    assert_eq!(server.call_tool("read", json!({}), &ada).now_or_never().map(drop), None);
    assert_eq!((handle.stats().kept, script.calls("read")), (0, 1));
    call(&server, "read", &ada).await;
    assert_eq!(handle.stats().kept, 1);
}

#[tokio::test]
async fn a_kept_answer_has_each_block_and_the_structured_content() {
    let all = ToolResult {
        content: vec![
            Content::text(lines(500)),
            Content::image("QUJD", "image/png"),
            Content::audio("QUI=", "audio/wav"),
            Content::resource("file:///a", "embedded"),
            Content::resource_link(Resource::new("file:///b", "b")),
        ],
        structured_content: Some(json!({ "a": 1 })),
        ..ToolResult::default()
    };
    let server = keeping().layer(answering(Ok(all)));
    let answer = call(&server, "read", &user("ada")).await;
    let link = link(&answer).expect("a link");
    let size = lines(500).len() + 3 + 2 + 8 + r#"{"type":"resource_link","uri":"file:///b","name":"b"}"#.len() + 7;
    assert_eq!((link.size, &link.mime_type, &*link.name), (u64::try_from(size).ok(), &None, "answer"));
    let ResourceResult { contents, meta: None } =
        server.read_resource(&link.uri, &user("ada")).await.expect("an answer")
    else {
        panic!("no meta")
    };
    let uri = &*link.uri;
    let expected = json!([
        { "uri": uri, "mimeType": "text/plain", "text": lines(500) },
        { "uri": uri, "mimeType": "image/png", "blob": "QUJD" },
        { "uri": uri, "mimeType": "audio/wav", "blob": "QUI=" },
        { "uri": "file:///a", "mimeType": "text/plain", "text": "embedded" },
        { "uri": uri, "mimeType": "application/json", "text": r#"{"type":"resource_link","uri":"file:///b","name":"b"}"# },
        { "uri": uri, "mimeType": "application/json", "text": r#"{"a":1}"# },
    ]);
    assert_eq!(serde_json::to_value(contents).expect("JSON"), expected);

    let server = keeping().layer(answering(Ok(ToolResult {
        content: vec![Content::image("A".repeat(4_000), "image/png")],
        ..ToolResult::default()
    })));
    let answer = call(&server, "read", &user("ada")).await;
    let link = super::link(&answer).expect("a link");
    assert_eq!((link.size, link.mime_type.as_deref()), (Some(3_000), Some("image/png")));
}

#[tokio::test]
async fn a_server_without_resources_declares_them_if_answers_are_kept() {
    assert!(printer().server_capabilities().resources.is_none());
    assert!(bound().layer(printer()).server_capabilities().resources.is_none());
    let server = keeping().layer(printer());
    assert!(server.server_capabilities().resources.is_some());
    assert!(server.list_resources().is_empty() && server.list_resource_templates().is_empty(), "none is listed");
}

#[tokio::test]
async fn other_resources_and_kept_answers_of_another_layer_are_read_further_in() {
    let outer = keeping().only(["other"]);
    let inner = keeping().only(["print"]);
    let script = printer().with_read_only("other", |_| async { Ok(ToolResult::text(lines(600))) });
    let server = (outer, inner).layer(script);
    let answer = print(&server, 500, &user("ada")).await;
    assert_eq!(whole(&server, &answer, &user("ada")).await, Some(vec![lines(500)]));
    let answer = call(&server, "other", &user("ada")).await;
    assert_eq!(whole(&server, &answer, &user("ada")).await, Some(vec![lines(600)]));
    assert!(server.read_resource("file:///a", &user("ada")).await.is_err());
}
