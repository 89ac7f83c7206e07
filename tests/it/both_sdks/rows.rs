//! The rows of the table.

mod audit;
mod batches;
mod breakers;
mod cache;
mod clients;
mod keys;
mod limits;
mod listings;
mod order;
mod outputs;
mod retries;
mod sessions;
mod transactions;
mod unfinished;
mod validation;
mod whole;
