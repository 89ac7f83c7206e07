use std::fmt::{self, Write};
use std::slice;

use serde_json::{Number, Value, json, map};

use super::violation::{Violation, push_name};
use crate::ConfigError;

/// The deepest nesting that can be allowed: what a parser of JSON lets through.
const DEEPEST: usize = 128;

/// How large an input may be. Checked in one walk that ends where a limit is passed.
///
/// # Example
///
/// ```
/// use mcp_patterns::validated::Limits;
/// use serde_json::json;
///
/// let limits = Limits::new().with_max_depth(3);
/// assert!(limits.check(&json!({"a": [[1]]})).is_ok());
///
/// let refused = limits.check(&json!({"a": [[[1]]]})).unwrap_err();
/// assert_eq!((refused.pointer(), refused.code()), ("/a/0/0", "max_depth"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    max_bytes: usize,
    max_depth: usize,
    max_values: usize,
    max_items: usize,
    max_entries: usize,
    max_string_bytes: usize,
}

impl Limits {
    /// 1 MiB in all and 512 KiB in one string, 32 levels, 50,000 values, 10,000 in one array, 1,000 properties of one object.
    pub fn new() -> Self {
        Self {
            max_bytes: 1024 * 1024,
            max_depth: 32,
            max_values: 50_000,
            max_items: 10_000,
            max_entries: 1_000,
            max_string_bytes: 512 * 1024,
        }
    }

    /// Sets how many bytes the input may have, written as JSON without spaces and escapes.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how deep arrays and objects may be nested, the outermost included; at most 128.
    pub fn with_max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }

    /// Sets how many values the input may have, arrays and objects included. Each may cost as much as a violation does.
    pub fn with_max_values(mut self, max_values: usize) -> Self {
        self.max_values = max_values;
        self
    }

    /// Sets how many items an array may have.
    pub fn with_max_items(mut self, max_items: usize) -> Self {
        self.max_items = max_items;
        self
    }

    /// Sets how many properties an object may have.
    pub fn with_max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Sets how many bytes a string, or a property's name, may have.
    pub fn with_max_string_bytes(mut self, max_string_bytes: usize) -> Self {
        self.max_string_bytes = max_string_bytes;
        self
    }

    /// Checks an input.
    ///
    /// # Errors
    ///
    /// The first limit that the walk finds passed. What lies behind it was not looked at.
    pub fn check(&self, value: &Value) -> Result<(), Violation> {
        let mut walk = Walk { limits: self, bytes: 0, values: 0, levels: Levels::default() };
        walk.run(value)
    }

    pub(super) fn check_settings(&self, layer: &'static str, setting: &'static str) -> Result<(), ConfigError> {
        let reason = match self {
            Self { max_depth: 0, .. } => "not even an empty object has no depth: allow a depth of 1 or more",
            Self { max_depth, .. } if *max_depth > DEEPEST => "a depth of more than 128 risks the stack: allow less",
            Self { max_values: 0, .. } | Self { max_bytes: 0, .. } => "an input of nothing is none: allow more",
            _ => return Ok(()),
        };
        Err(ConfigError::invalid(layer, setting, reason))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// How deep a value is nested.
pub(super) fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut left = vec![(value, 1)];
    while let Some((value, depth)) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(entries) => left.extend(entries.values().map(|entry| (entry, depth + 1))),
            _ => continue,
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// A walk over a value that does not recurse, since the value may be nested as deep as its sender likes.
struct Walk<'a, 'l> {
    limits: &'l Limits,
    bytes: usize,
    values: usize,
    levels: Levels<'a>,
}

/// An array or an object that the walk is in, and by which name it went in.
struct Level<'a> {
    entered_by: Part<'a>,
    rest: Rest<'a>,
}

enum Rest<'a> {
    Items(std::iter::Enumerate<slice::Iter<'a, Value>>),
    Entries(map::Iter<'a>),
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Root,
    Index(usize),
    Name(&'a str),
}

impl<'a> Walk<'a, '_> {
    fn run(&mut self, root: &'a Value) -> Result<(), Violation> {
        let mut next = Some((Part::Root, root));
        loop {
            if let Some((part, value)) = next {
                self.visit(part, value)?;
            }
            let Some(level) = self.levels.last() else { return Ok(()) };
            next = match &mut level.rest {
                Rest::Items(items) => items.next().map(|(index, item)| (Part::Index(index), item)),
                Rest::Entries(entries) => entries.next().map(|(name, entry)| (Part::Name(name), entry)),
            };
            if next.is_none() {
                self.levels.pop();
            }
        }
    }

    fn visit(&mut self, part: Part<'a>, value: &'a Value) -> Result<(), Violation> {
        let limits = self.limits;
        self.values += 1;
        if self.values > limits.max_values {
            return Err(self.whole("max_values", "has more than", limits.max_values, "values"));
        }
        if let Part::Name(name) = part {
            if name.len() > limits.max_string_bytes {
                let reason = format!("has a property whose name is longer than {} bytes", limits.max_string_bytes);
                return Err(self.passed(None, "max_string_bytes", reason, limits.max_string_bytes));
            }
            self.count(name.len() + 3)?;
        }
        self.count(match value {
            Value::Null | Value::Bool(true) => 5,
            Value::Bool(false) => 6,
            Value::Number(number) => digits(number) + 1,
            Value::String(text) => {
                if text.len() > limits.max_string_bytes {
                    let reason = format!("is longer than {} bytes", limits.max_string_bytes);
                    return Err(self.passed(Some(part), "max_string_bytes", reason, limits.max_string_bytes));
                }
                text.len() + 3
            }
            Value::Array(_) | Value::Object(_) => 3,
        })?;
        let rest = match value {
            Value::Array(items) => {
                if items.len() > limits.max_items {
                    let reason = format!("has more than {} items", limits.max_items);
                    return Err(self.passed(Some(part), "max_items", reason, limits.max_items));
                }
                Rest::Items(items.iter().enumerate())
            }
            Value::Object(entries) => {
                if entries.len() > limits.max_entries {
                    let reason = format!("has more than {} properties", limits.max_entries);
                    return Err(self.passed(Some(part), "max_entries", reason, limits.max_entries));
                }
                Rest::Entries(entries.iter())
            }
            _ => return Ok(()),
        };
        if self.levels.len() == limits.max_depth {
            let reason = format!("is nested deeper than {} levels", limits.max_depth);
            return Err(self.passed(Some(part), "max_depth", reason, limits.max_depth));
        }
        self.levels.push(Level { entered_by: part, rest });
        Ok(())
    }

    /// Each value brings a separator, and the last one of them is too many: so little does not matter.
    fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.bytes += bytes;
        if self.bytes > self.limits.max_bytes {
            return Err(self.whole("max_bytes", "is larger than", self.limits.max_bytes, "bytes"));
        }
        Ok(())
    }

    fn whole(&self, code: &'static str, predicate: &str, limit: usize, unit: &str) -> Violation {
        Violation::of(String::new(), code, format!("{predicate} {limit} {unit}")).expecting(json!({ code: limit }))
    }

    fn passed(&self, part: Option<Part<'_>>, code: &'static str, predicate: String, limit: usize) -> Violation {
        let mut pointer = String::new();
        for part in self.levels.iter().map(|level| level.entered_by).chain(part) {
            match part {
                Part::Root => {}
                Part::Index(index) => push_name(&mut pointer, &index.to_string()),
                Part::Name(name) => push_name(&mut pointer, name),
            }
        }
        Violation::of(pointer, code, predicate).expecting(json!({ code: limit }))
    }
}

/// How many levels a walk goes down before it allocates.
const SHALLOW: usize = 6;

/// A stack that allocates nothing for the first levels.
#[derive(Default)]
struct Levels<'a> {
    shallow: [Option<Level<'a>>; SHALLOW],
    deep: Vec<Level<'a>>,
    len: usize,
}

impl<'a> Levels<'a> {
    fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, level: Level<'a>) {
        match self.shallow.get_mut(self.len) {
            Some(place) => *place = Some(level),
            None => self.deep.push(level),
        }
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len -= 1;
        match self.shallow.get_mut(self.len) {
            Some(place) => *place = None,
            None => drop(self.deep.pop()),
        }
    }

    fn last(&mut self) -> Option<&mut Level<'a>> {
        match self.shallow.get_mut(self.len.checked_sub(1)?) {
            Some(place) => place.as_mut(),
            None => self.deep.last_mut(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Level<'a>> {
        self.shallow.iter().flatten().chain(&self.deep)
    }
}

/// How many digits a number is written with, without writing it anywhere.
fn digits(number: &Number) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    if let Some(natural) = number.as_u64() {
        return natural.checked_ilog10().map_or(1, |log| log as usize + 1);
    }
    let mut count = Count(0);
    let _ = write!(count, "{number}");
    count.0
}
