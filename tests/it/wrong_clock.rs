//! Example servers whose clock is wrong, or is set while they run: `libfaketime` gives them a wrong time. Monotonic
//! time is unchanged.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::client::{Client, Server, Transport};
use crate::support::Folder;

/// A server with its own clock.
pub(crate) struct OnWrongClock {
    server: Server,
    clock: Folder,
}

impl OnWrongClock {
    /// Starts an example whose clock is wrong by this much, such as `+1d`.
    pub(crate) async fn start(by: &str, example: &'static str, transport: Transport, args: &[&str]) -> Self {
        let clock = Folder::new();
        let file = clock.path().join("time");
        fs::write(&file, by).expect("a file can be written");
        let library = libfaketime();
        let environment = [
            ("LD_PRELOAD", library.to_str().expect("a path")),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().expect("a path")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Self { server: Server::start_in(&environment, example, transport, args).await, clock }
    }

    pub(crate) async fn connect(&mut self) -> Client {
        self.server.connect().await
    }

    /// Its HTTP address.
    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    pub(crate) fn signal(&self, name: &str) {
        self.server.signal(name);
    }

    /// Sets the clock atomically: a reader sees either the old or the new error.
    pub(crate) fn set(&self, by: &str) {
        let new = self.clock.path().join("new");
        fs::write(&new, by).expect("a file can be written");
        fs::rename(new, self.clock.path().join("time")).expect("a file can be renamed");
    }

    /// The last day in the log; empty if nothing was logged.
    pub(crate) fn last_logged_day(&self) -> String {
        let log = self.server.log();
        log.lines().last().and_then(|line| line.split_once('T')).map(|(day, _)| day.to_owned()).unwrap_or_default()
    }
}

impl Drop for OnWrongClock {
    /// The library leaves files behind if its process is killed.
    fn drop(&mut self) {
        let Some(id) = self.server.id() else { return };
        for name in [format!("faketime_shm_{id}"), format!("sem.faketime_sem_{id}")] {
            let _ = fs::remove_file(PathBuf::from("/dev/shm").join(name));
        }
    }
}

/// The day that many days after today, in the format of the logs.
pub(crate) fn day(after_today: i32) -> String {
    let date =
        Command::new("date").args(["-u", "+%F", "-d", &format!("{after_today} days")]).output().expect("no date");
    String::from_utf8(date.stdout).expect("it is text").trim().to_owned()
}

fn libfaketime() -> PathBuf {
    let places = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|place| Some(place.ok()?.path()));
    places
        .chain(["/usr/lib".into(), "/usr/local/lib".into()])
        .map(|place| place.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())
        .expect("libfaketime is missing: install it (Debian: apt-get install faketime)")
}
