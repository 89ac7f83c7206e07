//! The settings of the layer, and their setters.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::buffered::Buffered;
use super::event::Event;
use super::handle::{Handle, Handled};
use super::outputs::Output;
use super::plan::ToolPlan;
use super::principal::Principals;
use super::settings::Settings;
use crate::Identity;
use crate::selection::{Plan, Selection, selectors};

/// Records one event for each call, with its end. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct AuditTool {
    pub(super) settings: Arc<Settings>,
    pub(super) selection: Selection,
    pub(super) plan: Plan<Arc<ToolPlan>>,
    pub(super) handled: Arc<Handled>,
}

impl AuditTool {
    /// Creates a layer for every tool. It records nothing yet, which is an error: give it a sink.
    pub fn new() -> Self {
        Self {
            settings: Arc::new(Settings::new()),
            selection: Selection::new(),
            plan: Plan::default(),
            handled: Arc::new(Handled::new()),
        }
    }

    selectors!();

    /// Logs each event through `tracing`: `a call ended`, on the level info, with the target `mcp_patterns::audit`.
    ///
    /// Choose it by its target where the subscriber filters: `RUST_LOG=mcp_patterns::audit=info`.
    pub fn with_tracing(self) -> Self {
        self.with_output(Output::Tracing)
    }

    /// Calls a function with each event.
    ///
    /// It runs before the caller gets the answer, and when a call is dropped: it must not block. If it panics, the event is lost for this
    /// function, and counted; the call goes on.
    pub fn with_sink(self, sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.with_output(Output::Function(Arc::new(sink)))
    }

    /// Gives each event to a buffer, which writes it after the call.
    pub fn with_buffer(self, buffer: Buffered) -> Self {
        self.with_output(Output::Buffer(buffer))
    }

    /// Records these arguments of a tool, by their JSON pointers, such as `/to` or `/address/city`. By default, no argument is recorded.
    ///
    /// A pointer that leads nowhere in a call is left out. Called again for a tool, it adds pointers.
    pub fn with_arguments(
        mut self,
        tool: impl Into<String>,
        pointers: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let recorded = self.settings_mut().arguments.entry(tool.into()).or_default();
        recorded.extend(pointers.into_iter().map(Into::into));
        self
    }

    /// Records of the arguments of each tool what this function returns. Its arguments are the tool and the tool's own arguments: it never
    /// receives those that layers add, such as an idempotency key or the handle of a session. Only `close_session`, a tool that a
    /// `SessionStore` adds, has the handle as an argument of its own: leave it out.
    ///
    /// It runs before the call.
    pub fn with_redaction(mut self, redaction: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        self.settings_mut().redaction = Some(Arc::new(redaction));
        self
    }

    /// Sets how many bytes of arguments an event has at most, as JSON. Larger ones are left out as a whole, and the event says so.
    /// Default: 4 KiB.
    pub fn with_max_argument_bytes(mut self, bytes: usize) -> Self {
        self.settings_mut().max_argument_bytes = bytes;
        self
    }

    /// Records each caller by a hash, an HMAC-SHA-256 with this key, instead of by name. Default: by name, as the token says it.
    ///
    /// An audit has to say who did what, so the default is the name. With a hash, the events of one caller still belong together, also on
    /// several replicas with the same key, and only who has the key can tell whether they are those of a given user. The hash covers what
    /// the [identity](Self::with_identity) distinguishes. The key has at least 16 bytes.
    pub fn with_hashed_principals(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.settings_mut().principals = Principals::Hashed(key.into().into());
        self
    }

    /// Sets how principals are distinguished. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Returns a handle to the counters and buffers, which stays valid after the layer is put on a server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.handled))
    }

    fn with_output(mut self, output: Output) -> Self {
        self.settings_mut().outputs.0.push(output);
        self
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl Default for AuditTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuditTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("AuditTool")
            .field("sinks", &settings.outputs.names())
            .field("arguments", &settings.arguments)
            .field("redaction", &settings.redaction.is_some())
            .field("max_argument_bytes", &settings.max_argument_bytes)
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}
