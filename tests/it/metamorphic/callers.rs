//! Who calls: users of several tenants with several rights, and their connections.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use turbomcp_core::auth::Principal;
use turbomcp_core::{Cancellable, McpError, McpSession, SessionFuture};
use turbomcp_types::ClientCapabilities;

use super::log::{Log, Notice};

/// One connection of one user.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) name: &'static str,
    pub(super) principal: Option<Principal>,
    pub(super) session_id: Option<&'static str>,
    pub(super) is_http: bool,
    /// Whether there is a way back to the client.
    pub(super) has_client: bool,
    /// Whether the client answers questions.
    pub(super) answers: bool,
}

impl Connection {
    /// See [`Identities::owner`].
    pub(super) fn owner(&self, identities: Identities) -> String {
        identities.owner(self.principal.as_ref(), self.session_id)
    }

    /// See [`Identities::sharer`].
    pub(super) fn sharer(&self, identities: Identities) -> String {
        identities.sharer(self.principal.as_ref(), self.session_id)
    }
}

/// All connections that there are. Those next to each other have most in common.
pub(super) static CONNECTIONS: LazyLock<Vec<Connection>> = LazyLock::new(|| {
    let ada = || Principal::new("ada").with_issuer("https://idp.example").with_claim("tid", json!("directory"));
    let acme = || ada().with_claim("org_id", json!("acme"));
    let signed_in = |name, principal, session_id, answers| Connection {
        name,
        principal: Some(principal),
        session_id: Some(session_id),
        is_http: true,
        has_client: true,
        answers,
    };
    let anonymous = |name, session_id: Option<_>, answers| Connection {
        name,
        principal: None,
        session_id,
        is_http: false,
        has_client: session_id.is_some(),
        answers,
    };
    vec![
        signed_in("ada, admin", acme().with_role("admin"), "1", true),
        signed_in("ada, admin, phone", acme().with_roles(["staff", "admin", "staff"]), "2", false),
        signed_in("ada, admin, laptop", acme().with_roles(["admin", "staff"]).with_claim("jti", json!(2)), "3", true),
        signed_in("ada, viewer", acme().with_role("viewer"), "4", true),
        signed_in("ada, viewer, in another session", acme().with_role("viewer"), "5", true),
        signed_in("ada of globex", ada().with_claim("org_id", json!("globex")).with_role("viewer"), "6", true),
        signed_in("ada of no organization", ada().with_role("viewer"), "7", true),
        signed_in("ada in a workspace", acme().with_role("viewer").with_claim("workspace", json!("drafts")), "8", true),
        signed_in("bob", Principal { subject: "bob".into(), ..acme().with_role("viewer") }, "9", true),
        signed_in("bob, to write", bob_with_scope("read write"), "10", true),
        signed_in("bob, to read", bob_with_scope("read"), "11", false),
        signed_in("bob, to write, in other words", bob_with_scope("write read"), "12", true),
        signed_in("ada elsewhere", acme().with_role("viewer").with_issuer("https://other.example"), "13", true),
        anonymous("anonymous", Some("14"), true),
        anonymous("anonymous, in another session", Some("15"), false),
        anonymous("in the process", None, false),
    ]
});

fn bob_with_scope(scope: &str) -> Principal {
    Principal::new("bob").with_claim("tenant_id", json!("initech")).with_claim("scope", json!(scope))
}

/// How the layers of a stack are told to tell callers apart.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Identities {
    pub(super) ignore_rights: bool,
    pub(super) know_workspaces: bool,
    pub(super) anonymous_by_session: bool,
}

impl Identities {
    /// Who it is: equal for callers who share what they own.
    pub(super) fn owner(self, principal: Option<&Principal>, session_id: Option<&str>) -> String {
        let Some(principal) = principal else {
            return format!("nobody {:?}", session_id.filter(|_| self.anonymous_by_session));
        };
        let tenants: Vec<_> = principal
            .claims
            .iter()
            .filter(|(name, _)| {
                matches!(name.as_str(), "tid" | "tenant_id" | "tenant" | "org_id" | "organization")
                    || (self.know_workspaces && *name == "workspace")
            })
            .collect();
        format!("{} {:?} {tenants:?}", principal.subject, principal.issuer)
    }

    /// Who shares what is answered from memory: the same, with the same rights.
    pub(super) fn sharer(self, principal: Option<&Principal>, session_id: Option<&str>) -> String {
        let owner = self.owner(principal, session_id);
        match principal {
            Some(principal) if !self.ignore_rights => {
                let scope = principal.claims.get("scope").and_then(Value::as_str).unwrap_or_default();
                format!("{owner} {} {}", sorted(principal.roles.iter()), sorted(scope.split(' ')))
            }
            _ => owner,
        }
    }
}

fn sorted(words: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut words: Vec<_> = words.map(|word| word.as_ref().to_owned()).collect();
    words.sort();
    words.dedup();
    words.join("+")
}

/// Says that the caller has cancelled.
#[derive(Debug, Default)]
pub(super) struct Token(AtomicBool);

impl Token {
    pub(super) fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Cancellable for Token {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What the client of a connection can do.
pub(super) fn capabilities(at: usize) -> Value {
    let can = json!({"elicitation": {}, "sampling": {}, "roots": {}});
    if CONNECTIONS[at].answers { can } else { json!({"roots": {}}) }
}

/// What the client of a connection answers: its name.
pub(super) fn answer(at: usize, method: &str) -> Value {
    let name = CONNECTIONS[at].name;
    match method {
        "roots/list" => json!({"roots": [{"uri": "file:///home", "name": name}]}),
        "sampling/createMessage" => {
            json!({"role": "assistant", "content": {"type": "text", "text": name}, "model": "none"})
        }
        _ => json!({"action": "accept", "content": {"name": name}}),
    }
}

/// The client at the other end of a connection. It answers with its name.
pub(super) struct Client {
    pub(super) at: usize,
    pub(super) log: Arc<Log>,
    /// What it cancels as soon as it is asked: it has gone then.
    pub(super) hangs_up: Option<Arc<Token>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("at", &self.at).finish_non_exhaustive()
    }
}

impl McpSession for Client {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        Box::pin(async move { Ok(serde_json::from_value(capabilities(self.at)).ok()) })
    }

    fn call<'a>(&'a self, method: &'a str, _: Value) -> SessionFuture<'a, Value> {
        Box::pin(async move {
            sleep(Duration::from_millis(2)).await;
            if let Some(call) = &self.hangs_up {
                call.cancel();
                return Err(McpError::transport("the client has gone"));
            }
            Ok(answer(self.at, method))
        })
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        let at = self.log.stamp();
        self.log.hear(Notice { at, connection: self.at, method: method.to_owned(), params });
        Box::pin(async { Ok(()) })
    }
}
