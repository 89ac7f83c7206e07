//! All layers at once: what a call through the whole stack takes.

mod budget;
mod namespaces;
mod sharing;
pub(crate) mod shop;
mod stack;
