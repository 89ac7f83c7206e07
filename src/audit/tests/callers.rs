//! Who called, from where, and in which trace.

use turbomcp_core::Principal;

use super::*;
use crate::Identity;

async fn of(audit: AuditTool, seen: &Seen, ctx: &RequestContext) -> Event {
    audit.layer(server()).call_tool("order", json!({}), ctx).await.expect("an answer");
    seen.last()
}

fn ada(workspace: &str) -> RequestContext {
    let ada = Principal::new("ada").with_issuer("https://login.example").with_claim("workspace", json!(workspace));
    RequestContext::with_id("7").with_principal(ada.with_claim("email", json!("ada@example.com")))
}

#[tokio::test]
async fn a_caller_has_the_name_of_the_token_with_issuer_and_tenant_and_no_other_claim() {
    let seen = Seen::default();
    let identity = Identity::new().with_tenant_claim("workspace");
    let event = of(seen.audit().with_identity(identity), &seen, &ada("acme")).await;
    let expected = json!({"subject": "ada", "issuer": "https://login.example", "tenant": {"workspace": "acme"}});
    assert_eq!(serde_json::to_value(event.principal).expect("it is JSON"), expected);
    for anonymous in [RequestContext::new(), with_header(RequestContext::http(), "authorization", "Bearer x")] {
        assert_eq!(of(seen.audit(), &seen, &anonymous).await.principal, None);
    }
    let partition = Identity::new().with_partition(|ctx| ctx.header("x-workspace").map(str::to_owned));
    let gateway = with_header(RequestContext::http(), "x-workspace", "acme");
    let principal = of(seen.audit().with_identity(partition), &seen, &gateway).await.principal.expect("it is known");
    assert_eq!(principal.partition.as_deref(), Some("acme"));
}

#[tokio::test]
async fn hashed_callers_are_the_same_with_the_same_key_and_say_nothing_without_it() {
    let seen = Seen::default();
    let hash = async |key: &str, ctx: &RequestContext| {
        let identity = Identity::new().with_tenant_claim("workspace");
        let event = of(seen.audit().with_identity(identity).with_hashed_principals(key), &seen, ctx).await;
        let json = serde_json::to_value(event.principal).expect("it is JSON");
        assert_eq!(json.as_object().expect("an object").len(), 1, "{json}");
        json["hash"].as_str().expect("a hash").to_owned()
    };
    let key = "0123456789abcdef";
    let first = hash(key, &ada("acme")).await;
    assert_eq!(first.len(), 64);
    assert_eq!(first, hash(key, &ada("acme")).await);
    for (key, ctx) in [(key, ada("globex")), (key, user("ada")), ("another-key-of-16-bytes", ada("acme"))] {
        assert_ne!(first, hash(key, &ctx).await);
    }
    let anonymous = of(seen.audit().with_hashed_principals(key), &seen, &RequestContext::new()).await;
    assert_eq!(anonymous.principal, None);
}

#[tokio::test]
async fn a_session_is_only_a_hash_and_texts_of_a_client_are_cut() {
    let seen = Seen::default();
    let ctx = RequestContext::with_id("x\n".repeat(10_000)).with_session_id("a-capability");
    let event = of(seen.audit(), &seen, &ctx).await;
    assert_eq!(event.session, Some(crate::canonical::sha256(b"a-capability")));
    assert!(event.request_id.is_some_and(|id| id.len() < 1_000 && !id.contains('\n')));
    let server = seen.audit().layer(server());
    drop(call(&server, &"x".repeat(10_000), json!({})).await);
    assert!(seen.last().tool.len() < 300);
    assert_eq!(of(seen.audit(), &seen, &RequestContext::with_id("")).await.request_id, None);
}

fn with_header(ctx: RequestContext, name: &str, value: &str) -> RequestContext {
    let mut ctx = ctx;
    ctx.headers.get_or_insert_default().insert(name.to_owned(), value.to_owned());
    ctx
}

#[tokio::test]
async fn the_trace_is_that_of_the_meta_or_else_of_the_header() {
    let (one, other) = ("4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c");
    let parent = |trace: &str| format!("00-{trace}-00f067aa0ba902b7-01");
    let seen = Seen::default();
    let by_header = with_header(RequestContext::http(), "traceparent", &parent(one));
    assert_eq!(of(seen.audit(), &seen, &by_header).await.trace_id.as_deref(), Some(one));
    let by_both = by_header.clone().with_metadata("traceparent", parent(other));
    assert_eq!(of(seen.audit(), &seen, &by_both).await.trace_id.as_deref(), Some(other));
    let wrong = by_header.with_metadata("traceparent", "00-none");
    assert_eq!(of(seen.audit(), &seen, &wrong).await.trace_id.as_deref(), Some(one));
    assert_eq!(of(seen.audit(), &seen, &RequestContext::new()).await.trace_id, None);
}
