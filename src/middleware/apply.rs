//! Puts a layer on a handler, alone or in a tuple.

use tower_layer::Layer;
use turbomcp_core::McpHandler;

use super::{Layered, Middleware};
use crate::ConfigError;

/// Creates a [`Layer`] from a [`Middleware`], for a tuple or a `tower::ServiceBuilder`.
pub fn layer<M: Middleware>(middleware: M) -> MiddlewareLayer<M> {
    MiddlewareLayer { middleware }
}

/// The [`Layer`] of a [`Middleware`]. Created by [`layer()`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct MiddlewareLayer<M> {
    middleware: M,
}

impl<M: Middleware, H: McpHandler> Layer<H> for MiddlewareLayer<M> {
    type Service = Layered<M, H>;

    fn layer(&self, inner: H) -> Self::Service {
        or_panic(self.try_layer(inner))
    }
}

impl<M: Middleware, H: McpHandler> TryLayer<H> for MiddlewareLayer<M> {
    fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError> {
        Layered::try_new(self.middleware.clone(), inner)
    }
}

/// Puts a layer, or a tuple of up to sixteen layers, on a handler, or returns an error if a setting cannot work.
///
/// [`Layer::layer`] does the same, but has no way to return an error and panics with its text.
///
/// ```
/// use mcp_patterns::{CachedTool, RetryTool, TryLayer};
/// use turbomcp::prelude::*;
///
/// #[derive(Debug, Clone)]
/// struct Users;
/// #[server(name = "users", version = "1.0.0")]
/// impl Users {
///     /// Reads a user.
///     #[tool(read_only = true)]
///     async fn get_user(&self, id: i64) -> McpResult<String> {
///         Ok(format!("user {id}"))
///     }
/// }
///
/// let mistake = (CachedTool::new().only(["get_users"]), RetryTool::new())
///     .try_layer(Users)
///     .unwrap_err();
/// assert_eq!(
///     mistake.to_string(),
///     "CachedTool names the tool `get_users`, which the server does not have: \
///      did you mean `get_user`?"
/// );
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be put on `{H}`",
    label = "not a layer of this handler",
    note = "a layer is one of this crate's (`RetryTool::new()`), `layer(your_middleware)`, or a tuple of up to sixteen of them",
    note = "a handler implements `turbomcp::McpHandler`, as a `#[server]` type does"
)]
pub trait TryLayer<H>: Layer<H> {
    /// Puts the layer on `inner`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] when a setting cannot work with this handler.
    fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError>;
}

/// Ends a configuration that `Layer::layer` has no way to refuse.
pub(crate) fn or_panic<S>(layered: Result<S, ConfigError>) -> S {
    match layered {
        Ok(layered) => layered,
        Err(mistake) => panic!("{mistake}"),
    }
}

/// Makes a middleware that is its own builder its own `Layer` too.
macro_rules! impl_layer {
    ($layer:ty) => {
        impl<H: turbomcp_core::McpHandler> tower_layer::Layer<H> for $layer {
            type Service = $crate::Layered<$layer, H>;

            fn layer(&self, inner: H) -> Self::Service {
                $crate::middleware::or_panic($crate::TryLayer::try_layer(self, inner))
            }
        }

        impl<H: turbomcp_core::McpHandler> $crate::TryLayer<H> for $layer {
            fn try_layer(&self, inner: H) -> Result<Self::Service, $crate::ConfigError> {
                $crate::Layered::try_new(self.clone(), inner)
            }
        }
    };
}
pub(crate) use impl_layer;

/// Puts the layers on `$inner`, the last one first.
macro_rules! apply {
    ($inner:ident;) => { $inner };
    ($inner:ident; $outer:ident $($inside:ident)*) => { $outer.try_layer(apply!($inner; $($inside)*))? };
}

/// `TryLayer` for a tuple of layers, each with the type that it is put on, and for the tuples without the first one, the
/// first two, and so on.
macro_rules! try_layer_tuples {
    () => {
        impl<H> TryLayer<H> for () {
            fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError> {
                Ok(inner)
            }
        }
    };
    ($outer:ident on $below:ty $(, $inside:ident on $next:ty)*) => {
        impl<H, $outer, $($inside),*> TryLayer<H> for ($outer, $($inside,)*)
        where
            $outer: TryLayer<$below>,
            $($inside: TryLayer<$next>),*
        {
            #[expect(non_snake_case, reason = "the layers are named like their types")]
            fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError> {
                let ($outer, $($inside,)*) = self;
                Ok(apply!(inner; $outer $($inside)*))
            }
        }

        try_layer_tuples! { $($inside on $next),* }
    };
}

// As many as tower-layer has, whose tuples are the `Layer` of these.
try_layer_tuples! {
    L1 on L2::Service, L2 on L3::Service, L3 on L4::Service, L4 on L5::Service,
    L5 on L6::Service, L6 on L7::Service, L7 on L8::Service, L8 on L9::Service,
    L9 on L10::Service, L10 on L11::Service, L11 on L12::Service, L12 on L13::Service,
    L13 on L14::Service, L14 on L15::Service, L15 on L16::Service, L16 on H
}
