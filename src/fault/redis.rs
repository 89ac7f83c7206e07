//! Errors of Redis.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::{Fault, Judged, may_have_run, not_run, of_io};

/// Judges the error of a step: a command, a script of this crate, or a pipeline that ends with one.
///
/// Redis refuses a script before it runs it, or at its first write: without memory, on a replica, or while it cannot
/// write to disk. It does not undo a script that it ends later.
pub(crate) fn of_redis(error: &RedisError) -> Judged {
    match error.kind() {
        ErrorKind::Server(kind) => of_answer(kind, error),
        // A code that is unknown to the client.
        ErrorKind::Extension => of_code(error.code().unwrap_or_default()),
        ErrorKind::Io => match Error::source(error).and_then(io_error) {
            Some(error) => of_io(error),
            None => may_have_run(Fault::Unavailable),
        },
        // No connection could be made.
        ErrorKind::AuthenticationFailed
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel => not_run(Fault::Unavailable),
        ErrorKind::Client
        | ErrorKind::InvalidClientConfig
        | ErrorKind::EmptySentinelList
        | ErrorKind::RESP3NotSupported => not_run(Fault::Permanent),
        // A cluster's client has perhaps sent it to a node that has vanished. Or the reply came, and could not be read.
        _ => may_have_run(Fault::Unavailable),
    }
}

/// The client keeps it behind an `Arc`.
fn io_error<'a>(source: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let shared = source.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    (**shared).downcast_ref()
}

fn of_answer(kind: ServerErrorKind, error: &RedisError) -> Judged {
    match kind {
        ServerErrorKind::BusyLoading
        | ServerErrorKind::MasterDown
        | ServerErrorKind::ClusterDown
        | ServerErrorKind::TryAgain
        | ServerErrorKind::Moved
        | ServerErrorKind::Ask
        | ServerErrorKind::ReadOnly => not_run(Fault::Unavailable),
        // The commands of a script are permitted one by one.
        _ if error.detail().is_some_and(|detail| detail.contains("ACL failure in script")) => {
            may_have_run(Fault::Permanent)
        }
        _ => not_run(Fault::Permanent),
    }
}

pub(super) fn of_code(code: &str) -> Judged {
    match code {
        // No memory, another script runs, or no writes because of the disk or of missing replicas.
        "OOM" | "BUSY" | "MISCONF" | "NOREPLICAS" => not_run(Fault::Unavailable),
        // A script that was killed has written nothing, but one that the server ended has.
        "UNKILLABLE" => may_have_run(Fault::Unavailable),
        _ => not_run(Fault::Permanent),
    }
}
