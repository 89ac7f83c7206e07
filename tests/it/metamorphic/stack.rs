//! How a stack is built from what its plan says.

use std::sync::Arc;
use std::time::Duration;

use mcp_patterns::cached::{self, Reads};
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::limited::{Concurrency, Per, Rate};
use mcp_patterns::session::SessionMode;
use mcp_patterns::transactional::{Dialect, Transactor};
use mcp_patterns::{
    AuditTool, BatchedTool, BoxHandler, BreakerTool, CachedTool, IdempotentTool, Identity, LimitedTool, Middleware,
    RetryTool, RmcpServer, Scope, SessionStore, TransactionalTool, TryLayer, ValidatedTool, boxed, layer,
};
use serde_json::{Value, json};
use sqlx::Pool;
use turbomcp_core::ErrorKind;

use super::backends::{Backends, Keys, Level, Sessions, Tables};
use super::callers::CONNECTIONS;
use super::faulty::Faulty;
use super::log::Log;
use super::long::{Padded, Reading, bound};
use super::plan::{Kind, Layered, Sdk, Setting, Stack, Way};
use super::requests::{Op, Request};
use super::rmcp_end::{Acts, At, Front, RmcpWorld, front};
use super::world::World;
use super::wrong::Does;
use crate::whole::shop::Own;

/// A server of a stack.
pub(super) struct Server {
    pub(super) handler: BoxHandler,
    /// The same with the edge of rmcp around it, if the server is one of rmcp.
    pub(super) rmcp: Option<Front>,
    /// The innermost first: what one of them is told must not come back out of one further in.
    pub(super) caches: Vec<cached::Handle>,
}

/// What a layer is built from.
struct Building<'a> {
    stack: &'a Stack,
    backends: &'a Backends,
    world: &'a World,
    seed: u64,
    namespace: Option<&'static str>,
}

/// Builds the server with this number.
pub(super) fn build(
    stack: &Stack,
    backends: &Backends,
    log: &Arc<Log>,
    world: &World,
    server: usize,
    seed: u64,
) -> Server {
    let namespace = stack.has_staging.then(|| ["production", "staging"][stack.environment(server)]);
    let building = Building { stack, backends, world, seed, namespace };
    let end = (stack.sdk == Sdk::Rmcp).then(|| rmcp_server(world));
    let handler = end.clone().map_or_else(|| boxed(world.clone()), boxed);
    let (mut around, mut caches) = (Around { handler, acts: Vec::new() }, Vec::new());
    for layered in stack.layers.iter().rev() {
        match layered.kind {
            Kind::Wrong(wrong) => around.put(&layer(Does::new(wrong))),
            Kind::Output => {
                around.put(&layer(Padded));
                around.put(&bound(building.identity()));
                around.put(&layer(Reading));
            }
            Kind::Own => around.put(&layer(Own)),
            Kind::Validated => around.put(&validated(layered)),
            Kind::Session => around.put(&building.sessions(layered)),
            Kind::Cached => {
                let layer = building.cached(layered);
                caches.push(layer.handle());
                around.put(&layer);
            }
            Kind::Batched => around.put(&building.batched(layered)),
            Kind::Retry => around.put(&building.retry(layered)),
            Kind::Breaker => around.put(&building.breaker(layered)),
            Kind::Limited => around.put(&building.limited(layered)),
            Kind::Idempotent => around.put(&building.idempotent(layered)),
            Kind::Transactional => match &backends.pool {
                Some(Tables::Sqlite(pool)) => around.put(&building.transactional(layered, pool)),
                Some(Tables::Postgres(pool)) => around.put(&building.transactional(layered, pool)),
                None => {}
            },
        }
    }
    let log = Arc::clone(log);
    around.put(&AuditTool::new().with_sink(move |event| log.events().push(event.clone())));
    let Around { handler, acts } = around;
    let rmcp = end.map(|end| front(handler.clone(), acts, end));
    Server { handler, rmcp, caches }
}

fn rmcp_server(world: &World) -> RmcpServer<RmcpWorld> {
    RmcpServer::new(RmcpWorld(world.clone())).with_principal(|ctx| {
        let At(connection) = ctx.extensions.get()?;
        CONNECTIONS[*connection].principal.clone()
    })
}

/// The layers so far.
struct Around {
    handler: BoxHandler,
    acts: Vec<Acts>,
}

impl Around {
    fn put<M: Middleware>(
        &mut self,
        layer: &impl TryLayer<BoxHandler, Service = mcp_patterns::Layered<M, BoxHandler>>,
    ) {
        let put = layer.try_layer(self.handler.clone());
        let put = put.unwrap_or_else(|error| panic!("the plan has a setting that cannot work: {error}"));
        let middleware = put.middleware().clone();
        self.acts.push(Arc::new(move |target| middleware.acts_on(target)));
        self.handler = boxed(put);
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn topic(args: &Value) -> u8 {
    Request::of(Op::News, args).topic
}

fn validated(layered: &Layered) -> ValidatedTool {
    // Not all: to compile a schema takes most of the time of a small stack.
    layered.settings.iter().fold(ValidatedTool::new().only(["check", "pay"]), |layer, setting| match setting {
        Setting::WithoutOutputChecks => layer.without_output_checks(),
        Setting::Only(op) => layer.only([op.name()]),
        _ => layer,
    })
}

impl Building<'_> {
    fn identity(&self) -> Identity {
        let identities = self.stack.identities;
        let identity = if identities.ignore_rights { Identity::new().without_rights() } else { Identity::new() };
        let identity = if identities.know_workspaces { identity.with_tenant_claim("workspace") } else { identity };
        if identities.anonymous_by_session { identity.with_anonymous_by_session() } else { identity }
    }

    fn sessions(&self, layered: &Layered) -> SessionStore {
        let new = match self.backends.sessions.clone() {
            Sessions::Memory(backend) => SessionStore::new(backend),
            Sessions::Redis(backend) => SessionStore::new(backend),
            Sessions::Sqlite(backend) => SessionStore::new(backend),
            Sessions::Postgres(backend) => SessionStore::new(backend),
        };
        let new = new.only(["visit", "seen"]).with_identity(self.identity());
        let new = self.namespace.map_or_else(|| new.clone(), |namespace| new.clone().with_namespace(namespace));
        layered.settings.iter().fold(new, |layer, setting| match setting {
            Setting::ByPrincipal => layer.with_mode(SessionMode::Principal),
            Setting::ByHandle => layer.with_mode(SessionMode::Handle),
            Setting::Optional => layer.optional(),
            _ => layer,
        })
    }

    fn cached(&self, layered: &Layered) -> CachedTool {
        let new = CachedTool::new().with_identity(self.identity());
        let new = self.namespace.map_or_else(|| new.clone(), |namespace| new.clone().with_namespace(namespace));
        let new = if self.stack.has_database() { new.invalidates("book", ["balance"]) } else { new };
        layered.settings.iter().fold(new, |layer, setting| match *setting {
            Setting::WithoutMeta => layer.without_meta(),
            Setting::PublicFor(op) => layer.with_scope_for(op.name(), Scope::Public),
            Setting::Ttl(ttl) => layer.with_ttl(secs(ttl)),
            Setting::StaleWhileRevalidate(time) => layer.with_stale_while_revalidate(secs(time)),
            Setting::StaleIfError(time) => layer.with_stale_if_error(secs(time)),
            Setting::EarlyRefresh => layer.with_early_refresh(1.0),
            Setting::TtlJitter => layer.with_ttl_jitter(0.5),
            Setting::NegativeTtl(ttl) => {
                layer.with_negative_ttl([ErrorKind::Unavailable, ErrorKind::ResourceNotFound], secs(ttl))
            }
            Setting::BySession => layer.with_scope(Scope::Session),
            Setting::SecondLevel => match &self.backends.level {
                Level::Memory(level) if layered.has(Setting::FaultyBackend) => {
                    layer.with_second_level(Faulty::new(level.clone()))
                }
                Level::Memory(level) => layer.with_second_level(level.clone()),
                Level::Redis(level) => layer.with_second_level(level.clone()).with_second_level_timeout(secs(2)),
            },
            Setting::FirstLevelTtl(ttl) => layer.with_first_level_ttl(secs(ttl)),
            Setting::Lease => layer.with_lease(secs(1)),
            Setting::ResourcesAndPrompts => {
                let layer = if layered.keeps(Op::Note) { layer.with_resources(Reads::new()) } else { layer };
                if layered.keeps(Op::Greeting) { layer.with_prompts(Reads::new()) } else { layer }
            }
            Setting::Keeps(half) => layer.when(move |tool| {
                let is_read_only = tool.annotations.as_ref().and_then(|hints| hints.read_only_hint) == Some(true);
                is_read_only && Op::TOOLS.into_iter().any(|op| op.name() == tool.name && half.has(op))
            }),
            Setting::LoadTimeout(timeout) => layer.with_load_timeout(millis(timeout)),
            Setting::Invalidates(way) => invalidates(layer, way, layered),
            _ => layer,
        })
    }

    fn batched(&self, layered: &Layered) -> BatchedTool {
        let world = self.world.clone();
        let new = BatchedTool::new().with_bulk("price", move |calls| world.clone().prices(calls));
        layered.settings.iter().fold(new.with_identity(self.identity()), |layer, setting| match *setting {
            Setting::WithoutMeta => layer.without_meta(),
            Setting::Only(op) => layer.only([op.name()]),
            Setting::PublicFor(op) => layer.with_scope_for(op.name(), Scope::Public),
            Setting::MaxInFlight(batches) => layer.with_max_in_flight(batches),
            Setting::MaxSize(size) => layer.with_max_size(size),
            Setting::MaxDelay(delay) => layer.with_max_delay(millis(delay)),
            Setting::MaxQueue(calls) => layer.with_max_queue(calls),
            Setting::WaitWhenFull => layer.wait_when_full(),
            Setting::Splits => layer.split_failed_batches(),
            Setting::BatchTimeout(timeout) => layer.with_batch_timeout(millis(timeout)),
            _ => layer,
        })
    }

    fn retry(&self, layered: &Layered) -> RetryTool {
        let new = RetryTool::new().with_seed(self.seed);
        let new = if self.stack.has_database() { new.with_base_delay(millis(1)) } else { new };
        layered.settings.iter().fold(new, |layer, setting| match *setting {
            Setting::WithoutMeta => layer.without_meta(),
            Setting::MaxAttempts(attempts) => layer.with_max_attempts(attempts),
            Setting::AttemptTimeout(timeout) => layer.with_attempt_timeout(millis(timeout)),
            Setting::Deadline(deadline) => layer.with_deadline(millis(deadline)),
            Setting::AllowRepeated(op) => layer.allow_repeated_effects([op.name()]),
            Setting::WithoutBudget => layer.without_budget(),
            Setting::AllowRepeatedQuestions => layer.allow_repeated_questions(["ask"]),
            _ => layer,
        })
    }

    fn breaker(&self, layered: &Layered) -> BreakerTool {
        let new = BreakerTool::new().with_identity(self.identity()).with_pause(millis(20));
        layered.settings.iter().fold(new, |layer, setting| match *setting {
            Setting::WithoutMeta => layer.without_meta(),
            Setting::MinCalls(calls) => layer.with_min_calls(calls),
            _ => layer,
        })
    }

    fn limited(&self, layered: &Layered) -> LimitedTool {
        // A plan that was made smaller may have no setting, which would be an error.
        let new = LimitedTool::new().with_identity(self.identity()).with_timeout(Duration::from_secs(3_600));
        layered.settings.iter().fold(new, |layer, setting| match *setting {
            Setting::Burst(calls) => layer.with_rate(Per::Principal, Rate::per_hour(1).with_burst(calls)),
            Setting::Places(calls) => {
                layer.with_concurrency(Per::Tool, Concurrency::new(calls).with_queue(calls).with_max_wait(millis(20)))
            }
            Setting::CallTimeout(timeout) => layer.with_timeout(millis(timeout)),
            _ => layer,
        })
    }

    fn idempotent(&self, layered: &Layered) -> IdempotentTool {
        let new = match &self.backends.keys {
            Keys::Memory(store) if layered.has(Setting::FaultyBackend) => {
                IdempotentTool::new(Faulty::new(store.clone()))
            }
            Keys::Memory(store) => IdempotentTool::new(store.clone()),
            Keys::Redis(store) => IdempotentTool::new(store.clone()),
            Keys::Sqlite(store) => IdempotentTool::new(store.clone()),
            Keys::Postgres(store) => IdempotentTool::new(store.clone()),
        };
        // Whatever is there and writes, but not what has a transaction.
        let new = new.when(|tool| matches!(tool.name.as_str(), "pay" | "late" | "varies"));
        let new = new.with_identity(self.identity()).with_idempotency(keys(layered));
        let new = self.namespace.map_or_else(|| new.clone(), |namespace| new.clone().with_namespace(namespace));
        layered.settings.iter().fold(new, |layer, setting| match *setting {
            Setting::WithoutMeta => layer.without_meta(),
            Setting::Wait(wait) => layer.with_wait(secs(wait)),
            Setting::KeyLease(lease) => layer.with_lease(secs(lease)),
            Setting::RunsAgainWhenAmbiguous => layer.run_again_when_ambiguous(),
            _ => layer,
        })
    }

    fn transactional<DB: Dialect>(&self, layered: &Layered, pool: &Pool<DB>) -> TransactionalTool<DB> {
        let transactor = Transactor::new(pool.clone()).with_max_attempts(20);
        let new = TransactionalTool::new(transactor).only(["book"]).with_identity(self.identity());
        let new = new.with_idempotency(keys(layered));
        let new = self.namespace.map_or_else(|| new.clone(), |namespace| new.clone().with_namespace(namespace));
        layered.settings.iter().fold(new, |layer, setting| match *setting {
            Setting::WithoutMeta => layer.without_meta(),
            Setting::Wait(wait) => layer.with_wait(secs(wait)),
            _ => layer,
        })
    }
}

fn keys(layered: &Layered) -> Idempotency {
    layered.settings.iter().fold(Idempotency::new(), |keys, setting| match *setting {
        Setting::KeyTtl(ttl) => keys.with_ttl(secs(ttl)),
        Setting::RecordsFailures => keys.recording_failures(),
        Setting::Required(op) => keys.required_for([op.name()]),
        _ => keys,
    })
}

fn invalidates(layer: CachedTool, way: Way, layered: &Layered) -> CachedTool {
    let uri = |args: &Value| [format!("note://{}", topic(args))];
    let layer = if layered.keeps(Op::Note) { layer.invalidates_resources("update", uri) } else { layer };
    let tag = |topic: u8| [format!("topic {topic}")];
    match way {
        Way::Tool => layer.invalidates("update", ["news", "mine"]),
        Way::Tag => {
            let layer = layer.tag("news", move |args| tag(topic(args))).tag("mine", move |args| tag(topic(args)));
            let layer = layer.invalidates_tags("update", move |args| tag(topic(args)));
            match layered.keeps(Op::Greeting) {
                true => layer.with_prompts(Reads::new().with_tags(move |_, args| tag(topic(args)))),
                false => layer,
            }
        }
        Way::Call => {
            layer.invalidates_calls("update", |args| ["news", "mine"].map(|tool| (tool, json!({"topic": topic(args)}))))
        }
    }
}
