//! Prints the public API of a crate from two JSON files of rustdoc: one of the default features, one of all features.
//!
//! Of an implementation of a trait, its methods are left out: the trait has them, and to override a default changes no API.
//! Of the auto traits, `Send` and `Sync` are listed. Blanket implementations are not.

use std::collections::HashSet;
use std::process::ExitCode;
use std::{env, error, fs};

use public_api::Builder;
use serde::Deserialize;

/// The head of a JSON file of rustdoc, the same in every format.
#[derive(Deserialize)]
struct Head {
    format_version: u32,
}

fn main() -> ExitCode {
    let paths: Vec<_> = env::args().skip(1).collect();
    let [default, all] = paths.as_slice() else {
        eprintln!("usage: mcp-patterns-public-api DEFAULT_FEATURES.json ALL_FEATURES.json");
        return ExitCode::FAILURE;
    };
    match listing(default, all) {
        Ok(listing) => {
            print!("{listing}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The items in three parts. An item that moves from one feature to another moves from one part to another.
fn listing(default: &str, all: &str) -> Result<String, Box<dyn error::Error>> {
    let (default, all) = (items(default)?, items(all)?);
    let part = |headline: &str, items: &[String], others: &[String], is_in_both: bool| {
        let others: HashSet<_> = others.iter().collect();
        let items: Vec<_> = items.iter().filter(|item| others.contains(item) == is_in_both).collect();
        if items.is_empty() {
            return String::new();
        }
        items.into_iter().fold(format!("# {headline}\n"), |part, item| part + item + "\n")
    };
    Ok([
        part("With the default features", &default, &all, true),
        part("Only with all features", &all, &default, false),
        part("Only without all features", &default, &all, false),
    ]
    .concat())
}

/// The items of one JSON file, in the order in which `public-api` groups them.
fn items(path: &str) -> Result<Vec<String>, Box<dyn error::Error>> {
    let json = fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    let Head { format_version } =
        serde_json::from_str(&json).map_err(|error| format!("{path} is no JSON of rustdoc: {error}"))?;
    if format_version != rustdoc_types::FORMAT_VERSION {
        return Err(format!(
            "This toolchain's rustdoc writes format {format_version}, and the `public-api` crate that .ci/public-api \
             uses reads format {}. Take a version of `public-api`, and of `rustdoc-types`, in .ci/public-api/Cargo.toml \
             that reads format {format_version}, or use the toolchain that the listing was last accepted with.",
            rustdoc_types::FORMAT_VERSION
        )
        .into());
    }

    let api = Builder::from_rustdoc_json(path).omit_blanket_impls(true).build()?;
    let mut method = None;
    let items = api.items().map(ToString::to_string).filter(|item| {
        if item.starts_with("impl") {
            method = implementor(item).map(|implementor| format!("fn {implementor}::"));
        }
        !is_noise(item) && !method.as_ref().is_some_and(|method| item.contains(method))
    });
    Ok(items.collect())
}

/// The type that a trait is implemented for, if the line is the head of such an implementation.
fn implementor(item: &str) -> Option<&str> {
    let head = item.split_once(" where ").map_or(item, |(head, _)| head);
    head.rsplit_once(" for ").map(|(_, implementor)| implementor)
}

/// Whether the line is an implementation that follows from the others, or that nobody counts on.
fn is_noise(item: &str) -> bool {
    let is_of = |name: &str| item.contains(&format!("core::marker::{name} for "));
    let is_marker = ["Freeze", "StructuralPartialEq", "Unpin", "UnsafeUnpin"].into_iter().any(is_of);
    item.starts_with("impl") && (is_marker || item.contains("core::panic::unwind_safe::"))
}
