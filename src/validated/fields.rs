//! The names of a type's fields, found without a value of the type.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::references::References;

/// The names of the fields of a struct. `None` if they are unknown.
pub(super) type Fields = Option<&'static [&'static str]>;

/// Returns the names that a struct is read from, aliases included. `None` for other types, and for a struct that has more than its own
/// fields (`#[serde(flatten)]`).
pub(super) fn fields<T: DeserializeOwned>() -> Fields {
    match T::deserialize(Probe) {
        Err(Answer(fields)) => fields,
        Ok(_) => None,
    }
}

/// Returns the properties of a part of a schema if it has some and none of them is one of the fields: then the part is not of the type
/// with these fields.
fn others<'a>(references: &'a References, part: &'a Value, fields: Fields) -> Option<BTreeSet<&'a str>> {
    let fields = fields.filter(|fields| !fields.is_empty())?;
    let views = references.views(part);
    let is_open = |view: &&Value| {
        view.get("patternProperties").is_some() || view.get("additionalProperties").is_some_and(|more| *more != false)
    };
    if views.iter().any(is_open) {
        return None;
    }
    let known = views.iter().filter_map(|view| view.get("properties")?.as_object()).flat_map(Map::keys);
    let known: BTreeSet<_> = known.map(String::as_str).collect();
    (!known.is_empty() && !fields.iter().any(|field| known.contains(field))).then_some(known)
}

/// Returns an error text if no field of the type is a property of its place.
pub(super) fn wrong_place(
    tool: &str,
    parameter: Option<&str>,
    fields: Fields,
    setting: &'static str,
    references: &References,
) -> Option<String> {
    let root = references.root();
    let part = match parameter {
        None => Some(root),
        Some(name) => root.get("properties").and_then(|all| all.get(name)),
    };
    let known = part.and_then(|part| others(references, part, fields))?;
    let list =
        |names: &mut dyn Iterator<Item = &str>| names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let place =
        parameter.map_or_else(|| "its arguments as a whole".to_owned(), |name| format!("its parameter `{name}`"));
    Some(format!(
        "`{tool}` has {} in {place}, and no field of the type that is read from there ({}): name the parameter of that type with \
         `{setting}`, or use the type of all arguments",
        list(&mut known.into_iter()),
        list(&mut fields.unwrap_or_default().iter().copied()),
    ))
}

/// A deserializer without a value, which records how a type wants to be read.
struct Probe;

/// The fields of a type, returned as an error.
#[derive(Debug)]
struct Answer(Fields);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a type")
    }
}

impl std::error::Error for Answer {}

impl Error for Answer {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self(None)
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Answer> {
        Err(Answer(Some(fields)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Answer> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Answer> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its names are asked for")]
    struct Order {
        how_many: u32,
        #[serde(rename = "sku")]
        product: String,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its names are asked for")]
    struct Wrapped(Order);

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its names are asked for")]
    struct Flat {
        #[serde(flatten)]
        order: Order,
    }

    #[test]
    fn a_struct_lists_the_names_of_its_fields() {
        let names = Some(&["howMany", "sku"][..]);
        assert_eq!(fields::<Order>(), names);
        assert_eq!(fields::<Wrapped>(), names);
        assert_eq!(fields::<Option<Box<Order>>>(), names);
    }

    #[test]
    fn a_type_without_a_fixed_list_of_fields_has_none() {
        assert_eq!(fields::<Flat>(), None);
        assert_eq!(fields::<HashMap<String, Order>>(), None);
        assert_eq!(fields::<Value>(), None);
        assert_eq!(fields::<Vec<Order>>(), None);
        assert_eq!(fields::<String>(), None);
    }
}
