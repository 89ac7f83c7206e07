//! An invalidation costs unrelated entries nothing.

use std::ops::Range;

use turbomcp_types::{Prompt, PromptResult, Resource, ResourceResult, ServerInfo, Tool, ToolAnnotations};

use super::*;
use crate::cached::{Cache, Handle, MemoryLevel, Reads, SecondLevel, SecondLevelStats};
use crate::{CachedTool, Layer, Layered, Scope};

const ENTRIES: u32 = 4_000;

/// Has a tool, resources and a prompt, with any number of answers of each.
#[derive(Clone)]
struct Library;

impl McpHandler for Library {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("library", "1.0.0")
    }

    fn list_tools(&self) -> Vec<Tool> {
        let annotations = ToolAnnotations { read_only_hint: Some(true), ..Default::default() };
        ["read", "list"].map(|name| Tool { annotations: Some(annotations.clone()), ..Tool::new(name, "reads") }).into()
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, _: &'a str, _: Value, _: &'a RequestContext) -> McpResult<ToolResult> {
        Ok(ToolResult::text("a book"))
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::text(uri, "a book"))
    }

    async fn get_prompt<'a>(&'a self, _: &'a str, _: Option<Value>, _: &'a RequestContext) -> McpResult<PromptResult> {
        Ok(PromptResult::user("a book"))
    }
}

/// The cached answers, in groups that are invalidated as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Tool,
    Resource,
    Prompt,
}
use Asked::{Prompt as OfPrompt, Resource as OfResource, Tool as OfTool};

const KINDS: [Asked; 3] = [OfTool, OfResource, OfPrompt];

struct Replica {
    server: Layered<CachedTool, Library>,
    handle: Handle,
}

impl Replica {
    fn new(are_tagged: bool, level: Option<impl SecondLevel>) -> Self {
        let (mut resources, mut prompts) = (Reads::new(), Reads::new());
        let mut layer = CachedTool::new().with_scope(Scope::Public);
        if are_tagged {
            layer = layer.tag("read", |args| [format!("book:{}", args["n"])]);
            resources = resources.with_tags(|uri, _| [uri.to_owned()]);
            prompts = prompts.with_tags(|_, args| [format!("book:{}", args["n"])]);
        }
        layer = layer.with_resources(resources).with_prompts(prompts);
        if let Some(level) = level {
            layer = layer.with_second_level(level).with_second_level_timeout(MINUTE).with_first_level_ttl(5 * MINUTE);
        }
        Self { handle: layer.handle(), server: layer.layer(Library) }
    }

    async fn ask(&self, kind: Asked, n: u32) {
        let (args, ctx) = (json!({"n": n}), nobody());
        let is_answered = match kind {
            OfTool => self.server.call_tool("read", args, &ctx).await.is_ok(),
            OfResource => self.server.read_resource(&format!("book:{n}"), &ctx).await.is_ok(),
            OfPrompt => self.server.get_prompt("introduce", Some(args), &ctx).await.is_ok(),
        };
        assert!(is_answered, "{kind:?} {n}");
    }

    /// Returns how many of all answers of a kind are hits.
    async fn hits(&self, kind: Asked) -> u32 {
        let loads = self.handle.stats().loads;
        for n in 0..ENTRIES {
            self.ask(kind, n).await;
        }
        ENTRIES - u32::try_from(self.handle.stats().loads - loads).expect("few")
    }

    async fn fill(&self, kind: Asked) {
        assert_eq!(self.hits(kind).await, 0, "the cache is empty");
    }

    fn level(&self) -> SecondLevelStats {
        self.handle.stats().second_level.expect("there is one")
    }

    async fn invalidate_unrelated_tags(&self, tags: Range<u32>) {
        for tag in tags {
            self.handle.invalidate_tag(&format!("other:{tag}"));
        }
        self.handle.synced().await;
    }
}

const ALONE: Option<MemoryLevel> = None;

fn share(hits: u32) -> f64 {
    f64::from(hits) / f64::from(ENTRIES)
}

#[tokio::test(start_paused = true)]
async fn after_three_thousand_unrelated_tags_every_other_answer_is_still_a_hit() {
    for kind in KINDS {
        for are_tagged in [false, true] {
            let replica = Replica::new(are_tagged, ALONE);
            replica.fill(kind).await;
            for tags in [0..100, 100..300, 300..1_000, 1_000..3_000] {
                let after = tags.end;
                replica.invalidate_unrelated_tags(tags).await;
                let hits = replica.hits(kind).await;
                println!("{kind:?}, tagged: {are_tagged}: after {after} unrelated tags, {} still hit", share(hits));
                assert_eq!(hits, ENTRIES, "{kind:?}, tagged: {are_tagged}, after {after}");
            }
        }
    }
}

/// The replica that invalidates, and a replica with an empty memory.
async fn on_all_replicas(kind: Asked, are_tagged: bool, level: impl SecondLevel + Clone) {
    let one = Replica::new(are_tagged, Some(level.clone()));
    until_subscribed(&one).await;
    one.fill(kind).await;
    until_told(&one).await;
    one.invalidate_unrelated_tags(0..3_000).await;
    until_told(&one).await;
    let other = Replica::new(are_tagged, Some(level));
    until_subscribed(&other).await;
    let there = other.hits(kind).await;
    let here = one.hits(kind).await;
    assert_eq!(one.level().hits, 0, "what is here is not asked for there");
    let [here_share, there_share] = [here, there].map(share);
    println!("{kind:?}, tagged: {are_tagged}: {here_share} still hit here, {there_share} on another replica");
    assert_eq!((here, there), (ENTRIES, ENTRIES), "{kind:?}, tagged: {are_tagged}");
}

/// Values that are loaded before the subscription works are not kept.
async fn until_subscribed(replica: &Replica) {
    while !replica.level().is_subscribed {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Until all values are written, and the level has all invalidations.
async fn until_told(replica: &Replica) {
    while replica.level().puts < u64::from(ENTRIES) || replica.level().pending_invalidations > 0 {
        assert_eq!(replica.level().dropped_puts, 0);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_thousand_unrelated_tags_every_other_answer_is_still_a_hit_on_all_replicas() {
    for kind in KINDS {
        for are_tagged in [false, true] {
            on_all_replicas(kind, are_tagged, MemoryLevel::new()).await;
        }
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn after_three_thousand_unrelated_tags_every_other_answer_is_still_a_hit_on_all_replicas_of_a_redis() {
    let redis = crate::testing::private_redis::PrivateRedis::start();
    for kind in KINDS {
        let connection = crate::cached::tests::second_level::in_redis::manager(&redis.client());
        let level = crate::cached::RedisLevel::new(crate::AnyRedisConnection::from_redis_1(connection))
            .with_subscriber(&crate::cached::tests::second_level::in_redis::to(&redis.client()));
        on_all_replicas(kind, true, level.with_prefix(format!("{kind:?}"))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn invalidating_a_group_invalidates_all_of_it_and_nothing_else() {
    for invalidated in KINDS {
        let replica = Replica::new(true, ALONE);
        for kind in KINDS {
            for n in 0..1_000 {
                replica.ask(kind, n).await;
            }
        }
        match invalidated {
            OfTool => replica.handle.invalidate_tool("read"),
            OfResource => replica.handle.invalidate_resources(),
            OfPrompt => replica.handle.invalidate_prompt("introduce"),
        }
        for kind in KINDS {
            let before = replica.handle.stats().loads;
            for n in 0..1_000 {
                replica.ask(kind, n).await;
            }
            let loads = replica.handle.stats().loads - before;
            assert_eq!(loads, if kind == invalidated { 1_000 } else { 0 }, "{kind:?} after {invalidated:?}");
        }
    }
}

/// Prompts, since there may be any number of them, and each is its own group.
#[tokio::test]
async fn of_two_thousand_groups_exactly_the_invalidated_half_is_loaded_again() {
    let replica = Replica::new(false, ALONE);
    let ask = async |n: u32| {
        let before = replica.handle.stats().loads;
        let answered = replica.server.get_prompt(&format!("prompt_{n}"), None, &nobody()).await;
        assert!(answered.is_ok());
        replica.handle.stats().loads > before
    };
    for n in 0..2_000 {
        assert!(ask(n).await);
    }
    for n in (0..2_000).step_by(2) {
        replica.handle.invalidate_prompt(&format!("prompt_{n}"));
    }
    for n in 0..2_000 {
        assert_eq!(ask(n).await, n % 2 == 0, "{n}");
    }
}

/// Each insertion invalidates its key, so that no older load is stored.
#[tokio::test]
async fn inserted_values_do_not_evict_each_other() {
    let cache = Cache::<u32, u32>::new();
    for key in 0..ENTRIES {
        cache.insert(key, key);
    }
    assert!((0..ENTRIES).all(|key| cache.get(&key) == Some(key)));
}
