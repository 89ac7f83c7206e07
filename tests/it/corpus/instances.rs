//! Instances made from a schema: intended, not intended, and hostile.

use std::collections::HashMap;

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// The schemas of the tools of public servers, by name.
pub(crate) fn schemas() -> Vec<(String, Value)> {
    let lines = include_str!("schemas.jsonl").lines();
    lines
        .map(|line| {
            let mut entry: Value = serde_json::from_str(line).expect("a line is JSON");
            (entry["tool"].as_str().expect("a name").to_owned(), entry["schema"].take())
        })
        .collect()
}

/// Strings that match the formats and patterns of the schemas, and some that do not.
const STRINGS: [&str; 42] = [
    "a",
    "main",
    "two words",
    "ünïcode 🦀",
    "ada@example.org",
    "https://example.org/page",
    "2026-01-31",
    "2026-01-31T12:30:00Z",
    "12:30:00Z",
    "12:30",
    "P3DT12H",
    "123e4567-e89b-12d3-a456-426614174000",
    "123e4567e89b12d3a456426614174000",
    "127.0.0.1",
    "::1",
    "example.org",
    "1700000000.123456",
    "ABC",
    "PROJ-17",
    "12345",
    "12345-6789",
    "007",
    "11",
    "I12:34;56:78",
    "1.2.3",
    "text/plain",
    "abcdef",
    "RRULE:FREQ=DAILY",
    "AC0123456789abcdef0123456789abcdef",
    "CA0123456789abcdef0123456789abcdef",
    "AFK",
    "US",
    "x_1",
    "/a/b",
    "0/a",
    "(a",
    "e30=",
    "%41",
    "a b",
    "root",
    "",
    "a rather long string that says nothing",
];

/// The most levels below the root that an instance is made for: a schema may refer to itself.
const DEEPEST: usize = 8;

pub(crate) struct Maker<'a> {
    root: &'a Value,
    rng: Rng,
    /// The strings that match a schema's constraints.
    fitting: HashMap<String, Vec<&'static str>>,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(root: &'a Value, seed: u64) -> Self {
        Self { root, rng: Rng::with_seed(seed), fitting: HashMap::new() }
    }

    /// An instance that is probably valid.
    pub(crate) fn meant(&mut self) -> Value {
        self.of(self.root, 0)
    }

    /// The same with one random change.
    pub(crate) fn changed(&mut self) -> Value {
        let mut value = self.meant();
        for _ in 0..self.rng.usize(1..3) {
            self.change(&mut value, 0);
        }
        value
    }

    fn of(&mut self, schema: &'a Value, depth: usize) -> Value {
        let Some(keywords) = schema.as_object() else {
            return if schema == &json!(false) { json!(0) } else { self.any() };
        };
        if depth > DEEPEST {
            return Value::Null;
        }
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str).and_then(|it| resolve(self.root, it)) {
            return self.of(target, depth + 1);
        }
        if let Some(constant) = keywords.get("const") {
            return constant.clone();
        }
        if let Some(options) = keywords.get("enum").and_then(Value::as_array).filter(|options| !options.is_empty()) {
            return options[self.rng.usize(..options.len())].clone();
        }
        let mut value = self.plain(schema, keywords, depth);
        for keyword in ["anyOf", "oneOf"] {
            if let Some(all) = keywords.get(keyword).and_then(Value::as_array).filter(|all| !all.is_empty()) {
                let chosen = self.rng.usize(..all.len());
                merge(&mut value, self.of(&all[chosen], depth + 1));
            }
        }
        for part in keywords.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            let part = self.of(part, depth + 1);
            merge(&mut value, part);
        }
        value
    }

    fn plain(&mut self, schema: &'a Value, keywords: &'a Map<String, Value>, depth: usize) -> Value {
        let types: Vec<&str> = match keywords.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ if keywords.contains_key("properties") || keywords.contains_key("required") => vec!["object"],
            _ if keywords.contains_key("items") => vec!["array"],
            _ => vec![],
        };
        if types.is_empty() {
            return if keywords.keys().any(|name| name.ends_with("Of")) { Value::Null } else { self.any() };
        }
        match types[self.rng.usize(..types.len())] {
            "null" => Value::Null,
            "boolean" => self.rng.bool().into(),
            "integer" => self.number(schema).floor().to_string().parse::<i64>().map_or(json!(1), Value::from),
            "number" => json!(self.number(schema)),
            "string" => self.string(schema),
            "array" => self.array(schema, depth),
            _ => self.object(schema, keywords, depth),
        }
    }

    fn any(&mut self) -> Value {
        match self.rng.u8(..6) {
            0 => Value::Null,
            1 => self.rng.bool().into(),
            2 => self.rng.i64(-3..300).into(),
            3 => json!({"a": 1}),
            4 => json!(["a", 1]),
            _ => STRINGS[self.rng.usize(..STRINGS.len())].into(),
        }
    }

    fn number(&mut self, schema: &Value) -> f64 {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let least = bound("minimum").or(bound("exclusiveMinimum").map(|least| least + 0.5)).unwrap_or(0.0);
        let most = bound("maximum").or(bound("exclusiveMaximum").map(|most| most - 0.5)).unwrap_or(least + 50.0);
        let between = least + self.rng.f64() * (most - least);
        match self.rng.u8(..4) {
            0 => least,
            1 => most,
            2 => between.ceil().clamp(least, most.max(least)),
            _ => (between * 2.0).round() / 2.0,
        }
    }

    fn string(&mut self, schema: &Value) -> Value {
        let asked = ["minLength", "maxLength", "pattern", "format"];
        let asked: Map<_, _> =
            asked.iter().filter_map(|name| Some(((*name).to_owned(), schema.get(name)?.clone()))).collect();
        let asked = Value::Object(asked);
        let fitting = self.fitting.entry(asked.to_string()).or_insert_with(|| {
            let asked = jsonschema::options().should_validate_formats(true).build(&asked).expect("a schema");
            STRINGS.into_iter().filter(|text| asked.is_valid(&json!(text))).collect()
        });
        match &fitting[..] {
            [] => STRINGS[self.rng.usize(..STRINGS.len())].into(),
            fitting => fitting[self.rng.usize(..fitting.len())].into(),
        }
    }

    fn array(&mut self, schema: &'a Value, depth: usize) -> Value {
        let count = |name: &str| schema.get(name).and_then(Value::as_u64).map(|count| count as usize);
        let least = count("minItems").unwrap_or(0);
        let most = count("maxItems").unwrap_or(least + 2).min(least + 4);
        let len = self.rng.usize(least..=most.max(least));
        let first = schema.get("prefixItems").or_else(|| schema.get("items").filter(|items| items.is_array()));
        let rest = schema.get("items").filter(|items| !items.is_array());
        let items = (0..len).filter_map(|index| match first.and_then(|first| first.get(index)).or(rest) {
            Some(Value::Bool(false)) => None,
            Some(item) => Some(self.of(item, depth + 1)),
            None => Some(self.any()),
        });
        items.collect()
    }

    fn object(&mut self, schema: &'a Value, keywords: &'a Map<String, Value>, depth: usize) -> Value {
        let required: Vec<&str> = keywords
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut entries = Map::new();
        for (name, property) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let is_wanted = required.contains(&name.as_str()) || self.rng.usize(..1 + depth) == 0 && self.rng.bool();
            if is_wanted && property != &json!(false) {
                entries.insert(name.clone(), self.of(property, depth + 1));
            }
        }
        for name in required {
            if !entries.contains_key(name) {
                entries.insert(name.to_owned(), self.any());
            }
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => {}
            Some(rest) if self.rng.bool() => {
                entries.insert("more".to_owned(), self.of(rest, depth + 1));
            }
            _ if self.rng.u8(..8) == 0 => {
                entries.insert("unheard_of".to_owned(), self.any());
            }
            _ => {}
        }
        Value::Object(entries)
    }

    fn change(&mut self, value: &mut Value, depth: usize) {
        let goes_on = self.rng.u8(..4) > 0;
        match value {
            Value::Object(entries) if !entries.is_empty() && goes_on => {
                let place = self.rng.usize(..entries.len());
                if let Some(entry) = entries.values_mut().nth(place) {
                    self.change(entry, depth + 1);
                }
            }
            Value::Array(items) if !items.is_empty() && goes_on => {
                let place = self.rng.usize(..items.len());
                self.change(&mut items[place], depth + 1);
            }
            Value::Object(entries) => match entries.keys().next().cloned() {
                Some(name) if self.rng.bool() => drop(entries.remove(&name)),
                _ => drop(entries.insert("nmae".to_owned(), self.any())),
            },
            Value::Array(items) if self.rng.bool() => items.push(self.any()),
            _ if depth == 0 => {}
            other => *other = self.any(),
        }
    }
}

fn merge(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(into), Value::Object(other)) => into.extend(other),
        (into, other) if !other.is_null() || into.is_null() => *into = other,
        _ => {}
    }
}

/// A pointer into the document, possibly percent-encoded, or an anchor. Other references are replaced by a random
/// value.
fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let fragment = reference.strip_prefix('#')?;
    if !fragment.is_empty() && !fragment.starts_with('/') {
        return root
            .get("$defs")?
            .as_object()?
            .values()
            .find(|part| part.get("$anchor").is_some_and(|it| it == fragment));
    }
    let mut decoded = Vec::new();
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    root.pointer(std::str::from_utf8(&decoded).ok()?)
}
