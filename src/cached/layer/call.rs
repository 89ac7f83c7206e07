//! What happens to a request: it is answered from the cache or by the handler, or it writes.

use std::borrow::Cow;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use serde_json::{Value, json};
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::CachedTool;
use super::answer::{Answer, Cacheable, Failed, note};
use super::invalidation::{Dirt, Domains, Writes};
use super::key::{CallKey, KeyPrefix, Kind};
use super::notifications::{hear, heard};
use super::session::{OwnCall, Unkept, judged, of_own_session, own, unshared};
use crate::arguments::LayerArguments;
use crate::cached::cache::Cache;
use crate::cached::cache::error::LoadError;
use crate::cached::cache::loader::{Loading, Source};
use crate::cached::first_level::invalidation_key::EntryKeys;
use crate::identity::Partition;
use crate::shared_work::{Caller, SessionOfCall, SharedContext, Work, session_opened};
use crate::telemetry::Counter;
use crate::{Identity, Scope, outcome, scope};

/// The answers that are kept, and failures for those who wait.
pub(in crate::cached) type Results = Cache<CallKey, Answer, Unkept>;

/// How the answers of a tool, of all resources or of all prompts are kept.
#[derive(Debug)]
pub(in crate::cached) struct AnswerPlan {
    pub(in crate::cached) prefix: KeyPrefix,
    pub(in crate::cached) ttl: Duration,
    pub(in crate::cached) scope: Scope,
    pub(in crate::cached) identity: Identity,
    pub(in crate::cached) tags: Vec<Domains>,
    /// Those of layers further in, which a tag does not see.
    pub(in crate::cached) arguments: LayerArguments,
    /// Whether the cache has to [hear](super::notifications) what the handler tells its client.
    pub(in crate::cached) hears: bool,
    pub(in crate::cached) hits: Counter,
    pub(in crate::cached) misses: Counter,
}

/// The identity is the layer's, and the counters follow from the rest.
impl PartialEq for AnswerPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.prefix, self.ttl, self.scope, &self.tags, &self.arguments)
            == (&other.prefix, other.ttl, other.scope, &other.tags, &other.arguments)
    }
}

impl CachedTool {
    /// Calls a tool that writes and, unless it certainly took no effect, forgets what it made wrong.
    pub(in crate::cached) async fn write<'a, H: McpHandler>(
        &'a self,
        writes: Arc<Writes>,
        arguments: LayerArguments,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let dirt = Dirt::new(&self.results, writes.of(name, &arguments.without(&args)));
        let ctx = self.heard(ctx);
        let result = dirt.around(inner.call_tool(name, args, &ctx)).await;
        if outcome::failure(&result).is_some_and(|failure| failure.is_not_executed()) {
            dirt.never_mind();
        } else {
            tracing::debug!(tool = name, "a write invalidates");
            dirt.forget().await;
        }
        result
    }

    /// The context for a handler that is asked without anything being kept.
    pub(in crate::cached) fn heard<'a>(&self, ctx: &'a RequestContext) -> Cow<'a, RequestContext> {
        heard(self.settings.hears(), &self.results, ctx)
    }

    /// Answers a request whose answer is kept.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice, and every call carries them")]
    pub(in crate::cached) fn cached<'a, A: Cacheable, H: McpHandler>(
        &'a self,
        plan: impl Deref<Target = AnswerPlan> + Send + Sync + 'a,
        inner: &'a H,
        name: &'a str,
        args: A::Args,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<A>> + Send + 'a {
        async move {
            let caller = match plan.identity.partition(plan.scope, ctx) {
                // What runs inside a transaction may see what nobody else may see yet, and a shared call would run outside it.
                Some(caller) if !scope::is_in_transaction() => caller,
                _ => return Box::pin(async move { A::ask(inner, name, args, &self.heard(ctx)).await }).await,
            };
            let found = get_or_call(&self.results, &plan, &caller, inner, name, args, ctx).await;
            let (mut answer, source) = match found {
                Ok(found) => found,
                Err(Failed(answer)) => {
                    plan.misses.increment();
                    return answer;
                }
            };
            let status = Status::of(source);
            if status.is_hit { &plan.hits } else { &plan.misses }.increment();
            match A::KIND {
                Kind::Tool => tracing::debug!(tool = name, cache = status.word),
                // A URI is as good as arguments, which no log has.
                Kind::Resource | Kind::Prompt => tracing::debug!(kind = A::KIND.word(), cache = status.word),
            }
            if status.is_hit
                && let Some(meta) = answer.meta()
            {
                // What it took to get the answer is no news about this request.
                meta.remove(outcome::ATTEMPTS);
            }
            let mut answer = Ok(answer);
            if self.settings.tells {
                note(&mut answer, A::meta, outcome::CACHE, status.to_meta());
            }
            answer
        }
    }
}

/// What an answer's `_meta` says of where it came from.
pub(in crate::cached) struct Status {
    word: &'static str,
    is_hit: bool,
    from: Option<(Duration, u8)>,
}

impl Status {
    fn of(source: Source) -> Self {
        match source {
            Source::Hit { age, level } => Self { word: "hit", is_hit: true, from: Some((age, level)) },
            Source::Stale { age, level } => Self { word: "stale", is_hit: true, from: Some((age, level)) },
            Source::Load | Source::Own => Self { word: "miss", is_hit: false, from: None },
        }
    }

    /// What a failure says that was kept for this long.
    pub(in crate::cached) fn told_again(age: Duration) -> Value {
        Self::of(Source::Hit { age, level: 1 }).to_meta()
    }

    fn to_meta(&self) -> Value {
        match self.from {
            Some((age, level)) => {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                json!({"status": self.word, "level": level, "ageMs": age})
            }
            None => json!({"status": self.word}),
        }
    }
}

/// Answers a request from the cache, or from the handler in a task of its own.
pub(in crate::cached) async fn get_or_call<A: Cacheable, H: McpHandler>(
    results: &Results,
    plan: &AnswerPlan,
    partition: &Partition<'_>,
    inner: &H,
    name: &str,
    args: A::Args,
    ctx: &RequestContext,
) -> Result<(A, Source), Failed<A>> {
    let (key, domains) = plan.entry::<A>(partition, name, &args);
    if plan.scope == Scope::Session {
        // An outer cache does not see the handler open its session, where the answer is kept.
        session_opened();
    }
    let (caller, mut args) = (Caller::new(ctx, plan.scope, &plan.identity), Some(args));
    let load = |work: &Arc<Work>| {
        let args = args.take().unwrap_or_default();
        ask::<A, _>(results, plan, inner, name, args, &caller, work)
    };
    match results.get_or_load_in(&caller, key, &domains, plan.ttl, load).await {
        Ok(found) => open(found),
        Err(Unkept::OfSession(answer, session)) => match args {
            Some(args) if !session.is_that_of(&SessionOfCall::of(&plan.identity, ctx)) => {
                Box::pin(ask_alone(results, plan, &caller, inner, name, args)).await
            }
            _ => of_own_session(answer),
        },
        // Whoever still has the arguments did not make the call.
        Err(Unkept::OfClient(call)) => match args {
            Some(args) => Box::pin(ask_alone(results, plan, &caller, inner, name, args)).await,
            None => Box::pin(go_on(&caller, call)).await,
        },
        Err(unkept) => Err(unkept.failed()),
    }
}

/// Goes on with the call that this caller has begun, and that has asked the caller's client.
async fn go_on<A: Cacheable>(caller: &Caller<'_>, call: OwnCall) -> Result<(A, Source), Failed<A>> {
    match call.take() {
        Some(call) => match caller.wait_alone(call).await {
            Some(answer) => own(answer),
            None => Err(<Unkept as LoadError>::cancelled().failed()),
        },
        None => Err(<Unkept as LoadError>::lost().failed()),
    }
}

/// Makes the call for this caller alone, who has waited for another one.
async fn ask_alone<A: Cacheable, H: McpHandler>(
    results: &Results,
    plan: &AnswerPlan,
    caller: &Caller<'_>,
    inner: &H,
    name: &str,
    args: A::Args,
) -> Result<(A, Source), Failed<A>> {
    let from_here = caller.context_from_here();
    let ctx = from_here.as_ref().map_or(caller.ctx(), |attempt| &attempt.ctx);
    unshared(A::ask(inner, name, args, &heard(plan.hears, results, ctx))).await
}

/// Asks the handler in a task of its own, whatever is kept, and keeps its answer.
pub(in crate::cached) async fn call_and_keep<A: Cacheable, H: McpHandler>(
    results: &Results,
    plan: &AnswerPlan,
    partition: &Partition<'_>,
    inner: &H,
    name: &str,
    args: A::Args,
    ctx: &RequestContext,
) -> Result<(A, Source), Failed<A>> {
    let (key, domains) = plan.entry::<A>(partition, name, &args);
    let caller = Caller::new(ctx, plan.scope, &plan.identity);
    let load = |work: &Arc<Work>| ask::<A, _>(results, plan, inner, name, args, &caller, work);
    match results.refresh_in(&caller, key, &domains, plan.ttl, load).await {
        Ok(found) => open(found),
        Err(Unkept::OfSession(answer, _)) => of_own_session(answer),
        Err(Unkept::OfClient(call)) => go_on(&caller, call).await,
        Err(unkept) => Err(unkept.failed()),
    }
}

fn open<A: Cacheable>((answer, source): (Answer, Source)) -> Result<(A, Source), Failed<A>> {
    Answer::open(Ok(answer)).map(|answer| (answer, source)).map_err(|lost| Failed(Err(lost)))
}

impl AnswerPlan {
    /// The key of a request, and what invalidates its answer.
    fn entry<A: Cacheable>(&self, caller: &Partition<'_>, name: &str, args: &A::Args) -> (CallKey, EntryKeys<2>) {
        let given = A::value(args);
        let args = self.arguments.without(given);
        let of_layers = |key: &mut _| self.arguments.encode(|name| given.get(name), key);
        let (key, domains) = CallKey::new(&self.prefix, caller, name, &args, of_layers);
        (key, EntryKeys::of_call(domains, &self.tags, name, &args))
    }
}

/// Makes a request that several may wait for, in the scope of the caller who began it. Once it asks that caller's client, it is that
/// caller's own.
fn ask<A: Cacheable, H: McpHandler>(
    results: &Results,
    plan: &AnswerPlan,
    inner: &H,
    name: &str,
    args: A::Args,
    caller: &Caller<'_>,
    work: &Arc<Work>,
) -> Loading<Answer, Unkept> {
    let ctx = caller.ctx();
    caller.begin(work);
    let (scope, captured, session) = (plan.scope, scope::capture(), SessionOfCall::of(&plan.identity, ctx));
    let (inner, name, work) = (inner.clone(), name.to_owned(), Arc::clone(work));
    let mut shared = SharedContext::new(ctx.clone(), &work, Arc::clone(&work) as _);
    if plan.hears {
        hear(results, &mut shared.ctx);
    }
    let call = async move { A::ask(&inner, &name, args, &shared.ctx).await.map(Cacheable::into_answer) };
    // A box of its own, so that it can change hands.
    let call = Box::pin(captured.with(Arc::clone(&work)).enter(call));
    Box::pin(async move {
        match select(call, pin!(work.asked())).await {
            Either::Left((answer, _)) => judged(answer, scope, &work, session),
            Either::Right(((), call)) => Err(Unkept::OfClient(OwnCall::new(call))),
        }
    })
}
