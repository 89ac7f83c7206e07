//! What an explanation shows: of any stack, wherever its layers are.

use std::env::{self, consts::EXE_SUFFIX};
use std::process::Command;
use std::time::Duration;

use mcp_patterns::cached::{MemoryLevel, RedisLevel};
use mcp_patterns::explain::{Action, Description, ExplainedLayer, ExplainedTool, Explanation, Setting};
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, Middleware, RedisConnection, RetryTool, Scope, SessionStore,
    TransactionalTool, UntrustedServer, boxed, explain, layer,
};
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_server::CompositeHandler;
use turbomcp_types::{Tool, ToolResult};

use super::{explained, pool, shop, texts};

/// `tool: layer(setting), layer(setting)`
fn chain(tool: &ExplainedTool) -> String {
    let action = |action: &Action| {
        let settings: Vec<_> = action.settings.iter().map(Setting::to_string).collect();
        format!("{}({})", action.layer, settings.join(", "))
    };
    let layers: Vec<_> = tool.layers.iter().map(action).collect();
    format!("{}: {}", tool.name, layers.join(" "))
}

fn chains(server: &impl McpHandler) -> Vec<String> {
    explain(server).tools().iter().map(chain).collect()
}

fn of_layers(layers: &[ExplainedLayer]) -> Vec<String> {
    layers.iter().map(|layer| format!("{}: {}", layer.name, layer.tools.join(" "))).collect()
}

/// A layer of the user's that says nothing of itself.
#[derive(Clone)]
struct Silent<T>(T);

impl<T: Clone + Send + Sync + 'static> Middleware for Silent<T> {}

/// A layer of the user's that says on which tools it acts.
#[derive(Clone)]
struct Audited;

impl Middleware for Audited {
    fn describe(&self, tools: &[Tool]) -> Description {
        let description = Description::new("Audit").with_setting("sink", "stderr");
        let audited = tools.iter().filter(|tool| tool.name == "send");
        audited.fold(description, |description, tool| description.with_setting_for(&tool.name, "level", 3))
    }
}

#[tokio::test]
async fn each_tool_has_its_layers_from_outside_in_with_their_effective_settings() {
    let layers = (
        CachedTool::new()
            .with_ttl(Duration::from_secs(60))
            .with_scope_for("read", Scope::Public)
            .invalidates("send", ["read"]),
        BatchedTool::new().only(["read"]),
        RetryTool::new().with_max_attempts(5),
        IdempotentTool::new(MemoryBackend::new()).only(["send"]).with_idempotency(Idempotency::new().required()),
        TransactionalTool::new(pool()).only(["read", "stock"]),
    );
    let explanation = explained(&layers);
    let chains: Vec<_> = explanation.tools().iter().map(chain).collect();
    assert_eq!(
        chains,
        [
            "read: CachedTool(ttl 1 min, scope Public) BatchedTool(calls equal ones, scope Principal) RetryTool(attempts 5) \
         TransactionalTool(transaction read-only)",
            "stock: RetryTool(attempts 5) TransactionalTool()",
            "send: CachedTool(invalidates read) RetryTool(attempts 5, only with a key) IdempotentTool(key argument \
         idempotency_key (required))",
        ]
    );
    assert_eq!(
        of_layers(explanation.layers()),
        [
            "CachedTool: read send",
            "BatchedTool: read",
            "RetryTool: read stock send",
            "IdempotentTool: send",
            "TransactionalTool: read stock",
        ]
    );
    assert_eq!(explanation.warnings(), []);
}

#[test]
fn the_table_has_all_that_the_data_have() {
    let explanation = explained(&(layer(Audited), CachedTool::new()));
    assert_eq!(
        explanation.to_string(),
        "tool   layers, from outside in  settings\n\
         read   CachedTool               ttl 5 min, scope Principal\n\
         stock  none\n\
         send   Audit                    level 3\n\
         \n\
         layer       acts on  settings\n\
         Audit       send     sink stderr\n\
         CachedTool  read     max_entries 10000, max_bytes 64 MiB\n\
         \n\
         no warnings\n\
         note: without annotations, and so without CachedTool: `send`. Annotate a tool `read_only = true` if it only reads.\n"
    );
    let wrong = explained(&(RetryTool::new(), CachedTool::new()));
    let table = wrong.to_string();
    assert!(table.contains(&format!("\nwarning: {}\nnote: {}\n", wrong.warnings()[0], wrong.notes()[0])), "{table}");
}

/// A writing tool needs no annotation, so `strict` does not fail.
#[test]
fn a_tool_without_annotations_is_in_a_note_with_the_layers_that_leave_it_out_for_that() {
    let texts = |explanation: &Explanation| explanation.notes().iter().map(ToString::to_string).collect::<Vec<_>>();
    let both = explained(&(CachedTool::new(), RetryTool::new()));
    assert_eq!(
        texts(&both),
        [
            "without annotations, and so without CachedTool and RetryTool: `send`. Annotate a tool `read_only = true` if \
          it only reads."
        ]
    );
    assert!(both.strict().is_ok());
    let without = [
        ("the cache acts on it", explained(&CachedTool::new().invalidates("send", ["read"]))),
        ("it is selected", explained(&RetryTool::new().allow_repeated_effects(["send"]))),
        ("it is excluded", explained(&CachedTool::new().except(["send"]))),
        ("the selectors decide", explained(&RetryTool::new().only(["read"]))),
        ("no layer needs annotations", explained(&SessionStore::in_memory())),
    ];
    for (why, explanation) in without {
        assert_eq!(explanation.notes(), [], "{why}");
    }
}

#[test]
fn the_second_level_of_a_cache_is_seen_with_its_subscriber() {
    let redis = RedisConnection::open("redis://127.0.0.1").expect("a URL");
    let level = || RedisLevel::new(redis.clone());
    let of = |cached: CachedTool| {
        let explanation = explained(&cached);
        let settings = &explanation.layers()[0].settings;
        settings.iter().find(|setting| setting.name == "second_level").map(|setting| setting.value.clone())
    };
    let with = |level: RedisLevel| of(CachedTool::new().with_second_level(level));
    assert_eq!(of(CachedTool::new()), None);
    assert_eq!(with(level()).as_deref(), Some("RedisLevel without a subscriber"));
    assert_eq!(with(level().with_subscriber(&redis)).as_deref(), Some("RedisLevel with a subscriber"));
    let memory = of(CachedTool::new().with_second_level(std::sync::Arc::new(MemoryLevel::new())));
    assert_eq!(memory.as_deref(), Some("MemoryLevel"));
}

#[test]
fn an_optional_layer_is_seen_if_it_is_there() {
    let explanation = explained(&(layer(Some(CachedTool::new())), layer(None::<RetryTool>)));
    assert_eq!(of_layers(explanation.layers()), ["CachedTool: read"]);
}

#[test]
fn a_layer_of_ones_own_has_the_name_of_its_type_and_counts_as_one_for_every_tool() {
    let explanation = explained(&(layer(Silent(5)), layer(Audited)));
    assert_eq!(of_layers(explanation.layers()), ["Silent: read stock send", "Audit: send"]);
}

#[test]
fn a_composite_is_seen_with_the_layers_of_each_server_and_the_names_that_it_lists() {
    let books = CachedTool::new().layer(shop());
    let films = (CachedTool::new().with_ttl(Duration::from_secs(60)), RetryTool::new()).layer(shop());
    let composite = CompositeHandler::new("all", "1.0.0").mount(books.clone(), "books").mount(films, "films");
    let server = RetryTool::new().only(["books_read", "films_stock"]).layer(composite.mount(books, "again"));
    let of_read: Vec<_> = chains(&server).into_iter().filter(|chain| chain.contains("read")).collect();
    assert_eq!(
        of_read,
        [
            "books_read: RetryTool(attempts 3) CachedTool(ttl 5 min, scope Principal)",
            "films_read: CachedTool(ttl 1 min, scope Principal) RetryTool(attempts 3)",
            "again_read: CachedTool(ttl 5 min, scope Principal)",
        ]
    );
    let explanation = explain(&server);
    assert_eq!(
        of_layers(explanation.layers()),
        [
            "RetryTool: books_read films_stock",
            "CachedTool: books_read again_read",
            "CachedTool: films_read",
            "RetryTool: films_read films_stock",
        ]
    );
    let warnings = texts(explanation.warnings());
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("RetryTool is outside CachedTool for `books_read`: "), "{}", warnings[0]);
    assert!(
        warnings[1].starts_with("RetryTool and, inside it, RetryTool both have the role retry for `films_stock`: ")
    );
}

#[test]
fn a_composite_without_a_layer_around_it_is_seen_too() {
    let composite = CompositeHandler::new("all", "1.0.0").mount(CachedTool::new().layer(shop()), "books");
    assert_eq!(chains(&composite)[0], "books_read: CachedTool(ttl 5 min, scope Principal)");
}

#[test]
fn boxes_untrusted_servers_and_handlers_of_ones_own_hide_no_layer() {
    let inner = boxed((UntrustedServer::new(), CachedTool::new()).layer(shop()));
    let server = (RetryTool::new().allow_repeated_effects(["read"]), layer(Audited)).layer(Forwards(inner));
    assert_eq!(
        chains(&server)[0],
        "read: RetryTool(attempts 3) UntrustedServer() CachedTool(ttl 5 min, scope Principal)"
    );
}

/// A handler of the user's around another one, which lists twice.
#[derive(Clone)]
struct Forwards<H>(H);

impl<H: McpHandler> McpHandler for Forwards<H> {
    fn server_info(&self) -> turbomcp_types::ServerInfo {
        self.0.server_info()
    }

    fn list_tools(&self) -> Vec<Tool> {
        let before = self.0.list_tools();
        let tools = self.0.list_tools();
        assert_eq!(before.len(), tools.len());
        tools
    }

    fn list_resources(&self) -> Vec<turbomcp_types::Resource> {
        self.0.list_resources()
    }

    fn list_prompts(&self) -> Vec<turbomcp_types::Prompt> {
        self.0.list_prompts()
    }

    async fn call_tool<'a>(
        &'a self,
        name: &'a str,
        args: serde_json::Value,
        ctx: &'a RequestContext,
    ) -> turbomcp_core::McpResult<ToolResult> {
        self.0.call_tool(name, args, ctx).await
    }

    async fn read_resource<'a>(
        &'a self,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> turbomcp_core::McpResult<turbomcp_types::ResourceResult> {
        self.0.read_resource(uri, ctx).await
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        args: Option<serde_json::Value>,
        ctx: &'a RequestContext,
    ) -> turbomcp_core::McpResult<turbomcp_types::PromptResult> {
        self.0.get_prompt(name, args, ctx).await
    }
}

#[test]
fn a_thousand_tools_are_data_but_no_thousand_lines() {
    let add = |server: ScriptedServer, number: usize| {
        server.with_read_only(&format!("tool_{number}"), |_| async { Ok(ToolResult::text("read")) })
    };
    let many = (0..1000).fold(ScriptedServer::new("many"), add);
    let explanation = explain(&(RetryTool::new(), CachedTool::new()).layer(many));
    assert_eq!(explanation.tools().len(), 1000);
    assert_eq!(explanation.layers()[0].tools.len(), 1000);
    let table = explanation.to_string();
    assert!(table.contains("\nand 950 more tools\n"), "{table}");
    assert_eq!(table.matches("and 992 more").count(), 3, "both layers and the warning: {table}");
    assert!(table.len() < 8 << 10, "{} bytes", table.len());
}

#[tokio::test]
async fn a_handle_names_the_tools_of_its_layer_once_the_layer_is_on_a_server() {
    let cached = CachedTool::new().invalidates("send", ["read"]);
    let batched = BatchedTool::new().only(["stock"]);
    let keyed = IdempotentTool::new(MemoryBackend::new()).only(["send"]);
    let transaction = TransactionalTool::new(pool()).only(["stock"]);
    let handles = (cached.handle(), batched.handle(), keyed.handle(), transaction.handle());
    let tools = || [handles.0.tools(), handles.1.tools(), handles.2.tools(), handles.3.tools()];
    assert_eq!(tools(), [const { Vec::<String>::new() }; 4]);
    let _server = (cached.with_ttl(Duration::from_secs(1)), batched.with_max_size(2), keyed, transaction).layer(shop());
    assert_eq!(tools().map(|tools| tools.join(" ")), ["read send", "stock", "send", "stock"]);
}

/// Runs an example with `--explain`.
fn printed(example: &str) -> String {
    let test = env::current_exe().expect("the test binary has a path");
    let profile = test.ancestors().nth(2).expect("a target directory");
    let output =
        Command::new(profile.join("examples").join(format!("{example}{EXE_SUFFIX}"))).arg("--explain").output();
    let output = output.expect("the example starts: `cargo build --examples --all-features` makes it");
    let log = String::from_utf8(output.stderr).expect("the log is text");
    assert!(output.status.success(), "{example}: {log}");
    assert!(!log.contains("a stack of layers has a mistake"), "{example}: {log}");
    String::from_utf8(output.stdout).expect("the table is text")
}

#[test]
fn each_example_server_prints_its_layers_and_has_no_warning() {
    let expected = [
        (
            "counter",
            ["increment       Logged", "increment_mine  Logged", "                SessionStore", "SessionStore  "],
        ),
        (
            "users",
            [
                "create_user   ValidatedTool",
                "              TransactionalTool",
                "get_user      ValidatedTool",
                "ValidatedTool   ",
            ],
        ),
        (
            "weather",
            [
                "get_forecast      CachedTool",
                "                  RetryTool",
                "fetch_aggregated  RetryTool",
                "CachedTool  ",
            ],
        ),
        (
            "transfer",
            ["transfer      RetryTool", "              TransactionalTool", "balance       RetryTool", "RetryTool  "],
        ),
    ];
    for (example, lines) in expected {
        let table = printed(example);
        for line in lines {
            assert!(table.lines().any(|printed| printed.starts_with(line)), "{example} prints no `{line}`:\n{table}");
        }
        assert!(table.ends_with("\nno warnings\n"), "{example}: {table}");
    }
}
