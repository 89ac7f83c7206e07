//! Rates that several processes count together, in Redis.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{RedisError, Script};
use tokio::time::timeout;

use super::limit::{Limit, Per};
use super::plan::Call;
use super::rate::Rate;
use super::redis::RedisBackend;
use crate::canonical::{encode_str, sha256};
use crate::circuit::{Circuit, Failed, Rules, State};
use crate::telemetry::{Count, Counter, Outage};

/// All questions count for one principal: the process.
const PROCESS: u64 = 0;

/// The rates of one layer, in all processes.
pub(super) struct SharedRates {
    backend: RedisBackend,
    /// How all keys begin. Its hash tag puts them on one node of a cluster, since one script uses several of them.
    prefix: String,
    /// What distinguishes this layer from others of the server.
    layer: Vec<u8>,
    breaker: Circuit,
    outage: Outage,
    failed: Counter,
    pub(super) failures: Count,
}

/// A rate of which a call takes its cost.
pub(super) struct Wanted {
    pub(super) key: String,
    pub(super) per: Per,
    pub(super) rate: Rate,
    /// The time until nothing of it is used, as far as this process knows, in nanoseconds.
    pub(super) used: u128,
}

/// The decision of Redis.
pub(super) struct Answer {
    /// The time until nothing of each rate is used, in nanoseconds.
    pub(super) used: Vec<u128>,
    /// The rate that refuses the call for the longest time.
    pub(super) refused: Option<(Per, Duration)>,
}

/// Takes the cost of a call from all rates or from none of them. Redis' own clock measures, in microseconds.
///
/// A process knows what was used when it asked last, and what it has let through while Redis did not answer. So what Redis has lost, or
/// has never heard of, counts too.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
        local time = redis.call('TIME')
        local now, cost = time[1] * 1000000 + time[2], tonumber(ARGV[1])
        local used, answer, longest = {}, {0, 0}, 0
        for i = 1, #KEYS do
            local interval, burst = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
            used[i] = math.max((redis.call('GET', KEYS[i]) or 0) - now, tonumber(ARGV[3 * i + 1]), 0)
            local wait = used[i] + interval * (math.min(cost, burst) - burst)
            if wait > longest then longest, answer[1] = wait, i end
        end
        for i = 1, #KEYS do
            if answer[1] == 0 then
                used[i] = used[i] + tonumber(ARGV[3 * i - 1]) * cost
                local ttl = string.format('%.0f', math.min(math.ceil(used[i] / 1000), 9e15))
                redis.call('SET', KEYS[i], string.format('%.2f', now + used[i]), 'PX', ttl)
            end
            answer[i + 2] = math.ceil(math.min(used[i], 9e15))
        end
        answer[2] = math.ceil(math.min(longest, 9e15))
        return answer",
    )
});

impl SharedRates {
    /// Creates the rates of a layer. Layers of a server count together only if they have the same limits and the same selectors.
    pub(super) fn new(
        backend: RedisBackend,
        server: &str,
        limits: &[Limit; 3],
        selectors: impl Iterator<Item = impl AsRef<str>>,
    ) -> Self {
        let mut space = sha256(server.as_bytes());
        space.truncate(16);
        let mut layer = Vec::new();
        for rate in limits.iter().map(|limit| limit.rate) {
            encode_str(&rate.map(Rate::in_words).unwrap_or_default(), &mut layer);
        }
        selectors.for_each(|tool| encode_str(tool.as_ref(), &mut layer));
        Self {
            prefix: format!("{}{{{space}}}:", backend.prefix),
            breaker: Circuit::new(Rules { pause: backend.pause, ..Rules::OF_BACKEND }),
            backend,
            layer,
            outage: Outage::default(),
            failed: Counter::new("mcp_patterns_limit_backend_failures_total", &[]),
            failures: Count::default(),
        }
    }

    /// The key of what a tool or a caller uses: a hash, so that a reader of Redis does not see who called. Without a call, it is that of
    /// all who share the last entry of a full table.
    pub(super) fn key(&self, per: Per, call: Option<&Call<'_>>) -> String {
        let mut encoded = self.layer.clone();
        encoded.push(match per {
            Per::Tool => b't',
            Per::Principal => b'p',
            Per::PrincipalAndTool => b'b',
        });
        if let Some(call) = call {
            if per != Per::Principal {
                encode_str(&call.tool.name, &mut encoded);
            }
            if per != Per::Tool {
                call.identity.caller(call.ctx).encode(&mut encoded);
            }
        }
        let mut id = sha256(&encoded);
        id.truncate(32);
        format!("{}{id}", self.prefix)
    }

    /// Says whether it is worth asking.
    pub(super) fn is_reachable(&self) -> bool {
        self.breaker.state() != State::Open
    }

    /// Takes the cost of a call from these rates, in one round trip. Returns `None` if Redis does not decide.
    pub(super) async fn take(&self, wanted: &[Wanted], cost: u32) -> Option<Answer> {
        let permit = self.breaker.admit(PROCESS).ok()?.0;
        match timeout(self.backend.timeout, self.ask(wanted, cost)).await {
            Ok(Ok(answer)) => {
                permit.succeeded();
                if let Some(over) = self.outage.worked() {
                    let (after_ms, failures) = (over.after_ms, over.failures);
                    tracing::info!(after_ms, failures, "the processes count their rates together again");
                }
                return Some(answer);
            }
            Ok(Err(error)) => self.failed(&error),
            Err(_) => self.failed(&format_args!("Redis did not answer within {:?}", self.backend.timeout)),
        }
        permit.failed(Failed::Failure);
        None
    }

    async fn ask(&self, wanted: &[Wanted], cost: u32) -> Result<Answer, RedisError> {
        let mut step = TAKE.prepare_invoke();
        step.arg(cost);
        for Wanted { key, rate, used, .. } in wanted {
            step.key(key).arg(micros(rate.interval())).arg(rate.burst).arg(micros(*used));
        }
        let answer: Vec<u64> = step.invoke_async(&mut self.backend.connection.clone()).await?;
        let [refused, wait, used @ ..] = &answer[..] else { return Err(unreadable()) };
        if used.len() != wanted.len() {
            return Err(unreadable());
        }
        let refused = usize::try_from(*refused).ok().and_then(|number| wanted.get(number.checked_sub(1)?));
        Ok(Answer {
            used: used.iter().map(|micros| u128::from(*micros) * 1_000).collect(),
            refused: refused.map(|refused| (refused.per, Duration::from_micros(*wait))),
        })
    }

    fn failed(&self, error: &dyn fmt::Display) {
        self.failures.add();
        self.failed.increment();
        if let Some(unsaid) = self.outage.failed() {
            tracing::warn!(
                %error,
                unsaid,
                "Redis does not count the rates: each process lets its part of them through"
            );
        }
    }
}

/// Nanoseconds in microseconds, as Lua counts them.
fn micros(nanos: u128) -> f64 {
    nanos as f64 / 1_000.0
}

fn unreadable() -> RedisError {
    RedisError::from((redis::ErrorKind::Parse, "Redis answered something else than the state of the rates"))
}

impl fmt::Debug for SharedRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRates").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
