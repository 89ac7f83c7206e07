//! Sharing between callers, through all layers: two callers who differ in exactly one property.

use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::session::{Session, SessionMode};
use mcp_patterns::testing::{Call, ScriptedServer};
use mcp_patterns::transactional::current;
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Identity, Layer, RetryTool, SessionStore, TransactionalTool, ValidatedTool,
};
use serde_json::{Value, json};
use sqlx::Sqlite;
use turbomcp_core::auth::Principal;
use turbomcp_core::{McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{Tool, ToolResult};

use super::shop::{database, own};

/// The data that two callers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) answer: bool,
    pub(super) batch: bool,
    pub(super) session: bool,
    pub(super) key: bool,
    /// The key of a payment, which is recorded in its transaction.
    pub(super) payment: bool,
}

const ALL: Shared = Shared { answer: true, batch: true, session: true, key: true, payment: true };
/// The data that belongs to the caller, whatever the rights of the token.
const OWN: Shared = Shared { answer: false, batch: false, ..ALL };
const NOTHING: Shared = Shared { answer: false, batch: false, session: false, key: false, payment: false };

/// A caller whose token has every claim.
#[derive(Debug, Clone)]
pub(super) struct Who {
    principal: Principal,
    session: &'static str,
    team: &'static str,
}

pub(super) fn ada() -> Who {
    let principal = Principal::new("ada")
        .with_issuer("https://id.example")
        .with_claim("tid", json!("directory"))
        .with_claim("tenant_id", json!("one"))
        .with_claim("tenant", json!("a tenant"))
        .with_claim("org_id", json!("acme"))
        .with_claim("organization", json!({ "name": "acme", "id": 7 }))
        .with_claim("workspace", json!("plans"))
        .with_claim("jti", json!("token 1"))
        .with_roles(["viewer", "clerk"])
        .with_claim("scope", json!("read write"))
        .with_claim("groups", json!(["staff", "domain users"]))
        .with_claim("acl", json!(["plans", "drafts"]));
    Who { principal, session: "1", team: "red" }
}

impl Who {
    fn claiming(mut self, claim: &str, value: Value) -> Self {
        self.principal.claims.insert(claim.to_owned(), value);
        self
    }

    fn without(mut self, claim: &str) -> Self {
        self.principal.claims.remove(claim).expect("the claim is there");
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Principal)) -> Self {
        change(&mut self.principal);
        self
    }

    fn ctx(&self) -> RequestContext {
        let mut ctx = RequestContext::new().with_principal(self.principal.clone()).with_session_id(self.session);
        ctx.headers.get_or_insert_default().insert("x-team".to_owned(), self.team.to_owned());
        ctx
    }
}

fn numbered(call: &Call) -> ToolResult {
    ToolResult::text(call.number.to_string())
}

/// A server with a tool for each kind of shared data.
pub(super) fn office() -> ScriptedServer {
    let idempotent = ToolAnnotations { idempotent_hint: Some(true), ..Default::default() };
    ScriptedServer::new("office")
        .with_read_only("look", |call| async move { Ok(numbered(&call)) })
        .with_tool(Tool { annotations: Some(idempotent), ..Tool::new("join", "Joins a batch") }, |call| async move {
            Ok(numbered(&call))
        })
        .with_plain("note", |call| async move {
            Session::current()?.set("note", &call.args["text"]).await?;
            Ok(numbered(&call))
        })
        .with_plain("notes", |_| async {
            let note: Option<String> = Session::current()?.get("note").await?;
            Ok(ToolResult::text(note.unwrap_or_default()))
        })
        .with_plain("send", |call| async move { Ok(numbered(&call)) })
        .with_plain("pay", |call| async move {
            let _transaction = current::<Sqlite>().await?;
            Ok(numbered(&call))
        })
}

pub(super) async fn call(server: &impl McpHandler, tool: &str, args: Value, who: &Who) -> String {
    let answer: McpResult<ToolResult> = server.call_tool(tool, args, &who.ctx()).await;
    let answer = answer.expect("an answer");
    assert!(!answer.is_error(), "{tool}: {answer:?}");
    answer.first_text().expect("a text").to_owned()
}

/// The data that `other` shares with `one`, when it calls later or concurrently.
async fn shared(identity: &Identity, mode: SessionMode, one: &Who, other: &Who) -> Shared {
    let pool = database().await.expect("a database");
    TransactionalTool::ensure_schema(&pool).await.expect("a table");
    let identity = || identity.clone();
    let inner = (
        BatchedTool::new().only(["join"]).with_identity(identity()),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only(["send"]).with_identity(identity()),
        TransactionalTool::new(pool).only(["pay"]).with_idempotency(Idempotency::new()).with_identity(identity()),
    );
    let sessions = SessionStore::in_memory().with_mode(mode).with_identity(identity()).only(["note", "notes"]);
    let cached = CachedTool::new().with_identity(identity());
    let script = office();
    let server = (own(), ValidatedTool::new(), sessions, cached).layer(inner.layer(script.clone()));

    let looked = [call(&server, "look", json!({}), one).await, call(&server, "look", json!({}), other).await];
    let (_, _) = tokio::join!(call(&server, "join", json!({}), one), call(&server, "join", json!({}), other));
    call(&server, "note", json!({ "text": "secret" }), one).await;
    let note = call(&server, "notes", json!({}), other).await;
    let mut keys = [false; 2];
    for (tool, is_shared) in ["send", "pay"].into_iter().zip(&mut keys) {
        let args = || json!({ "idempotency_key": "1" });
        let answers = [call(&server, tool, args(), one).await, call(&server, tool, args(), other).await];
        *is_shared = answers[0] == answers[1];
        assert_eq!(script.calls(tool), if *is_shared { 1 } else { 2 }, "{tool}");
    }
    Shared {
        answer: looked[0] == looked[1],
        batch: script.calls("join") == 1,
        session: note == "secret",
        key: keys[0],
        payment: keys[1],
    }
}

/// Checks the sharing of `ada` with each of the others, whoever comes first.
async fn each(identity: Identity, mode: SessionMode, others: impl IntoIterator<Item = (&'static str, Who, Shared)>) {
    for (differs, other, expected) in others {
        for (one, other) in [(&ada(), &other), (&other, &ada())] {
            assert_eq!(shared(&identity, mode, one, other).await, expected, "{differs}, sessions by {mode:?}");
        }
    }
}

fn identity() -> Identity {
    Identity::new().with_tenant_claim("workspace").with_rights_claim("acl")
}

#[tokio::test]
async fn callers_with_different_identities_share_nothing() {
    for mode in [SessionMode::Principal, SessionMode::Transport] {
        let others = [
            ("subject", ada().with(|principal| principal.subject = "eve".into())),
            ("issuer", ada().with(|principal| principal.issuer = Some("https://other.example".into()))),
            ("no issuer", ada().with(|principal| principal.issuer = None)),
            ("tid", ada().claiming("tid", json!("another directory"))),
            ("tenant_id", ada().claiming("tenant_id", json!("two"))),
            ("tenant", ada().claiming("tenant", json!("another tenant"))),
            ("org_id", ada().claiming("org_id", json!("globex"))),
            ("organization", ada().claiming("organization", json!({ "name": "acme", "id": 8 }))),
            ("a claim that the user has named", ada().claiming("workspace", json!("drafts"))),
            ("no tid", ada().without("tid")),
            ("no organization", ada().without("organization")),
            ("no claim that the user has named", ada().without("workspace")),
        ];
        each(identity(), mode, others.map(|(differs, other)| (differs, other, NOTHING))).await;
    }
}

#[tokio::test]
async fn connections_of_one_caller_share_everything_except_their_session() {
    let others = || {
        [
            ("nothing", ada()),
            ("token", ada().claiming("jti", json!("token 2")).with(|principal| principal.expires_at = Some(99))),
            ("name", ada().with(|principal| principal.name = Some("Ada".into()))),
            ("order of keys", ada().claiming("organization", json!({ "id": 7.0, "name": "acme" }))),
            ("header", Who { team: "blue", ..ada() }),
        ]
        .map(|(differs, other)| (differs, other, ALL))
    };
    each(identity(), SessionMode::Principal, others()).await;
    each(identity(), SessionMode::Transport, others()).await;
    let connection = || [("connection", Who { session: "2", ..ada() })];
    each(identity(), SessionMode::Principal, connection().map(|(differs, other)| (differs, other, ALL))).await;
    let apart = Shared { session: false, ..ALL };
    each(identity(), SessionMode::Transport, connection().map(|(differs, other)| (differs, other, apart))).await;
}

#[tokio::test]
async fn one_user_with_different_rights_shares_sessions_and_keys_and_no_answers() {
    let others = [
        ("a role more", ada().with(|principal| principal.roles.push("admin".into()))),
        ("another role", ada().with(|principal| principal.roles[0] = "admin".into())),
        ("no role", ada().with(|principal| principal.roles.clear())),
        ("a scope less", ada().claiming("scope", json!("read"))),
        ("no scope", ada().without("scope")),
        ("the same scopes by another claim", ada().without("scope").claiming("scp", json!("read write"))),
        ("groups", ada().claiming("groups", json!(["staff", "domain", "users"]))),
        ("permissions", ada().claiming("permissions", json!(["refund"]))),
        ("a claim that the user has named", ada().claiming("acl", json!(["plans"]))),
        ("realm roles", ada().claiming("realm_access", json!({ "roles": ["admin"] }))),
    ];
    each(identity(), SessionMode::Principal, others.map(|(differs, other)| (differs, other, OWN))).await;
}

#[tokio::test]
async fn the_order_and_the_form_of_rights_do_not_matter() {
    let others = [
        ("order of roles", ada().with(|principal| principal.roles.reverse())),
        ("a role twice", ada().with(|principal| principal.roles.push("viewer".into()))),
        ("order of scopes", ada().claiming("scope", json!("write read"))),
        ("scopes as a list", ada().claiming("scope", json!(["write", "read"]))),
        ("order of groups", ada().claiming("groups", json!(["domain users", "staff"]))),
        ("an empty list", ada().claiming("permissions", json!([]))),
    ];
    each(identity(), SessionMode::Principal, others.map(|(differs, other)| (differs, other, ALL))).await;
}

#[tokio::test]
async fn rights_are_ignored_if_the_setting_says_so() {
    let identity = Identity::new().without_rights();
    let admin = ada().with(|principal| principal.roles.push("admin".into())).without("scope");
    each(identity, SessionMode::Principal, [("rights", admin, ALL)]).await;
}

#[tokio::test]
async fn a_custom_partition_decides_who_is_one_caller_within_a_tenant() {
    let identity = identity().with_partition(|ctx| ctx.header("x-team").map(str::to_owned));
    let others = [
        ("subject", ada().with(|principal| principal.subject = "bob".into()), ALL),
        ("issuer", ada().with(|principal| principal.issuer = None), ALL),
        ("team", Who { team: "blue", ..ada() }, NOTHING),
        ("tenant", ada().claiming("org_id", json!("globex")), NOTHING),
        ("role", ada().with(|principal| principal.roles.clear()), OWN),
    ];
    each(identity, SessionMode::Principal, others).await;
}
