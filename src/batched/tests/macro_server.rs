use turbomcp::prelude::*;

use super::*;
use crate::batched::Call;
use crate::{BatchedTool, Layer};

#[derive(Debug, Clone)]
struct Users;

#[server(name = "users", version = "1.0.0")]
impl Users {
    /// Reads a user.
    #[tool(read_only = true)]
    async fn get_user(&self, id: i64) -> McpResult<String> {
        if id < 0 { Err(McpError::invalid_params("ids are positive")) } else { Ok(format!("user {id}")) }
    }
}

#[tokio::test(start_paused = true)]
async fn tools_of_a_macro_server_are_batched_with_and_without_a_bulk_function() {
    let bulk = |calls: Vec<Call>| async move {
        calls
            .iter()
            .map(|call| Ok(format!("user {} of {}", call.args["id"], calls.len())))
            .collect::<Vec<McpResult<_>>>()
    };
    let ctx = nobody();
    let (with, without) = (
        BatchedTool::new().with_bulk("get_user", bulk).layer(Users),
        BatchedTool::new().only(["get_user"]).layer(Users),
    );
    let answers = join_all((0..2).map(|id| with.call_tool("get_user", json!({"id": id}), &ctx))).await;
    assert_eq!(answers.iter().map(text).collect::<Vec<_>>(), ["user 0 of 2", "user 1 of 2"]);
    let answers = join_all([-1, 1].map(|id| without.call_tool("get_user", json!({"id": id}), &ctx))).await;
    assert_eq!(failed(&answers[0]), (Some(ErrorKind::InvalidParams), "ids are positive".to_owned()));
    assert_eq!(text(&answers[1]), "user 1");
}
