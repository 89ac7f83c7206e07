//! Caching of resources and prompts.

mod failures;
mod freshness;
mod hints;
mod identity;
mod invalidation;
mod levels;
mod notifications;

use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use turbomcp_types::{PromptResult, ResourceResult};

use super::*;
use crate::cached::Reads;
use crate::outcome::CACHE;
use crate::{CachedTool, ConfigError, Layer, Layered, Middleware, Scope, TryLayer, layer};

/// The two kinds that are cached on request. Each guarantee holds for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Resource,
    Prompt,
}
use Asked::{Prompt, Resource};

pub(super) const BOTH: [Asked; 2] = [Resource, Prompt];

/// Answers resources and prompts by a function of the test, in front of a server with tools, and counts its requests.
#[derive(Clone)]
pub(super) struct Shelf {
    asked: Arc<AtomicUsize>,
    script: Arc<dyn Fn(Ask) -> BoxFuture<'static, McpResult<String>> + Send + Sync>,
}

pub(super) struct Ask {
    number: usize,
    name: String,
    pub(super) ctx: RequestContext,
}

impl Shelf {
    pub(super) fn new<F>(script: impl Fn(Ask) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = McpResult<String>> + Send + 'static,
    {
        Self { asked: Arc::default(), script: Arc::new(move |ask| script(ask).boxed()) }
    }

    /// Answers with the number of the request.
    fn numbered() -> Self {
        Self::new(|ask| async move { Ok(ask.number.to_string()) })
    }

    /// Like [`numbered`](Self::numbered), but each request waits at the gate.
    fn behind(gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::new(move |ask| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(ask.number.to_string())
            }
        })
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answer(&self, name: &str, ctx: &RequestContext) -> BoxFuture<'static, McpResult<String>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        (self.script)(Ask { number, name: name.to_owned(), ctx: ctx.clone() })
    }

    /// Applies `cached` to it, and it to [`numbered`].
    pub(super) fn with(&self, cached: CachedTool) -> Server {
        (cached, layer(self.clone())).layer(numbered())
    }
}

type Server = Layered<CachedTool, Layered<Shelf, ScriptedServer>>;

impl Middleware for Shelf {
    async fn read_resource<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> McpResult<ResourceResult> {
        self.answer(uri, ctx).await.map(|text| ResourceResult::text(uri, text))
    }

    async fn get_prompt<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        name: &'a str,
        _: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        self.answer(name, ctx).await.map(PromptResult::user)
    }
}

pub(super) fn both() -> CachedTool {
    CachedTool::new().with_resources(Reads::new()).with_prompts(Reads::new())
}

/// The server's answer as JSON.
async fn wire(server: &impl McpHandler, what: Asked, name: &str, ctx: &RequestContext) -> McpResult<Value> {
    match what {
        Resource => server.read_resource(name, ctx).await.map(|result| json!(result)),
        Prompt => server.get_prompt(name, None, ctx).await.map(|result| json!(result)),
    }
}

pub(super) async fn try_get(
    server: &impl McpHandler,
    what: Asked,
    name: &str,
    ctx: &RequestContext,
) -> McpResult<String> {
    let answer = wire(server, what, name, ctx).await?;
    let text = match what {
        Resource => &answer["contents"][0]["text"],
        Prompt => &answer["messages"][0]["content"]["text"],
    };
    Ok(text.as_str().expect("a text").to_owned())
}

async fn get(server: &impl McpHandler, what: Asked, name: &str, ctx: &RequestContext) -> String {
    try_get(server, what, name, ctx).await.expect("an answer")
}

/// A resource or a prompt, requested by an anonymous caller.
async fn one(server: &impl McpHandler, what: Asked) -> String {
    get(server, what, "one", &nobody()).await
}

async fn prompt(server: &impl McpHandler, args: Option<Value>) -> String {
    let result = server.get_prompt("greet", args, &nobody()).await.expect("a prompt");
    json!(result)["messages"][0]["content"]["text"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn resources_and_prompts_are_not_cached_by_default() {
    let (bare, shelf) = (layer(Shelf::numbered()).layer(numbered()), Shelf::numbered());
    let cached = CachedTool::new();
    let handle = cached.handle();
    let server = shelf.with(cached);
    for what in BOTH {
        for _ in 0..3 {
            let answer = wire(&server, what, "one", &nobody()).await.expect("an answer");
            assert_eq!(answer, wire(&bare, what, "one", &nobody()).await.expect("an answer"));
        }
    }
    assert_eq!(shelf.asked(), 6);
    assert_eq!(handle.stats(), Default::default());
}

#[tokio::test]
async fn the_chosen_kind_is_loaded_once_and_the_other_kind_each_time() {
    let new = CachedTool::new;
    for (cached, kept, passed) in
        [(new().with_resources(Reads::new()), Resource, Prompt), (new().with_prompts(Reads::new()), Prompt, Resource)]
    {
        let server = Shelf::numbered().with(cached);
        assert_eq!([one(&server, kept).await, one(&server, kept).await], ["1", "1"]);
        assert_eq!(get(&server, kept, "other", &nobody()).await, "2");
        assert_eq!([one(&server, passed).await, one(&server, passed).await], ["3", "4"]);
    }
}

#[tokio::test]
async fn resources_and_prompts_outside_the_selection_are_not_cached() {
    let cached = CachedTool::new()
        .with_resources(Reads::new().when(|uri| uri.starts_with("docs://")))
        .with_prompts(Reads::new().when(|name| name != "now"));
    let server = Shelf::numbered().with(cached);
    let twice = async |what, name: &'static str| {
        [get(&server, what, name, &nobody()).await, get(&server, what, name, &nobody()).await]
    };
    assert_eq!(twice(Resource, "docs://one").await, ["1", "1"]);
    assert_eq!(twice(Resource, "logs://tail").await, ["2", "3"]);
    assert_eq!(twice(Prompt, "greet").await, ["4", "4"]);
    assert_eq!(twice(Prompt, "now").await, ["5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_concurrent_reads_share_one_load() {
    for what in BOTH {
        let gate = Gate::closed();
        let shelf = Shelf::behind(&gate);
        let cached = both();
        let handle = cached.handle();
        let server = shelf.with(cached);
        let open = async {
            settle().await;
            gate.open();
        };
        let (answers, ()) = tokio::join!(join_all((0..100).map(|_| one(&server, what))), open);
        assert!(answers.iter().all(|answer| answer == "1"), "{answers:?}");
        assert_eq!(shelf.asked(), 1);
        let stats = handle.stats();
        assert_eq!((stats.hits, stats.misses, stats.loads, stats.entries), (0, 100, 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_states_its_cache_status() {
    let shelf = Shelf::numbered();
    for what in BOTH {
        let server = shelf.with(both());
        for status in [json!({"status": "miss"}), json!({"status": "hit", "level": 1, "ageMs": 0})] {
            let answer = wire(&server, what, "one", &nobody()).await.expect("an answer");
            assert_eq!(answer["_meta"], json!({ CACHE: status }));
        }
        let silent = shelf.with(both().without_meta());
        for _ in 0..2 {
            let answer = wire(&silent, what, "one", &nobody()).await.expect("an answer");
            assert_eq!(answer.get("_meta"), None);
        }
    }
}

#[tokio::test]
async fn one_bound_holds_for_tools_resources_and_prompts_together() {
    let cached = both().with_max_entries(100);
    let handle = cached.handle();
    let server = Shelf::numbered().with(cached);
    for number in 0..300 {
        let name = number.to_string();
        answer(&server, "read", json!({ "book": number }), &nobody()).await;
        for what in BOTH {
            get(&server, what, &name, &nobody()).await;
        }
    }
    let stats = handle.stats();
    assert!((90..=100).contains(&stats.entries), "{stats:?}");
    assert_eq!((stats.hits, stats.misses, stats.loads), (0, 900, 900), "all kinds together");
}

#[tokio::test]
async fn a_resource_above_the_size_limit_is_returned_and_not_cached() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move { Ok("x".repeat(if ask.name == "large" { 3_000 } else { 1_000 })) });
        let cached = both().with_max_result_bytes(2_000);
        let handle = cached.handle();
        let server = shelf.with(cached);
        for _ in 0..2 {
            assert_eq!(get(&server, what, "large", &nobody()).await.len(), 3_000);
        }
        assert_eq!((shelf.asked(), handle.stats().entries), (2, 0));
        for _ in 0..2 {
            get(&server, what, "small", &nobody()).await;
        }
        assert_eq!((shelf.asked(), handle.stats().entries), (3, 1));
        assert!(handle.stats().weight > 1_000);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let mistake = |cached: CachedTool| match cached.try_layer(numbered()) {
        Err(ConfigError::InvalidSetting { setting, reason, .. }) => (setting, reason),
        other => panic!("{other:?}"),
    };
    let zero = || Reads::new().with_ttl(Duration::ZERO);
    let no_ttl = "the ttl of its `Reads` must be greater than zero";
    for (cached, (setting, reason)) in [
        (both().with_resources(zero()), ("with_resources", no_ttl)),
        (both().with_prompts(zero()), ("with_prompts", no_ttl)),
        (
            both().with_prompts(Reads::new().with_cache_hints()),
            ("with_prompts", "the protocol has no cache hints for prompts"),
        ),
        (
            CachedTool::new().except(["read"]).invalidates_resources("read", |_| ["a"]),
            ("invalidates_resources", "has no effect without `with_resources`"),
        ),
    ] {
        let (found, text) = mistake(cached);
        assert_eq!(found, setting);
        assert!(text.starts_with(reason), "{text}");
    }
    assert!(both().with_resources(Reads::new().when(|_| true).with_ttl(MINUTE)).try_layer(numbered()).is_ok());
}
