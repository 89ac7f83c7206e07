/// What identifies the session of a call. A session always belongs to the principal who opened it, and no other principal finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SessionMode {
    /// The session of the transport: one for each connection, or each `mcp-session-id` over HTTP. For the client, it ends with its
    /// connection, or with the replica that opened it.
    #[default]
    Transport,
    /// The authenticated user. Survives connections and replicas. A call without an authenticated user has no session.
    Principal,
    /// A handle that the tool `open_session` returns, passed with each call. Survives connections and replicas.
    Handle,
}
