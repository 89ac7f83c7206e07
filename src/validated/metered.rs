//! JSON values that the validator reads through a meter.
//!
//! The validator chooses the order in which it reads a value, and creates all errors before it returns. So its work is limited by its
//! reads: beyond the limit, every value looks like `null`.

use std::borrow::Cow;
use std::ops::ControlFlow;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, SerdeJson};
use serde_json::{Map, Number, Value, map};

use super::meter::{BYTES_PER_STEP, Meter, NOTHING};

/// A JSON value, read through a meter.
#[derive(Clone, Copy)]
pub(super) struct Metered<'a> {
    value: &'a Value,
    meter: &'a Meter,
}

impl<'a> Metered<'a> {
    pub(super) fn new(value: &'a Value, meter: &'a Meter) -> Self {
        Self { value, meter }
    }

    #[inline]
    fn read(&self) -> &'a Value {
        self.meter.spend(1);
        if self.meter.is_over() { &NOTHING } else { self.value }
    }
}

/// The representation: that of `serde_json`, read through a meter.
#[derive(Debug)]
pub(super) struct Reading;

impl Json for Reading {
    type Node<'a> = Metered<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    const KEYS_PER_LOOKUP: usize = SerdeJson::KEYS_PER_LOOKUP;
    const ACYCLIC: bool = SerdeJson::ACYCLIC;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Metered<'_>) -> T) -> T {
        f(Metered::new(written(buffer, string), &Meter::unbounded()))
    }
}

/// Writes a text into a value, and reuses its allocation.
fn written<'a>(buffer: &'a mut Value, string: &str) -> &'a Value {
    let mut text = match buffer.take() {
        Value::String(text) => text,
        _ => String::new(),
    };
    text.clear();
    text.push_str(string);
    *buffer = Value::String(text);
    buffer
}

impl<'a> Node<'a, Reading> for Metered<'a> {
    type Object = Entries<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Entries<'a>> {
        Some(Entries { entries: self.read().as_object()?, meter: self.meter })
    }

    fn as_array(&self) -> Option<Items<'a>> {
        Some(Items { items: self.read().as_array()?, meter: self.meter })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.read().as_str()?;
        self.meter.spend_text(text);
        Some(Cow::Borrowed(text))
    }

    fn as_number(&self) -> Option<&'a Number> {
        Node::<SerdeJson>::as_number(&self.read())
    }

    fn as_boolean(&self) -> Option<bool> {
        self.read().as_bool()
    }

    fn is_null(&self) -> bool {
        self.read().is_null()
    }

    fn json_type(&self) -> JsonType {
        Node::<SerdeJson>::json_type(&self.read())
    }

    fn string_length(&self) -> Option<u64> {
        let value = self.read();
        self.meter.spend_text(value.as_str()?);
        Node::<SerdeJson>::string_length(&value)
    }

    fn string_length_within(&self, min: u64, max: u64) -> Option<bool> {
        let value = self.read();
        self.meter.spend_text(value.as_str()?);
        Node::<SerdeJson>::string_length_within(&value, min, max)
    }

    fn equals_value(&self, expected: &Value) -> bool {
        let value = self.read();
        if let (Value::String(text), Value::String(other)) = (value, expected) {
            self.meter.spend_text(if text.len() == other.len() { text } else { "" });
        }
        Node::<SerdeJson>::equals_value(&value, expected)
    }

    /// Called for errors only, which contain no value here.
    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Borrowed(self.meter.make_error())
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Node::<SerdeJson>::identity(&self.value)
    }
}

/// An object, read through a meter.
pub(super) struct Entries<'a> {
    entries: &'a Map<String, Value>,
    meter: &'a Meter,
}

impl<'a> Object<'a, Reading> for Entries<'a> {
    type Node = Metered<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn get(&self, key: &String) -> Option<Metered<'a>> {
        self.meter.spend(1);
        let value = Object::<SerdeJson>::get(&self.entries, key)?;
        Some(Metered::new(value, self.meter))
    }

    fn members(&self) -> Members<'a> {
        Members { entries: self.entries.iter(), meter: self.meter }
    }

    fn try_for_each_name_node<B>(
        &self,
        buffer: &mut Value,
        mut f: impl FnMut(Metered<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (name, _) in self.members() {
            f(Metered::new(written(buffer, name), self.meter))?;
        }
        ControlFlow::Continue(())
    }
}

/// The members of an object, up to the limit.
pub(super) struct Members<'a> {
    entries: map::Iter<'a>,
    meter: &'a Meter,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Metered<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.entries.next()?;
        self.meter.spend(1);
        self.meter.spend_text(name);
        (!self.meter.is_over()).then_some((name.as_str(), Metered::new(value, self.meter)))
    }
}

/// An array, read through a meter.
pub(super) struct Items<'a> {
    items: &'a [Value],
    meter: &'a Meter,
}

impl<'a> Array<'a, Reading> for Items<'a> {
    type Node = Metered<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> Elements<'a> {
        Elements { items: self.items.iter(), meter: self.meter }
    }

    fn is_unique(&self) -> bool {
        if self.items.len() > 1 {
            self.items.iter().for_each(|item| self.meter.spend(weight(item)));
        }
        self.meter.is_over() || Array::<SerdeJson>::is_unique(&self.items)
    }
}

/// The elements of an array, up to the limit.
pub(super) struct Elements<'a> {
    items: std::slice::Iter<'a, Value>,
    meter: &'a Meter,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Metered<'a>;

    fn next(&mut self) -> Option<Metered<'a>> {
        let item = self.items.next()?;
        self.meter.spend(1);
        (!self.meter.is_over()).then_some(Metered::new(item, self.meter))
    }
}

/// Returns the number of steps to compare a whole value.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(entries) => {
            1 + entries.iter().map(|(name, entry)| (name.len() / BYTES_PER_STEP) as u64 + weight(entry)).sum::<u64>()
        }
        Value::String(text) => 1 + (text.len() / BYTES_PER_STEP) as u64,
        _ => 1,
    }
}
