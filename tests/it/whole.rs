//! All layers at once: what a call through the whole stack takes.

mod budget;
mod clients;
mod namespaces;
mod sharing;
mod shop;
mod stack;
