//! The part of a source's error that the caller sees.

use super::*;

async fn read(error: McpError) -> (String, String) {
    let traced = Traced::start();
    let source = Source::new("prices", move || failing::<()>(ms(1), error.clone()));
    let answer = Gather::new().degrade(&(), [source]).await.unwrap();
    (answer.get("prices").unwrap().unwrap_err().to_owned(), traced.text())
}

#[tokio::test(start_paused = true)]
async fn the_texts_of_a_source_are_masked_and_logged_under_an_id() {
    let secret = "postgres://admin:hunter2@10.0.0.7/prices: connection refused";
    for (kind, sentence) in [
        (ErrorKind::Timeout, "`prices` did not answer in time"),
        (ErrorKind::Unavailable, "`prices` is not available at the moment"),
        (ErrorKind::Transport, "`prices` is not available at the moment"),
        (ErrorKind::ExternalService, "`prices` is not available at the moment"),
        (ErrorKind::ServerOverloaded, "`prices` is not available at the moment"),
        (ErrorKind::RateLimited, "`prices` is asked too often at the moment"),
        (ErrorKind::Cancelled, "`prices` was cancelled"),
        (ErrorKind::Internal, "`prices` failed"),
        (ErrorKind::Serialization, "`prices` failed"),
        (ErrorKind::Configuration, "`prices` failed"),
        (ErrorKind::Authentication, "`prices` failed"),
        (ErrorKind::Security, "`prices` failed"),
        (ErrorKind::ToolExecutionFailed, "`prices` failed"),
        (ErrorKind::ResourceAccessDenied, "`prices` failed"),
    ] {
        let (read, logged) = read(McpError::new(kind, secret)).await;
        let id = read.strip_prefix(sentence).and_then(|rest| rest.strip_prefix(" (error "));
        let id = id.and_then(|rest| rest.strip_suffix(')')).unwrap_or_else(|| panic!("{kind:?}: {read}"));
        assert_eq!(id.len(), 16);
        let line = logged.lines().find(|line| line.contains("a source failed, the answer is partial")).unwrap();
        assert!(line.contains(id) && line.contains(secret), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_addressed_to_the_caller_is_returned() {
    for kind in [
        ErrorKind::InvalidParams,
        ErrorKind::InvalidRequest,
        ErrorKind::ResourceNotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::UserRejected,
    ] {
        assert_eq!(read(McpError::new(kind, "No such product")).await.0, "No such product", "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_failures_have_two_ids() {
    let broken = || failing::<()>(ms(1), down());
    let answer = Gather::new().degrade(&(), [Source::new("a", broken), Source::new("b", broken)]).await.unwrap();
    let id = |source: &str| answer.get(source).unwrap().unwrap_err().split_once("(error ").unwrap().1.to_owned();
    assert_ne!(id("a"), id("b"));
}
