//! A second level in a Redis Cluster.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::fleet::*;
use super::in_redis::{patiently, prefix};
use super::*;
use crate::cached::RedisLevel;
use crate::testing::second_level_contract;
use crate::{AnyRedisConnection, RedisConnection};

/// Three connected masters.
struct Cluster(Vec<(Child, u16)>, std::path::PathBuf);

impl Cluster {
    async fn start() -> Self {
        let dir = std::env::temp_dir().join(prefix().replace(':', "-"));
        let masters = (0..3).map(|_| {
            let port = (0..).map(|_| fastrand::u16(20_000..45_000)).find(|port| {
                TcpListener::bind(("127.0.0.1", *port)).is_ok()
                    && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok()
            });
            let port = port.expect("a port");
            let dir = dir.join(port.to_string());
            std::fs::create_dir_all(&dir).expect("a directory");
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--cluster-enabled", "yes", "--save", ""])
                .current_dir(&dir)
                .stdout(Stdio::null())
                .spawn();
            (child.expect("redis-server is installed"), port)
        });
        let cluster = Self(masters.collect(), dir);
        let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
        let mut connections = Vec::new();
        for (_, port) in &cluster.0 {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("an address");
            patiently(async || client.get_connection().is_ok()).await;
            connections.push(client.get_connection().expect("a connection"));
        }
        for (connection, (first, last)) in connections.iter_mut().zip(slots) {
            let mut command = redis::cmd("CLUSTER");
            command.arg("ADDSLOTSRANGE").arg(first).arg(last);
            command.exec(connection).expect("slots");
        }
        for (_, port) in &cluster.0[1..] {
            redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(*port).exec(&mut connections[0]).expect("a meeting");
        }
        patiently(async || {
            connections.iter_mut().all(|connection| {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(connection).expect("an answer");
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        })
        .await;
        cluster
    }

    fn url(&self, at: usize) -> String {
        format!("redis://127.0.0.1:{}", self.0[at].1)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_masters_passes_the_contract_suite() {
    let cluster = Cluster::start().await;
    let urls: Vec<_> = (0..3).map(|at| cluster.url(at)).collect();
    let client = redis::cluster::ClusterClient::new(urls).expect("a client");
    let connection = client.get_async_connection().await.expect("a connection");
    let subscriber = RedisConnection::open(&cluster.url(2)).expect("a URL");
    let level = RedisLevel::new(AnyRedisConnection::from_redis_1(connection)).with_subscriber(&subscriber);
    second_level_contract(|| async { level.clone() }).await;
    let level = level.with_prefix(prefix()).with_shards(16);
    second_level_contract(|| async { level.clone() }).await;
    let replica = || at_once().replica(level.clone(), |layer| layer.with_second_level_timeout(5 * SECOND));
    let (a, b) = (replica(), replica());
    // Values that are loaded before the subscription works are not kept.
    patiently(async || a.level().is_subscribed && b.level().is_subscribed).await;
    for n in 0..50 {
        a.read_of(n).await;
    }
    patiently(async || a.level().puts == 50).await;
    for n in 0..50 {
        assert_eq!(b.read_of(n).await, found(0, "hit", 2));
    }
    assert_eq!((a.level().failures, b.level().failures), (0, 0));
}

/// `WAIT` names no key. It must go to the node of its write, whose replicas it concerns: here, no node has a replica.
#[cfg(feature = "idempotent")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_wait_goes_to_the_node_that_holds_the_claim() {
    use crate::AnyRedisConnection;
    use crate::idempotent::{Backend, Claim, Claimed, RedisBackend};
    let cluster = Cluster::start().await;
    let urls: Vec<_> = (0..3).map(|at| cluster.url(at)).collect();
    let client = redis::cluster::ClusterClient::new(urls).expect("a client");
    let connection = AnyRedisConnection::from_redis_1(client.get_async_connection().await.expect("a connection"));
    let store = RedisBackend::new(connection).with_prefix(prefix());
    let waiting = store.clone().with_replicas(1, Duration::from_millis(10));
    for id in 0..20 {
        let id = id.to_string();
        let claim = Claim {
            id: &id,
            fingerprint: "f",
            tool: "t",
            key: "k",
            caller: "c",
            connection: None,
            token: "o",
            lease: 60 * SECOND,
            kept_for: None,
            takes_over: false,
        };
        let error = waiting.claim(claim).await.expect_err("no replica has it");
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
        assert_eq!(store.claim(claim).await.expect("an answer"), Claimed::New);
    }
}
