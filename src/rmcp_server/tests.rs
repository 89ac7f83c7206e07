//! A server of rmcp under the layers, between two ends of rmcp.

mod answers;
mod clients;
mod http;
mod listings;
mod reads;
mod server;
mod sharing;
mod transactions;
mod unfinished;
