//! What is asked for: the tools, a resource and a prompt of the world's server.

use std::fmt;
use std::sync::LazyLock;

use serde_json::{Value, json};
use turbomcp_core::{Principal, ToolAnnotations};
use turbomcp_types::{Tool, ToolInputSchema, ToolOutputSchema};

use super::callers::CONNECTIONS;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    /// Reads what is the same for everybody.
    News,
    /// Reads what depends on the caller and the caller's rights.
    Mine,
    /// Reads the session.
    Seen,
    /// Writes to the session.
    Visit,
    /// Asks the client.
    Ask,
    /// Reports progress.
    Slow,
    /// Reads one of many, for which there is a bulk function.
    Price,
    /// Writes what others read.
    Update,
    /// Has an effect outside, once for each key.
    Pay,
    /// Has an effect in the database, once for each key.
    Book,
    /// Reads the database.
    Balance,
    /// Has a schema, for what it takes and for what it answers.
    Check,
    /// Is not in the first listing. Otherwise like `Pay`.
    Late,
    /// Changes nothing for a viewer, and has an effect for all others, who may also ask for more.
    Varies,
    /// Opens a session, where sessions have handles.
    Open,
    /// Closes it.
    Close,
    /// There is no such tool.
    Ghost,
    /// Is a resource.
    Note,
    /// Is a prompt.
    Greeting,
}

/// How `Ask` asks.
pub(super) const WAYS_TO_ASK: [&str; 6] = ["elicit", "sample", "roots", "capabilities", "spawned", "not"];

/// One request, without who makes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Request {
    pub(super) op: Op,
    /// What readers read and `Update` writes.
    pub(super) topic: u8,
    /// An amount, or a way to ask.
    pub(super) n: u8,
    pub(super) key: Option<u8>,
}

impl Op {
    pub(super) const TOOLS: [Self; 14] = [
        Self::News,
        Self::Mine,
        Self::Seen,
        Self::Visit,
        Self::Ask,
        Self::Slow,
        Self::Price,
        Self::Update,
        Self::Pay,
        Self::Check,
        Self::Varies,
        Self::Book,
        Self::Balance,
        Self::Late,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::News => "news",
            Self::Mine => "mine",
            Self::Seen => "seen",
            Self::Visit => "visit",
            Self::Ask => "ask",
            Self::Slow => "slow",
            Self::Price => "price",
            Self::Update => "update",
            Self::Pay => "pay",
            Self::Book => "book",
            Self::Balance => "balance",
            Self::Check => "check",
            Self::Late => "late",
            Self::Varies => "varies",
            Self::Ghost => "ghost",
            Self::Open => "open_session",
            Self::Close => "close_session",
            Self::Note => "note",
            Self::Greeting => "greeting",
        }
    }

    pub(super) fn is_tool(self) -> bool {
        !matches!(self, Self::Note | Self::Greeting)
    }

    /// Whether its author says that it changes nothing.
    pub(super) fn is_read_only(self) -> bool {
        matches!(self, Self::News | Self::Mine | Self::Seen | Self::Ask | Self::Slow | Self::Price | Self::Balance)
    }

    /// Whether its author says that it may be called again.
    pub(super) fn is_idempotent(self) -> bool {
        self.is_read_only() || self == Self::Check
    }

    /// Whether each call of it has an effect.
    pub(super) fn has_effect(self) -> bool {
        matches!(self, Self::Update | Self::Pay | Self::Late | Self::Varies)
    }

    /// Whether it belongs to a session, which a handle may name.
    pub(super) fn takes_handle(self) -> bool {
        matches!(self, Self::Visit | Self::Seen | Self::Close)
    }

    pub(super) fn takes_key(self) -> bool {
        matches!(self, Self::Pay | Self::Late | Self::Book | Self::Varies)
    }

    /// The largest amount that it takes, if it takes one. The smallest is 1.
    pub(super) fn most(self, is_viewer: bool) -> Option<u8> {
        match self {
            Self::Varies if is_viewer => Some(4),
            Self::Check | Self::Pay | Self::Late | Self::Book | Self::Varies => Some(9),
            _ => None,
        }
    }

    /// What the tool says of itself.
    fn definition(self, is_viewer: bool) -> Tool {
        let mut tool = Tool::new(self.name(), "A tool of the world");
        tool.annotations = Some(ToolAnnotations {
            read_only_hint: (self.is_read_only() || (self == Self::Varies && is_viewer)).then_some(true),
            idempotent_hint: (self == Self::Check).then_some(true),
            ..ToolAnnotations::default()
        });
        if let Some(most) = self.most(is_viewer) {
            tool.input_schema = ToolInputSchema {
                properties: Some(json!({"n": {"type": "integer", "minimum": 1, "maximum": most}})),
                required: Some(vec!["n".into()]),
                ..ToolInputSchema::default()
            };
        }
        if self == Self::Check {
            let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
            tool.output_schema = serde_json::from_value::<ToolOutputSchema>(schema).ok();
        }
        tool
    }
}

/// What the tools say of themselves: to a viewer, and to everybody else.
pub(super) static DEFINITIONS: LazyLock<[Vec<(Op, Tool)>; 2]> = LazyLock::new(|| {
    [true, false].map(|is_viewer| Op::TOOLS.into_iter().map(|op| (op, op.definition(is_viewer))).collect())
});

/// Whether the caller sees `Varies` as a tool that changes nothing.
pub(super) fn is_viewer(principal: Option<&Principal>) -> bool {
    !principal.is_some_and(|principal| principal.has_role("admin"))
}

/// Whether the one at the other end of this connection does.
pub(super) fn sees_as_viewer(connection: usize) -> bool {
    is_viewer(CONNECTIONS[connection].principal.as_ref())
}

impl Request {
    pub(super) fn args(&self) -> Value {
        let mut args = match self.op {
            Op::Ask => json!({"how": WAYS_TO_ASK[usize::from(self.n) % WAYS_TO_ASK.len()]}),
            Op::Pay | Op::Book | Op::Late | Op::Varies | Op::Check => json!({"n": self.n}),
            Op::Visit | Op::Seen | Op::Balance | Op::Open | Op::Close => json!({}),
            // The same number, in another spelling.
            _ if self.n % 2 == 1 => json!({"topic": f64::from(self.topic)}),
            _ => json!({"topic": self.topic}),
        };
        if let (Some(key), true) = (self.key, self.op.takes_key()) {
            args["idempotency_key"] = format!("key-{key}").into();
        }
        args
    }

    /// What reached the server, whatever the arguments look like.
    pub(super) fn of(op: Op, args: &Value) -> Self {
        let number = |name: &str| args.get(name).and_then(Value::as_f64).map_or(0, |number| number as u8);
        let how = args.get("how").and_then(Value::as_str);
        let n = WAYS_TO_ASK.iter().position(|way| Some(*way) == how).map_or_else(|| number("n"), |at| at as u8);
        Self { op, topic: number("topic"), n, key: None }
    }

    pub(super) fn uri(&self) -> String {
        format!("note://{}", self.topic)
    }

    /// Whether the tool's schema, as this connection sees it, takes the arguments.
    pub(super) fn is_valid_for(&self, connection: usize) -> bool {
        self.op.most(sees_as_viewer(connection)).is_none_or(|most| (1..=most).contains(&self.n))
    }

    /// Whether the tool's author tells this connection that it changes nothing.
    pub(super) fn is_read_only_for(&self, connection: usize) -> bool {
        self.op.is_read_only() || (self.op == Op::Varies && sees_as_viewer(connection))
    }

    /// Whether two requests ask for the same.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let what = |request: &Self| match request.op {
            Op::Visit | Op::Seen | Op::Balance | Op::Ghost | Op::Open | Op::Close => (0, 0),
            Op::Ask => (0, request.n % WAYS_TO_ASK.len() as u8),
            Op::Pay | Op::Book | Op::Late | Op::Varies | Op::Check => (0, request.n),
            _ => (request.topic, 0),
        };
        self.op == other.op && what(self) == what(other)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op {
            Op::Note => write!(f, "read {}", self.uri()),
            Op::Greeting => write!(f, "prompt greeting {}", self.topic),
            op => write!(f, "{} {}", op.name(), self.args()),
        }
    }
}
