use std::sync::Mutex;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::{CachedTool, Layer};

#[tokio::test]
async fn a_load_runs_as_its_first_caller_who_cannot_cancel_it() {
    let seen = Arc::new(Mutex::new(None));
    let script = ScriptedServer::new("library").with_read_only("read", {
        let seen = Arc::clone(&seen);
        move |call| {
            *seen.lock().expect("no panic") = Some(call.ctx);
            async { Ok(ToolResult::text("a book")) }
        }
    });
    let server = CachedTool::new().layer(script);
    let token = Token::default();
    let ctx = user("ada")
        .with_session_id("7")
        .with_metadata("locale", "en")
        .with_progress_token(json!("progress"))
        .with_cancellation_token(Arc::new(token.clone()));
    answer(&server, "read", json!({}), &ctx).await;
    let seen = seen.lock().expect("no panic").take().expect("the tool was called");
    assert_eq!((seen.subject(), seen.session_id()), (Some("ada"), Some("7")));
    assert_eq!(seen.get_metadata_str("locale"), Some("en"));
    assert_ne!(seen.progress_token(), None, "a waiting caller may want its progress");
    assert_ne!(seen.progress_token(), ctx.progress_token(), "which is more than this caller");
    token.cancel();
    assert!(ctx.is_cancelled());
    assert!(!seen.is_cancelled(), "others may wait for the load");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_returns_at_once_and_the_load_continues_for_the_others() {
    let gate = Gate::closed();
    let script = numbered_behind(&gate);
    let server = CachedTool::new().layer(script.clone());
    let token = Token::default();
    let leaving = {
        let (server, token) = (server.clone(), token.clone());
        tokio::spawn(async move {
            let ctx = nobody().with_cancellation_token(Arc::new(token));
            server.call_tool("read", json!({}), &ctx).await
        })
    };
    settle().await;
    let others: Vec<_> = (0..10)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { read(&server).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(333)).await;
    let cancelled = Instant::now();
    token.cancel();
    let result = leaving.await.expect("it ends by itself");
    assert!(cancelled.elapsed() <= Duration::from_millis(50));
    assert_eq!(failed(&result).0, Some(ErrorKind::Cancelled));
    gate.open();
    for answer in join_all(others).await {
        assert_eq!(answer.expect("an answer"), "1");
    }
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_is_cancelled_with_its_last_caller() {
    let seen = Arc::new(Mutex::new(None));
    let script = ScriptedServer::new("library").with_read_only("read", {
        let seen = Arc::clone(&seen);
        move |call| {
            *seen.lock().expect("no panic") = Some(call.ctx);
            std::future::pending()
        }
    });
    let server = CachedTool::new().layer(script);
    let token = Token::default();
    let ctx = nobody().with_cancellation_token(Arc::new(token.clone()));
    let cancel = async {
        settle().await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(server.call_tool("read", json!({}), &ctx), cancel);
    assert_eq!(failed(&result).0, Some(ErrorKind::Cancelled));
    settle().await;
    assert!(seen.lock().expect("no panic").as_ref().is_some_and(RequestContext::is_cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_not_cached_and_the_next_one_loads() {
    let gate = Gate::closed();
    let script = numbered_behind(&gate);
    let server = CachedTool::new().layer(script.clone());
    let token = Token::default();
    let ctx = nobody().with_cancellation_token(Arc::new(token.clone()));
    let cancel = async {
        settle().await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(server.call_tool("read", json!({}), &ctx), cancel);
    assert_eq!(failed(&result).0, Some(ErrorKind::Cancelled));
    settle().await;
    gate.open();
    assert_eq!(read(&server).await, "2");
}
