//! The page `docs/tracing.md` lists every event, span and metric of the source.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/tracing.md");

/// The library's own files, without its tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is read") {
        let path = entry.expect("the entry is read").path();
        match path.file_stem().and_then(|name| name.to_str()) {
            Some("tests" | "testing") => {}
            _ if path.is_dir() => sources(&path, found),
            _ => found.push(path),
        }
    }
}

/// The text between the opening parenthesis of `text` and its match, split at top-level commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut current) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for char in text.chars() {
        let was_quoted = quoted;
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        match char {
            ',' if depth == 1 && !was_quoted => arguments.push(std::mem::take(&mut current)),
            '(' if depth == 1 && !was_quoted && current.is_empty() && arguments.is_empty() => {}
            _ if depth == 0 => break,
            _ => current.push(char),
        }
    }
    arguments.push(current);
    arguments.into_iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

/// Level, text (or the span's name), and fields of each event and span in `source`.
fn traced(source: &str) -> Vec<(String, Option<String>, Vec<String>)> {
    let macros = source.split("tracing::").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once('!')?;
        let level = name.strip_suffix("_span").unwrap_or(name);
        ["trace", "debug", "info", "warn", "error"].contains(&level).then(|| (level.to_owned(), arguments(rest)))
    });
    macros
        .map(|(level, arguments)| {
            let (texts, fields): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|one| one.starts_with('"'));
            let field = |one: String| {
                one.split('=').next().unwrap_or_default().trim().trim_start_matches(['?', '%']).to_owned()
            };
            let text = texts.into_iter().next().map(|text| text.trim_matches('"').to_owned());
            (level, text, fields.into_iter().map(field).collect())
        })
        .collect()
}

#[test]
fn the_page_lists_every_event_span_field_and_metric() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let files: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|file| {
            let source = fs::read_to_string(&file).expect("the file is read");
            (file, source)
        })
        .collect();
    let names_an_index = |name: &str| {
        let created = format!("create index if not exists {name} on ");
        files.iter().any(|(_, source)| source.contains(&created))
    };
    let (mut seen, mut missing) = (0, Vec::new());
    for (file, source) in &files {
        for (level, text, fields) in traced(source) {
            seen += 1;
            let row = PAGE.lines().find(|line| {
                let has = |what: &str| line.contains(&format!("`{what}`"));
                let is_it = text.as_deref().map_or_else(|| line.contains("(none)"), has);
                line.starts_with('|')
                    && line.contains(&format!("| {level} |"))
                    && is_it
                    && fields.iter().all(|field| has(field))
            });
            if row.is_none() {
                missing.push(format!("{}: {level} {text:?} {fields:?}", file.display()));
            }
        }
        for metric in
            source.split('"').filter(|text| text.starts_with("mcp_patterns_") && !text.contains(char::is_whitespace))
        {
            if names_an_index(metric) {
                continue;
            }
            seen += 1;
            if !PAGE.contains(&format!("| `{metric}` |")) {
                missing.push(format!("{}: {metric}", file.display()));
            }
        }
    }
    assert!(seen > 40, "only {seen} were found: the reader is broken");
    assert!(missing.is_empty(), "docs/tracing.md leaves out:\n{}", missing.join("\n"));
}
