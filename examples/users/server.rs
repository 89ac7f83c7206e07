//! Users who register and order. Invalid input never reaches a tool: see [`validated`].

use std::sync::Arc;

use mcp_patterns::ValidatedTool;
use mcp_patterns::validated::{RuleContext, Violation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use turbomcp::prelude::*;
use validator::Validate;

use super::store::Store;

/// 3 to 20 letters, digits and underscores
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("minLength" = 3, "maxLength" = 20, "pattern" = r"^[\p{L}\p{N}_]*$"))]
struct Username(String);

/// An email address
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("format" = "email"))]
struct Email(String);

/// 18 to 120 years
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("minimum" = 18, "maximum" = 120))]
struct Age(i64);

/// At least one
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("minimum" = 1, "maximum" = 1000))]
struct Quantity(i64);

/// Somebody who registers. Its rules are told in the tool's schema too.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct UserRegistration {
    #[validate(length(min = 3, max = 20))]
    username: String,
    #[validate(email)]
    email: String,
    #[validate(range(min = 18, max = 120))]
    age: i64,
    #[validate(length(min = 8), custom(function = "is_no_classic"))]
    password: String,
}

/// No schema can express this.
fn is_no_classic(password: &str) -> Result<(), validator::ValidationError> {
    match password.to_ascii_lowercase().as_str() {
        "password" | "12345678" | "qwertyui" => Err(validator::ValidationError::new("guessable")
            .with_message("This password is the first that is tried".into())),
        _ => Ok(()),
    }
}

/// The part of an order that a business rule reads.
#[derive(Debug, Deserialize)]
struct CreateOrder {
    user_id: i64,
    product_id: i64,
    quantity: i64,
}

#[derive(Debug, Deserialize)]
struct Named {
    username: String,
}

/// Something that was made.
#[derive(Debug, Serialize, JsonSchema)]
struct Created {
    /// Its number
    id: i64,
}

/// A user.
#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    /// The user's number
    id: i64,
    /// The user's name
    username: String,
    /// Where mail for the user goes
    email: String,
    /// The user's age in years
    age: i64,
}

/// Keeps users and their orders. Tools that write expect to be called in a transaction.
#[derive(Debug, Clone)]
pub struct UsersServer {
    store: Arc<dyn Store>,
}

#[server(
    name = "users",
    version = "1.0.0",
    instructions = "Keeps users and their orders. `create_user` and `register` make a user, `create_order` orders a product: \
                    1 tea, 2 teapot, 3 samovar."
)]
impl UsersServer {
    #[tool(description = "Creates a user", read_only = false, destructive = false, open_world = false, output_schema = Created)]
    async fn create_user(&self, username: Username, email: Email, age: Age) -> McpResult<ToolResult> {
        let id = self.add(&username.0, &email.0, age.0).await?;
        Ok(ToolResult::text(format!("User created: {} ({})", username.0, email.0)).with_structured(&Created { id }))
    }

    #[tool(description = "Registers a user", read_only = false, destructive = false, open_world = false, output_schema = Created)]
    async fn register(&self, data: UserRegistration) -> McpResult<ToolResult> {
        // The password is checked and dropped: this example does not show how to store one.
        let id = self.add(&data.username, &data.email, data.age).await?;
        Ok(ToolResult::text(format!("User {} registered successfully", data.username)).with_structured(&Created { id }))
    }

    #[tool(description = "Reads a user", read_only = true, open_world = false, output_schema = Found)]
    async fn get_user(&self, #[description("The user's number")] user_id: i64) -> McpResult<ToolResult> {
        let user = self.store.user(user_id).await?.ok_or_else(|| McpError::invalid_request("User not found"))?;
        let text = format!("User {}: {} ({}), {} years old", user.id, user.username, user.email, user.age);
        let found = Found { id: user.id, username: user.username, email: user.email, age: user.age };
        Ok(ToolResult::text(text).with_structured(&found))
    }

    #[tool(description = "Orders a product", read_only = false, destructive = false, open_world = false, output_schema = Created)]
    async fn create_order(
        &self,
        #[description("The user's number")] user_id: i64,
        #[description("The product's number")] product_id: i64,
        quantity: Quantity,
    ) -> McpResult<ToolResult> {
        let price =
            self.store.take(product_id, quantity.0).await?.map_err(|stock| McpError::invalid_request(only(stock)))?;
        if !self.store.charge(user_id, price * quantity.0).await? {
            return Err(McpError::invalid_request("Credit limit exceeded"));
        }
        let id = self.store.add_order(user_id, product_id, quantity.0).await?;
        Ok(ToolResult::text(format!("Order {id} created successfully")).with_structured(&Created { id }))
    }
}

impl UsersServer {
    /// Creates a server with its users in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    async fn add(&self, username: &str, email: &str, age: i64) -> McpResult<i64> {
        let added = self.store.add_user(username, email, age).await?;
        added.ok_or_else(|| McpError::invalid_request("This username is taken"))
    }
}

/// The validation of input: by the schemas, by the types, and by the business rules.
///
/// The rules run before the transaction begins, so their data may have changed when the order is made: they give an
/// early answer, and the conditions in the tool's statements decide.
pub fn validated(store: &Arc<dyn Store>) -> ValidatedTool {
    let with = |store: &Arc<dyn Store>| Arc::clone(store);
    let (names, registered, users, products, credit) =
        (with(store), with(store), with(store), with(store), with(store));
    ValidatedTool::new()
        .typed::<UserRegistration>("register")
        .rule("create_user", move |user: Named, cx| is_free(Arc::clone(&names), user, cx))
        .rule("register", move |user: Named, cx| is_free(Arc::clone(&registered), user, cx))
        .rule("create_order", move |order: CreateOrder, cx: RuleContext| {
            let store = Arc::clone(&users);
            async move {
                if store.user(order.user_id).await?.is_none() {
                    cx.refuse(Violation::new("user_not_found", "User not found").at("user_id"));
                }
                Ok(())
            }
        })
        .rule("create_order", move |order: CreateOrder, cx: RuleContext| {
            let store = Arc::clone(&products);
            async move {
                match store.product(order.product_id).await? {
                    None => cx.refuse(Violation::new("product_not_found", "Product not found").at("product_id")),
                    Some(product) if product.stock < order.quantity => {
                        cx.refuse(Violation::new("out_of_stock", only(product.stock)).at("quantity"));
                    }
                    Some(_) => {}
                }
                Ok(())
            }
        })
        .rule("create_order", move |order: CreateOrder, cx: RuleContext| {
            let store = Arc::clone(&credit);
            async move {
                let (user, product) = (store.user(order.user_id).await?, store.product(order.product_id).await?);
                if let (Some(user), Some(product)) = (user, product)
                    && user.credit_cents < product.price_cents.saturating_mul(order.quantity)
                {
                    cx.refuse(Violation::new("credit_limit", "Credit limit exceeded").at("quantity"));
                }
                Ok(())
            }
        })
}

async fn is_free(
    store: Arc<dyn Store>,
    user: Named,
    cx: RuleContext,
) -> Result<(), mcp_patterns::validated::RuleError> {
    if store.is_taken(&user.username).await? {
        cx.refuse(Violation::new("username_taken", "This username is taken").at("username"));
    }
    Ok(())
}

fn only(stock: i64) -> String {
    let plural = if stock == 1 { "" } else { "s" };
    format!("Only {stock} unit{plural} available")
}
