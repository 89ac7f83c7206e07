//! The results of a bulk function.

/// The return value of a bulk function: one result for each item, in the order of the items; or one error, which goes to all of them.
///
/// `Vec<Result<V, E>>` and `Result<Vec<Result<V, E>>, E>` implement it. No other type can.
#[diagnostic::on_unimplemented(
    message = "a bulk function cannot return `{Self}`",
    note = "return one result for each item, in their order: `Vec<Result<V, E>>`",
    note = "or that, or one error for all items, so that `?` works: `Result<Vec<Result<V, E>>, E>`"
)]
pub trait IntoResults<V, E>: sealed::Sealed {
    /// Returns the results, or the error of all items.
    ///
    /// # Errors
    ///
    /// The error with which the bulk function failed as a whole.
    fn into_results(self) -> Result<Vec<Result<V, E>>, E>;
}

impl<V, E> IntoResults<V, E> for Vec<Result<V, E>> {
    fn into_results(self) -> Result<Vec<Result<V, E>>, E> {
        Ok(self)
    }
}

impl<V, E> IntoResults<V, E> for Result<Vec<Result<V, E>>, E> {
    fn into_results(self) -> Result<Vec<Result<V, E>>, E> {
        self
    }
}

mod sealed {
    pub trait Sealed {}

    impl<V, E> Sealed for Vec<Result<V, E>> {}
    impl<V, E> Sealed for Result<Vec<Result<V, E>>, E> {}
}
