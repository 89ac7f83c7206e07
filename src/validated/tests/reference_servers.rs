//! The tools of the MCP reference servers: their schemas compile, and judge as their authors intended.

use std::collections::BTreeMap;

use super::*;

/// By server and tool: the input schema, valid arguments, and invalid arguments with their violations.
fn servers() -> BTreeMap<String, BTreeMap<String, Value>> {
    serde_json::from_str(include_str!("reference_servers.json")).expect("a table")
}

#[tokio::test]
async fn the_tools_of_the_reference_servers_accept_their_intended_arguments() {
    let mut tools = 0;
    for (server, cases) in servers() {
        let script = cases.iter().fold(ScriptedServer::new(&server), |script, (name, case)| {
            script.with_tool(tool(name, case["schema"].clone()), |_| async { Ok(ToolResult::text("done")) })
        });
        let layered = ValidatedTool::new().try_layer(script).unwrap_or_else(|mistake| panic!("{server}: {mistake}"));
        for (name, case) in &cases {
            tools += 1;
            for good in case["good"].as_array().expect("a list") {
                let answer = call(&layered, name, good.clone()).await;
                assert!(!answer.is_error(), "{server} {name} {good}: {answer:?}");
            }
            for bad in case["bad"].as_array().expect("a list") {
                let answer = call(&layered, name, bad["args"].clone()).await;
                let told: Vec<_> =
                    listed(&answer).into_iter().map(|(pointer, code)| format!("{pointer} {code}")).collect();
                assert_eq!(json!(told), bad["told"], "{server} {name} {bad}: {}", text(&answer));
            }
        }
    }
    assert_eq!(tools, 44);
}
