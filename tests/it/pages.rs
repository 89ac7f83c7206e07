//! What a reader relies on in the README, in `docs` and in the doc comments: it reads the texts, so it needs no build of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The lines of an example that a reader does not see: they stand for the `main` that the rest is pasted into.
const HIDDEN: [&str; 3] =
    ["# #[tokio::main]", "# async fn main() -> Result<(), Box<dyn std::error::Error>> {", "# Ok(()) }"];

/// How wide the code of a page is: wider lines have to be scrolled.
const COLUMNS: usize = 90;

#[test]
fn an_example_hides_nothing_but_the_main_that_it_is_pasted_into() {
    let hidden = |line: &str| line == "#" || line.starts_with("# ") || line.starts_with("#\t");
    let mut more = Vec::new();
    for (place, block) in blocks().iter().filter(|(_, block)| block.is_rust()) {
        for line in block.lines.iter().filter(|line| hidden(line.trim_start())) {
            if !HIDDEN.contains(&line.as_str()) {
                more.push(format!("{place}: {line}"));
            }
        }
    }
    assert!(more.is_empty(), "a reader needs these lines, too:\n{}", more.join("\n"));
}

/// `docs/recipes.md` says so.
#[test]
fn a_recipe_is_a_whole_program() {
    for block in blocks_of(&root().join("docs/recipes.md")).iter().filter(|block| block.is_rust()) {
        let hidden = block.lines.iter().find(|line| line.starts_with("# "));
        assert_eq!(hidden, None, "a reader who pastes it needs this line");
        assert!(
            block.lines.iter().any(|line| line.starts_with("async fn main() ")),
            "{:?} has no main",
            block.lines[0]
        );
    }
}

#[test]
fn no_line_of_code_in_the_pages_is_wider_than_90_columns() {
    let mut wide = Vec::new();
    for (place, block) in blocks().iter().filter(|(_, block)| block.is_rust() || block.language == "sh") {
        wide.extend(
            block.lines.iter().filter(|line| line.chars().count() > COLUMNS).map(|line| format!("{place}: {line}")),
        );
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

#[test]
fn each_page_with_examples_says_what_to_add_for_them_in_versions_that_fit() {
    let manifest = Manifest::read();
    let mut wrong = Vec::new();
    for page in pages() {
        let blocks = blocks_of(&page);
        let code: Vec<&str> = blocks
            .iter()
            .filter(|block| block.is_rust())
            .flat_map(|block| block.lines.iter().map(String::as_str))
            .collect();
        if code.is_empty() {
            continue;
        }
        let code = code.join("\n");
        let commands = blocks.iter().filter(|block| block.language == "sh").flat_map(|block| &block.lines);
        let added = Added::of(commands.map(String::as_str));
        let place = page.strip_prefix(root()).expect("inside").display().to_string();
        for name in crates_in(&code) {
            if !added.crates.contains(&name.replace('_', "-")) && !added.crates.contains(&name) {
                wrong.push(format!("{place} uses {name} and does not add it"));
            }
        }
        for (feature, names) in FEATURES {
            if names.iter().any(|name| code.contains(name)) && !added.features.contains(feature) {
                wrong.push(format!("{place} needs the feature {feature} and does not add it"));
            }
        }
        for feature in &added.features {
            if !manifest.has_feature(feature) {
                wrong.push(format!("{place} adds the feature {feature}, which does not exist"));
            }
        }
        for (name, version) in &added.versions {
            if manifest.version_of(name) != Some(version.as_str()) {
                wrong.push(format!("{place} adds {name}@{version}, which is {:?} here", manifest.version_of(name)));
            }
        }
        for name in VERSIONED {
            if added.crates.contains(name) && !added.versions.iter().any(|(versioned, _)| versioned == name) {
                wrong.push(format!("{place} adds {name} without a version: its types are in the API"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Crates whose types are in the API, so that only one version fits.
const VERSIONED: [&str; 4] = ["redis", "schemars", "sqlx", "validator"];

/// The features that add what code names.
const FEATURES: [(&str, &[&str]); 7] = [
    ("idempotent", &["IdempotentTool", "idempotent::"]),
    ("postgres", &["postgres::", "Postgres", "PgPool"]),
    ("redis", &["RedisConnection", "RedisLevel", "RedisBackend"]),
    ("sqlite", &["sqlite::", "Sqlite"]),
    ("testing", &["testing::"]),
    ("transactional", &["TransactionalTool", "transactional::"]),
    ("validated", &["ValidatedTool", "validated::"]),
];

/// In the repository, the examples have all features. In the published crate, they have those that the command names.
#[test]
fn each_command_that_runs_an_example_names_the_features_that_it_needs() {
    let manifest = Manifest::read();
    let mut texts = pages();
    texts.push(root().join("CONTRIBUTING.md"));
    collect(&root().join("examples"), "rs", &mut texts);
    let mut wrong = Vec::new();
    let mut commands = 0;
    for text in texts {
        for line in text_of(&text).lines() {
            for (start, _) in line.match_indices("--example ") {
                commands += 1;
                let example = line[start..].split([' ', '`', ',']).nth(1).unwrap_or_default();
                let named = line[start..].split_once("--features ").map_or("", |(_, named)| named);
                let named: Vec<&str> = named.split([' ', '`']).next().unwrap_or_default().split(',').collect();
                let is_enough = manifest.needed_by(example).iter().all(|feature| named.contains(feature));
                if !is_enough && !named.contains(&"full") {
                    let needed = manifest.needed_by(example).join(",");
                    wrong.push(format!("{}: `--example {example} --features {needed}`", text.display()));
                }
            }
        }
    }
    assert!(commands > 15, "the commands are read: {commands}");
    assert!(wrong.is_empty(), "these commands fail in the published crate:\n{}", wrong.join("\n"));
}

#[test]
fn each_version_that_a_text_names_is_the_one_of_the_manifest() {
    let manifest = Manifest::read();
    let mut wrong = Vec::new();
    for page in pages() {
        let text = text_of(&page);
        for name in VERSIONED {
            for (start, _) in text.match_indices(&format!("{name}@")) {
                let version: String = text[start + name.len() + 1..]
                    .chars()
                    .take_while(|digit| digit.is_ascii_digit() || *digit == '.')
                    .collect();
                let version = version.trim_end_matches('.');
                if manifest.version_of(name) != Some(version) {
                    wrong.push(format!("{}: {name}@{version}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the manifest has others:\n{}", wrong.join("\n"));
}

#[test]
fn each_message_that_the_troubleshooting_page_explains_is_in_the_source() {
    let source = source_as_one_line();
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).collect::<Vec<_>>();
    assert!(rows.len() > 40, "the tables are read: {}", rows.len());
    let mut missing = Vec::new();
    for row in rows {
        let (messages, _) = row.split_once(" | ").expect("a cause beside the message");
        for message in format!("`{messages}").split("`, `").map(|message| message.trim_matches('`')) {
            let message = message.trim_end_matches("` (log)");
            for part in message.split('…').map(str::trim).filter(|part| !part.is_empty()) {
                if !source.contains(part) {
                    missing.push(format!("{part:?} of {message:?}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "nothing says so any more:\n{}", missing.join("\n"));
}

#[test]
fn each_public_trait_says_what_to_do_with_a_type_that_lacks_it() {
    let api = fs::read_to_string(root().join("docs/public-api.txt")).expect("the listing");
    let traits: BTreeSet<&str> = api
        .lines()
        .filter_map(|line| line.strip_prefix("pub trait mcp_patterns::"))
        .filter_map(|path| path.split([' ', '<']).next())
        .filter_map(|path| path.trim_end_matches(':').rsplit("::").next())
        .collect();
    assert!(traits.len() >= 10, "{traits:?}");
    let mut sources = Vec::new();
    collect(&root().join("src"), "rs", &mut sources);
    let sources: Vec<String> = sources.iter().map(|path| fs::read_to_string(path).expect("a source")).collect();
    for name in traits {
        let has_diagnostic = sources.iter().any(|source| {
            let start = [":", "<"].iter().find_map(|end| source.find(&format!("pub trait {name}{end}")));
            start.is_some_and(|start| {
                let before = &source[..start];
                let diagnostic = before.rfind("#[diagnostic::on_unimplemented(");
                diagnostic.is_some_and(|diagnostic| !before[diagnostic..].contains("\n}\n"))
            })
        });
        assert!(has_diagnostic, "`{name}` has no `#[diagnostic::on_unimplemented]`");
    }
}

#[test]
fn the_guide_says_of_each_of_its_pages_when_to_read_it() {
    let guide = fs::read_to_string(root().join("src/guide.rs")).expect("the guide");
    let (list, modules) = guide.split_once("\n\n#[").expect("the pages follow the list");
    let pages: Vec<&str> =
        modules.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(" {}")).collect();
    assert!(pages.len() >= 18, "{pages:?}");
    for page in pages {
        let is_linked = list.contains(&format!("]({page})"))
            || list.contains(&format!("]: {page}"))
            || list.contains(&format!("[{page}]"));
        assert!(is_linked, "the list does not name {page}");
    }
}

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it").into()
}

/// A block of code in a text.
struct Block {
    language: String,
    lines: Vec<String>,
}

impl Block {
    fn is_rust(&self) -> bool {
        ["", "rust", "no_run", "compile_fail", "should_panic"]
            .contains(&self.language.split(',').next().unwrap_or_default())
    }
}

/// The README, the pages of `docs` and the manuals of the layers.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    collect(&root().join("docs"), "md", &mut pages);
    let mut sources = Vec::new();
    collect(&root().join("src"), "rs", &mut sources);
    let is_manual =
        |path: &PathBuf| path.ends_with("mod.rs") && path.parent().and_then(Path::parent) == Some(&root().join("src"));
    pages.extend(sources.into_iter().filter(is_manual));
    pages
}

/// All blocks of code, each with its place.
fn blocks() -> Vec<(String, Block)> {
    let mut texts = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    collect(&root().join("docs"), "md", &mut texts);
    collect(&root().join("src"), "rs", &mut texts);
    let mut all = Vec::new();
    for text in texts {
        let place = text.strip_prefix(root()).expect("inside").display().to_string();
        all.extend(blocks_of(&text).into_iter().map(|block| (place.clone(), block)));
    }
    assert!(all.len() > 150, "the examples are read: {}", all.len());
    all
}

/// The text of a page; of a source, its doc comments, and an empty line for the rest.
fn text_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|extension| extension == "md") {
        return text;
    }
    let comment = |line: &str| {
        let line = line.trim_start();
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).unwrap_or_default();
        comment.strip_prefix(' ').unwrap_or(comment).to_owned()
    };
    text.lines().map(comment).collect::<Vec<_>>().join("\n")
}

fn blocks_of(path: &Path) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text_of(path).lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => open = Some(Block { language: language.to_owned(), lines: Vec::new() }),
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block does not end", path.display());
    blocks
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|of_file| of_file == extension) {
            found.push(path);
        }
    }
}

/// The sources, without the escapes that join the lines of a text.
fn source_as_one_line() -> String {
    let mut sources = Vec::new();
    collect(&root().join("src"), "rs", &mut sources);
    let is_test =
        |path: &PathBuf| path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let mut all = String::new();
    for path in sources.iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).expect("a source");
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("\\\n") {
            all.push_str(before);
            rest = after.trim_start();
        }
        all.push_str(rest);
    }
    all
}

/// The names of crates in code, but for the standard library and this crate.
fn crates_in(code: &str) -> BTreeSet<String> {
    const CRATES: [&str; 16] = [
        "async_trait",
        "axum",
        "backon",
        "futures_util",
        "redis",
        "reqwest",
        "schemars",
        "serde",
        "serde_json",
        "sqlx",
        "tokio",
        "tracing",
        "tracing_subscriber",
        "turbomcp",
        "turbomcp_core",
        "turbomcp_types",
    ];
    let is_used = |name: &&&str| {
        code.match_indices(&format!("{name}::")).any(|(start, _)| {
            !code[..start].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
        })
    };
    CRATES.iter().filter(is_used).map(|name| (*name).to_owned()).collect()
}

/// What `cargo add` adds.
#[derive(Default)]
struct Added {
    crates: BTreeSet<String>,
    versions: Vec<(String, String)>,
    /// The features of this crate.
    features: BTreeSet<String>,
}

impl Added {
    fn of<'a>(commands: impl Iterator<Item = &'a str>) -> Self {
        let mut added = Self::default();
        for command in commands.filter_map(|line| line.strip_prefix("cargo add ")) {
            let mut words = command.split(' ').filter(|word| !["--dev", "--no-default-features"].contains(word));
            let mut is_own = false;
            while let Some(word) = words.next() {
                if word == "--features" {
                    let features = words.next().expect("the names of features").split(',');
                    if is_own {
                        added.features.extend(features.map(str::to_owned));
                    }
                    continue;
                }
                let (name, version) = word.split_once('@').unwrap_or((word, ""));
                is_own = name == "mcp-patterns";
                added.crates.insert(name.to_owned());
                if !version.is_empty() {
                    added.versions.push((name.to_owned(), version.to_owned()));
                }
            }
        }
        added
    }
}

/// `Cargo.toml`, as far as the pages cite it.
struct Manifest(String);

impl Manifest {
    fn read() -> Self {
        Self(fs::read_to_string(root().join("Cargo.toml")).expect("the manifest"))
    }

    fn has_feature(&self, name: &str) -> bool {
        self.0.lines().any(|line| line.starts_with(&format!("{name} = [")))
    }

    /// The features that an example requires.
    fn needed_by(&self, example: &str) -> Vec<&str> {
        let (_, section) =
            self.0.split_once(&format!("[[example]]\nname = \"{example}\"\n")).expect("the manifest has the example");
        let features = section.lines().next().and_then(|line| line.strip_prefix("required-features = "));
        features.expect("each example requires features").split('"').skip(1).step_by(2).collect()
    }

    /// A feature of the same name is a list.
    fn version_of(&self, name: &str) -> Option<&str> {
        let dependency = |line: &&str| {
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(" = "));
            value.is_some_and(|value| !value.starts_with('['))
        };
        self.0.lines().find(dependency)?.split('"').nth(1)
    }
}
