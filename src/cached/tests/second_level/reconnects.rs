//! The model of how stale a read may be, on a Redis whose connections are cut.

use super::fleet::*;
use super::in_redis::{manager, on_manager, patiently, to};
use super::model::{Bounds, modelled};
use super::*;
use crate::testing::private_redis::PrivateRedis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_interleavings_with_real_reconnects_no_read_is_staler_than_the_bound() {
    const MILLI: Duration = Duration::from_millis(1);
    let redis = PrivateRedis::start();
    let client = redis.client();
    let mut admin = manager(&client);
    // Writes need not wait for the disk here.
    let _: () =
        redis::cmd("CONFIG").arg(&["SET", "appendfsync", "no"]).query_async(&mut admin).await.expect("an answer");
    let mut chance = fastrand::Rng::with_seed(7);
    let source = Source::that_takes(MILLI);
    let bounds = Bounds {
        ttl: 300 * MILLI,
        first_level_ttl: 40 * MILLI,
        unsubscribed_ttl: 20 * MILLI,
        untold: 600 * SECOND,
        forgets: false,
    };
    let (fleet, mut model) = modelled(source, false, bounds, || on_manager(&client).with_subscriber(&to(&client)));
    patiently(async || fleet.replicas.iter().all(|replica| replica.level().is_subscribed)).await;
    for _ in 0..2_000 {
        let cut = match chance.u8(0..100) {
            0..3 => Some("pubsub"),
            3..4 => Some("normal"),
            _ => None,
        };
        let (after, mut admin) = (MILLI.mul_f64(2.0 * chance.f64()), admin.clone());
        let cut = async move {
            let Some(kind) = cut else { return };
            tokio::time::sleep(after).await;
            let _ = redis::cmd("CLIENT").arg(&["KILL", "TYPE", kind]).query_async::<u64>(&mut admin).await;
        };
        model.round(&mut chance, &fleet, cut).await;
    }
    model.seen.is_enough(&fleet);
    assert!(model.seen.unsubscribed > 10, "{:?}", model.seen);
}
