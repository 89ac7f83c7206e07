//! All layers at once: what a call through the whole stack takes.

mod arguments;
mod budget;
mod clients;
mod limits;
mod namespaces;
mod sharing;
pub(crate) mod shop;
mod silence;
mod stack;
