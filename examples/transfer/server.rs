//! Accounts, and money that moves between them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use turbomcp::prelude::*;

use super::amount::Amount;
use super::ledger::{self, Ledger};

/// The longest name of an owner, in characters.
pub const MAX_OWNER_CHARS: usize = 100;

/// An account.
#[derive(Debug, Serialize, JsonSchema)]
struct Account {
    /// The account's number
    account: i64,
    /// Who owns it
    owner: String,
    /// What is in it, in dollars, with two decimals
    balance: String,
}

/// Money that was moved.
#[derive(Debug, Serialize, JsonSchema)]
struct Transfer {
    /// The account that was debited
    from: i64,
    /// The account that was credited
    to: i64,
    /// How much, in dollars, with two decimals
    amount: String,
}

/// The latest transfers of an account.
#[derive(Debug, Serialize, JsonSchema)]
struct History {
    /// The transfers, the latest first
    entries: Vec<Entry>,
}

/// Money that was moved, and when.
#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    #[serde(flatten)]
    transfer: Transfer,
    /// When it was moved, in UTC
    at: String,
}

/// Keeps accounts. Every tool expects to be called in a transaction.
#[derive(Debug, Clone)]
pub struct TransferServer {
    ledger: Arc<dyn Ledger>,
}

#[server(
    name = "transfer",
    version = "1.0.0",
    instructions = "Keeps accounts in dollars. `open_account` makes one, `balance` and `history` tell of it, and \
                    `transfer` moves money from one to another, wholly or not at all."
)]
impl TransferServer {
    #[tool(
        description = "Moves money from one account to another",
        read_only = false,
        destructive = true,
        idempotent = false,
        open_world = false,
        output_schema = Transfer
    )]
    async fn transfer(
        &self,
        #[description("The number of the account to debit")] from_account: i64,
        #[description("The number of the account to credit")] to_account: i64,
        #[description("How much to move, in dollars: positive, with at most two decimals, such as 12.50")]
        amount: Amount,
    ) -> McpResult<ToolResult> {
        let amount = amount.positive()?;
        if from_account == to_account {
            return Err(McpError::invalid_params("An account cannot transfer to itself"));
        }
        let known = self.ledger.lock([from_account, to_account]).await?;
        for account in [from_account, to_account] {
            if !known.contains(&account) {
                return Err(unknown(account));
            }
        }
        if !self.ledger.debit(from_account, amount).await? {
            return Err(McpError::invalid_request("Insufficient funds"));
        }
        self.ledger.credit(to_account, amount).await?;
        self.ledger.record(from_account, to_account, amount).await?;
        Ok(ToolResult::text(format!("Transferred ${amount} from {from_account} to {to_account}"))
            .with_structured(&Transfer { from: from_account, to: to_account, amount: amount.to_string() }))
    }

    #[tool(
        description = "Tells what is in an account",
        read_only = true,
        idempotent = true,
        open_world = false,
        output_schema = Account
    )]
    async fn balance(&self, #[description("The account's number")] account: i64) -> McpResult<ToolResult> {
        let found = self.ledger.account(account).await?.ok_or_else(|| unknown(account))?;
        Ok(ToolResult::text(format!("Account {account} ({}) holds ${}", found.owner, found.balance))
            .with_structured(&Account { account, owner: found.owner, balance: found.balance.to_string() }))
    }

    #[tool(
        description = "Opens an account and tells its number",
        read_only = false,
        destructive = false,
        idempotent = false,
        open_world = false,
        output_schema = Account
    )]
    async fn open_account(
        &self,
        #[description("Who owns the account, 1 to 100 characters")] owner: String,
        #[description("What is in it to begin with, in dollars: not negative, with at most two decimals")]
        deposit: Amount,
    ) -> McpResult<ToolResult> {
        if owner.trim().is_empty() {
            return Err(McpError::invalid_params("An account's owner must not be blank"));
        }
        if owner.chars().count() > MAX_OWNER_CHARS {
            return Err(McpError::invalid_params(format!("An owner's name has at most {MAX_OWNER_CHARS} characters")));
        }
        let balance = deposit.deposit()?;
        let account = self.ledger.open(&owner, balance).await?;
        Ok(ToolResult::text(format!("Opened account {account} for {owner} with ${balance}"))
            .with_structured(&Account { account, owner, balance: balance.to_string() }))
    }

    #[tool(
        description = "Lists the latest hundred transfers from and to an account",
        read_only = true,
        idempotent = true,
        open_world = false,
        output_schema = History
    )]
    async fn history(&self, #[description("The account's number")] account: i64) -> McpResult<ToolResult> {
        if self.ledger.account(account).await?.is_none() {
            return Err(unknown(account));
        }
        let entries: Vec<_> = self.ledger.history(account).await?.into_iter().map(Entry::from).collect();
        let lines: Vec<_> = entries
            .iter()
            .map(|Entry { transfer, at }| {
                format!("{at} ${} from {} to {}", transfer.amount, transfer.from, transfer.to)
            })
            .collect();
        let text = if lines.is_empty() { format!("Account {account} has no transfers") } else { lines.join("\n") };
        Ok(ToolResult::text(text).with_structured(&History { entries }))
    }
}

impl TransferServer {
    /// Creates a server with its accounts in this kind of database.
    pub fn new(ledger: impl Ledger) -> Self {
        Self { ledger: Arc::new(ledger) }
    }
}

impl From<ledger::Entry> for Entry {
    fn from(entry: ledger::Entry) -> Self {
        let transfer = Transfer { from: entry.from, to: entry.to, amount: entry.amount.to_string() };
        Self { transfer, at: entry.at }
    }
}

fn unknown(account: i64) -> McpError {
    McpError::invalid_request(format!("There is no account {account}"))
}
