//! The walk over a value that checks its limits.

use std::fmt::{self, Write};
use std::slice;

use serde_json::{Number, Value, json, map};

use super::limits::Limits;
use super::pointer::push_name;
use super::violation::Violation;

impl Limits {
    /// Checks an input.
    ///
    /// # Errors
    ///
    /// The first limit that is exceeded. The walk ends there.
    pub fn check(&self, value: &Value) -> Result<(), Violation> {
        Walk::new(self).run(value)
    }
}

/// Returns the depth of a value.
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

/// The cost of reading a value.
pub(super) struct Extent {
    /// One for each value, and one for each 16 bytes of its texts.
    pub(super) steps: u64,
    /// The length of the longest pointer into it, in bytes.
    pub(super) longest_pointer: usize,
}

impl Extent {
    pub(super) fn of(value: &Value) -> Self {
        let mut extent = Self { steps: 0, longest_pointer: 0 };
        let mut left = vec![(value, 0)];
        while let Some((value, place)) = left.pop() {
            extent.steps += 1;
            extent.longest_pointer = extent.longest_pointer.max(place);
            match value {
                Value::String(text) => extent.steps += (text.len() / 16) as u64,
                // An index has no more than 20 digits.
                Value::Array(items) => left.extend(items.iter().map(|item| (item, place + 21))),
                Value::Object(entries) => left.extend(entries.iter().map(|(name, entry)| {
                    extent.steps += (name.len() / 16) as u64;
                    (entry, place + name.len() + 1)
                })),
                _ => {}
            }
        }
        extent
    }
}

/// A walk over a value that does not recurse, since the sender of the value chooses its depth.
struct Walk<'a, 'l> {
    limits: &'l Limits,
    bytes: usize,
    values: usize,
    levels: Levels<'a>,
}

/// An array or an object that the walk is in, and the name by which it was entered.
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

impl<'a, 'l> Walk<'a, 'l> {
    fn new(limits: &'l Limits) -> Self {
        Self { limits, bytes: 0, values: 0, levels: Levels::default() }
    }

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
                if entries.len() > limits.max_properties {
                    let reason = format!("has more than {} properties", limits.max_properties);
                    return Err(self.passed(Some(part), "max_properties", reason, limits.max_properties));
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

    /// Each value counts a separator, so the last one counts a byte too many, which does not matter.
    fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.bytes += bytes;
        if self.bytes > self.limits.max_bytes {
            return Err(self.whole("max_bytes", "is larger than", self.limits.max_bytes, "bytes"));
        }
        Ok(())
    }

    fn whole(&self, code: &'static str, predicate: &str, limit: usize, unit: &str) -> Violation {
        Violation::of(String::new(), code, format!("{predicate} {limit} {unit}")).with_expected(json!({ code: limit }))
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
        Violation::of(pointer, code, predicate).with_expected(json!({ code: limit }))
    }
}

/// The number of levels for which the stack does not allocate.
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

/// Returns the number of characters of a number, without writing it.
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
