use serde_json::{Value, json};
use turbomcp_core::{Principal, RequestContext};

use super::*;

fn ctx(principal: Principal) -> RequestContext {
    RequestContext::with_id("1").with_principal(principal)
}

fn ada() -> Principal {
    Principal::new("ada")
}

/// What a key says of the caller.
fn caller(identity: &Identity, ctx: &RequestContext) -> Vec<u8> {
    let mut key = Vec::new();
    identity.caller(ctx).encode(&mut key);
    key
}

fn by_default(principal: Principal) -> Vec<u8> {
    caller(&Identity::new(), &ctx(principal))
}

fn with_claims(claims: &[(&str, Value)]) -> Principal {
    claims.iter().fold(ada(), |ada, (name, value)| ada.with_claim(*name, value.clone()))
}

fn all_differ(keys: &[Vec<u8>]) {
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "{at} is like one before");
    }
}

#[test]
fn a_principal_is_its_subject_issuer_and_tenant() {
    all_differ(&[
        by_default(ada()),
        by_default(Principal::new("bob")),
        by_default(ada().with_issuer("https://id.example")),
        by_default(ada().with_claim("tid", json!("acme"))),
    ]);
}

#[test]
fn each_claim_that_names_a_tenant_tells_callers_apart_whatever_else_is_there() {
    for claim in ["tid", "tenant_id", "tenant", "org_id", "organization"] {
        for other in ["tid", "tenant_id", "tenant", "org_id", "organization"] {
            let of = |value: &str| by_default(with_claims(&[(other, json!("directory")), (claim, json!(value))]));
            assert_ne!(of("acme"), of("globex"), "{claim} beside {other}");
        }
    }
}

#[test]
fn a_tenant_of_one_kind_is_never_taken_for_one_of_another() {
    all_differ(&[
        by_default(with_claims(&[("tid", json!("acme"))])),
        by_default(with_claims(&[("org_id", json!("acme"))])),
        by_default(with_claims(&[("tid", json!("acme")), ("org_id", json!("acme"))])),
        by_default(with_claims(&[("tid", json!({"org_id": "acme"}))])),
        by_default(with_claims(&[("tid", json!("1"))])),
        by_default(with_claims(&[("tid", json!(1))])),
        by_default(ada().with_issuer("tid")),
    ]);
}

#[test]
fn the_order_of_a_tenant_s_keys_does_not_count_and_null_is_no_tenant() {
    let of = |value: Value| by_default(with_claims(&[("organization", value)]));
    assert_eq!(of(json!({"id": 1, "name": "acme"})), of(json!({"name": "acme", "id": 1.0})));
    assert_ne!(of(json!(["a", "b"])), of(json!(["b", "a"])));
    assert_eq!(of(Value::Null), by_default(ada()));
}

#[test]
fn a_claim_that_the_user_names_is_a_tenant_too() {
    let of = |identity: &Identity, org: &str| caller(identity, &ctx(with_claims(&[("org", json!(org))])));
    let (plain, named) = (Identity::new(), Identity::new().with_tenant_claim("org"));
    assert_eq!(of(&plain, "acme"), of(&plain, "globex"));
    assert_ne!(of(&named, "acme"), of(&named, "globex"));
}

#[test]
fn a_partition_of_the_user_s_own_replaces_subject_and_issuer_but_not_the_tenant() {
    let identity = Identity::new().with_partition(|ctx| ctx.header("x-team").map(str::to_owned));
    let of = |principal: Principal, team: &str| {
        let mut ctx = ctx(principal);
        ctx.headers.get_or_insert_default().insert("x-team".to_owned(), team.to_owned());
        caller(&identity, &ctx)
    };
    assert_eq!(of(ada(), "red"), of(Principal::new("bob").with_issuer("https://id.example"), "red"));
    assert_ne!(of(ada(), "red"), of(ada(), "blue"));
    assert_ne!(of(ada(), "red"), of(with_claims(&[("tid", json!("acme"))]), "red"));
}

#[test]
fn a_partition_that_looks_like_a_subject_is_none() {
    let identity = Identity::new().with_partition(|ctx| ctx.subject().map(str::to_owned));
    assert_ne!(caller(&identity, &ctx(ada())), by_default(ada()));
}

#[test]
fn what_the_client_says_of_itself_does_not_count() {
    let one = RequestContext::with_id("1").with_client_id("a").with_metadata("k", 1);
    let two = RequestContext::with_id("2").with_client_id("b").with_metadata("k", 2);
    assert_eq!(caller(&Identity::new(), &one), caller(&Identity::new(), &two));
}

#[test]
fn a_user_named_like_nobody_is_not_nobody() {
    let user = RequestContext::with_id("1").with_user_id("");
    assert_ne!(caller(&Identity::new(), &user), caller(&Identity::new(), &RequestContext::with_id("1")));
}

#[test]
fn a_call_without_a_session_shares_with_nobody_in_session_scope() {
    assert!(Identity::new().partition(Scope::Session, &RequestContext::with_id("1")).is_none());
}

#[test]
fn a_claim_without_a_name_is_refused() {
    let mistake = |identity: Identity| identity.check("CachedTool").expect_err("a mistake").to_string();
    assert_eq!(
        mistake(Identity::new().with_tenant_claim("")),
        "CachedTool::with_identity: `with_tenant_claim` has an empty name: name the claim, or remove this setting"
    );
}
