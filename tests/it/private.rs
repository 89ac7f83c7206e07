//! Servers of a test's own: a PostgreSQL and a Redis, to be stopped, killed, hung and begun again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Folder;

/// How long a server may take to begin. It bounds a failure and measures nothing.
const BEGINNING: Duration = Duration::from_secs(60);

/// A PostgreSQL server. It is stopped when dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: Folder,
    port: u16,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let programs = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|version| Some(version.ok()?.path().join("bin")))
            .find(|programs| programs.join("pg_ctl").is_file())
            .expect("no PostgreSQL is installed under /usr/lib/postgresql");
        let postgres = Self { programs, folder: Folder::new(), port: free_port() };
        if is_root() {
            let folder = postgres.folder.path().to_str().expect("a path");
            run(Command::new("chown").args(["postgres", folder]));
        }
        postgres.run("initdb", &["--auth=trust", "--username=postgres", "--no-sync"]);
        postgres.begin();
        postgres
    }

    fn begin(&self) {
        let folder = self.folder.path().display();
        let options = format!("-p {} -c listen_addresses=127.0.0.1 -k {folder}", self.port);
        let log = format!("{folder}/log");
        self.run("pg_ctl", &["-w", "-o", &options, "-l", &log, "start"]);
    }

    /// Ends as it does when its machine loses power (`immediate`), or as an administrator ends it (`fast`), and begins again.
    pub(crate) fn restart(&self, mode: &str) {
        self.run("pg_ctl", &["-w", "-m", mode, "stop"]);
        self.begin();
    }

    /// Stops the processes that serve clients where they are. New clients are served.
    pub(crate) fn hang(&self) -> Vec<u32> {
        let pid = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).expect("it runs");
        let postmaster = pid.lines().next().expect("the first line is the process").to_owned();
        let serving: Vec<u32> = processes_of(&postmaster);
        serving.iter().for_each(|process| signal("STOP", *process));
        serving
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs one of its programs, as a user that it accepts: it refuses to run as root.
    fn run(&self, program: &str, args: &[&str]) {
        let program = self.programs.join(program);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        run(command.arg("-D").arg(self.folder.path().join("data")).args(args).current_dir(self.folder.path()));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-m", "immediate", "stop"]);
    }
}

/// The children of PostgreSQL that serve clients over TCP, as their titles say.
fn processes_of(postmaster: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("this is Linux").flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let read = |file| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let status = read("status");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.is_some_and(|parent| parent.trim() == postmaster) && read("cmdline").contains("127.0.0.1(")
    })
    .collect()
}

/// A Redis that writes every command to disk before it answers. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    folder: Folder,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let (folder, port) = (Folder::new(), free_port());
        Self { child: Self::begin(&folder, port), folder, port }
    }

    fn begin(folder: &Folder, port: u16) -> Child {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < BEGINNING, "Redis does not begin");
            thread::sleep(Duration::from_millis(5));
        }
        child
    }

    /// Ends as it does when its machine loses power, and begins again.
    pub(crate) fn restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
        self.child = Self::begin(&self.folder, self.port);
    }

    /// Stops the process where it is: it takes connections and commands, and answers nothing.
    pub(crate) fn hang(&self) -> Vec<u32> {
        signal("STOP", self.child.id());
        vec![self.child.id()]
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended before, which is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that the test has started, if it is still there.
pub(crate) fn signal(name: &str, process: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).stderr(Stdio::null()).status();
    sent.expect("there is a shell");
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("no free port");
    free.local_addr().expect("an address").port()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("no id");
    id.stdout.trim_ascii() == b"0"
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(ExitStatus::success), "{command:?}: {status:?}");
}
