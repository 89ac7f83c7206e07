//! All layers at once: the cost of a call through the whole stack.

mod arguments;
mod budget;
mod clients;
mod limits;
mod namespaces;
mod sharing;
pub(crate) mod shop;
mod silence;
mod stack;
