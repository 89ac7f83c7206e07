//! What is logged when a layer is put on.

use std::sync::{Arc, Mutex};

use turbomcp_core::McpHandler;
use turbomcp_types::{Tool, ToolResult};

use crate::testing::{ScriptedServer, Traced};
use crate::{CachedTool, Layer, Middleware, RetryTool, explain, layer};

fn reader(tools: usize) -> ScriptedServer {
    let add = |server: ScriptedServer, tool| {
        server.with_read_only(&format!("read_{tool:04}"), |_| async { Ok(ToolResult::text("read")) })
    };
    (0..tools).fold(ScriptedServer::new("reader"), add)
}

/// Lists the tools once they are there.
#[derive(Clone, Default)]
struct Late(Arc<Mutex<bool>>);

impl Late {
    fn arrive(&self) {
        *self.0.lock().expect("nobody panicked") = true;
    }
}

impl Middleware for Late {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        if *self.0.lock().expect("nobody panicked") { inner.list_tools() } else { Vec::new() }
    }
}

fn warnings(traced: &Traced) -> Vec<String> {
    let text = traced.text();
    let warning = |line: &str| line.split_once("a stack of layers has a mistake warning=").map(|(_, it)| it.to_owned());
    text.lines().filter_map(warning).collect()
}

#[test]
fn a_layer_that_is_put_on_logs_its_tools_in_one_bounded_line() {
    let traced = Traced::start();
    let server = CachedTool::new().layer(reader(1000));
    let text = traced.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("a layer was put on")).collect();
    let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
    assert!(line.contains("INFO"), "{line}");
    assert!(line.contains(r#"layer="CachedTool" tools=1000 names="read_0000, read_0001,"#), "{line}");
    assert!(line.ends_with(r#"read_0007 and 992 more""#), "{line}");
    server.list_tools();
    assert_eq!(traced.text(), text, "a listing logs nothing");
}

#[test]
fn an_optional_layer_that_is_not_there_logs_nothing() {
    let traced = Traced::start();
    let _server = layer(None::<CachedTool>).layer(reader(1));
    assert_eq!(traced.text(), "");
}

#[test]
fn a_layer_that_says_nothing_of_itself_costs_no_listing_when_it_is_put_on() {
    let traced = Traced::start();
    let reader = reader(1);
    let _server = layer(Late::default()).layer(reader.clone());
    assert_eq!(reader.listings(), 0);
    assert!(traced.text().contains(r#"a layer was put on layer="Late" names="every tool""#), "{}", traced.text());
}

#[test]
fn a_layer_warns_once_when_it_is_put_on() {
    let traced = Traced::start();
    let server = (RetryTool::new(), CachedTool::new()).layer(reader(1));
    let [warning] = warnings(&traced).try_into().expect("one warning");
    assert_eq!(warning, explain(&server).warnings()[0].to_string());
    server.list_tools();
    assert_eq!(warnings(&traced), [warning], "neither the explanation nor a listing says it again");
}

#[test]
fn with_an_empty_catalogue_layers_warn_in_the_first_listing_that_has_tools() {
    let traced = Traced::start();
    let late = Late::default();
    let idle = RetryTool::new().when(|_| false);
    let server = (idle, CachedTool::new(), layer(late.clone()), CachedTool::new()).layer(reader(1));
    server.list_tools();
    assert_eq!(warnings(&traced), [""; 0]);

    late.arrive();
    server.list_tools();
    let first = warnings(&traced);
    let beginnings =
        ["CachedTool and, inside it, CachedTool both have the role cache for `read_0000`: ", "RetryTool acts on no"];
    assert_eq!(first.len(), 2, "{first:?}");
    for (warning, beginning) in first.iter().zip(beginnings) {
        assert!(warning.starts_with(beginning), "{warning}");
    }
    server.list_tools();
    assert_eq!(warnings(&traced), first);
}

#[test]
fn a_listing_shows_no_mark_of_an_explanation() {
    let server = (RetryTool::new(), CachedTool::new()).layer(reader(1));
    explain(&server);
    assert!(server.list_tools().iter().all(|tool| tool.meta.is_none()));

    // The first listing that has tools is an explanation, too.
    let late = Late::default();
    let server = (RetryTool::new(), layer(late.clone()), CachedTool::new()).layer(reader(1));
    late.arrive();
    assert!(server.list_tools().iter().all(|tool| tool.meta.is_none()));
}
