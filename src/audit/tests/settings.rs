use super::*;
use crate::idempotent::MemoryBackend;
use crate::{CachedTool, IdempotentTool};

fn mistake(audit: &AuditTool) -> String {
    audit.try_layer(server()).map(|_| "none".to_owned()).unwrap_or_else(|mistake| mistake.to_string())
}

fn lines() -> Buffered {
    Buffered::new(crate::audit::JsonLines::new(tokio::io::sink()))
}

#[test]
fn a_setting_that_cannot_work_is_an_error_that_says_what_to_do() {
    let new = || AuditTool::new().with_tracing();
    let buffered = |buffer| mistake(&AuditTool::new().with_buffer(buffer));
    let cases = [
        (
            mistake(&AuditTool::new()),
            "AuditTool::new: no event would be recorded: add `with_tracing`, `with_sink` or `with_buffer`",
        ),
        (buffered(lines().with_capacity(0)), "Buffered::with_capacity: must be greater than zero"),
        (buffered(lines().with_wait(Duration::ZERO)), "Buffered::with_wait: must be greater than zero"),
        (buffered(lines().with_wait(Duration::from_nanos(1))), "Buffered::with_wait: must be at least 1 ms"),
        (mistake(&new().with_max_argument_bytes(0)), "AuditTool::with_max_argument_bytes: must be greater than zero"),
        (
            mistake(&new().with_hashed_principals("short")),
            "AuditTool::with_hashed_principals: the key has 5 bytes: set a random one of at least 16",
        ),
        (
            mistake(&new().with_arguments("order", ["/to"]).with_redaction(|_, args| args.clone())),
            "AuditTool::with_arguments: `with_redaction` decides for every tool: remove one of the two",
        ),
        (
            mistake(&new().with_arguments("order", ["to"])),
            "AuditTool::with_arguments: `to` of `order` is no JSON pointer: it begins with a slash, such as `/to`",
        ),
        (
            mistake(&new().with_arguments("order", [""])),
            "AuditTool::with_arguments: `` of `order` stands for all arguments: name each one that may be recorded, or use \
             `with_redaction`",
        ),
        (
            mistake(&new().with_arguments("order", ["/to"]).except(["order"])),
            "AuditTool::with_arguments: `order` has arguments to record and is left out: remove one of the two",
        ),
        (
            mistake(&new().with_arguments("odrer", ["/to"])),
            "AuditTool names the tool `odrer`, which the server does not have: did you mean `order`?",
        ),
        (
            mistake(&new().only(["serach"])),
            "AuditTool names the tool `serach`, which the server does not have: did you mean `search`?",
        ),
    ];
    for (mistake, expected) in cases {
        assert_eq!(mistake, expected);
    }
}

#[test]
fn a_key_of_a_client_is_not_recorded_even_if_it_is_listed() {
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["order"]);
    let audit = AuditTool::new().with_tracing().with_arguments("order", ["/idempotency_key"]);
    let mistake = (audit, keys).try_layer(server()).map(drop).expect_err("it is a secret").to_string();
    let expected = "AuditTool::with_arguments: `/idempotency_key` of `order` is an argument that a layer adds, and a secret of \
                    its caller: remove it";
    assert_eq!(mistake, expected);
}

#[tokio::test]
async fn selectors_leave_tools_without_events() {
    let seen = Seen::default();
    let audit = seen.audit().except(["order"]);
    let handle = audit.handle();
    let server = audit.layer(server());
    for tool in ["order", "search", "unknown"] {
        let _ = call(&server, tool, json!({})).await;
    }
    assert_eq!(seen.all().iter().map(|event| &*event.tool).collect::<Vec<_>>(), ["search", "unknown"]);
    assert_eq!(handle.tools(), ["search"]);
}

#[test]
fn an_explanation_says_the_sinks_and_the_arguments_and_that_it_is_outermost() {
    let audit = || AuditTool::new().with_tracing().with_buffer(lines()).with_arguments("order", ["/to", "/by"]);
    let explained = crate::explain(&(audit(), CachedTool::new()).layer(server())).to_string();
    for words in ["sinks tracing, json_lines", "principals by name", "arguments /to, /by"] {
        assert!(explained.contains(words), "{words} in {explained}");
    }
    let wrong = (CachedTool::new(), audit()).layer(server());
    let warning = crate::explain(&wrong).strict().expect_err("a hit is not recorded").to_string();
    assert!(warning.starts_with("CachedTool is outside AuditTool for `search`: a hit is not recorded"), "{warning}");
    assert!(crate::explain(&(audit(), CachedTool::new()).layer(server())).strict().is_ok());
}
