//! How a layer is put on a handler, alone or in a tuple.

use tower_layer::Layer;
use turbomcp_core::McpHandler;

use super::{Layered, Middleware};
use crate::ConfigError;

/// Turns a [`Middleware`] into a [`Layer`], to stand in a tuple or a `tower::ServiceBuilder`.
pub fn layer<M: Middleware>(middleware: M) -> MiddlewareLayer<M> {
    MiddlewareLayer { middleware }
}

/// The [`Layer`] of a [`Middleware`]. Made by [`layer()`].
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

/// Puts a layer, or a tuple of layers, on a handler and returns what is wrong with the settings.
///
/// [`Layer::layer`] does the same, but has no way to return an error and panics with its text.
///
/// ```
/// use mcp_patterns::{CachedTool, RetryTool, TryLayer};
/// # use turbomcp::prelude::*;
/// # #[derive(Debug, Clone)] struct Users;
/// # #[server(name = "users", version = "1.0.0")]
/// # impl Users {
/// #     /// Reads a user.
/// #     #[tool(read_only = true)] async fn get_user(&self, id: i64) -> McpResult<String> { Ok(format!("user {id}")) }
/// # }
///
/// let mistake = (CachedTool::new().only(["get_users"]), RetryTool::new()).try_layer(Users).unwrap_err();
/// assert_eq!(mistake.to_string(), "CachedTool names the tool `get_users`, which the server does not have: did you mean `get_user`?");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be put on `{H}`",
    label = "not a layer of this handler",
    note = "a layer is one of this crate's (`RetryTool::new()`), `layer(your_middleware)`, or a tuple of up to eight of them",
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

/// The type that the layers leave `$handler` in, the last named put on first.
macro_rules! service {
    ($handler:ident;) => { $handler };
    ($handler:ident; $outer:ident $($rest:ident)*) => { <$outer as Layer<service!($handler; $($rest)*)>>::Service };
}

/// `TryLayer` for tuples: every layer with those inside it, and all of them in the order in which they are put on.
macro_rules! try_layer_tuples {
    ($($(($layer:ident: $($inside:ident)*))+ => $($put_on:ident)+;)+) => {
        $(
            impl<H, $($layer),+> TryLayer<H> for ($($layer,)+)
            where
                Self: Layer<H, Service = service!(H; $($layer)+)>,
                $($layer: TryLayer<service!(H; $($inside)*)>),+
            {
                #[expect(non_snake_case, reason = "the layers are named like their types")]
                fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError> {
                    let ($($layer,)+) = self;
                    $(let inner = $put_on.try_layer(inner)?;)+
                    Ok(inner)
                }
            }
        )+
    };
}

try_layer_tuples! {
    (A:) => A;
    (A: B) (B:) => B A;
    (A: B C) (B: C) (C:) => C B A;
    (A: B C D) (B: C D) (C: D) (D:) => D C B A;
    (A: B C D E) (B: C D E) (C: D E) (D: E) (E:) => E D C B A;
    (A: B C D E F) (B: C D E F) (C: D E F) (D: E F) (E: F) (F:) => F E D C B A;
    (A: B C D E F G) (B: C D E F G) (C: D E F G) (D: E F G) (E: F G) (F: G) (G:) => G F E D C B A;
    (A: B C D E F G I) (B: C D E F G I) (C: D E F G I) (D: E F G I) (E: F G I) (F: G I) (G: I) (I:) => I G F E D C B A;
}
