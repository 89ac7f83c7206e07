//! A call with invalid arguments is rejected before it reaches the tool.
//!
//! `cargo run --example validated --features validated` serves it over stdio.
//!
//! Call `create_user` from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command, with
//! `{"user": {"username": "al", "email": "nonsense", "age": 17}}`. The result lists all three violations.

use mcp_patterns::{TryLayer, ValidatedTool};
use schemars::JsonSchema;
use serde::Deserialize;
use turbomcp::prelude::*;
use validator::Validate;

#[derive(Deserialize, JsonSchema, Validate)]
struct NewUser {
    #[validate(length(min = 3, max = 20))]
    username: String,
    #[validate(email)]
    email: String,
    #[validate(range(min = 18, max = 120))]
    age: u8,
}

#[derive(Clone)]
struct Users;

#[server(name = "users", version = "1.0.0")]
impl Users {
    /// Creates a user.
    #[tool]
    async fn create_user(&self, user: NewUser) -> McpResult<String> {
        Ok(format!("Created {} <{}>, aged {}", user.username, user.email, user.age))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ValidatedTool::new().typed::<NewUser>("create_user").try_layer(Users)?.run_stdio().await?;
    Ok(())
}
