use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use super::pointer::{by_place, path, push_name};

/// One violation of an input: its place, its code and message, and what was expected. It never contains the rejected value.
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
    /// A predicate that follows the name of the place: "must be an integer".
    Predicate(Cow<'static, str>),
    /// A whole sentence of a rule or a type, which follows the name of the place and a colon.
    Sentence(Cow<'static, str>),
    /// A whole sentence from `with_message`, which may name the place itself.
    Replaced(String),
}

impl Violation {
    /// Creates a violation of the whole input.
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

    /// Creates a violation whose message is the name of the place and `predicate`.
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

    /// Sets the place: a property's name, or a [JSON pointer](https://www.rfc-editor.org/rfc/rfc6901) such as `/items/0/sku`.
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
    pub fn with_expected(mut self, expected: Value) -> Self {
        self.0.expected = Some(expected);
        self
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.0.hint = hint;
        self
    }

    pub(super) fn suggest(&mut self, hint: Option<String>) {
        self.0.hint = hint;
    }

    pub(super) fn replace_message(&mut self, message: String) {
        self.0.wording = Wording::Replaced(message);
    }

    pub(super) fn below(mut self, prefix: &str) -> Self {
        self.0.pointer.insert_str(0, prefix);
        self
    }

    /// Returns the place as a JSON pointer, with the names on the wire.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.0.pointer
    }

    /// Returns the place as a path in code: `others[1].zipCode`. Empty for the whole input.
    #[must_use]
    pub fn path(&self) -> String {
        path(&self.0.pointer)
    }

    /// Returns the code: a keyword of JSON Schema, a code of `validator`, the code of a rule, or the name of a limit.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns the message.
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

    pub(super) fn to_json(&self) -> Value {
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

    pub(super) fn order(&self, other: &Self) -> Ordering {
        by_place(&self.0.pointer, &other.0.pointer)
            .then_with(|| self.0.code.cmp(&other.0.code))
            .then_with(|| self.message().cmp(&other.message()))
    }
}

/// The message, with the place if the message does not name it, and the hint.
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
