//! A request: the cache or the handler answers it, or it writes.

use std::borrow::Cow;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::answer::{Answer, Cacheable, Failed, Status, note};
use super::invalidation::PendingInvalidation;
use super::key::Kind;
use super::notifications::{observe, observed};
use super::plan::{AnswerPlan, Results, Writes};
use super::session::{LoadFailure, OwnCall, judged, of_own_session, own, unshared};
use super::settings::Settings;
use crate::arguments::LayerArguments;
use crate::cached::cache::error::LoadError;
use crate::cached::cache::load::{Loading, Source};
use crate::identity::Partition;
use crate::shared_work::{Caller, SessionOfCall, SharedContext, Work, session_opened};
use crate::{Scope, cache_hints, outcome, scope};

/// The answers of a layer and its settings.
#[derive(Clone, Copy)]
pub(in crate::cached) struct Answers<'a> {
    pub(in crate::cached) results: &'a Results,
    pub(in crate::cached) settings: &'a Settings,
}

impl<'a> Answers<'a> {
    /// The context for a handler whose answer is not kept.
    pub(in crate::cached) fn observed(self, ctx: &RequestContext) -> Cow<'_, RequestContext> {
        observed(self.settings.observes(), self.results, ctx)
    }

    /// Calls a tool that writes and, unless it certainly took no effect, invalidates the results that it has changed.
    pub(in crate::cached) async fn write<H: McpHandler>(
        self,
        writes: Arc<Writes>,
        arguments: LayerArguments,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let pending = PendingInvalidation::new(self.results, writes.keys(name, &arguments.without(&args)));
        let ctx = self.observed(ctx);
        let result = pending.around(inner.call_tool(name, args, &ctx)).await;
        if outcome::failure(&result).is_some_and(|failure| failure.is_not_executed()) {
            pending.disarm();
        } else {
            tracing::debug!(tool = name, "a write invalidates");
            pending.apply().await;
        }
        result
    }

    /// Answers a request whose answer is kept.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice, and every call carries them")]
    pub(in crate::cached) fn answer<A: Cacheable, H: McpHandler>(
        self,
        plan: impl Deref<Target = AnswerPlan> + Send + Sync + 'a,
        inner: &'a H,
        name: &'a str,
        args: A::Args,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<A>> + Send + 'a {
        async move {
            if plan.scope == Scope::Session {
                // An outer cache keeps nothing that depends on a session: if the answer is kept here, it does not see the handler open
                // one, and the answer to a call without a session is not that to a call with one.
                session_opened();
            }
            let caller = match plan.identity.partition(plan.scope, ctx) {
                // A call inside a transaction may read uncommitted state, and a shared call would run outside of it.
                Some(caller) if !scope::must_run_alone() => caller,
                _ => return Box::pin(async move { A::ask(inner, name, args, &self.observed(ctx)).await }).await,
            };
            let is_public = matches!(caller, Partition::Everybody);
            let found = get_or_call(self.results, &plan, &caller, inner, name, args, ctx).await;
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
                // A URI is as private as arguments, which no log contains.
                Kind::Resource | Kind::Prompt => tracing::debug!(kind = A::KIND.word(), cache = status.word),
            }
            if status.is_hit
                && let Some(meta) = answer.meta()
            {
                // The attempts were those of an earlier request.
                meta.remove(outcome::ATTEMPTS);
                cache_hints::subtract_age(meta, status.age());
            }
            if let Some(ttl) = plan.hinted_ttl
                && source != Source::Own
            {
                // Past its ttl, nothing remains.
                cache_hints::stamp(answer.meta(), ttl.saturating_sub(status.age()), is_public);
            }
            let mut answer = Ok(answer);
            if self.settings.emit_meta {
                note(&mut answer, A::meta, outcome::CACHE, status.to_meta());
            }
            answer
        }
    }
}

/// Answers a request from the cache, or from the handler in a task.
pub(in crate::cached) async fn get_or_call<A: Cacheable, H: McpHandler>(
    results: &Results,
    plan: &AnswerPlan,
    partition: &Partition<'_>,
    inner: &H,
    name: &str,
    args: A::Args,
    ctx: &RequestContext,
) -> Result<(A, Source), Failed<A>> {
    let (key, keys) = plan.entry::<A>(partition, name, &args);
    let (caller, mut args) = (Caller::new(ctx, plan.scope, &plan.identity), Some(args));
    let load = |work: &Arc<Work>| {
        let args = args.take().unwrap_or_default();
        ask::<A, _>(results, plan, inner, name, args, &caller, work)
    };
    match results.loader.get_or_load(&caller, key, &keys, plan.ttl, load).await {
        Ok(found) => open(found),
        Err(LoadFailure::OfSession(answer, session)) => match args {
            Some(args) if !session.is_that_of(&SessionOfCall::of(&plan.identity, ctx)) => {
                Box::pin(ask_alone(results, plan, &caller, inner, name, args)).await
            }
            _ => of_own_session(answer),
        },
        // A caller who still has the arguments did not make the call.
        Err(LoadFailure::OfClient(call)) => match args {
            Some(args) => Box::pin(ask_alone(results, plan, &caller, inner, name, args)).await,
            None => Box::pin(resume(&caller, call)).await,
        },
        Err(failure) => Err(failure.failed()),
    }
}

/// Continues the call that this caller has begun, and that has asked the client of the caller.
async fn resume<A: Cacheable>(caller: &Caller<'_>, call: OwnCall) -> Result<(A, Source), Failed<A>> {
    match call.take() {
        Some(call) => match caller.wait_alone(call).await {
            Some(answer) => own(answer),
            None => Err(<LoadFailure as LoadError>::cancelled().failed()),
        },
        None => Err(<LoadFailure as LoadError>::aborted().failed()),
    }
}

/// Makes the call for this caller alone, who has waited for another call.
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
    unshared(A::ask(inner, name, args, &observed(plan.observes, results, ctx))).await
}

/// Asks the handler in a task, whatever is kept, and keeps its answer.
pub(in crate::cached) async fn call_and_keep<A: Cacheable, H: McpHandler>(
    results: &Results,
    plan: &AnswerPlan,
    partition: &Partition<'_>,
    inner: &H,
    name: &str,
    args: A::Args,
    ctx: &RequestContext,
) -> Result<(A, Source), Failed<A>> {
    let (key, keys) = plan.entry::<A>(partition, name, &args);
    let caller = Caller::new(ctx, plan.scope, &plan.identity);
    let load = |work: &Arc<Work>| ask::<A, _>(results, plan, inner, name, args, &caller, work);
    match results.loader.refresh(&caller, key, &keys, plan.ttl, load).await {
        Ok(found) => open(found),
        Err(LoadFailure::OfSession(answer, _)) => of_own_session(answer),
        Err(LoadFailure::OfClient(call)) => resume(&caller, call).await,
        Err(failure) => Err(failure.failed()),
    }
}

fn open<A: Cacheable>((answer, source): (Answer, Source)) -> Result<(A, Source), Failed<A>> {
    Answer::open(Ok(answer)).map(|answer| (answer, source)).map_err(|lost| Failed(Err(lost)))
}

/// Makes a request that several callers may wait for, in the scope of the caller who began it. Once it asks the client of that caller,
/// it belongs to that caller.
fn ask<A: Cacheable, H: McpHandler>(
    results: &Results,
    plan: &AnswerPlan,
    inner: &H,
    name: &str,
    args: A::Args,
    caller: &Caller<'_>,
    work: &Arc<Work>,
) -> Loading<Answer, LoadFailure> {
    let ctx = caller.ctx();
    caller.begin(work);
    let (scope, captured, session) = (plan.scope, scope::capture(), SessionOfCall::of(&plan.identity, ctx));
    let (inner, name, work) = (inner.clone(), name.to_owned(), Arc::clone(work));
    let mut shared = SharedContext::new(ctx.clone(), &work, Arc::clone(&work) as _);
    if plan.observes {
        observe(results, &mut shared.ctx);
    }
    let call = async move { A::ask(&inner, &name, args, &shared.ctx).await.map(Cacheable::into_answer) };
    // In its own box, so that one caller can take it over.
    let call = Box::pin(captured.with(Arc::clone(&work)).enter(call));
    Box::pin(async move {
        match select(call, pin!(work.asked())).await {
            Either::Left((answer, _)) => judged(answer, scope, &work, session),
            Either::Right(((), call)) => Err(LoadFailure::OfClient(OwnCall::new(call))),
        }
    })
}
