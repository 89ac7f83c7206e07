//! What an example server says when it cannot start: the cause, and no password.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::client::executable;

/// Runs an example that ends at once, and returns its log.
fn refused(example: &str, flags: &[&str]) -> String {
    let output = Command::new(executable(example)).args(flags).stdin(Stdio::null()).output().expect("it starts");
    assert!(!output.status.success(), "{flags:?} is accepted");
    String::from_utf8(output.stderr).expect("the output is text")
}

/// An address on which nobody listens, until another process binds it.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[test]
fn a_store_of_sessions_that_does_not_exist_is_named_with_those_that_do() {
    let log = refused("counter", &["--sessions", "mysql://127.0.0.1"]);
    assert!(
        log.contains("--sessions cannot be used: it must be `memory`, or begin with redis:, sqlite: or postgres:"),
        "{log}"
    );
}

#[test]
fn a_server_that_does_not_answer_is_named_by_its_address_and_without_the_password() {
    let address = format!("127.0.0.1:{}", free_port());
    let servers = [
        (
            "counter",
            "--sessions",
            format!("redis://:secret@{address}"),
            format!("the Redis at {address} does not answer"),
        ),
        ("counter", "--sessions", format!("postgres://me:secret@{address}/x"), format!("no connection to {address}")),
        ("users", "--database-url", format!("postgres://me:secret@{address}/x"), format!("no connection to {address}")),
    ];
    for (example, flag, url, cause) in servers {
        let log = refused(example, &[flag, &url]);
        assert!(log.contains(&cause), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}

#[test]
fn an_address_without_a_host_is_refused_with_an_example() {
    let log = refused("counter", &["--http", "8080"]);
    assert!(log.contains("such as 127.0.0.1:8080"), "{log}");
}

#[test]
fn an_address_in_use_is_found_before_the_upstream_is_asked() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has one").to_string();
    let log = refused("weather", &["--http", &address]);
    assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
    assert!(!log.contains("the upstream was asked"), "{log}");
}
