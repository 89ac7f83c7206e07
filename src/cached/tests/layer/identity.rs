use futures_util::future::join_all;

use super::*;
use crate::{CachedTool, Layer, Scope};

/// Returns how often the tool is called when these callers make the same call one after the other.
async fn loads(layer: CachedTool, callers: &[RequestContext]) -> usize {
    let script = numbered();
    let server = layer.layer(script.clone());
    for ctx in callers {
        answer(&server, "read", json!({"book": 1}), ctx).await;
    }
    script.calls("read")
}

fn session(id: &str) -> RequestContext {
    nobody().with_session_id(id)
}

#[tokio::test]
async fn the_order_of_arguments_and_the_form_of_a_number_do_not_change_the_key() {
    let script = numbered();
    let server = CachedTool::new().layer(script.clone());
    for args in [json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1.0}), json!({"b": 2.0, "a": 1})] {
        assert_eq!(answer(&server, "read", args, &nobody()).await, "1");
    }
    assert_eq!(answer(&server, "read", json!({"a": 1, "b": "2"}), &nobody()).await, "2");
    assert_eq!(answer(&server, "read", json!({"a": 2, "b": 1}), &nobody()).await, "3");
}

#[tokio::test]
async fn two_users_never_share_an_answer() {
    assert_eq!(loads(CachedTool::new(), &[user("ada"), user("bob"), user("ada")]).await, 2);
    let by_id = nobody().with_user_id("ada");
    assert_eq!(loads(CachedTool::new(), &[by_id, nobody().with_user_id("bob")]).await, 2);
}

#[tokio::test]
async fn a_user_and_an_anonymous_caller_never_share_an_answer() {
    assert_eq!(loads(CachedTool::new(), &[user("ada"), nobody(), user("")]).await, 3);
}

#[tokio::test]
async fn the_same_subject_of_another_issuer_or_tenant_is_another_user() {
    let ada = || Principal::new("ada");
    let principals = [
        ada(),
        ada().with_issuer("https://id.example"),
        ada().with_issuer("https://other.example"),
        ada().with_claim("tid", json!("acme")),
        ada().with_claim("tid", json!("zenith")),
        ada().with_claim("org_id", json!("initech")),
    ];
    let callers = principals.map(|principal| nobody().with_principal(principal));
    assert_eq!(loads(CachedTool::new(), &callers).await, callers.len());
}

#[tokio::test]
async fn a_request_of_the_same_user_with_another_token_client_or_session_has_the_same_key() {
    let refreshed = Principal::new("ada").with_claim("jti", json!("another token")).with_expires_at(99);
    let callers = [
        user("ada").with_request_id("1"),
        user("ada").with_request_id("2").with_client_id("another client").with_session_id("another session"),
        nobody().with_principal(refreshed).with_metadata("key", 1),
    ];
    assert_eq!(loads(CachedTool::new(), &callers).await, 1);
}

#[tokio::test]
async fn anonymous_callers_share_answers() {
    assert_eq!(loads(CachedTool::new(), &[nobody(), session("1"), session("2")]).await, 1);
}

#[tokio::test]
async fn public_answers_are_shared_by_all_users() {
    let layer = CachedTool::new().with_scope(Scope::Public);
    assert_eq!(loads(layer, &[user("ada"), user("bob"), nobody(), session("1")]).await, 1);
}

#[tokio::test]
async fn in_session_scope_two_sessions_never_share_an_answer() {
    let layer = || CachedTool::new().with_scope(Scope::Session);
    assert_eq!(loads(layer(), &[session("1"), session("2"), session("1")]).await, 2);
    let of_ada = |id| user("ada").with_session_id(id);
    assert_eq!(loads(layer(), &[of_ada("1"), of_ada("2"), of_ada("1")]).await, 2);
}

/// A session id does not prove the caller's identity: the specification requires that stored session data is bound to
/// its user.
#[tokio::test]
async fn two_users_with_the_same_session_id_do_not_share_an_answer() {
    let layer = CachedTool::new().with_scope(Scope::Session);
    assert_eq!(loads(layer, &[user("ada").with_session_id("1"), user("eve").with_session_id("1")]).await, 2);
}

#[tokio::test]
async fn an_outer_cache_does_not_cache_answers_of_one_in_session_scope() {
    for callers in [[session("1"), session("2")], [nobody(), session("1")], [session("1"), nobody()]] {
        let script = numbered();
        let apart = CachedTool::new().with_scope(Scope::Session);
        let server = (CachedTool::new(), apart).layer(script.clone());
        for (ctx, number) in callers.iter().zip(["1", "2"]) {
            assert_eq!(answer(&server, "read", json!({}), ctx).await, number);
        }
    }
}

#[tokio::test]
async fn in_session_scope_a_call_without_a_session_is_not_cached() {
    let script = numbered();
    let layer = CachedTool::new().with_scope(Scope::Session);
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    for number in ["1", "2", "3"] {
        let result = server.call_tool("read", json!({}), &nobody()).await.expect("an answer");
        assert_eq!(result, ToolResult::text(number), "the cache has no part in it");
    }
    assert_eq!(handle.stats().entries, 0);
}

#[tokio::test]
async fn a_tool_can_have_its_own_scope() {
    let tool = |call: crate::testing::Call| async move { Ok(ToolResult::text(call.number.to_string())) };
    let script = ScriptedServer::new("library").with_read_only("mine", tool).with_read_only("ours", tool);
    let server = CachedTool::new().with_scope_for("ours", Scope::Public).layer(script.clone());
    for ctx in [user("ada"), user("bob")] {
        answer(&server, "mine", json!({}), &ctx).await;
        answer(&server, "ours", json!({}), &ctx).await;
    }
    assert_eq!((script.calls("mine"), script.calls("ours")), (2, 1));
}

#[tokio::test]
async fn two_servers_two_versions_and_two_tools_never_share_an_answer() {
    let named = |server: &str| {
        let marked = |tool: &'static str| {
            let mark = format!("{server} {tool}");
            move |_| {
                let mark = mark.clone();
                async move { Ok(ToolResult::text(mark)) }
            }
        };
        ScriptedServer::new(server).with_read_only("read", marked("read")).with_read_only("list", marked("list"))
    };
    let layer = CachedTool::new();
    let (library, archive) = (layer.layer(named("library")), layer.layer(named("archive")));
    for _ in 0..2 {
        assert_eq!(answer(&library, "read", json!({}), &nobody()).await, "library read");
        assert_eq!(answer(&library, "list", json!({}), &nobody()).await, "library list");
        assert_eq!(answer(&archive, "read", json!({}), &nobody()).await, "archive read");
    }
    let script = numbered();
    let (one, two) = (layer.clone().with_version("one"), layer.clone().with_version("two"));
    let (one, two) = (one.layer(script.clone()), two.layer(script.clone()));
    for _ in 0..2 {
        assert_eq!(read(&one).await, "1");
        assert_eq!(read(&two).await, "2");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_callers_never_get_the_answer_of_another_user() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(ToolResult::text(call.ctx.subject().unwrap_or("nobody").to_owned()))
    });
    let server = CachedTool::new().layer(script.clone());
    let users: Vec<_> = (0..50).map(|number| format!("user {number}")).collect();
    let callers = (0..1000).map(|at| {
        let (server, name) = (&server, &users[at % users.len()]);
        async move {
            assert_eq!(&answer(server, "read", json!({}), &user(name)).await, name);
        }
    });
    join_all(callers).await;
    assert_eq!(script.calls("read"), users.len());
}

#[tokio::test(start_paused = true)]
async fn waiting_callers_never_get_the_answer_of_another_session_tool_or_server() {
    let layer = CachedTool::new().with_scope(Scope::Session);
    let slow = |server: &'static str| {
        let tool = move |name: &'static str| {
            move |call: crate::testing::Call| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(ToolResult::text(format!("{server} {name} {}", call.ctx.session_id().unwrap_or("none"))))
            }
        };
        ScriptedServer::new(server).with_read_only("read", tool("read")).with_read_only("list", tool("list"))
    };
    let servers = [("library", layer.layer(slow("library"))), ("archive", layer.layer(slow("archive")))];
    let mut calls = Vec::new();
    for (name, server) in &servers {
        for tool in ["read", "list"] {
            for id in ["1", "2"] {
                calls.extend((0..10).map(|_| async move {
                    assert_eq!(answer(server, tool, json!({}), &session(id)).await, format!("{name} {tool} {id}"));
                }));
            }
        }
    }
    join_all(calls).await;
}

#[tokio::test]
async fn a_tenant_claim_is_not_hidden_by_another_tenant_claim() {
    let of = |org: &str| Principal::new("ada").with_claim("tid", json!("directory")).with_claim("org_id", json!(org));
    let callers = ["acme", "globex"].map(|org| nobody().with_principal(of(org)));
    assert_eq!(loads(CachedTool::new(), &callers).await, 2);
}

#[tokio::test]
async fn an_answer_for_an_administrator_token_is_never_returned_for_a_viewer_token_of_the_same_user() {
    let roles = ["admin", "viewer"].map(|role| nobody().with_principal(Principal::new("ada").with_role(role)));
    assert_eq!(loads(CachedTool::new(), &roles).await, 2);
    let in_session = roles.clone().map(|ctx| ctx.with_session_id("1"));
    assert_eq!(loads(CachedTool::new().with_scope(Scope::Session), &in_session).await, 2);
    assert_eq!(loads(CachedTool::new().with_scope(Scope::Public), &roles).await, 1);
}
