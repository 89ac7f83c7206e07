use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value, json};

/// How many violations are listed, where nothing else is set.
pub(super) const MAX_LISTED: usize = 20;

/// The longest part of a pointer that is repeated, in characters: a name may be the caller's own.
const MAX_NAME_CHARS: usize = 100;

/// One thing that is wrong with an input: where, what, and what was expected. Never the value that was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation(Box<Parts>);

/// Behind a `Box`, so that a result without a violation is small.
#[derive(Debug, Clone, PartialEq)]
struct Parts {
    pointer: String,
    code: Cow<'static, str>,
    wording: Wording,
    expected: Option<Value>,
    hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wording {
    /// What follows the name of the place: "must be an integer".
    Predicate(Cow<'static, str>),
    /// A whole sentence of somebody else's, before which the place is named.
    Sentence(Cow<'static, str>),
    /// A whole sentence that names the place, where it wants to.
    Replaced(String),
}

impl Violation {
    /// Makes a violation of the whole input.
    ///
    /// The code is for machines (`out_of_stock`), the message a sentence for a reader (`Only 3 units available`).
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            pointer: String::new(),
            code: code.into(),
            wording: Wording::Sentence(message.into()),
            expected: None,
            hint: None,
        }))
    }

    /// What the crate itself finds: the message goes on where the name of the place ends.
    pub(super) fn of(
        pointer: String,
        code: impl Into<Cow<'static, str>>,
        predicate: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            pointer,
            code: code.into(),
            wording: Wording::Predicate(predicate.into()),
            expected: None,
            hint: None,
        }))
    }

    /// Sets where it is: a property's name, or a [JSON pointer](https://www.rfc-editor.org/rfc/rfc6901) such as `/items/0/sku`.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.0.pointer.clear();
        if place.starts_with('/') || place.is_empty() {
            self.0.pointer.push_str(place);
        } else {
            push_name(&mut self.0.pointer, place);
        }
        self
    }

    /// Sets what was expected, for machines: `{"max": 3}`.
    #[must_use]
    pub fn expecting(mut self, expected: Value) -> Self {
        self.0.expected = Some(expected);
        self
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.0.hint = hint;
        self
    }

    pub(super) fn drop_hint(&mut self) {
        self.0.hint = None;
    }

    pub(super) fn replace_message(&mut self, message: String) {
        self.0.wording = Wording::Replaced(message);
    }

    pub(super) fn below(mut self, prefix: &str) -> Self {
        self.0.pointer.insert_str(0, prefix);
        self
    }

    /// Returns where it is, as a JSON pointer; the names in it are those of the wire.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.0.pointer
    }

    /// Returns where it is, as one would write it in code: `others[1].zipCode`. Empty for the whole input.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for part in self.0.pointer.split('/').skip(1) {
            if is_index(part) && !path.is_empty() {
                path.push_str(&format!("[{part}]"));
            } else {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&part.replace("~1", "/").replace("~0", "~"));
            }
        }
        path
    }

    /// Returns the code: a keyword of JSON Schema, a code of `validator`, that of a rule, or one of the limits'.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns the sentence.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.0.wording {
            Wording::Predicate(predicate) if self.0.pointer.is_empty() => format!("The input {predicate}"),
            Wording::Predicate(predicate) => format!("`{}` {predicate}", self.path()),
            Wording::Sentence(message) => message.clone().into_owned(),
            Wording::Replaced(message) => message.clone(),
        }
    }

    /// Returns what was expected: `{"minLength": 3}`.
    #[must_use]
    pub fn expected(&self) -> Option<&Value> {
        self.0.expected.as_ref()
    }

    /// Returns the name or the value that was probably meant.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    fn to_json(&self) -> Value {
        let mut entries = Map::new();
        entries.insert("pointer".to_owned(), self.0.pointer.as_str().into());
        entries.insert("code".to_owned(), self.0.code.as_ref().into());
        entries.insert("message".to_owned(), self.message().into());
        if let Some(expected) = &self.0.expected {
            entries.insert("expected".to_owned(), expected.clone());
        }
        if let Some(hint) = &self.0.hint {
            entries.insert("hint".to_owned(), hint.as_str().into());
        }
        Value::Object(entries)
    }

    fn order(&self, other: &Self) -> Ordering {
        by_place(&self.0.pointer, &other.0.pointer)
            .then_with(|| self.0.code.cmp(&other.0.code))
            .then_with(|| self.message().cmp(&other.message()))
    }
}

/// The sentence, with the place where it is somebody else's, and the hint.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.0.wording, Wording::Sentence(_)) && !self.0.pointer.is_empty() {
            write!(f, "`{}`: ", self.path())?;
        }
        f.write_str(&self.message())?;
        match &self.0.hint {
            Some(hint) => write!(f, "; did you mean `{hint}`?"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with an input, sorted by place. At least one thing is.
#[derive(Debug, Clone, PartialEq)]
pub struct Violations {
    listed: Vec<Violation>,
    omitted: usize,
}

impl Violations {
    /// Returns the violations that are listed, by place.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.listed.iter()
    }

    /// Returns how many more there are.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Violation> {
        self.listed.iter_mut()
    }

    /// The list as machines read it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "violations": self.listed.iter().map(Violation::to_json).collect::<Vec<_>>(),
            "omitted": self.omitted,
        })
    }
}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self { listed: vec![violation], omitted: 0 }
    }
}

/// One sentence per line.
impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, violation) in self.listed.iter().enumerate() {
            let line_break = if number == 0 { "" } else { "\n" };
            write!(f, "{line_break}{violation}")?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => write!(f, "\nAnd {omitted} more"),
        }
    }
}

impl std::error::Error for Violations {}

/// Collects violations and keeps the first of them, by place: an input may have as many as values.
#[derive(Debug)]
pub(super) struct Found {
    kept: Vec<Violation>,
    max_listed: usize,
    count: usize,
}

impl Found {
    pub(super) fn new(max_listed: usize) -> Self {
        Self { kept: Vec::new(), max_listed, count: 0 }
    }

    pub(super) fn push(&mut self, violation: Violation) {
        self.count += 1;
        self.kept.push(violation);
        if self.kept.len() >= 8 * self.max_listed.max(8) {
            self.keep_first();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Says whether something is wrong at this very place.
    pub(super) fn has(&self, pointer: &str) -> bool {
        self.kept.iter().any(|violation| violation.0.pointer == pointer)
    }

    fn keep_first(&mut self) {
        self.kept.sort_by(Violation::order);
        self.kept.truncate(self.max_listed);
    }

    pub(super) fn into_result(mut self) -> Result<(), Violations> {
        if self.is_empty() {
            return Ok(());
        }
        self.keep_first();
        Err(Violations { omitted: self.count - self.kept.len(), listed: self.kept })
    }
}

/// Appends a name to a pointer: without what would end a line or a quotation, and no longer than a name is.
pub(super) fn push_name(pointer: &mut String, name: &str) {
    pointer.push('/');
    for (position, char) in name.chars().enumerate() {
        if position == MAX_NAME_CHARS {
            pointer.push('…');
            break;
        }
        match char {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            '`' => pointer.push('\''),
            char if char.is_control() => pointer.push('\u{fffd}'),
            char => pointer.push(char),
        }
    }
}

/// Writes a pointer of somebody else's as [`push_name`] does.
pub(super) fn pointer_of(raw: &str) -> String {
    let mut pointer = String::with_capacity(raw.len());
    for part in raw.split('/').skip(1) {
        push_name(&mut pointer, &part.replace("~1", "/").replace("~0", "~"));
    }
    pointer
}

fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// The order of places, in which the tenth item comes after the second.
fn by_place(one: &str, other: &str) -> Ordering {
    let (mut these, mut those) = (one.split('/'), other.split('/'));
    loop {
        let order = match (these.next(), those.next()) {
            (None, None) => return Ordering::Equal,
            (this, that) if this.is_none() || that.is_none() => this.cmp(&that),
            (Some(this), Some(that)) if is_index(this) && is_index(that) => {
                this.len().cmp(&that.len()).then_with(|| this.cmp(that))
            }
            (this, that) => this.cmp(&that),
        };
        if order.is_ne() {
            return order;
        }
    }
}
