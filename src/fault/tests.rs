//! The tests check each row of the guide's table.

use std::io;

use redis::RedisError;
use sqlx::Error;

use super::{Fault, Judged, of_commit, of_redis, of_sql, redis as of_codes, sql};

const GUIDE: &str = include_str!("../../docs/transactions.md");

/// The rows of the table: the source, its errors, the kind, and whether the statement may have run.
fn rows() -> impl Iterator<Item = (&'static str, Vec<&'static str>, Judged)> {
    let (_, section) = GUIDE.split_once("## What an error of the database means").expect("the guide has the section");
    let rows = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    rows.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [of, errors, fault, may_have_run] = cells[..] else { panic!("four cells: {line}") };
        let fault = match fault {
            "conflict" => Fault::Conflict,
            "timeout" => Fault::Timeout,
            "unavailable" => Fault::Unavailable,
            "permanent" => Fault::Permanent,
            other => panic!("{other} is no kind"),
        };
        let may_have_run = match may_have_run {
            "yes" => true,
            "no" => false,
            other => panic!("{other} is no answer"),
        };
        let errors = errors.split('`').skip(1).step_by(2).collect();
        (of, errors, Judged { fault, may_have_run })
    })
}

fn io_error(name: &str) -> io::Error {
    use io::ErrorKind as Kind;
    let kind = match name {
        "EMFILE" => return io::Error::from_raw_os_error(24),
        "ENFILE" => return io::Error::from_raw_os_error(23),
        "ConnectionRefused" => Kind::ConnectionRefused,
        "NotFound" => Kind::NotFound,
        "AddrInUse" => Kind::AddrInUse,
        "AddrNotAvailable" => Kind::AddrNotAvailable,
        "ConnectionReset" => Kind::ConnectionReset,
        "ConnectionAborted" => Kind::ConnectionAborted,
        "BrokenPipe" => Kind::BrokenPipe,
        "NotConnected" => Kind::NotConnected,
        "UnexpectedEof" => Kind::UnexpectedEof,
        "TimedOut" => Kind::TimedOut,
        "HostUnreachable" => Kind::HostUnreachable,
        "NetworkUnreachable" => Kind::NetworkUnreachable,
        other => panic!("{other} is no IO error that the tests know"),
    };
    kind.into()
}

fn sqlx_error(name: &str) -> Error {
    match name {
        "PoolTimedOut" => Error::PoolTimedOut,
        "PoolClosed" => Error::PoolClosed,
        "Tls" => Error::Tls("no certificate".into()),
        "BeginFailed" => Error::BeginFailed,
        "Protocol" => Error::Protocol("rubbish".into()),
        "WorkerCrashed" => Error::WorkerCrashed,
        "Configuration" => Error::Configuration("no such option".into()),
        "InvalidArgument" => Error::InvalidArgument("a null byte".into()),
        "Encode" => Error::Encode("too large".into()),
        "InvalidSavePointStatement" => Error::InvalidSavePointStatement,
        "RowNotFound" => Error::RowNotFound,
        "ColumnNotFound" => Error::ColumnNotFound("n".into()),
        "Decode" => Error::Decode("no number".into()),
        other => panic!("{other} is no error of sqlx's that the tests know"),
    }
}

fn redis_error(name: &str) -> RedisError {
    use redis::{ErrorKind, ServerErrorKind as Server};
    let kind = match name {
        "LOADING" => Server::BusyLoading.into(),
        "MASTERDOWN" => Server::MasterDown.into(),
        "CLUSTERDOWN" => Server::ClusterDown.into(),
        "TRYAGAIN" => Server::TryAgain.into(),
        "MOVED" => Server::Moved.into(),
        "ASK" => Server::Ask.into(),
        "READONLY" => Server::ReadOnly.into(),
        "NOPERM" => Server::NoPerm.into(),
        "EXECABORT" => Server::ExecAbort.into(),
        "NOSCRIPT" => Server::NoScript.into(),
        "CROSSSLOT" => Server::CrossSlot.into(),
        "ERR" => Server::ResponseError.into(),
        "AuthenticationFailed" => ErrorKind::AuthenticationFailed,
        "MasterNameNotFoundBySentinel" => ErrorKind::MasterNameNotFoundBySentinel,
        "NoValidReplicasFoundBySentinel" => ErrorKind::NoValidReplicasFoundBySentinel,
        "InvalidClientConfig" => ErrorKind::InvalidClientConfig,
        "Client" => ErrorKind::Client,
        "ClusterConnectionNotFound" => ErrorKind::ClusterConnectionNotFound,
        "UnexpectedReturnType" => ErrorKind::UnexpectedReturnType,
        "Parse" => ErrorKind::Parse,
        code => return redis::make_extension_error(code.to_owned(), None),
    };
    RedisError::from((kind, "as Redis says it"))
}

#[test]
fn each_error_has_the_meaning_in_the_table_of_the_guide() {
    let mut seen = 0;
    for (of, errors, expected) in rows() {
        for error in errors {
            seen += 1;
            let judged = match of {
                "PostgreSQL, `ERROR`" => sql::of_sqlstate(error, false),
                "PostgreSQL, `FATAL`" => sql::of_sqlstate(error, true),
                "SQLite" => sql::of_result_code(error.parse().expect("a result code")),
                "sqlx" => of_sql(&sqlx_error(error)),
                "IO" => {
                    assert_eq!(of_redis(&io_error(error).into()), expected, "{error} of Redis");
                    of_sql(&Error::Io(io_error(error)))
                }
                "Redis" => of_redis(&redis_error(error)),
                other => panic!("{other} has no errors that the tests know"),
            };
            assert_eq!(judged, expected, "{error} of {of}");
        }
    }
    assert!(seen > 90, "only {seen} were found: the reader is broken");
}

#[test]
fn only_an_answer_of_the_database_makes_a_commit_certain() {
    for name in ["ConnectionRefused", "ConnectionReset", "UnexpectedEof", "TimedOut"] {
        assert!(of_commit(&Error::Io(io_error(name))).may_have_run, "{name}");
    }
    for name in ["PoolTimedOut", "Protocol", "WorkerCrashed", "RowNotFound"] {
        assert!(of_commit(&sqlx_error(name)).may_have_run, "{name}");
    }
}

#[test]
fn a_script_that_lacks_a_permission_may_have_written_before() {
    let refused = |text: &str| {
        let kind = redis::ServerErrorKind::ResponseError.into();
        of_redis(&RedisError::from((kind, "an error", text.to_owned()))).may_have_run
    };
    assert!(refused("ACL failure in script: User ada has no permissions to run the 'pexpire' command"));
    assert!(!refused("wrong number of arguments"));
    assert!(!of_codes::of_code("WRONGTYPE").may_have_run);
}
