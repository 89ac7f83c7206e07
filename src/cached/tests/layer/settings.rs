use super::*;
use crate::cached::Cache;
use crate::{CachedTool, ConfigError, Layer, Scope, TryLayer};

fn mistake(layer: &CachedTool) -> ConfigError {
    layer.try_layer(numbered()).expect_err("a setting that cannot work")
}

#[test]
fn a_setting_that_cannot_work_is_refused_by_name_with_the_reason() {
    let zero = Duration::ZERO;
    let new = CachedTool::new;
    let cases = [
        (new().with_ttl(zero), "with_ttl", "must be greater than zero"),
        (new().with_ttl_for("read", zero), "with_ttl_for", "must be greater than zero"),
        (new().with_idle_time(zero), "with_idle_time", "must be greater than zero"),
        (new().with_load_timeout(zero), "with_load_timeout", "must be at least a millisecond"),
        (new().with_max_entries(0), "with_max_entries", "must be greater than zero"),
        (new().with_max_bytes(0), "with_max_bytes", "must be greater than zero"),
        (new().with_max_bytes(1_000), "with_max_bytes", "must be at least the size of the largest value"),
        (
            new().with_max_bytes(1_000).with_max_result_bytes(1_001),
            "with_max_bytes",
            "must be at least the size of the largest value",
        ),
        (new().with_max_result_bytes(1 << 40), "with_max_bytes", "must be at least the size of the largest value"),
    ];
    for (layer, expected, sentence) in cases {
        match mistake(&layer) {
            ConfigError::InvalidSetting { layer: "CachedTool", setting, reason } => {
                assert_eq!(setting, expected);
                assert!(reason.starts_with(sentence), "{setting}: {reason}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_cache_refuses_the_same_settings_with_the_same_text() {
    let (short, long) = (Duration::from_nanos(1), Duration::from_secs(60));
    type Engine = Cache<u8, u8>;
    assert_eq!(Engine::new().check(), Ok(()));
    for (engine, layer) in [
        (Engine::new().with_idle_time(Duration::ZERO), CachedTool::new().with_idle_time(Duration::ZERO)),
        (Engine::new().with_load_timeout(short), CachedTool::new().with_load_timeout(short)),
        (Engine::new().with_lease(short), CachedTool::new().with_lease(short)),
        (Engine::new().with_ttl_jitter(-0.1), CachedTool::new().with_ttl_jitter(-0.1)),
        (Engine::new().with_ttl_jitter(1.1), CachedTool::new().with_ttl_jitter(1.1)),
        (Engine::new().with_ttl_jitter(f64::NAN), CachedTool::new().with_ttl_jitter(f64::NAN)),
        (Engine::new().with_early_refresh(-1.0), CachedTool::new().with_early_refresh(-1.0)),
        (Engine::new().with_max_entries(0), CachedTool::new().with_max_entries(0)),
    ] {
        let (in_engine, in_layer) = (engine.check().expect_err("a setting that cannot work"), mistake(&layer));
        assert_eq!(in_engine.to_string().strip_prefix("Cache"), in_layer.to_string().strip_prefix("CachedTool"));
    }
    let refused = Engine::new().with_ttl(Duration::ZERO).with_stale_if_error(long).check();
    assert!(matches!(refused, Err(ConfigError::InvalidSetting { setting: "with_ttl", .. })), "{refused:?}");
}

#[test]
fn an_unknown_tool_name_is_refused_with_a_suggestion() {
    let new = CachedTool::new;
    let cases = [
        new().only(["raed"]),
        new().except(["raed"]),
        new().allow_skipped_effects(["raed"]),
        new().with_ttl_for("raed", MINUTE),
        new().with_scope_for("raed", Scope::Public),
    ];
    for layer in cases {
        let expected =
            ConfigError::UnknownTool { layer: "CachedTool", tool: "raed".to_owned(), nearest: Some("read".to_owned()) };
        assert_eq!(mistake(&layer), expected, "{layer:?}");
    }
    let text = mistake(&new().only(["raed"])).to_string();
    assert!(text.contains("did you mean `read`?"), "{text}");
    let far = mistake(&new().only(["something else"]));
    assert!(matches!(far, ConfigError::UnknownTool { nearest: None, .. }), "{far:?}");
}

#[test]
#[should_panic(expected = "did you mean `read`?")]
fn the_panic_of_an_infallible_method_has_the_text_of_the_error() {
    let _server = CachedTool::new().only(["raed"]).layer(numbered());
}

#[test]
fn the_smallest_meaningful_settings_are_accepted() {
    let smallest = Duration::from_nanos(1);
    let layer = CachedTool::new()
        .with_ttl(smallest)
        .with_idle_time(smallest)
        .with_load_timeout(Duration::from_millis(1))
        .with_max_entries(1)
        .with_max_bytes(1_000)
        .with_max_result_bytes(1_000);
    assert!(layer.try_layer(numbered()).is_ok());
}

#[test]
fn a_refused_layer_leaves_its_handle_without_a_server() {
    let layer = CachedTool::new().with_ttl(Duration::ZERO);
    assert!(layer.try_layer(numbered()).is_err());
    let warmed = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(layer.handle().warm([("read", json!({}))], 1));
    assert_eq!(warmed, Err(ConfigError::NotLayered { layer: "CachedTool" }));
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_second_level_without_shards_is_refused_by_the_layer_and_by_the_cache() {
    let redis = crate::RedisConnection::open("redis://127.0.0.1:6379").expect("a URL");
    let level = || crate::cached::RedisLevel::new(redis.clone()).with_shards(0);
    let refused = mistake(&CachedTool::new().with_second_level(level()));
    assert_eq!(refused.to_string(), "RedisLevel::with_shards: must be greater than zero");
    assert_eq!(Cache::<u8, u8>::new().with_second_level("numbers", level()).check(), Err(refused));
}
