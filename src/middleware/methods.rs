//! The methods of turbomcp's `McpHandler`, listed once for everything that has to repeat them.
//!
//! The lists are macros that hand each method's signature to another macro, which writes the method.

/// The methods that a [`Middleware`](super::Middleware) can change.
macro_rules! middleware_methods {
    ($each:ident) => {
        $each! { sync:
            fn list_tools(&self) -> Vec<Tool>;
            fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool>;
            fn server_capabilities(&self) -> ServerCapabilities;
        }

        $each! { async:
            fn call_tool<'a>(&self, name: &'a str, args: Value, ctx: &'a RequestContext) -> ToolResult;
            fn read_resource<'a>(&self, uri: &'a str, ctx: &'a RequestContext) -> ResourceResult;
            fn get_prompt<'a>(&self, name: &'a str, args: Option<Value>, ctx: &'a RequestContext) -> PromptResult;
            fn subscribe<'a>(&self, uri: &'a str, ctx: &'a RequestContext) -> ();
        }

        $each! { hook: fn on_initialize(&self); fn on_shutdown(&self); }
    };
}

/// The methods that pass every layer unchanged.
macro_rules! unlayered_methods {
    ($each:ident) => {
        $each! { sync:
            fn server_info(&self) -> ServerInfo;
            fn instructions(&self) -> Option<String>;
            fn list_resources(&self) -> Vec<Resource>;
            fn list_resources_for(&self, ctx: &RequestContext) -> Vec<Resource>;
            fn list_resource_templates(&self) -> Vec<ResourceTemplate>;
            fn list_resource_templates_for(&self, ctx: &RequestContext) -> Vec<ResourceTemplate>;
            fn list_prompts(&self) -> Vec<Prompt>;
            fn list_prompts_for(&self, ctx: &RequestContext) -> Vec<Prompt>;
            fn page_size(&self) -> Option<usize>;
        }

        $each! { async:
            fn list_tasks<'a>(&self, cursor: Option<&'a str>, limit: Option<usize>, ctx: &'a RequestContext) -> ListTasksResult;
            fn get_task<'a>(&self, task_id: &'a str, ctx: &'a RequestContext) -> Task;
            fn cancel_task<'a>(&self, task_id: &'a str, ctx: &'a RequestContext) -> Task;
            fn get_task_result<'a>(&self, task_id: &'a str, ctx: &'a RequestContext) -> Value;
            fn unsubscribe<'a>(&self, uri: &'a str, ctx: &'a RequestContext) -> ();
            fn set_log_level<'a>(&self, level: &'a str, ctx: &'a RequestContext) -> ();
            fn complete<'a>(&self, params: Value, ctx: &'a RequestContext) -> Value;
            fn on_roots_list_changed<'a>(&self, ctx: &'a RequestContext) -> ();
        }
    };
}

/// Asks `self.inner()`.
macro_rules! forward {
    (sync: $(fn $method:ident(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method(&self $(, $arg: $ty)*) -> $output {
            self.inner().$method($($arg),*)
        })*
    };
    (async: $(fn $method:ident<$life:lifetime>(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method<$life>(&$life self $(, $arg: $ty)*) -> impl Future<Output = McpResult<$output>> + Send + $life {
            self.inner().$method($($arg),*)
        })*
    };
    // turbomcp declares the futures of these without a lifetime, and an implementation has to do so, too.
    (hook: $(fn $method:ident(&self);)*) => {
        $(fn $method(&self) -> impl Future<Output = McpResult<()>> + Send {
            self.inner().$method()
        })*
    };
}

pub(crate) use {forward, middleware_methods, unlayered_methods};
