//! What a layer says of itself: [`Description`].

use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use turbomcp_types::Tool;

/// The description of a layer, by [`Middleware::describe`](crate::Middleware::describe).
///
/// A layer that names no tool counts as one that acts on every tool.
///
/// ```
/// use mcp_patterns::explain::{Description, Role};
///
/// let description = Description::new("Memo")
///     .with_role(Role::Cache)
///     .with_setting("entries", 100)
///     .with_setting_for("search", "ttl", "1 min");
/// assert_eq!(description.name(), "Memo");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Description {
    name: String,
    role: Role,
    settings: Vec<Setting>,
    /// `None` if the layer does not say on which tools it acts.
    tools: Option<BTreeMap<String, Acts>>,
    left_out: BTreeSet<String>,
    unused: BTreeMap<Unused, Vec<String>>,
    others: Vec<&'static str>,
    idle: Idle,
    is_transparent: bool,
}

/// The pattern that a layer implements. The [order](crate::guide::ordering) of two layers depends on their roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Role {
    /// Records each call.
    Audit,
    /// Bounds what a call may answer.
    Output,
    /// Rejects calls with invalid arguments.
    Validate,
    /// Finds the session of a call.
    Session,
    /// Answers a call from an earlier one.
    Cache,
    /// Combines calls that are made at the same time.
    Batch,
    /// Repeats a call.
    Retry,
    /// Refuses calls of what fails.
    Breaker,
    /// Limits how many calls there are.
    Limit,
    /// Makes a call with a key take effect once.
    Idempotency,
    /// Runs a call in a transaction.
    Transaction,
    /// Any other. Its place is not checked.
    #[default]
    Other,
}

/// The name of a setting, and its effective value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// What a layer does with a tool.
#[derive(Debug, Clone, Default)]
pub(super) struct Acts {
    pub(super) settings: Vec<Setting>,
    /// Not the role of the layer, but these.
    roles: Option<Vec<Role>>,
    /// A validation whose rules may need the transaction around it.
    pub(super) may_need_transaction: bool,
}

/// Why a layer acts on nothing, and what to do.
#[derive(Debug, Clone)]
pub(super) struct Idle {
    pub(super) reason: String,
    pub(super) fix: String,
}

/// A setting that names tools on which the layer does not act, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unused {
    pub(super) setting: &'static str,
    pub(super) fix: &'static str,
}

impl Description {
    /// Creates the description of a layer with this name.
    pub fn new(name: impl Into<String>) -> Self {
        let idle = Idle {
            reason: "none of the listed tools is one of its own".to_owned(),
            fix: "change its settings, or remove it".to_owned(),
        };
        Self {
            name: name.into(),
            role: Role::Other,
            settings: Vec::new(),
            tools: None,
            left_out: BTreeSet::new(),
            unused: BTreeMap::new(),
            others: Vec::new(),
            idle,
            is_transparent: false,
        }
    }

    /// Creates the description of a layer of this crate that acts on no tool yet, with the reason and the fix.
    pub(crate) fn of_layer(name: &str, role: Role, (reason, fix): (String, &str)) -> Self {
        let tools = Some(BTreeMap::new());
        Self { tools, ..Self::new(name) }.with_role(role).with_idle_reason(reason, fix)
    }

    /// Creates the description of a layer with the name of its type.
    pub fn of<M: ?Sized>() -> Self {
        let path = type_name::<M>();
        let path = path.split_once('<').map_or(path, |(path, _)| path);
        Self::new(path.rsplit("::").next().unwrap_or(path))
    }

    /// Creates the description of a layer that passes everything on unchanged. An explanation leaves it out.
    pub fn transparent() -> Self {
        Self { is_transparent: true, ..Self::new("") }
    }

    /// Sets the role. Default: [`Role::Other`].
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Adds a setting of the whole layer.
    pub fn with_setting(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.settings.push(Setting { name: name.into(), value: value.to_string() });
        self
    }

    /// States that the layer acts on these tools, and on no others. Called again, it adds tools.
    pub fn with_tools(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let acts = self.tools.get_or_insert_default();
        tools.into_iter().for_each(|tool| {
            acts.entry(tool.into()).or_default();
        });
        self
    }

    /// Adds a tool that the layer acts on, with a setting for it.
    pub fn with_setting_for(
        mut self,
        tool: impl Into<String>,
        name: impl Into<String>,
        value: impl fmt::Display,
    ) -> Self {
        self.acts(tool).settings.push(Setting { name: name.into(), value: value.to_string() });
        self
    }

    /// States that the layer also acts on resources.
    pub fn with_resources(mut self) -> Self {
        self.others.push("resources");
        self
    }

    /// States that the layer also acts on prompts.
    pub fn with_prompts(mut self) -> Self {
        self.others.push("prompts");
        self
    }

    /// Sets the text of the [warning](super::Warning::Idle) about a layer that acts on nothing: the reason, and the fix as an
    /// instruction without a full stop.
    pub fn with_idle_reason(mut self, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        self.idle = Idle { reason: reason.into(), fix: fix.into() };
        self
    }

    /// Returns the name of the layer.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn acts(&mut self, tool: impl Into<String>) -> &mut Acts {
        self.tools.get_or_insert_default().entry(tool.into()).or_default()
    }

    /// The layer has these roles for the tool, instead of its own.
    pub(crate) fn with_roles_for(mut self, tool: impl Into<String>, roles: impl Into<Vec<Role>>) -> Self {
        self.acts(tool).roles = Some(roles.into());
        self
    }

    /// The layer validates the tool by rules, which may need the transaction around it.
    pub(crate) fn with_rules_for(mut self, tool: impl Into<String>) -> Self {
        self.acts(tool).may_need_transaction = true;
        self
    }

    /// The layer would act on the tool if that were safe.
    pub(crate) fn leaving_out(mut self, tool: impl Into<String>) -> Self {
        self.left_out.insert(tool.into());
        self
    }

    /// Notes which of the `listed` tools `setting` names without effect, since the layer does not act on them. Call it when all tools of
    /// the layer are known. `fix` says what to do, as an instruction without a full stop.
    pub(crate) fn checking<'a>(
        mut self,
        setting: &'static str,
        named: impl IntoIterator<Item = &'a str>,
        listed: &[Tool],
        fix: impl Fn(&Tool) -> &'static str,
    ) -> Self {
        let named: BTreeSet<_> = named.into_iter().collect();
        for tool in listed.iter().filter(|tool| named.contains(tool.name.as_str())) {
            if self.roles(&tool.name).is_empty() {
                self.unused.entry(Unused { setting, fix: fix(tool) }).or_default().push(tool.name.clone());
            }
        }
        self
    }

    /// The settings without effect, each with the tools that it names.
    pub(super) fn unused(&self) -> &BTreeMap<Unused, Vec<String>> {
        &self.unused
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn settings(&self) -> &[Setting] {
        &self.settings
    }

    pub(super) fn others(&self) -> &[&'static str] {
        &self.others
    }

    pub(super) fn is_transparent(&self) -> bool {
        self.is_transparent
    }

    /// Whether there is something to check: a layer without a role that names no tools may be anywhere.
    pub(super) fn needs_tools(&self) -> bool {
        !self.is_transparent && (self.tools.is_some() || self.role != Role::Other)
    }

    pub(super) fn leaves_out(&self, tool: &str) -> bool {
        self.left_out.contains(tool)
    }

    /// Whether the layer acts on the tool.
    pub(super) fn acts_on(&self, tool: &str) -> bool {
        self.tools.as_ref().is_none_or(|tools| tools.contains_key(tool))
    }

    /// What the layer does with the tool, if it says so.
    pub(super) fn of_tool(&self, tool: &str) -> Option<&Acts> {
        self.tools.as_ref()?.get(tool)
    }

    /// The roles of the layer for the tool.
    pub(super) fn roles(&self, tool: &str) -> &[Role] {
        let own = std::slice::from_ref(&self.role);
        match &self.tools {
            None => own,
            Some(tools) => tools.get(tool).map_or(&[], |acts| acts.roles.as_deref().unwrap_or(own)),
        }
    }

    /// Why the layer acts on nothing, if that is so.
    pub(super) fn idle(&self) -> Option<&Idle> {
        let tools = self.tools.as_ref()?;
        let has_role = tools.values().any(|acts| acts.roles.as_ref().is_none_or(|roles| !roles.is_empty()));
        (!has_role && self.others.is_empty()).then_some(&self.idle)
    }

    /// Adds the tools of another description of the same layer.
    pub(super) fn add(&mut self, other: Self) {
        if let (Some(tools), Some(others)) = (&mut self.tools, other.tools) {
            tools.extend(others);
        }
        self.left_out.extend(other.left_out);
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Audit => "audit",
            Self::Output => "output",
            Self::Validate => "validate",
            Self::Session => "session",
            Self::Cache => "cache",
            Self::Batch => "batch",
            Self::Retry => "retry",
            Self::Breaker => "breaker",
            Self::Limit => "limit",
            Self::Idempotency => "idempotency",
            Self::Transaction => "transaction",
            Self::Other => "other",
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}
