//! The faults of a server and its backend, by a seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::replicas::{REPLICAS, Replicas};
use crate::private_postgres::PrivatePostgres;
use crate::private_redis::PrivateRedis;
use crate::proxy::{Proxy, Upstream};

/// One fault. The number is that of a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// It is killed and started again.
    KillServer(usize),
    /// It is stopped for a while, at any point of its work.
    PauseServer(usize),
    /// Its clock is suddenly wrong by this many seconds.
    StepClock(usize, i64),
    /// The backend is killed and started again.
    KillBackend,
    /// The backend is stopped for a while.
    PauseBackend,
    /// Connections to the backend stop answering for good. New ones work.
    Silence,
    /// Connections to the backend are reset.
    Reset,
    /// The backend cannot be connected to for a while.
    Refuse,
    /// The backend is slow for a while.
    Slow,
}

/// The backend that both replicas share.
pub(super) enum Backend {
    Postgres(PrivatePostgres),
    Redis(PrivateRedis),
}

impl Backend {
    pub(super) fn upstream(&self) -> Upstream {
        match self {
            Self::Postgres(postgres) => postgres.socket().into(),
            Self::Redis(redis) => redis.socket().into(),
        }
    }

    /// Ends as after a power failure, and starts again.
    fn restart(&mut self) {
        match self {
            Self::Postgres(postgres) => postgres.restart("QUIT"),
            Self::Redis(redis) => {
                redis.kill();
                redis.restart();
            }
        }
    }

    /// Stops the processes that serve the existing connections.
    fn hang(&self) {
        match self {
            Self::Postgres(postgres) => {
                postgres.stop_backends();
            }
            Self::Redis(redis) => redis.hang(),
        }
    }

    fn resume(&self) {
        match self {
            Self::Postgres(postgres) => postgres.resume_backends(),
            Self::Redis(redis) => redis.resume(),
        }
    }
}

/// Faults, each with the number of calls after which it comes.
pub(super) type Plan = Vec<(usize, Fault)>;

const HOUR: i64 = 3_600;

/// Draws five faults, and one more for each hundred calls.
pub(super) fn plan(rng: &mut fastrand::Rng, calls: usize) -> Plan {
    let mut plan: Plan = (0..5 + calls / 100)
        .map(|_| {
            let replica = rng.usize(..REPLICAS);
            let fault = match rng.u8(..9) {
                0 => Fault::KillServer(replica),
                1 => Fault::PauseServer(replica),
                2 => Fault::StepClock(replica, rng.choice([-25, -1, 1, 25]).expect("there are some") * HOUR),
                3 => Fault::KillBackend,
                4 => Fault::PauseBackend,
                5 => Fault::Silence,
                6 => Fault::Reset,
                7 => Fault::Refuse,
                _ => Fault::Slow,
            };
            (rng.usize(..calls * 4 / 5), fault)
        })
        .collect();
    plan.sort_by_key(|(after, _)| *after);
    plan
}

/// The duration of a fault that ends by itself.
fn while_it_lasts(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(rng.u64(200..2_500))
}

/// The longest wait of the next fault for its number of calls: during the last fault, possibly no call is made.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Causes all faults, and returns once the last temporary fault has ended.
pub(super) async fn rage(
    plan: &Plan,
    mut rng: fastrand::Rng,
    calls: &AtomicUsize,
    (replicas, line, backend): (&Replicas, &Proxy, &Mutex<Backend>),
) {
    for &(after, fault) in plan {
        let mut waited = Duration::ZERO;
        while calls.load(Ordering::SeqCst) < after && waited < LONGEST_WAIT {
            let step = Duration::from_millis(5);
            sleep(step).await;
            waited += step;
        }
        let lasts = while_it_lasts(&mut rng);
        match fault {
            Fault::KillServer(replica) => replicas.kill(replica).await,
            Fault::PauseServer(replica) => replicas.pause(replica, lasts).await,
            Fault::StepClock(replica, seconds) => replicas.step_clock(replica, seconds),
            Fault::KillBackend => {
                tokio::task::block_in_place(|| backend.lock().expect("no test panics in it").restart());
            }
            Fault::PauseBackend => {
                backend.lock().expect("no test panics in it").hang();
                sleep(lasts).await;
                backend.lock().expect("no test panics in it").resume();
            }
            Fault::Silence => line.silence(),
            Fault::Reset => line.reset(),
            Fault::Refuse => {
                line.refuse(true);
                line.reset();
                sleep(lasts).await;
                line.refuse(false);
            }
            Fault::Slow => {
                line.delay(Duration::from_millis(rng.u64(1..60)));
                sleep(lasts).await;
                line.delay(Duration::ZERO);
            }
        }
    }
}
