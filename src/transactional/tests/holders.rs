//! Processes that hold locks and stop responding.

use std::future::pending;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool, Postgres};
use tokio::time::timeout;

use super::databases::{LONG, TestDb, nothing, refusal};
use crate::postgres::KEEPALIVES;
use crate::testing::private_postgres::PrivatePostgres;
use crate::testing::proxy::Proxy;
use crate::transactional::{TransactionError, Transactor, current};

/// The environment variable with the database for a process that a test has started.
const URL: &str = "MCP_PATTERNS_HOLDER";

/// The environment variable with the schema, if there is one.
const SCHEMA: &str = "MCP_PATTERNS_HOLDER_SCHEMA";

/// The timeout of a transaction that holds a lock.
const HELD: Duration = Duration::from_secs(2);

/// Locks the only row of the table.
async fn lock() -> Result<(), TransactionError> {
    let mut db = current::<Postgres>().await?;
    Ok(sqlx::query("update t set n = n + 1").execute(&mut *db).await.map(|_| ())?)
}

/// Waits for the lock, as another replica would.
async fn the_lock_is_free(pool: &PgPool) {
    let transactor = Transactor::new(pool.clone()).with_timeout(2 * LONG);
    assert_eq!(transactor.run(&(), lock).await, Ok(()), "it waits for the timeout of the other at most");
}

/// The body of a process that the tests below start; without them it does nothing.
#[tokio::test]
async fn one_holder() {
    let Ok(url) = std::env::var(URL) else { return };
    let options: PgConnectOptions = url.parse().expect("a URL");
    let mut options = options.options(KEEPALIVES);
    if let Ok(schema) = std::env::var(SCHEMA) {
        options = options.options([("search_path", schema)]);
    }
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("the server is there");
    let _idle = pool.acquire().await.expect("the server is there");
    let transactor = Transactor::new(pool).with_timeout(HELD);
    let told = transactor.run(&(), || async {
        lock().await?;
        println!("It holds the lock");
        pending::<Result<(), TransactionError>>().await
    });
    println!("It was told: {}", told.await.expect_err("it waits without end"));
}

/// A process that holds the lock. It is killed with the test.
struct Holder(Child);

impl Holder {
    /// Starts the process through a program that starts programs.
    fn start(by: &[&str], options: &PgConnectOptions) -> Self {
        let program = std::env::current_exe().expect("this program").display().to_string();
        let mut words = by.iter().copied().chain([program.as_str()]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(["--exact", "transactional::tests::holders::one_holder", "--nocapture"]);
        let url = options.to_url_lossy().to_string();
        if let Some(schema) = options.get_application_name() {
            command.env(SCHEMA, schema);
        }
        let mut holder = command.env(URL, url).stdout(Stdio::piped()).spawn().expect("a process starts");
        let mut said = BufReader::new(holder.stdout.take().expect("it is piped"));
        let mut line = String::new();
        while !line.ends_with("It holds the lock\n") {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("it can be read"), 0, "it ended before it held the lock");
        }
        holder.stdout = Some(said.into_inner());
        Self(holder)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "the signal was sent");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_stopped_process_keeps_its_locks_no_longer_than_its_transactions_timeout() {
    let pool = Postgres::pool().await;
    Postgres::write(&mut pool.acquire().await.expect("it is idle"), 1).await.expect("it can be written");
    let mut holder = Holder::start(&["env"], &pool.connect_options());
    holder.signal("-STOP");
    the_lock_is_free(&pool).await;
    holder.signal("-CONT");
    let mut said = String::new();
    std::io::Read::read_to_string(holder.0.stdout.as_mut().expect("it is piped"), &mut said).expect("it can be read");
    assert!(said.contains("It was told: Not finished within 2000 ms; nothing was done"), "{said}");
}

#[tokio::test]
async fn a_replica_behind_a_silent_proxy_keeps_its_locks_no_longer_than_its_transactions_timeout() {
    let pool = Postgres::pool().await;
    Postgres::write(&mut pool.acquire().await.expect("it is idle"), 1).await.expect("it can be written");
    let (network, options) = Proxy::to_postgres(&pool.connect_options()).await;
    let replica = PgPoolOptions::new().connect_with(options).await.expect("the way is open");
    let holder = Transactor::new(replica).with_timeout(HELD);
    let holds = holder.run(&(), || async {
        lock().await?;
        network.silence();
        lock().await
    });
    let (told, ()) = tokio::join!(holds, async {
        tokio::time::sleep(HELD / 4).await;
        the_lock_is_free(&pool).await;
    });
    assert_eq!(told, Err(TransactionError::TimedOut { after: HELD }));
}

/// The limits that were in force inside the transaction.
async fn idle_limit() -> Result<String, TransactionError> {
    let mut db = current::<Postgres>().await?;
    let limit = sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')");
    Ok(limit.fetch_one(&mut *db).await?)
}

#[tokio::test]
async fn the_limit_of_idle_time_is_the_transactions_timeout_and_ends_with_it() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone());
    let minute = Duration::from_secs(60);
    let limits = [
        (transactor.clone().with_timeout(minute), "1min"),
        (transactor.clone().with_idle_timeout(minute / 60), "1s"),
        (transactor.clone().without_timeout(), "5min"),
        (transactor.clone().with_timeout(Duration::MAX), "2147483647ms"),
        (transactor.clone().with_idle_timeout(Duration::MAX), "2147483647ms"),
    ];
    for (transactor, limit) in limits {
        for transactor in [transactor.clone(), transactor.with_connection_reuse()] {
            assert_eq!(transactor.run(&(), idle_limit).await.as_deref(), Ok(limit));
            for _ in 0..pool.options().get_max_connections() {
                let left = sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')");
                let left: String = left.fetch_one(&pool).await.expect("it can be read");
                assert_eq!(left, "0", "nothing is left of it");
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_past_its_idle_limit_fails_with_nothing_was_done() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_idle_timeout(Duration::from_millis(50));
    let run = transactor.run(&(), || async {
        Postgres::write(&mut *current::<Postgres>().await?, 1).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        lock().await
    });
    let told = turbomcp_core::McpError::from(run.await.expect_err("the server has ended it"));
    assert_eq!(told.kind, turbomcp_core::ErrorKind::Timeout, "{told:?}");
    for result in [Ok(()), Err(refusal())] {
        let run = transactor.run(&(), || async {
            Postgres::write(&mut *current::<Postgres>().await?, 1).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            result.clone()
        });
        let told = run.await.expect_err("the server has ended it");
        // On a busy machine the time may end before the first statement.
        assert!(!matches!(told, TransactionError::Unknown { .. }), "it is certain");
    }
    assert_eq!(Transactor::new(pool.clone()).run(&(), nothing).await, Ok(()));
    assert_eq!(super::databases::numbers_at_rest(&pool).await, super::databases::NONE);
}

/// A network namespace, with a link to this one. It is deleted with the test.
struct Namespace(String);

impl Namespace {
    /// Creates one if that is allowed: as root, on Linux.
    fn make(address: &str, other: &str) -> Option<Self> {
        let name = format!("mcp{:06x}", fastrand::u32(..) >> 8);
        let (here, there) = (format!("{name}h"), format!("{name}t"));
        let made = Self(name.clone());
        let steps: [&[&str]; 6] = [
            &["netns", "add", &name],
            &["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &name],
            &["addr", "add", &format!("{address}/30"), "dev", &here],
            &["link", "set", &here, "up"],
            &["-n", &name, "addr", "add", &format!("{other}/30"), "dev", &there],
            &["-n", &name, "link", "set", &there, "up"],
        ];
        steps.iter().all(|step| ip(step)).then_some(made)
    }

    /// Drops all packets.
    fn vanish(&self) {
        assert!(ip(&["-n", &self.0, "link", "set", &format!("{}t", self.0), "down"]));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["link", "del", &format!("{}h", self.0)]);
        ip(&["netns", "del", &self.0]);
    }
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).stderr(Stdio::null()).status().is_ok_and(|ended| ended.success())
}

/// The same with a network namespace of Linux, if the test may create one. The test with the proxy runs everywhere.
#[tokio::test]
async fn a_replica_whose_network_link_is_down_keeps_its_locks_no_longer_than_its_transactions_timeout() {
    let net = fastrand::u8(..);
    let (address, other) = (format!("10.231.{net}.1"), format!("10.231.{net}.2"));
    let Some(network) = Namespace::make(&address, &other) else {
        println!("No network can be made here: this needs root and `ip netns`");
        return;
    };
    let server = PrivatePostgres::start(&address);
    let pool = PgPoolOptions::new().acquire_timeout(LONG).connect_with(server.options()).await.expect("it is there");
    sqlx::raw_sql("create table t (n bigint); insert into t values (1)").execute(&pool).await.expect("a table");
    let remote = PgConnectOptions::new_without_pgpass().host(&address).username("postgres").database("postgres");
    let holder = Holder::start(&["ip", "netns", "exec", &network.0], &remote);
    // By then, everything that it received is acknowledged: only the missing answers show that it has gone.
    tokio::time::sleep(Duration::from_millis(300)).await;
    network.vanish();
    the_lock_is_free(&pool).await;
    drop(holder);
    // Its connections are closed, too, inside a transaction or not.
    let gone = async {
        let open = "select count(*) from pg_stat_activity where client_addr is not null";
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.expect("the server tells") > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(8 * LONG, gone).await.expect("the server closes it");
}
