//! A private PostgreSQL of one test, whose processes can be stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

/// A server in a directory that is deleted with the test.
#[derive(Debug)]
pub(crate) struct PrivatePostgres {
    server: Mutex<Child>,
    dir: PathBuf,
    host: String,
}

impl PrivatePostgres {
    /// Starts a server that listens on a socket in its directory, and on `host` if it is set.
    pub(crate) fn start(host: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mcp-patterns-postgres-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&dir).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&dir));
        }
        let data = dir.join("data");
        let local = ["--auth", "trust", "--no-sync", "--username", "postgres", "--pgdata"];
        run(as_postgres("initdb").args(local).arg(&data).stdout(Stdio::null()));
        if !host.is_empty() {
            let access = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
            std::fs::write(data.join("pg_hba.conf"), access + "host all all all trust\n").unwrap();
        }
        let server = Mutex::new(launch(&dir, host));
        let postgres = Self { server, dir, host: host.to_owned() };
        postgres.wait_until_ready();
        postgres
    }

    /// Ends the server as a power failure does (`QUIT`), or as an administrator does (`INT`), and starts it again.
    pub(crate) fn restart(&self, signal: &str) {
        {
            let mut server = self.server();
            let _ = Command::new("kill").args([&format!("-{signal}"), &server.id().to_string()]).status();
            server.wait().unwrap();
            *server = launch(&self.dir, &self.host);
        }
        self.wait_until_ready();
    }

    fn server(&self) -> MutexGuard<'_, Child> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + Duration::from_secs(120);
        while !self.is_ready() {
            assert!(Instant::now() < until, "it does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join(".s.PGSQL.5432")
    }

    fn is_ready(&self) -> bool {
        let ready = Command::new(program("pg_isready")).arg("-q").arg("-h").arg(&self.dir).status();
        ready.is_ok_and(|ready| ready.success())
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass().socket(&self.dir).username("postgres").database("postgres")
    }

    /// Stops (`SIGSTOP`) the processes that serve connections, and returns how many there are. The server accepts new
    /// connections.
    pub(crate) fn stop_backends(&self) -> usize {
        self.signal_backends("-STOP")
    }

    /// Continues them.
    pub(crate) fn resume_backends(&self) {
        self.signal_backends("-CONT");
    }

    fn signal_backends(&self, signal: &str) -> usize {
        let backends = self.backends();
        if !backends.is_empty() {
            // A process may have ended since.
            let _ = Command::new("kill").arg(signal).args(&backends).stderr(Stdio::null()).status();
        }
        backends.len()
    }

    fn backends(&self) -> Vec<String> {
        let server = self.server().id().to_string();
        let found = Command::new("pgrep").args(["-P", &server, "-f", "postgres: postgres postgres"]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
    }
}

fn launch(dir: &Path, host: &str) -> Child {
    as_postgres("postgres")
        .arg("-D")
        .arg(dir.join("data"))
        .args(["-c", "fsync=off", "-c", &format!("listen_addresses={host}"), "-c", "port=5432", "-k"])
        .arg(dir)
        .stderr(Stdio::null())
        .spawn()
        .expect("PostgreSQL is installed")
}

fn run(command: &mut Command) {
    let ended = command.status().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(ended.success(), "{command:?} failed");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}

/// A program of the newest server that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.max_by_key(|version| version.file_name().to_string_lossy().parse::<u32>().unwrap_or_default());
    newest.map_or_else(|| Path::new(name).to_owned(), |version| version.path().join("bin").join(name))
}

/// PostgreSQL refuses to run as root.
fn as_postgres(name: &str) -> Command {
    if !is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program(name));
    command
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // A stopped process would outlive its server.
        self.resume_backends();
        let mut server = self.server();
        let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
        let _ = server.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
