use serde_json::{Value, json};
use turbomcp_core::{Principal, RequestContext};

use super::*;

fn ctx(principal: Principal) -> RequestContext {
    RequestContext::with_id("1").with_principal(principal)
}

fn ada() -> Principal {
    Principal::new("ada")
}

/// The part of a key that identifies the caller.
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
fn each_tenant_claim_distinguishes_callers_whatever_other_claims_exist() {
    for claim in ["tid", "tenant_id", "tenant", "org_id", "organization"] {
        for other in ["tid", "tenant_id", "tenant", "org_id", "organization"] {
            let of = |value: &str| by_default(with_claims(&[(other, json!("directory")), (claim, json!(value))]));
            assert_ne!(of("acme"), of("globex"), "{claim} together with {other}");
        }
    }
}

#[test]
fn tenants_of_different_claims_are_never_equal() {
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
fn the_order_of_a_tenants_keys_does_not_matter_and_null_is_no_tenant() {
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
fn a_partition_that_looks_like_a_subject_does_not_equal_the_subject() {
    let identity = Identity::new().with_partition(|ctx| ctx.subject().map(str::to_owned));
    assert_ne!(caller(&identity, &ctx(ada())), by_default(ada()));
}

#[test]
fn claims_that_a_client_makes_about_itself_are_ignored() {
    let one = RequestContext::with_id("1").with_client_id("a").with_metadata("k", 1);
    let two = RequestContext::with_id("2").with_client_id("b").with_metadata("k", 2);
    assert_eq!(caller(&Identity::new(), &one), caller(&Identity::new(), &two));
}

#[test]
fn a_user_with_the_name_of_the_anonymous_partition_is_not_anonymous() {
    let user = RequestContext::with_id("1").with_user_id("");
    assert_ne!(caller(&Identity::new(), &user), caller(&Identity::new(), &RequestContext::with_id("1")));
}

#[test]
fn in_session_scope_a_call_without_a_session_shares_with_no_other_call() {
    assert!(Identity::new().partition(Scope::Session, &RequestContext::with_id("1")).is_none());
}

/// The part of an answer's key that contains the caller and the rights.
#[test]
fn a_caller_whose_credentials_nobody_has_read_shares_only_what_is_public() {
    let mut unread = RequestContext::http().with_session_id("1");
    unread.headers.get_or_insert_default().insert("Authorization".to_owned(), "Bearer of ada".to_owned());
    let shares = |identity: &Identity, ctx: &RequestContext| {
        [Scope::Public, Scope::Principal, Scope::Session].map(|scope| identity.partition(scope, ctx).is_some())
    };
    for identity in [Identity::new(), Identity::new().with_anonymous_by_session()] {
        assert_eq!(shares(&identity, &unread), [true, false, false]);
        assert_eq!(shares(&identity, &unread.clone().with_principal(ada())), [true; 3], "they are read");
        assert_eq!(shares(&identity, &unread.clone().with_user_id("ada")), [true; 3], "they are read");
    }
    let by_token = Identity::new().with_partition(|ctx| ctx.header("authorization").map(str::to_owned));
    assert_eq!(shares(&by_token, &unread), [true; 3], "the user reads them");
}

fn rights(identity: &Identity, principal: Principal) -> Vec<u8> {
    let (mut key, ctx) = (Vec::new(), ctx(principal));
    identity.partition(Scope::Principal, &ctx).expect("always shared").encode_with_rights(&mut key);
    key
}

fn rights_by_default(principal: Principal) -> Vec<u8> {
    rights(&Identity::new(), principal)
}

#[test]
fn rights_of_different_kinds_distinguish_calls() {
    let claims = [
        "scope",
        "scp",
        "scopes",
        "roles",
        "role",
        "permissions",
        "groups",
        "entitlements",
        "authorities",
        "authorization_details",
        "wids",
        "cognito:groups",
        "realm_access",
        "resource_access",
    ];
    let mut keys = vec![
        rights_by_default(ada()),
        rights_by_default(ada().with_role("admin")),
        rights_by_default(ada().with_role("scope")),
        rights_by_default(ada().with_roles(["admin", "scope"])),
    ];
    for claim in claims {
        keys.extend(
            [json!("admin"), json!(["viewer"]), json!(["admin", "viewer"])]
                .map(|value| rights_by_default(with_claims(&[(claim, value)]))),
        );
    }
    all_differ(&keys);
}

#[test]
fn rights_are_equal_in_any_order_and_form() {
    let alike = [
        [("scope", json!("read write")), ("roles", json!(["a", "b"]))],
        [("scope", json!("write  read")), ("roles", json!(["b", "a", "b"]))],
        [("scope", json!(["write", "read", "read"])), ("roles", json!(["b", "a"]))],
    ];
    for claims in &alike {
        assert_eq!(rights_by_default(with_claims(claims)), rights_by_default(with_claims(&alike[0])));
    }
    assert_eq!(rights_by_default(ada().with_roles(["a", "b"])), rights_by_default(ada().with_roles(["b", "a", "b"])),);
    let one = with_claims(&[("groups", json!("staff"))]);
    assert_eq!(rights_by_default(one), rights_by_default(with_claims(&[("groups", json!(["staff"]))])));
}

#[test]
fn the_order_of_lists_within_rights_does_not_matter() {
    let of = |value: Value| rights_by_default(with_claims(&[("resource_access", value)]));
    let one = json!({"shop": {"roles": ["read", "write"]}, "bank": {"roles": [{"id": 1, "of": ["x", "y"]}, 2]}});
    let same = json!({"bank": {"roles": [2, {"of": ["y", "x"], "id": 1}]}, "shop": {"roles": ["write", "read"]}});
    let other = json!({"bank": {"roles": ["read", "write"]}, "shop": {"roles": [{"id": 1, "of": ["x", "y"]}, 2]}});
    assert_eq!(of(one.clone()), of(same));
    assert_ne!(of(one), of(other));
}

#[test]
fn many_rights_are_compared_like_few_rights() {
    let all: Vec<_> = (0..100).map(|number| format!("scope:{number}")).collect();
    let of = |scopes: &[String]| rights_by_default(with_claims(&[("scope", json!(scopes.join(" ")))]));
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(of(&all), of(&reversed));
    assert_ne!(of(&all), of(&all[1..]));
}

#[test]
fn a_group_with_a_space_in_its_name_is_one_group() {
    let of = |groups: Value| rights_by_default(with_claims(&[("groups", groups)]));
    assert_ne!(of(json!("domain users")), of(json!(["domain", "users"])));
    assert_eq!(of(json!("domain users")), of(json!(["domain users"])));
}

#[test]
fn a_right_with_an_empty_list_counts_as_absent() {
    for nothing in [json!(""), json!([]), Value::Null] {
        assert_eq!(rights_by_default(with_claims(&[("scope", nothing)])), rights_by_default(ada()));
    }
}

#[test]
fn the_boundary_between_two_lists_of_rights_matters() {
    all_differ(&[
        rights_by_default(with_claims(&[("role", json!("a")), ("scope", json!("x"))])),
        rights_by_default(with_claims(&[("role", json!(["a", "scope", "x"]))])),
        rights_by_default(with_claims(&[("role", json!(["a", ["scope", "x"]]))])),
        rights_by_default(with_claims(&[("role", json!({"a": "scope", "x": 1}))])),
    ]);
}

#[test]
fn rights_are_no_part_of_the_identity_of_a_caller() {
    let (admin, viewer) = (ada().with_role("admin"), ada().with_claim("scope", json!("read")));
    assert_eq!(by_default(admin), by_default(viewer));
}

#[test]
fn the_user_can_choose_the_claims_with_rights_or_disable_rights() {
    let of = |identity: Identity, value: &str| rights(&identity, with_claims(&[("acl", json!(value))]));
    assert_eq!(of(Identity::new(), "a"), of(Identity::new(), "b"));
    let named = || Identity::new().with_rights_claim("acl");
    assert_ne!(of(named(), "a"), of(named(), "b"));
    let without = Identity::new().without_rights();
    assert_eq!(rights(&without, ada().with_role("admin")), rights(&without, ada().with_role("viewer")));
}

#[test]
fn a_public_key_contains_no_rights() {
    let (mut key, ctx) = (Vec::new(), ctx(ada().with_role("admin")));
    Identity::new().partition(Scope::Public, &ctx).expect("always shared").encode_with_rights(&mut key);
    assert_eq!(key, b"*");
}

#[test]
fn a_claim_without_a_name_is_refused() {
    let mistake = |identity: Identity| identity.check("CachedTool").expect_err("a mistake").to_string();
    assert_eq!(
        mistake(Identity::new().with_tenant_claim("")),
        "CachedTool::with_identity: `with_tenant_claim` has an empty name: name the claim, or remove this setting"
    );
    assert_eq!(
        mistake(Identity::new().with_rights_claim("")),
        "CachedTool::with_identity: `with_rights_claim` has an empty name: name the claim, or remove this setting"
    );
    assert_eq!(
        mistake(Identity::new().with_rights_claim("acl").without_rights()),
        "CachedTool::with_identity: `with_rights_claim` has no effect with `without_rights`: remove one of the two"
    );
}

#[test]
fn anonymous_callers_are_one_caller_unless_they_are_distinguished_by_session() {
    let nobody = |session: &str| RequestContext::with_id("1").with_session_id(session);
    let (one, apart) = (Identity::new(), Identity::new().with_anonymous_by_session());
    assert_eq!(caller(&one, &nobody("1")), caller(&one, &nobody("2")));
    all_differ(&[
        caller(&apart, &nobody("1")),
        caller(&apart, &nobody("2")),
        caller(&apart, &RequestContext::new()),
        caller(&apart, &RequestContext::new().with_user_id("1")),
    ]);
    let of_ada = |session: &str| caller(&apart, &nobody(session).with_principal(ada()));
    assert_eq!(of_ada("1"), of_ada("2"), "an authenticated user is one caller on all connections");
}

#[test]
fn a_session_that_a_partition_of_the_users_own_would_ignore_is_refused() {
    let identity = Identity::new().with_anonymous_by_session().with_partition(|_| json!(1));
    let refused = identity.check("CachedTool").unwrap_err().to_string();
    assert!(refused.contains("`with_anonymous_by_session` has no effect with `with_partition`"), "{refused}");
}
