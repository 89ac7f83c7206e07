#[cfg(feature = "sqlite")]
mod sqlite {
    use super::super::*;
    use crate::batched::Call;
    use crate::{BatchedTool, Layer, TransactionalTool};

    #[tokio::test]
    async fn a_call_inside_a_transaction_is_not_batched() {
        let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.expect("a database");
        let script = ScriptedServer::new("library").with_read_only("read", |_| async { Ok(ToolResult::text("alone")) });
        let bulk =
            |calls: Vec<Call>| async move { calls.iter().map(|_| Ok("together")).collect::<Vec<McpResult<_>>>() };
        let (transaction, batched) =
            (TransactionalTool::new(pool).only(["read"]), BatchedTool::new().with_bulk("read", bulk));
        let inside = (transaction.clone(), batched.clone()).layer(script.clone());
        let answer = inside.call_tool("read", json!({}), &nobody()).await;
        assert_eq!((text(&answer), size(&answer)), ("alone", None));
        let outside = (batched, transaction).layer(script);
        assert_eq!(text(&outside.call_tool("read", json!({}), &nobody()).await), "together");
    }
}
