//! The check of the [manual](mcp_patterns::rmcp_stores) in front of rmcp: nobody but its owner uses a session or resumes a stream.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use mcp_patterns::rmcp_stores::{SessionStates, SqlEventStore};
use mcp_patterns::session::SqlBackend;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};
use tower::ServiceExt;

type Sessions = Arc<SessionStates<SqlBackend<Sqlite>>>;

#[derive(Clone)]
struct Nothing;

impl ServerHandler for Nothing {}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

async fn only_own_sessions(State(sessions): State<Sessions>, request: Request, next: Next) -> Response {
    let Some(user) = header(request.headers(), "authorization") else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let used = header(request.headers(), "mcp-session-id");
    if let Some(used) = &used {
        match sessions.is_owner(used, &user).await {
            Ok(true) => {}
            Ok(false) => return StatusCode::NOT_FOUND.into_response(),
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    } else if request.method() == Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let response = next.run(request).await;
    if used.is_none()
        && let Some(opened) = header(response.headers(), "mcp-session-id")
        && !matches!(sessions.claim(&opened, &user).await, Ok(true))
    {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    response
}

fn replica(pool: &SqlitePool) -> Router {
    let sessions: Sessions = Arc::new(SessionStates::new(SqlBackend::new(pool.clone())));
    let mut config = StreamableHttpServerConfig::default();
    config.session_store = Some(sessions.clone());
    let manager = LocalSessionManager::default().with_event_store(Arc::new(SqlEventStore::new(pool.clone())));
    let mcp = StreamableHttpService::new(|| Ok(Nothing), Arc::new(manager), config);
    Router::new().fallback_service(mcp).layer(from_fn_with_state(sessions, only_own_sessions))
}

/// Sends a request, and returns the status, the session and the text of the answer.
async fn send(app: &Router, method: Method, headers: &[(&str, &str)], body: &str) -> (u16, Option<String>, String) {
    let request = Request::builder().method(method).uri("http://localhost/mcp").header("host", "localhost");
    let request = request.header("accept", "application/json, text/event-stream");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.header("content-type", "application/json").body(Body::from(body.to_owned()));
    let answer = app.clone().oneshot(request.expect("a request")).await.expect("an answer");
    let (status, session) = (answer.status().as_u16(), header(answer.headers(), "mcp-session-id"));
    let text = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("the stream ends");
    (status, session, String::from_utf8(text.to_vec()).expect("text"))
}

#[tokio::test]
async fn nobody_but_its_owner_uses_a_session_or_resumes_its_streams_on_any_replica() {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("a pool");
    SqlBackend::ensure_schema(&pool).await.expect("a table");
    SqlEventStore::ensure_schema(&pool).await.expect("a table");
    let replicas = [replica(&pool), replica(&pool)];
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "me", "version": "1"},
    }})
    .to_string();
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    let (post, get, delete) = (Method::POST, Method::GET, Method::DELETE);

    assert_eq!(send(&replicas[0], post.clone(), &[], &initialize).await.0, 401);
    let (status, of_ada, _) = send(&replicas[0], post.clone(), &[("authorization", "ada")], &initialize).await;
    let of_ada = of_ada.expect("a session");
    assert_eq!(status, 200);
    let headers = [("authorization", "ada"), ("mcp-session-id", of_ada.as_str())];
    let (status, _, answer) = send(&replicas[0], post.clone(), &headers, ping).await;
    assert_eq!(status, 200);
    let id = answer.lines().find_map(|line| line.strip_prefix("id:")).expect("an event with an id").trim().to_owned();

    for replica in &replicas {
        let resume = |user| [("authorization", user), ("mcp-session-id", &*of_ada), ("last-event-id", &*id)];
        let (status, _, rest) = send(replica, get.clone(), &resume("ada"), "").await;
        assert!(status == 200 && rest.contains(r#""id":2"#), "its owner resumes a stream: {status} {rest}");
        for method in [&get, &post, &delete] {
            let (status, _, rest) = send(replica, method.clone(), &resume("bob"), ping).await;
            assert_eq!((status, rest.as_str()), (404, ""), "{method}: for others, the session does not exist");
        }
        let (status, ..) = send(replica, get.clone(), &[("authorization", "bob"), ("last-event-id", &id)], "").await;
        assert_eq!(status, 405, "there is no way around the session");
        assert_eq!(send(replica, post.clone(), &headers, ping).await.0, 200, "the owner goes on");
    }
    assert_eq!(send(&replicas[1], delete, &headers, "").await.0, 202);
    assert_eq!(send(&replicas[0], post, &headers, ping).await.0, 404, "a session that was ended has no owner");
}
