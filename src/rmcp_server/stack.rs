//! A stack around a server of rmcp is itself a `ServerHandler`, for all transports of rmcp.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use rmcp::model as rmcp_model;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse, InputRequiredResult,
    ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerConfig, Tool,
};
use rmcp::service::{MaybeSendFuture, NotificationContext, RequestContext as RmcpContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, McpResult};

use super::call::Continuation;
use super::client::answering;
use super::convert::{error_to_rmcp, prompt_to_rmcp, resource_to_rmcp, result_to_rmcp};
use super::listing::{listed_tool, through_layers};
use super::server::RmcpServer;
use super::stack_error::StackError;
use crate::middleware::Target;
use crate::outcome::Unfinished;
use crate::selection::mark_part;
use crate::{Layered, Middleware, scope};

/// A server of rmcp with layers around it, or without.
///
/// Implemented for [`RmcpServer`], and for [`Layered`] around it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a server of rmcp with layers",
    label = "not an `RmcpStack`",
    note = "put the layers around an `RmcpServer`: `layers.layer(RmcpServer::new(server))`; `boxed` erases that it is one"
)]
pub trait RmcpStack: McpHandler + sealed::Sealed {
    /// The server at the end.
    type Server: ServerHandler;

    /// Returns the end of the stack.
    #[doc(hidden)]
    fn end(&self) -> &RmcpServer<Self::Server>;

    /// Says whether a layer may act on the request.
    #[doc(hidden)]
    fn acts_on(&self, target: Target<'_>) -> bool;

    /// Puts the same layers around another instance of the server, which has the same tools.
    ///
    /// For transports that create a server for each session: build the stack once, and call this in the factory. The instances share the
    /// settings, the bounds and the sessions of the layers. No instance gets a cached answer of another one, or one of its batch.
    #[must_use]
    fn around(&self, server: Self::Server) -> Self;

    /// Checks, before the server is served, that the storages of the layers are ready: that their tables exist, for example.
    ///
    /// # Errors
    ///
    /// The error of the first layer that cannot work.
    fn start(&self) -> impl Future<Output = Result<(), StackError>> + Send {
        self.on_initialize().map(|started| started.map_err(StackError::new))
    }

    /// Ends the work of the layers, after the server was served: batches that wait are sent.
    ///
    /// # Errors
    ///
    /// The error of the first layer that fails.
    fn shut_down(&self) -> impl Future<Output = Result<(), StackError>> + Send {
        self.on_shutdown().map(|ended| ended.map_err(StackError::new))
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for super::RmcpServer<T> {}
    impl<M, H: Sealed> Sealed for super::Layered<M, H> {}
}

impl<T: ServerHandler> RmcpStack for RmcpServer<T> {
    type Server = T;

    fn end(&self) -> &RmcpServer<T> {
        self
    }

    fn acts_on(&self, _: Target<'_>) -> bool {
        false
    }

    fn around(&self, server: T) -> Self {
        self.around(server)
    }
}

impl<M: Middleware, H: RmcpStack> RmcpStack for Layered<M, H> {
    type Server = H::Server;

    fn end(&self) -> &RmcpServer<H::Server> {
        self.inner().end()
    }

    fn acts_on(&self, target: Target<'_>) -> bool {
        self.middleware().acts_on(target) || self.inner().acts_on(target)
    }

    fn around(&self, server: H::Server) -> Self {
        self.with_inner(self.inner().around(server))
    }
}

/// Lets a request pass the layers, and asks its client what the server wants to know.
async fn through<S: RmcpStack, A, F>(
    stack: &S,
    ctx: RmcpContext<RoleServer>,
    continuation: Continuation,
    run: impl FnOnce(turbomcp_core::RequestContext) -> F,
) -> McpResult<A>
where
    F: Future<Output = McpResult<A>>,
{
    let (ctx, call, questions) = stack.end().contexts.of_call(ctx, continuation);
    let peer = call.ctx.peer.clone();
    // On the heap: each of the futures around it would store it once more.
    let run = scope::capture().with(Arc::new(call)).enter(Box::pin(run(ctx)));
    answering(run, &peer, questions).await
}

/// Returns what the client gets in place of an answer that is not complete, or the error.
fn unfinished<A: DeserializeOwned>(error: &mut McpError, expected: Unfinished) -> Option<A> {
    let (reason, answer) = Unfinished::take_answer(error)?;
    if reason == expected { serde_json::from_value(answer).ok() } else { None }
}

async fn call_tool<S: RmcpStack>(
    stack: &S,
    request: CallToolRequestParams,
    ctx: RmcpContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let CallToolRequestParams { name, arguments, input_responses, request_state, .. } = request;
    let name: &str = &name;
    // Without arguments, a call has none, which is not an empty object for every tool.
    let args = arguments.map_or(Value::Null, Value::Object);
    let answer = through(stack, ctx, (input_responses, request_state), |ctx| async move {
        McpHandler::call_tool(stack, name, args, &ctx).await
    });
    match answer.await {
        Ok(result) => Ok(CallToolResponse::Complete(result_to_rmcp(result))),
        Err(mut error) => match Unfinished::take_answer(&mut error) {
            Some((Unfinished::InputRequired, answer)) => {
                serde_json::from_value(answer).map(CallToolResponse::InputRequired).map_err(unreadable)
            }
            Some((Unfinished::Task, answer)) => {
                serde_json::from_value(answer).map(CallToolResponse::Task).map_err(unreadable)
            }
            None => Err(error_to_rmcp(error)),
        },
    }
}

async fn read_resource<S: RmcpStack>(
    stack: &S,
    request: ReadResourceRequestParams,
    ctx: RmcpContext<RoleServer>,
) -> Result<ReadResourceResponse, ErrorData> {
    let ReadResourceRequestParams { uri, input_responses, request_state, .. } = request;
    let uri: &str = &uri;
    let answer = through(stack, ctx, (input_responses, request_state), |ctx| async move {
        McpHandler::read_resource(stack, uri, &ctx).await
    });
    match answer.await {
        Ok(result) => Ok(resource_to_rmcp(result).into()),
        Err(error) => input_required(error).map(ReadResourceResponse::InputRequired),
    }
}

async fn get_prompt<S: RmcpStack>(
    stack: &S,
    request: GetPromptRequestParams,
    ctx: RmcpContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    let GetPromptRequestParams { name, arguments, input_responses, request_state, .. } = request;
    let name: &str = &name;
    let answer = through(stack, ctx, (input_responses, request_state), |ctx| async move {
        McpHandler::get_prompt(stack, name, arguments.map(Value::Object), &ctx).await
    });
    match answer.await {
        Ok(result) => Ok(prompt_to_rmcp(result).into()),
        Err(error) => input_required(error).map(GetPromptResponse::InputRequired),
    }
}

fn input_required(mut error: McpError) -> Result<InputRequiredResult, ErrorData> {
    unfinished(&mut error, Unfinished::InputRequired).ok_or_else(|| error_to_rmcp(error))
}

fn unreadable(error: serde_json::Error) -> ErrorData {
    error_to_rmcp(error.into())
}

impl<M: Middleware, H: RmcpStack> Layered<M, H> {
    /// Adds the capabilities of tools and resources where only layers have some.
    fn with_capabilities_of_layers(&self, capabilities: &mut rmcp_model::ServerCapabilities) {
        if capabilities.tools.is_some() && capabilities.resources.is_some() {
            return;
        }
        let of_stack = McpHandler::server_capabilities(self);
        if of_stack.tools.is_some() {
            capabilities.tools.get_or_insert_default();
        }
        if of_stack.resources.is_some() {
            capabilities.resources.get_or_insert_default();
        }
    }
}

/// Brings requests straight to the server.
macro_rules! straight {
    ($(fn $method:ident($($arg:ident: $ty:ty),*) -> $output:ty;)*) => {
        $(fn $method(&self $(, $arg: $ty)*) -> impl Future<Output = $output> + MaybeSendFuture + '_ {
            self.end().server.$method($($arg),*)
        })*
    };
}

// A method that rmcp adds must fail the build here: its default ("not found") would hide the server's own.
#[deny(clippy::missing_trait_methods)]
#[expect(deprecated, reason = "clients of older versions of the protocol send these requests")]
impl<M: Middleware, H: RmcpStack> ServerHandler for Layered<M, H> {
    fn call_tool(
        &self,
        request: CallToolRequestParams,
        ctx: RmcpContext<RoleServer>,
    ) -> impl Future<Output = Result<CallToolResponse, ErrorData>> + MaybeSendFuture + '_ {
        match self.acts_on(Target::Tool(&request.name)) {
            // On the heap, so that a call on which no layer acts stays small.
            true => Either::Left(call_tool(self, request, ctx).boxed()),
            false => Either::Right(self.end().server.call_tool(request, ctx)),
        }
    }

    fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        ctx: RmcpContext<RoleServer>,
    ) -> impl Future<Output = Result<ReadResourceResponse, ErrorData>> + MaybeSendFuture + '_ {
        match self.acts_on(Target::Resource(&request.uri)) {
            true => Either::Left(read_resource(self, request, ctx).boxed()),
            false => Either::Right(self.end().server.read_resource(request, ctx)),
        }
    }

    fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        ctx: RmcpContext<RoleServer>,
    ) -> impl Future<Output = Result<GetPromptResponse, ErrorData>> + MaybeSendFuture + '_ {
        match self.acts_on(Target::Prompt(&request.name)) {
            true => Either::Left(get_prompt(self, request, ctx).boxed()),
            false => Either::Right(self.end().server.get_prompt(request, ctx)),
        }
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        ctx: RmcpContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let is_first = request.as_ref().is_none_or(|page| page.cursor.is_none());
        let mut own = self.end().contexts.of_listing(&ctx);
        let mut listed = match self.end().server.list_tools(request, ctx).await {
            // The layers may have tools where the server has none.
            Err(error) if is_first && error.code == rmcp_model::ErrorCode::METHOD_NOT_FOUND => {
                let tools = through_layers(self, &[], &own, true);
                return if tools.is_empty() { Err(error) } else { Ok(ListToolsResult::with_all_items(tools)) };
            }
            listed => listed?,
        };
        if !is_first || listed.next_cursor.is_some() {
            mark_part(&mut own);
        }
        listed.tools = through_layers(self, &listed.tools, &own, is_first);
        Ok(listed)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        match self.acts_on(Target::ToolList) {
            true => listed_tool(self, self.end().server.get_tool(name), name),
            false => self.end().server.get_tool(name),
        }
    }

    fn get_info(&self) -> ServerConfig {
        let mut info = self.end().server.get_info();
        self.with_capabilities_of_layers(&mut info.capabilities);
        info
    }

    fn negotiate_initialize(
        &self,
        request: &rmcp_model::InitializeRequestParams,
    ) -> Result<rmcp_model::InitializeResult, ErrorData> {
        let mut info = self.end().server.negotiate_initialize(request)?;
        self.with_capabilities_of_layers(&mut info.capabilities);
        Ok(info)
    }

    async fn initialize(
        &self,
        request: rmcp_model::InitializeRequestParams,
        ctx: RmcpContext<RoleServer>,
    ) -> Result<rmcp_model::InitializeResult, ErrorData> {
        self.end().contexts.connections.begin(&ctx.peer);
        let mut info = self.end().server.initialize(request, ctx).await?;
        self.with_capabilities_of_layers(&mut info.capabilities);
        Ok(info)
    }

    async fn discover(&self, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::DiscoverResult, ErrorData> {
        let mut found = self.end().server.discover(ctx).await?;
        self.with_capabilities_of_layers(&mut found.capabilities);
        Ok(found)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [rmcp_model::ProtocolVersion]> {
        self.end().server.supported_protocol_versions()
    }

    fn accepted_subscription_filter(
        &self,
        requested: &rmcp_model::SubscriptionFilter,
    ) -> Option<rmcp_model::SubscriptionFilter> {
        self.end().server.accepted_subscription_filter(requested)
    }

    straight! {
        fn ping(ctx: RmcpContext<RoleServer>) -> Result<(), ErrorData>;
        fn complete(request: rmcp_model::CompleteRequestParams, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::CompleteResult, ErrorData>;
        fn set_level(request: rmcp_model::SetLevelRequestParams, ctx: RmcpContext<RoleServer>) -> Result<(), ErrorData>;
        fn list_prompts(request: Option<PaginatedRequestParams>, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::ListPromptsResult, ErrorData>;
        fn list_resources(request: Option<PaginatedRequestParams>, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::ListResourcesResult, ErrorData>;
        fn list_resource_templates(request: Option<PaginatedRequestParams>, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::ListResourceTemplatesResult, ErrorData>;
        fn listen(ctx: SubscriptionContext) -> Result<(), ErrorData>;
        fn subscribe(request: rmcp_model::SubscribeRequestParams, ctx: RmcpContext<RoleServer>) -> Result<(), ErrorData>;
        fn unsubscribe(request: rmcp_model::UnsubscribeRequestParams, ctx: RmcpContext<RoleServer>) -> Result<(), ErrorData>;
        fn on_custom_request(request: rmcp_model::CustomRequest, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::CustomResult, ErrorData>;
        fn on_cancelled(request: rmcp_model::CancelledNotificationParam, ctx: NotificationContext<RoleServer>) -> ();
        fn on_progress(request: rmcp_model::ProgressNotificationParam, ctx: NotificationContext<RoleServer>) -> ();
        fn on_initialized(ctx: NotificationContext<RoleServer>) -> ();
        fn on_roots_list_changed(ctx: NotificationContext<RoleServer>) -> ();
        fn on_custom_notification(request: rmcp_model::CustomNotification, ctx: NotificationContext<RoleServer>) -> ();
        fn get_task(request: rmcp_model::GetTaskParams, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::GetTaskResult, ErrorData>;
        fn update_task(request: rmcp_model::UpdateTaskParams, ctx: RmcpContext<RoleServer>) -> Result<(), ErrorData>;
        fn cancel_task(request: rmcp_model::CancelTaskParams, ctx: RmcpContext<RoleServer>) -> Result<(), ErrorData>;
        fn list_skills(request: Option<PaginatedRequestParams>, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::ListSkillsResult, ErrorData>;
        fn get_skill(request: rmcp_model::GetSkillRequestParams, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::GetSkillResult, ErrorData>;
        fn read_resource_directory(request: rmcp_model::ReadResourceDirectoryRequestParams, ctx: RmcpContext<RoleServer>) -> Result<rmcp_model::ReadResourceDirectoryResult, ErrorData>;
    }
}
