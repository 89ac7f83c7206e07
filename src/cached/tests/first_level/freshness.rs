//! Behaviour around the end of the ttl.

use std::sync::atomic::AtomicUsize;

use tokio::time::advance;
use turbomcp_core::McpError;

use super::*;
use crate::cached::Cache;
use crate::testing::Call;
use crate::{CachedTool, ConfigError, Layer, TryLayer};

const SECOND: Duration = Duration::from_secs(1);

/// A server whose tool `read` takes a second, and fails with the configured kind while there is one.
#[derive(Clone, Default)]
struct Library(Arc<std::sync::Mutex<Option<ErrorKind>>>);

impl Library {
    fn fail(&self, kind: impl Into<Option<ErrorKind>>) {
        *self.0.lock().expect("no panic") = kind.into();
    }

    fn server(&self) -> ScriptedServer {
        let library = self.clone();
        ScriptedServer::new("library").with_read_only("read", move |call: Call| {
            let failure = *library.0.lock().expect("no panic");
            async move {
                tokio::time::sleep(SECOND).await;
                match failure {
                    Some(kind) => Err(McpError::new(kind, format!("failure {}", call.number))),
                    None => Ok(ToolResult::text(call.number.to_string())),
                }
            }
        })
    }
}

async fn read_with_status(server: &impl McpHandler) -> (String, String) {
    let result = server.call_tool("read", json!({}), &nobody()).await.expect("a result");
    let status = result.meta.as_ref().and_then(|meta| meta.get(outcome::CACHE)?["status"].as_str());
    (text(&result), status.unwrap_or_default().to_owned())
}

fn says(text: &str, status: &str) -> (String, String) {
    (text.to_owned(), status.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_value_past_its_ttl_is_served_while_one_refresh_runs_in_the_background() {
    let script = Library::default().server();
    let layer = CachedTool::new().with_ttl(MINUTE).with_stale_while_revalidate(MINUTE);
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    assert_eq!(read_with_status(&server).await, says("1", "miss"));
    advance(MINUTE).await;
    for _ in 0..100 {
        let before = tokio::time::Instant::now();
        assert_eq!(read_with_status(&server).await, says("1", "stale"));
        assert_eq!(before.elapsed(), Duration::ZERO, "no caller waits for it");
    }
    tokio::time::sleep(SECOND + Duration::from_millis(1)).await;
    assert_eq!(read_with_status(&server).await, says("2", "hit"));
    assert_eq!(script.calls("read"), 2);
    let stats = handle.stats();
    assert_eq!((stats.refreshes, stats.stale_hits, stats.hits), (1, 100, 101));
}

#[tokio::test(start_paused = true)]
async fn a_value_past_its_ttl_and_stale_window_is_not_served() {
    let layer = CachedTool::new().with_ttl(MINUTE).with_stale_while_revalidate(MINUTE);
    let server = layer.layer(Library::default().server());
    read_with_status(&server).await;
    advance(2 * MINUTE).await;
    assert_eq!(read_with_status(&server).await, says("2", "miss"));
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_value_is_not_served_stale() {
    let library = Library::default();
    let layer = CachedTool::new().with_ttl(MINUTE).with_stale_while_revalidate(MINUTE).with_stale_if_error(MINUTE);
    let handle = layer.handle();
    let server = layer.layer(library.server());
    read_with_status(&server).await;
    advance(MINUTE + SECOND).await;
    handle.invalidate("read", &json!({}));
    library.fail(ErrorKind::Unavailable);
    assert_eq!(read_with_status(&server).await.0, "failure 2");
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_keeps_the_value_and_pauses_for_a_second() {
    let library = Library::default();
    let script = library.server();
    let server = CachedTool::new().with_ttl(MINUTE).with_stale_while_revalidate(MINUTE).layer(script.clone());
    read_with_status(&server).await;
    library.fail(ErrorKind::Unavailable);
    advance(MINUTE).await;
    read_with_status(&server).await;
    tokio::time::sleep(SECOND + Duration::from_millis(1)).await;
    for _ in 0..10 {
        assert_eq!(read_with_status(&server).await, says("1", "stale"));
    }
    settle().await;
    assert_eq!(script.calls("read"), 2, "no refresh begins so soon after one that failed");
    advance(SECOND).await;
    read_with_status(&server).await;
    settle().await;
    assert_eq!(script.calls("read"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_permanently_drops_the_value() {
    let library = Library::default();
    let server = CachedTool::new()
        .with_ttl(MINUTE)
        .with_stale_while_revalidate(MINUTE)
        .with_stale_if_error(MINUTE)
        .layer(library.server());
    read_with_status(&server).await;
    library.fail(ErrorKind::ResourceNotFound);
    advance(MINUTE).await;
    assert_eq!(read_with_status(&server).await, says("1", "stale"));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(read_with_status(&server).await.0, "failure 3");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_has_its_own_deadline() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.number == 2 {
            std::future::pending::<()>().await;
        }
        Ok(ToolResult::text(call.number.to_string()))
    });
    let layer =
        CachedTool::new().with_ttl(MINUTE).with_stale_while_revalidate(10 * MINUTE).with_load_timeout(10 * SECOND);
    let server = layer.layer(script.clone());
    read_with_status(&server).await;
    advance(MINUTE).await;
    read_with_status(&server).await;
    tokio::time::sleep(12 * SECOND).await;
    assert_eq!(read_with_status(&server).await, says("1", "stale"));
    settle().await;
    assert_eq!(read_with_status(&server).await, says("3", "hit"));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ends_when_the_last_clone_is_dropped() {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let cache = Cache::<_, _>::new().with_ttl(MINUTE).with_stale_while_revalidate(MINUTE);
    cache.insert("key", 1);
    advance(MINUTE).await;
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Guard(Arc::clone(&dropped));
    let load = || async move {
        let _guard = guard;
        std::future::pending::<Result<i32, McpError>>().await
    };
    assert_eq!(cache.get_or_load(&(), "key", load).await.expect("a value"), 1);
    settle().await;
    let clone = cache.clone();
    drop(cache);
    settle().await;
    assert!(!dropped.load(Ordering::SeqCst), "a clone is left");
    drop(clone);
    settle().await;
    assert!(dropped.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_value_past_its_ttl_is_served_if_the_source_fails() {
    let library = Library::default();
    let script = library.server();
    let server = CachedTool::new().with_ttl(MINUTE).with_stale_if_error(10 * MINUTE).layer(script.clone());
    read_with_status(&server).await;
    advance(MINUTE).await;
    library.fail(ErrorKind::Internal);
    assert_eq!(read_with_status(&server).await, says("1", "stale"));
    for _ in 0..10 {
        assert_eq!(read_with_status(&server).await, says("1", "stale"));
    }
    assert_eq!(script.calls("read"), 2, "for a second it is not asked again");
    advance(SECOND).await;
    library.fail(None);
    assert_eq!(read_with_status(&server).await, says("3", "miss"));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_not_hidden_by_a_stale_value() {
    for kind in [ErrorKind::ResourceNotFound, ErrorKind::PermissionDenied, ErrorKind::InvalidParams] {
        let library = Library::default();
        let server = CachedTool::new().with_ttl(MINUTE).with_stale_if_error(10 * MINUTE).layer(library.server());
        read_with_status(&server).await;
        advance(MINUTE).await;
        library.fail(kind);
        assert_eq!(read_with_status(&server).await.0, "failure 2", "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_a_kind_is_not_hidden_by_a_stale_value() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        Ok(if call.number == 1 { ToolResult::text("1") } else { ToolResult::error("who are you?") })
    });
    let server = CachedTool::new().with_ttl(MINUTE).with_stale_if_error(10 * MINUTE).layer(script);
    read_with_status(&server).await;
    advance(MINUTE).await;
    assert_eq!(read_with_status(&server).await.0, "who are you?");
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_chosen_kinds_are_cached_for_their_ttl() {
    let library = Library::default();
    let script = library.server();
    let layer = CachedTool::new().with_negative_ttl([ErrorKind::ResourceNotFound], 5 * SECOND);
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    library.fail(ErrorKind::ResourceNotFound);
    assert_eq!(read_with_status(&server).await.0, "failure 1");
    assert_eq!(read_with_status(&server).await, says("failure 1", "hit"));
    assert_eq!(handle.stats().negative_hits, 1);
    advance(5 * SECOND).await;
    assert_eq!(read_with_status(&server).await.0, "failure 2");
    handle.invalidate("read", &json!({}));
    assert_eq!(read_with_status(&server).await.0, "failure 3", "an invalidation ends it");
    library.fail(ErrorKind::Timeout);
    handle.clear();
    assert_eq!(read_with_status(&server).await.0, "failure 4");
    assert_eq!(read_with_status(&server).await.0, "failure 5", "other kinds are not kept");
}

#[tokio::test(start_paused = true)]
async fn jitter_only_shortens_ttls_and_spreads_them() {
    fastrand::seed(1);
    let cache = Cache::<_, _>::new().with_ttl(100 * SECOND).with_ttl_jitter(0.1);
    for key in 0..100 {
        cache.get_or_load(&(), key, || async move { Ok::<_, McpError>(key) }).await.expect("a value");
    }
    let left = || (0..100).filter(|key| cache.get(key).is_some()).count();
    advance(89 * SECOND).await;
    assert_eq!(left(), 100);
    advance(6 * SECOND).await;
    assert!((30..70).contains(&left()), "{}", left());
    advance(5 * SECOND).await;
    assert_eq!(left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_frequently_read_value_is_refreshed_before_it_expires_and_never_misses() {
    fastrand::seed(2);
    let loads = Arc::new(AtomicUsize::new(0));
    let cache = Cache::<_, _>::new().with_ttl(MINUTE).with_early_refresh(1.0);
    let slow = || {
        let loads = Arc::clone(&loads);
        || async move {
            tokio::time::sleep(SECOND).await;
            Ok::<_, McpError>(loads.fetch_add(1, Ordering::SeqCst))
        }
    };
    cache.get_or_load(&(), "key", slow()).await.expect("a value");
    for _ in 0..6_000 {
        advance(SECOND / 10).await;
        cache.get_or_load(&(), "key", slow()).await.expect("a value");
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.stale_hits), (1, 0));
    assert!((10..15).contains(&stats.refreshes), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn refresh_replaces_a_value_and_keeps_it_after_a_failure() {
    let library = Library::default();
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(library.server());
    read_with_status(&server).await;
    assert_eq!(handle.refresh("read", json!({})).await, Ok(true));
    assert_eq!(read_with_status(&server).await, says("2", "hit"));
    library.fail(ErrorKind::Internal);
    assert_eq!(handle.refresh("read", json!({})).await, Ok(false));
    assert_eq!(read_with_status(&server).await, says("2", "hit"));
    assert!(matches!(handle.refresh("raed", json!({})).await, Err(ConfigError::UnknownTool { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_a_refresh_is_not_stored_after_it() {
    let (cache, gate) = (Cache::<_, _>::new(), Gate::closed());
    let (slow, waits) = (cache.clone(), gate.clone());
    let old = tokio::spawn(async move {
        let load = || async move {
            waits.pass().await;
            Ok::<_, McpError>("old")
        };
        slow.get_or_load(&(), "key", load).await
    });
    settle().await;
    let new = cache.refresh(&(), "key", || async { Ok("new") }).await;
    assert_eq!(new.expect("a value"), "new");
    gate.open();
    assert_eq!(old.await.expect("no panic").expect("a value"), "old", "a caller from before may get it");
    assert_eq!(cache.get(&"key"), Some("new"));
}

#[test]
fn freshness_settings_without_effect_are_refused() {
    let zero = Duration::ZERO;
    let cases = [
        (CachedTool::new().with_ttl_jitter(1.0), "with_ttl_jitter"),
        (CachedTool::new().with_ttl_jitter(f64::NAN), "with_ttl_jitter"),
        (CachedTool::new().with_early_refresh(0.0), "with_early_refresh"),
        (CachedTool::new().with_negative_ttl([ErrorKind::ResourceNotFound], zero), "with_negative_ttl"),
    ];
    for (layer, expected) in cases {
        match layer.try_layer(numbered()) {
            Err(ConfigError::InvalidSetting { setting, .. }) => assert_eq!(setting, expected),
            other => panic!("{expected}: {:?}", other.map(|_| ())),
        }
    }
}
