//! All layers at once: what a call through the whole stack takes.

mod budget;
mod clients;
mod limits;
mod namespaces;
mod sharing;
mod shop;
mod stack;
