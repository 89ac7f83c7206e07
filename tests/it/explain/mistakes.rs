//! Each layer that acts on nothing, and each order that is wrong.

use std::time::Duration;

use mcp_patterns::batched::Call;
use mcp_patterns::explain::{Description, Role};
use mcp_patterns::idempotency_keys::{Idempotency, KeySource};
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::{
    BatchedTool, CachedTool, ConfigError, IdempotentTool, Layer, Middleware, RetryTool, Scope, SessionStore,
    TransactionalTool, TryLayer, UntrustedServer, ValidatedTool, boxed, cached, explain, layer,
};
use serde_json::Value;
use sqlx::Sqlite;
use turbomcp::prelude::*;
use turbomcp_types::Tool;

use super::{explained, pool, shop, texts};

fn validated() -> ValidatedTool {
    ValidatedTool::new()
}

fn with_rule(tool: &str) -> ValidatedTool {
    ValidatedTool::new().rule(tool, |_: Value, _| async { Ok(()) })
}

fn sessions() -> SessionStore {
    SessionStore::in_memory()
}

fn cache() -> CachedTool {
    CachedTool::new()
}

async fn bulk(calls: Vec<Call>) -> Vec<McpResult<String>> {
    calls.iter().map(|_| Ok("read".to_owned())).collect()
}

fn batched() -> BatchedTool {
    BatchedTool::new().with_bulk("read", bulk)
}

fn retry() -> RetryTool {
    RetryTool::new()
}

fn keyed() -> IdempotentTool {
    IdempotentTool::new(MemoryBackend::new()).only(["send"])
}

fn transaction(tools: &[&str]) -> TransactionalTool<Sqlite> {
    TransactionalTool::new(pool()).only(tools.iter().copied())
}

/// A layer of the user's that says nothing of itself.
#[derive(Clone)]
struct Own;

impl Middleware for Own {}

/// A cache of the user's.
#[derive(Clone)]
struct Memo;

impl Middleware for Memo {
    fn describe(&self, tools: &[Tool]) -> Description {
        let kept = tools.iter().map(|tool| &tool.name).filter(|tool| *tool == "read");
        Description::of::<Self>().with_role(Role::Cache).with_tools(kept)
    }
}

/// Says what is wrong with a stack, by the warning and by `strict`, which agree.
fn mistakes<L>(layers: &L) -> Vec<String>
where
    L: TryLayer<mcp_patterns::testing::ScriptedServer, Service: McpHandler>,
{
    let explanation = explained(layers);
    let warnings = texts(explanation.warnings());
    match explanation.strict() {
        Ok(_) => assert_eq!(warnings, [""; 0]),
        Err(error) => assert_eq!(error.to_string(), warnings.join("\n")),
    }
    warnings
}

macro_rules! wrong {
    ($($layers:expr => $warning:literal,)+) => { [$((stringify!($layers), mistakes(&$layers), $warning)),+] };
}

#[tokio::test]
async fn each_wrong_order_is_a_warning_that_names_both_layers_the_tools_the_reason_and_the_right_order() {
    let table = wrong! {
        (cache(), validated()) =>
            "CachedTool is outside ValidatedTool for `read`: a call with invalid arguments costs a load that fails. \
             Put \
             ValidatedTool outside CachedTool.",
        (batched(), validated()) =>
            "BatchedTool is outside ValidatedTool for `read`: a call with invalid arguments joins a batch. Put \
             ValidatedTool \
             outside BatchedTool.",
        (retry(), validated()) =>
            "RetryTool is outside ValidatedTool for `read` and `stock`: the retries do not learn of a tool that the \
             validation looks up. Put ValidatedTool outside RetryTool.",
        (cache(), sessions()) =>
            "CachedTool is outside SessionStore for `read`: a hit ends the call before its session is looked up. Put \
             SessionStore outside CachedTool.",
        (batched(), cache()) =>
            "BatchedTool is outside CachedTool for `read`: a call that the cache could answer joins a batch, and a \
             bulk \
             function bypasses the cache. Put CachedTool outside BatchedTool.",
        (retry(), cache()) =>
            "RetryTool is outside CachedTool for `read`: the failure of one load reaches all callers who wait for it, \
             and each of them repeats it. Put CachedTool outside RetryTool.",
        (transaction(&["read"]), cache()) =>
            "TransactionalTool is outside CachedTool for `read`: a transaction shares no answers, so the cache \
             answers no \
             call. Put CachedTool outside TransactionalTool.",
        (transaction(&["read"]), sessions()) =>
            "TransactionalTool is outside SessionStore for `read`: a call that is refused for lack of a session costs \
             a transaction. Put SessionStore outside TransactionalTool.",
        (transaction(&["read"]), batched()) =>
            "TransactionalTool is outside BatchedTool for `read`: a call inside a transaction runs alone, so no call \
             is batched. Put BatchedTool outside TransactionalTool.",
        (retry(), batched()) =>
            "RetryTool is outside BatchedTool for `read`: the failure of one shared call reaches all its callers, and \
             each of them repeats it. Put BatchedTool outside RetryTool.",
        // Without a key, the retries leave the tool out.
        (keyed(), retry()) =>
            "IdempotentTool is outside RetryTool for `send`: the retries do not see the key, so a failed call is not \
             repeated \
             under it. Put RetryTool outside IdempotentTool.",
        (keyed(), retry().allow_repeated_effects(["send"])) =>
            "IdempotentTool is outside RetryTool for `send`: the retries do not see the key, so a failed call is not \
             repeated \
             under it. Put RetryTool outside IdempotentTool.",
        (transaction(&["send"]).with_idempotency(Idempotency::new()), retry()) =>
            "TransactionalTool is outside RetryTool for `send`: the retries do not see the key, so a failed call is \
             not \
             repeated under it. Put RetryTool outside TransactionalTool.",
        (transaction(&["stock"]), retry()) =>
            "TransactionalTool is outside RetryTool for `stock`: the writes of a failed attempt stay in the \
             transaction. Put \
             RetryTool outside TransactionalTool.",
        (transaction(&["send"]), validated()) =>
            "TransactionalTool is outside ValidatedTool for `send`: a call that is rejected costs a transaction. Put \
             ValidatedTool outside TransactionalTool.",
        (sessions(), sessions().with_namespace("another")) =>
            "SessionStore and, inside it, SessionStore both have the role session for `read`, `stock` and `send`: the \
             tool \
             finds only the session of the inner one. Remove one of them, or let each act on tools of its own.",
        (cache(), cache()) =>
            "CachedTool and, inside it, CachedTool both have the role cache for `read`: an answer is kept twice, and \
             stays \
             stale in one of them until both are invalidated. Remove one of them, or let each act on tools of its own.",
        (batched(), batched()) =>
            "BatchedTool and, inside it, BatchedTool both have the role batch for `read`: a call waits in two queues. \
             Remove \
             one of them, or let each act on tools of its own.",
        (retry(), retry()) =>
            "RetryTool and, inside it, RetryTool both have the role retry for `read` and `stock`: the outer one does \
             not \
             repeat a failure that the inner one has given up. Remove one of them, or let each act on tools of its own.",
        (keyed().with_idempotency(Idempotency::new().with_source(KeySource::Header("key".into()))), keyed()) =>
            "IdempotentTool and, inside it, IdempotentTool both have the role idempotency for `send`: a call needs a \
             key for \
             each of them. Remove one of them, or let each act on tools of its own.",
        // What is between them hides nothing.
        (retry(), layer(Own), layer(Some(Own)), layer(None::<Own>), cache()) =>
            "RetryTool is outside CachedTool for `read`: the failure of one load reaches all callers who wait for it, \
             and each of them repeats it. Put CachedTool outside RetryTool.",
        // The role counts, and not the type.
        (retry(), layer(Memo)) =>
            "RetryTool is outside Memo for `read`: the failure of one load reaches all callers who wait for it, and \
             each of them repeats it. Put Memo outside RetryTool.",
    };
    for (layers, warnings, warning) in table {
        assert_eq!(warnings, [warning], "{layers}");
    }
}

#[tokio::test]
async fn a_layer_that_acts_on_nothing_is_a_warning_with_the_reason_and_the_fix() {
    let (none, condition) = (
        |_: &Tool| false,
        "no listed tool meets the condition that selects tools. To change this, change the selectors.",
    );
    let all = || ["read", "stock", "send"];
    let listed = "no tool is listed, apart from those in `except`. To change this, remove tools from `except`.";
    let table = [
        ("CachedTool", mistakes(&cache().when(none)), condition),
        ("RetryTool", mistakes(&retry().when(none)), condition),
        ("BatchedTool", mistakes(&BatchedTool::new().when(none)), condition),
        ("IdempotentTool", mistakes(&keyed_when(none)), condition),
        ("TransactionalTool", mistakes(&TransactionalTool::<Sqlite>::new(pool()).when(none)), condition),
        ("ValidatedTool", mistakes(&validated().when(none)), condition),
        ("SessionStore", mistakes(&sessions().when(none)), condition),
        ("ValidatedTool", mistakes(&validated().except(all())), listed),
        ("SessionStore", mistakes(&sessions().except(all())), listed),
        (
            "CachedTool",
            mistakes(&cache().except(["read"])),
            "no tool is annotated `read_only = true`, apart from those in `except`. To change this, annotate the \
             tools that only read, name tools in `allow_skipped_effects`, or cache resources and prompts by `with_resources` \
             and `with_prompts`.",
        ),
        // It keeps nothing that a write could invalidate.
        (
            "CachedTool",
            mistakes(&cache().except(["read"]).invalidates("send", ["read"])),
            "no tool is annotated `read_only = true`, apart from those in `except`. To change this, annotate the \
             tools that only read, name tools in `allow_skipped_effects`, or cache resources and prompts by `with_resources` \
             and `with_prompts`.",
        ),
        (
            "RetryTool",
            mistakes(&retry().only(["read"]).when(none)),
            "none of the tools in `only` meets the condition that selects tools. To change this, change the selectors.",
        ),
    ];
    for (layer, warnings, reason) in table {
        assert_eq!(warnings, [format!("{layer} acts on no tool, resource or prompt: {reason}")], "{layer}");
    }
}

fn keyed_when(none: fn(&Tool) -> bool) -> IdempotentTool {
    IdempotentTool::new(MemoryBackend::new()).when(none)
}

#[test]
fn the_warning_about_tools_without_annotations_names_the_annotation() {
    let plain = || mcp_patterns::testing::ScriptedServer::new("plain").with_plain("send", |_| async { unreachable!() });
    let of = |explanation: mcp_patterns::explain::Explanation| texts(explanation.warnings());
    assert_eq!(
        of(explain(&cache().layer(plain()))),
        ["CachedTool acts on no tool, resource or prompt: no tool is annotated `read_only = true`. To change this, \
          annotate the tools that only read, name tools in `allow_skipped_effects`, or cache resources and prompts by \
          `with_resources` and `with_prompts`."]
    );
    assert_eq!(
        of(explain(&retry().layer(plain()))),
        ["RetryTool acts on no tool, resource or prompt: no tool is annotated `read_only = true` or `idempotent = \
             true`, and \
          none takes an idempotency key from a layer further in. To change this, annotate the tools that may be called twice, \
          name tools in `allow_repeated_effects`, or put the layer outside of the one with the keys."]
    );
}

#[tokio::test]
async fn what_the_page_about_the_order_recommends_has_no_warning() {
    let keys = || Idempotency::new();
    let documented =
        (validated(), sessions(), cache(), batched(), retry(), keyed(), transaction(&["read", "stock", "send"]));
    let stacks = [
        ("all layers", mistakes(&documented)),
        ("none", mistakes(&())),
        ("the validation inside the layers that add arguments", mistakes(&(keyed(), validated()))),
        ("the validation inside the sessions", mistakes(&(sessions(), validated()))),
        ("the cache inside the keys", mistakes(&(keyed().only(["read"]), cache()))),
        ("the sessions inside the batches", mistakes(&(batched(), sessions()))),
        ("a rule inside the transaction", mistakes(&(transaction(&["send"]), with_rule("send")))),
        (
            "a rule inside the transaction, inside retries and a cache",
            mistakes(&(
                cache(),
                retry(),
                transaction(&["read", "stock"]),
                with_rule("read").only(["read", "stock"]).rule("stock", |_: Value, _| async { Ok(()) }),
            )),
        ),
        (
            "a validation outside, and another one inside for what needs the transaction",
            mistakes(&(validated(), transaction(&["send"]), with_rule("send").only(["send"]))),
        ),
        ("keys in the transaction", mistakes(&(retry(), transaction(&["send"]).with_idempotency(keys())))),
        ("two caches for different tools", {
            let other = cache().only(["stock"]).allow_skipped_effects(["stock"]);
            mistakes(&(cache(), other))
        }),
        ("two retries for different tools", mistakes(&(retry().except(["read"]), retry().only(["read"])))),
        ("a cache that only invalidates inside retries", {
            let writes =
                cache().with_ttl(Duration::from_secs(1)).invalidates_tags("stock", |_| ["all"]).except(["read"]);
            mistakes(&(retry().only(["stock"]), writes.with_prompts(cached::Reads::new())))
        }),
        ("a transaction in a transaction", mistakes(&(transaction(&["send"]), transaction(&["send"])))),
        ("a cache of resources", mistakes(&cache().except(["read"]).with_resources(cached::Reads::new()))),
        ("an optional layer that is not there", mistakes(&layer(None::<CachedTool>.filter(|_| true)))),
        ("layers of one's own", mistakes(&(layer(Own), cache(), layer(Own), retry(), layer(Own)))),
    ];
    for (stack, warnings) in stacks {
        assert_eq!(warnings, [""; 0], "{stack}");
    }
}

#[tokio::test]
async fn an_order_is_wrong_only_for_the_tools_that_both_layers_act_on() {
    let apart = (retry().except(["read"]), cache());
    assert_eq!(mistakes(&apart), [""; 0]);
    let rule_for_one = (transaction(&["send", "stock"]), with_rule("send"));
    assert_eq!(
        mistakes(&rule_for_one),
        ["TransactionalTool is outside ValidatedTool for `stock`: a call that is rejected costs a transaction. Put \
          ValidatedTool outside TransactionalTool."]
    );
}

#[test]
fn a_setting_for_a_tool_that_the_layer_leaves_alone_is_a_warning_with_the_fix() {
    let minute = Duration::from_secs(60);
    let annotate = "annotate the tool `read_only = true` if it only reads, name it in `allow_skipped_effects`, or \
                    remove this setting";
    let change = "change the selectors, or remove this setting";
    let table = [
        ("CachedTool::with_ttl_for", "send", annotate, mistakes(&cache().with_ttl_for("send", minute))),
        ("CachedTool::with_scope_for", "send", annotate, mistakes(&cache().with_scope_for("send", Scope::Public))),
        ("CachedTool::tag", "send", annotate, mistakes(&cache().tag("send", |_| ["all"]))),
        ("CachedTool::invalidates", "stock", annotate, mistakes(&cache().invalidates("send", ["read", "stock"]))),
        // A tool that writes is one that the layer acts on, but keeps nothing of.
        (
            "CachedTool::with_ttl_for",
            "send",
            annotate,
            mistakes(&cache().invalidates("send", ["read"]).with_ttl_for("send", minute)),
        ),
        (
            "CachedTool::with_ttl_for",
            "read",
            change,
            mistakes(&cache().only(["stock"]).allow_skipped_effects(["stock"]).with_ttl_for("read", minute)),
        ),
        (
            "BatchedTool::with_scope_for",
            "stock",
            "select the tool with `only` or `with_bulk`, or remove this setting",
            mistakes(&batched().with_scope_for("stock", Scope::Public)),
        ),
        (
            "BatchedTool::allow_repeated_effects",
            "stock",
            "select the tool with `only` or `with_bulk`, or remove this setting",
            mistakes(&batched().allow_repeated_effects(["read", "stock"])),
        ),
        (
            "RetryTool::allow_repeated_questions",
            "send",
            "annotate the tool `read_only = true` or `idempotent = true` if it may be called twice, name it in \
             `allow_repeated_effects`, or remove this setting",
            mistakes(&retry().allow_repeated_questions(["send"])),
        ),
        (
            "RetryTool::allow_repeated_questions",
            "read",
            change,
            mistakes(&retry().except(["read"]).allow_repeated_questions(["read", "stock"])),
        ),
    ];
    for (setting, tool, fix, warnings) in table {
        let warning =
            format!("{setting} has no effect on `{tool}`: the layer does not act there. To change this, {fix}.");
        assert_eq!(warnings, [warning], "{setting}");
    }
}

#[test]
fn a_setting_for_a_tool_that_the_layer_acts_on_is_no_warning() {
    let minute = Duration::from_secs(60);
    let cached = cache().with_ttl_for("read", minute).tag("read", |_| ["all"]).invalidates("send", ["read"]);
    let layers = (cached, batched().with_scope_for("read", Scope::Public), retry().allow_repeated_questions(["stock"]));
    assert_eq!(mistakes(&layers), [""; 0]);
}

#[test]
fn several_mistakes_are_all_in_the_error() {
    let error = explained(&(retry(), cache(), retry(), validated().when(|_| false))).strict().expect_err("mistakes");
    let beginnings = [
        "ValidatedTool acts on no tool",
        "RetryTool is outside CachedTool for `read`",
        "RetryTool and, inside it, RetryTool both have the role retry",
    ];
    assert_eq!(error.warnings().len(), beginnings.len(), "{error}");
    for (line, beginning) in error.to_string().lines().zip(beginnings) {
        assert!(line.starts_with(beginning), "{line}");
    }
    let error: turbomcp::McpError = error.into();
    assert_eq!(error.kind, turbomcp_core::ErrorKind::Configuration);
}

#[test]
fn what_hides_the_marks_does_not_hide_a_mistake() {
    let inner = boxed((UntrustedServer::new(), cache()).layer(shop()));
    let server = retry().allow_repeated_effects(["read"]).layer(inner);
    let warnings = texts(explain(&server).warnings());
    let [warning] = warnings.as_slice() else { panic!("one warning: {warnings:?}") };
    assert!(warning.starts_with("RetryTool is outside CachedTool for `read`: "), "{warning}");
}

#[test]
fn a_setting_that_cannot_work_is_still_an_error_of_its_own() {
    let mistake = (retry(), cache().only(["raed"])).try_layer(shop()).map(drop);
    assert!(matches!(mistake, Err(ConfigError::UnknownTool { .. })), "{mistake:?}");
}

#[test]
fn a_cache_on_a_server_with_resources_only_warns_unless_it_caches_them() {
    #[derive(Clone)]
    struct Library;

    #[server(name = "library", version = "1.0.0")]
    impl Library {
        /// Reads a page.
        #[resource("library://page")]
        async fn page(&self, uri: String, _ctx: &RequestContext) -> McpResult<ResourceResult> {
            Ok(ResourceResult::text(uri, "once"))
        }
    }

    let warnings = texts(explain(&cache().layer(Library)).warnings());
    assert!(matches!(&warnings[..], [warning] if warning.contains("`with_resources`")), "{warnings:?}");
    assert_eq!(texts(explain(&cache().with_resources(cached::Reads::new()).layer(Library)).warnings()), [""; 0]);
}
