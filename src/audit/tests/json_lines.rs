//! Lines of JSON.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::*;
use crate::audit::JsonLines;

/// A file in memory, which fails once after so many bytes.
#[derive(Clone, Default)]
struct File(Arc<Mutex<(Vec<u8>, Option<usize>)>>);

impl File {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").0.clone()).expect("a text")
    }
}

impl AsyncWrite for File {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut file = self.0.lock().expect("no panic");
        if file.1 == Some(0) {
            file.1 = None;
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        // In small pieces, as a pipe may take them.
        let taken = bytes.len().min(50).min(file.1.unwrap_or(usize::MAX));
        file.0.extend_from_slice(&bytes[..taken]);
        file.1 = file.1.map(|left| left - taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_line_has_the_documented_fields_and_only_those_with_a_value() {
    let file = File::default();
    let buffer = Buffered::new(JsonLines::new(file.clone()));
    let audit = AuditTool::new().with_buffer(buffer.clone()).with_arguments("order", ["/to"]);
    let server = audit.with_max_argument_bytes(10).layer(server());
    call(&server, "order", json!({"to": "Rome"})).await.expect("an answer");
    let ctx = RequestContext::new().with_session_id("1").with_request_id("7");
    let args = json!({"to": "a very long name", "fails": "forbidden"});
    server.call_tool("order", args, &ctx).await.expect("a failure");
    buffer.flush().await;
    let text = file.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [answered, failed] = &lines[..] else { panic!("{text}") };
    let fields = |event: &Value| {
        let mut fields: Vec<_> = event.as_object().expect("an object").keys().cloned().collect();
        fields.sort();
        fields
    };
    let always = ["answer_bytes", "argument_bytes", "duration_ms", "end", "id", "request_id", "time", "tool"];
    let with = |more: &[&str]| {
        let mut all: Vec<_> = always.iter().chain(more).map(|field| (*field).to_owned()).collect();
        all.sort();
        all
    };
    assert_eq!(fields(answered), with(&["arguments", "principal"]));
    assert_eq!(fields(failed), with(&["arguments_omitted", "kind", "session"]));
    assert_eq!((&answered["end"], &answered["arguments"]["/to"]), (&json!("answered"), &json!("Rome")));
    assert_eq!((&failed["end"], &failed["kind"]), (&json!("failed"), &json!("permission_denied")));
    let manual = include_str!("../mod.rs");
    let (_, table) = manual.split_once("//! # Events").expect("the table of fields");
    for field in
        fields(answered).iter().chain(&fields(failed)).map(String::as_str).chain(["layer", "attempts", "trace_id"])
    {
        assert!(table.contains(&format!("`{field}`")), "{field} is not documented");
    }
}

#[test]
fn each_word_of_an_end_is_documented_and_is_its_word_in_a_table() {
    let ends = [
        End::Answered,
        End::Hit,
        End::Stale,
        End::Replayed,
        End::Unfinished,
        End::Refused,
        End::Failed,
        End::Cancelled,
        End::TimedOut,
        End::Left,
        End::Panicked,
    ];
    for end in ends {
        assert_eq!(serde_json::to_value(end).expect("a word"), json!(end.as_str()));
        assert!(include_str!("../mod.rs").contains(&format!("`{}`", end.as_str())), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_cut_by_a_failure_stands_alone_and_its_event_follows_again() {
    for cut in [1, 30, 120, 320] {
        let file = File::default();
        file.0.lock().expect("no panic").1 = Some(cut);
        let (buffer, seen) = (Buffered::new(JsonLines::new(file.clone())), Seen::default());
        let server = seen.audit().with_buffer(buffer.clone()).layer(server());
        for _ in 0..3 {
            call(&server, "order", json!({})).await.expect("an answer");
        }
        buffer.flush().await;
        let text = file.text();
        let whole: Vec<String> = text
            .lines()
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["id"].as_str()?.to_owned()))
            .collect();
        for event in seen.all() {
            assert!(whole.contains(&event.id), "{} after {cut} bytes in {text}", event.id);
        }
        assert!(text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count() <= 2, "{text}");
    }
}
