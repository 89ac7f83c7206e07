//! The module structure: which file may import which. The test reads the paths in the sources, so it does not build
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of layers. All other modules at the top of `src` are the ground floor: layers use them, and they know no
/// layer.
const LAYERS: [&str; 13] = [
    "audit",
    "batched",
    "breaker",
    "cached",
    "idempotency_keys",
    "idempotent",
    "limited",
    "output",
    "retry",
    "session",
    "transactional",
    "validated",
    "workflow",
];
/// Shared by two layers, so not a layer itself.
const SHARED_BY_LAYERS: &str = "idempotency_keys";

/// Documentation, test kit and adapters for rmcp: they may import everything.
const ABOVE: [&str; 5] = ["guide", "lib", "rmcp_server", "rmcp_stores", "testing"];

#[test]
fn nothing_on_the_ground_floor_imports_a_layer() {
    let house = House::read();
    let upward: Vec<String> = house
        .imports()
        .filter(|(from, to)| !LAYERS.contains(&room(from)) && LAYERS.contains(&room(to)))
        .map(|(from, to)| format!("{} imports {}", show(from), show(to)))
        .collect();
    assert!(upward.is_empty(), "\n{}", upward.join("\n"));
}

#[test]
fn no_two_modules_import_each_other() {
    let house = House::read();
    let mut between = Graph::default();
    for (from, to) in house.imports() {
        if room(from) != room(to) {
            between.entry(room(from).into()).or_default().insert(room(to).into());
        }
    }
    let circles = circles(&between);
    assert!(circles.is_empty(), "modules that import each other: {circles:?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let house = House::read();
    let circles: Vec<String> = circles(&house.files)
        .iter()
        .map(|circle| circle.iter().map(|file| show(file)).collect::<Vec<_>>().join(", "))
        .collect();
    assert!(circles.is_empty(), "files in circles:\n{}", circles.join("\n"));
}

/// The larger examples show several layers; these show one each, and can be copied.
#[test]
fn each_layer_has_an_example_of_at_most_60_lines() {
    for layer in LAYERS.iter().filter(|layer| **layer != SHARED_BY_LAYERS) {
        let path = manifest_dir().join("examples").join(layer).with_extension("rs");
        let lines =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).lines().count();
        assert!(lines <= 60, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_walks_through_the_code_name_files_that_exist() {
    let design = fs::read_to_string(manifest_dir().join("docs/design.md")).expect("the design notes");
    let (_, walks) = design.split_once("## Three walks through the code").expect("the walks");
    let (walks, _) = walks.split_once("\n## ").expect("a section after the walks");
    let files: Vec<&str> = walks.split('`').filter(|word| word.ends_with(".rs")).collect();
    assert!(files.len() >= 30, "three walks of ten steps: {files:?}");
    for file in files {
        assert!(manifest_dir().join("src").join(file).is_file(), "no src/{file}");
    }
}

#[test]
fn the_reader_of_imports_follows_reexports_and_finds_a_circle() {
    let house = House::of([
        ("lib", "pub mod a; mod b;"),
        ("a", "mod deep; pub use deep::Deep; pub(crate) use self::{deep::{Other as Named}};"),
        ("a::deep", "use crate::b::B; /* use crate::no; */ pub struct Deep; // crate::a::no"),
        ("b", "fn f() -> crate::a::Named { todo!() } #[cfg(test)] mod tests { use crate::lib; }"),
    ]);
    let expected = [("a::deep", "b"), ("b", "a::deep")].map(|(from, to)| (from.to_owned(), to.to_owned()));
    let imports = house.imports().map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(imports.collect::<Vec<_>>(), expected);
    assert_eq!(circles(&house.files), [BTreeSet::from(["a::deep".to_owned(), "b".to_owned()])]);
}

/// Modules by their path (`cached::layer`), each with its imports.
type Graph = BTreeMap<String, BTreeSet<String>>;

struct House {
    files: Graph,
}

impl House {
    /// Reads all sources but tests.
    fn read() -> Self {
        let root = manifest_dir().join("src");
        let mut sources = Vec::new();
        collect(&root, &root, &mut sources);
        assert!(sources.len() > 100, "the sources are read");
        Self::of(sources.iter().map(|(module, text)| (module.as_str(), text.as_str())))
    }

    fn of<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let sources: BTreeMap<&str, Vec<Statement>> =
            sources.into_iter().map(|(module, text)| (module, statements(module, &code(text)))).collect();
        let mut reexports = BTreeMap::new();
        for (module, statements) in &sources {
            for statement in statements.iter().filter(|statement| statement.is_reexport) {
                reexports.insert(join(module, &statement.name), statement.path.clone());
            }
        }
        let resolve = |path: &str| {
            let mut path = path.to_owned();
            // Reexports of reexports are few; a circle of them does not compile.
            for _ in 0..8 {
                let Some(shorter) = prefixes(&path).find(|prefix| reexports.contains_key(*prefix)) else { break };
                path = format!("{}{}", reexports[shorter], &path[shorter.len()..]);
            }
            prefixes(&path).find(|prefix| sources.contains_key(prefix)).map(str::to_owned)
        };
        let mut files = Graph::new();
        for (module, statements) in &sources {
            let imports = files.entry((*module).to_owned()).or_default();
            for statement in statements.iter().filter(|statement| !statement.is_reexport) {
                // An item in the crate's root is a reexport, or is named by its own module.
                if let Some(to) = resolve(&statement.path).filter(|to| to != module && to != "lib") {
                    imports.insert(to);
                }
            }
        }
        Self { files }
    }

    /// Returns all imports: from, to.
    fn imports(&self) -> impl Iterator<Item = (&str, &str)> {
        let above = |module: &str| ABOVE.contains(&room(module));
        self.files
            .iter()
            .flat_map(|(from, imports)| imports.iter().map(move |to| (from.as_str(), to.as_str())))
            .filter(move |(from, _)| !above(from))
    }
}

/// A path of this crate that a file names, from the root (`cached::layer::CachedTool`), and the name that it has there.
struct Statement {
    path: String,
    name: String,
    is_reexport: bool,
}

fn manifest_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it").into()
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(root).expect("inside").with_extension("");
            let module = inside.to_str().expect("UTF-8").trim_end_matches("/mod").replace('/', "::");
            sources.push((module, fs::read_to_string(&path).expect("a source")));
        }
    }
}

/// Returns the text without comments, and without the tests that end a file.
fn code(text: &str) -> String {
    let mut lines = String::new();
    let mut text = text;
    if let Some(tests) = text.find("#[cfg(test)]\nmod tests {").or_else(|| text.find("#[cfg(test)] mod tests {")) {
        text = &text[..tests];
    }
    for line in text.lines() {
        lines.push_str(line.split("//").next().unwrap_or_default());
        lines.push('\n');
    }
    while let Some((start, length)) = lines.find("/*").and_then(|start| Some((start, lines[start..].find("*/")? + 2))) {
        lines.replace_range(start..start + length, "");
    }
    lines
}

/// Finds each path that begins with `crate`, `super` or `self`, or with a child module in a `use`.
fn statements(module: &str, code: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut rest = code.to_owned();
    let children: BTreeSet<&str> = code
        .split(';')
        .filter_map(|item| item.rsplit_once("mod ").map(|(_, name)| name))
        .filter(|name| name.chars().all(is_of_name))
        .collect();
    while let Some(start) = keyword(&rest, "use") {
        let end = rest[start..].find(';').map_or(rest.len(), |end| start + end);
        let tree: String = rest[start + 3..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let is_reexport = rest[..start].trim_end().ends_with("pub")
            || rest[..start].trim_end().ends_with(')') && visible(&rest[..start]);
        let mut leaves = Vec::new();
        spread("", &tree, &mut leaves);
        for (path, name) in leaves {
            let first = path.split("::").next().unwrap_or_default();
            let path = if children.contains(first) { format!("self::{path}") } else { path };
            if let Some(path) = absolute(module, &path) {
                found.push(Statement { path, name, is_reexport });
            }
        }
        rest.replace_range(start..end, "");
    }
    for root in ["crate::", "super::", "self::"] {
        let mut from = 0;
        while let Some(start) = rest[from..].find(root).map(|start| from + start) {
            from = start + root.len();
            if rest[..start].ends_with(|letter| is_of_name(letter) || letter == ':') {
                continue;
            }
            let path: String =
                rest[start..].chars().take_while(|letter| is_of_name(*letter) || *letter == ':').collect();
            let path = path.trim_end_matches(':');
            if let Some(path) = absolute(module, path) {
                found.push(Statement { name: String::new(), path, is_reexport: false });
            }
        }
    }
    found
}

/// Returns whether `pub(crate)` or similar precedes a `use`.
fn visible(before: &str) -> bool {
    before.rfind("pub(").is_some_and(|start| !before[start..].contains([';', '{', '}']))
}

fn keyword(code: &str, word: &str) -> Option<usize> {
    let alone = |start: &usize| {
        !code[..*start].ends_with(is_of_name) && code[start + word.len()..].starts_with(char::is_whitespace)
    };
    code.match_indices(word).map(|(start, _)| start).find(alone)
}

/// Collects the leaves of a `use` tree, each with its local name.
fn spread(prefix: &str, tree: &str, leaves: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    if let Some((head, inside)) = tree.split_once('{') {
        let prefix = format!("{prefix}{}", head.trim());
        let inside = inside.trim_end().trim_end_matches('}');
        let inside = if inside.matches('{').count() > inside.matches('}').count() {
            format!("{inside}}}")
        } else {
            inside.to_owned()
        };
        let (mut depth, mut start) = (0, 0);
        for (position, letter) in inside.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    spread(&prefix, &inside[start..position], leaves);
                    start = position + 1;
                }
                _ => {}
            }
        }
        spread(&prefix, &inside[start..], leaves);
    } else if !tree.is_empty() {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, tree.rsplit("::").next().unwrap_or(tree)));
        let path = path
            .trim()
            .strip_suffix("self")
            .filter(|path| path.is_empty() && !prefix.is_empty())
            .unwrap_or(path.trim());
        let name =
            if path.is_empty() { prefix.trim_end_matches("::").rsplit("::").next().unwrap_or_default() } else { name };
        leaves.push((format!("{prefix}{path}").trim_end_matches("::").to_owned(), name.trim().to_owned()));
    }
}

/// Returns a path from the root of the crate, or `None` if it leads out of the crate.
fn absolute(module: &str, path: &str) -> Option<String> {
    let mut here: Vec<&str> = if module == "lib" { Vec::new() } else { module.split("::").collect() };
    let mut parts = path.split("::");
    match parts.next()? {
        "crate" => here.clear(),
        "self" => {}
        "super" => {
            here.pop();
        }
        _ => return None,
    }
    for part in parts {
        if part == "super" {
            here.pop();
        } else {
            here.push(part);
        }
    }
    Some(here.join("::"))
}

/// Returns a path and all its parents, the longest first, and finally the root.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind("::").map(|end| &path[..end])).chain(["lib"])
}

fn join(module: &str, name: &str) -> String {
    if module == "lib" { name.to_owned() } else { format!("{module}::{name}") }
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn show(module: &str) -> String {
    format!("src/{}", module.replace("::", "/"))
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Returns the strongly connected parts that have more than one member.
fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reaches: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|from| (from.as_str(), reached(graph, from))).collect();
    let circles: BTreeSet<BTreeSet<String>> = reaches
        .iter()
        .map(|(from, to)| {
            to.iter()
                .filter(|to| reaches.get(**to).is_some_and(|back| back.contains(from)))
                .map(|to| (*to).to_owned())
                .collect()
        })
        .filter(|circle: &BTreeSet<String>| circle.len() > 1)
        .collect();
    circles.into_iter().collect()
}

fn reached<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = graph.get(from).into_iter().flatten().map(String::as_str).collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(graph.get(module).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}
