//! The annotations of a tool.

use turbomcp_types::Tool;

/// The annotations of a tool, with the [specification's defaults][spec] for missing ones.
///
/// [spec]: https://modelcontextprotocol.io/specification/2025-11-25/schema#toolannotations
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hints {
    /// The tool changes nothing. Default: false.
    pub read_only: bool,
    /// The tool may destroy something. Default: true, unless it is read-only.
    pub destructive: bool,
    /// Calling the tool twice has the effect of calling it once. Default: false, unless it is read-only.
    pub idempotent: bool,
    /// The tool reaches into an open world, such as the web. Default: true.
    pub open_world: bool,
}

impl Hints {
    /// Reads the annotations of `tool`.
    #[must_use]
    pub fn of(tool: &Tool) -> Self {
        let annotations = tool.annotations.clone().unwrap_or_default();
        let read_only = annotations.read_only_hint.unwrap_or(false);
        Self {
            read_only,
            destructive: !read_only && annotations.destructive_hint.unwrap_or(true),
            idempotent: read_only || annotations.idempotent_hint.unwrap_or(false),
            open_world: annotations.open_world_hint.unwrap_or(true),
        }
    }
}
