use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use serde_path_to_error::Segment;
use validator::{Validate, ValidationError, ValidationErrors, ValidationErrorsKind};

use super::hints::plain;
use super::pointer::{by_place, push_name};
use super::violation::Violation;
use super::violations::Collector;
use crate::references::References;

/// Why a value is not a valid `T`.
pub(super) enum TypedError {
    /// No `T` can be read from it.
    Decode(Violation),
    /// The rules of the `T` reject it. The errors have the names of Rust and contain the values.
    Validate(ValidationErrors),
}

/// Reads a `T`, without copying values that it does not keep.
pub(super) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Violation> {
    // To track the path costs more than to read the value, so it is done only after an error.
    T::deserialize(value)
        .or_else(|_| serde_path_to_error::deserialize(value).map_err(|error| undecodable(value, &error)))
}

/// Reads a `T` and validates it.
pub(super) fn check<T: DeserializeOwned + Validate>(value: &Value) -> Result<(), TypedError> {
    decode::<T>(value).map_err(TypedError::Decode)?.validate().map_err(TypedError::Validate)
}

fn undecodable(value: &Value, error: &serde_path_to_error::Error<serde_json::Error>) -> Violation {
    let mut pointer = String::new();
    let mut place = Some(value);
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => {
                push_name(&mut pointer, &index.to_string());
                place = place.and_then(|place| place.get(index));
            }
            Segment::Map { key: name } => {
                push_name(&mut pointer, name);
                place = place.and_then(|place| place.get(name));
            }
            // The name of a variant that is a tag beside its content is not a part of the path.
            Segment::Enum { variant } => {
                if let Some(inside) = place.and_then(|place| place.get(variant)) {
                    push_name(&mut pointer, variant);
                    place = Some(inside);
                }
            }
            Segment::Unknown => break,
        }
    }
    let text = error.inner().to_string();
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        push_name(&mut pointer, name);
        return Violation::of(pointer, "required", "is missing");
    }
    Violation::of(
        pointer,
        "decode",
        match expectation(&text) {
            Some(expectation) => format!("must be {expectation}").into(),
            None => std::borrow::Cow::from("cannot be read: it does not have the expected form"),
        },
    )
}

/// Returns the expectation of a standard error of serde. The rest of the text, and any other error, may contain the caller's values.
fn expectation(text: &str) -> Option<&str> {
    const STANDARD: [&str; 4] = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    if !STANDARD.iter().any(|beginning| text.starts_with(beginning)) {
        return None;
    }
    let (_, expectation) = text.rsplit_once(", expected ")?;
    (expectation.len() <= 200).then_some(expectation)
}

/// The names on the wire of the fields of Rust.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireNames<'a> {
    pub(super) references: &'a References,
    /// By field or by path of fields.
    pub(super) explicit: Option<&'a BTreeMap<String, String>>,
}

/// A struct of Rust, its place in the input, and its schemas.
struct Location<'a> {
    pointer: String,
    /// The fields that lead here, joined with dots.
    path: String,
    schemas: Vec<&'a Value>,
}

impl<'a> WireNames<'a> {
    /// Reports the errors of `validator` with the names on the wire: as many as are listed, ordered by pointer; the others are counted.
    /// `pointer` and `schema` are those of the value.
    pub(super) fn report(
        &self,
        errors: &ValidationErrors,
        pointer: &str,
        schema: Option<&'a Value>,
        found: &mut Collector,
    ) {
        let schemas = schema.map(|schema| self.references.views(schema)).unwrap_or_default();
        let place = Location { pointer: pointer.to_owned(), path: String::new(), schemas };
        let mut room = found.max_listed();
        self.report_struct(errors, &place, &mut room, found);
    }

    fn report_struct(&self, errors: &ValidationErrors, place: &Location<'a>, room: &mut usize, found: &mut Collector) {
        if *room == 0 {
            return found.omit(count(errors));
        }
        let mut fields: Vec<_> = errors
            .errors()
            .iter()
            .map(|(field, kind)| {
                let inner = match field.as_ref() {
                    "__all__" => Location { pointer: place.pointer.clone(), path: String::new(), schemas: Vec::new() },
                    field => self.field(place, field, matches!(kind, ValidationErrorsKind::Struct(_))),
                };
                (inner, kind)
            })
            .collect();
        fields.sort_by(|(one, _), (other, _)| by_place(&one.pointer, &other.pointer));
        for (inner, kind) in fields {
            match kind {
                ValidationErrorsKind::Field(errors) => {
                    // The schema has already reported this place.
                    if found.has(&inner.pointer) {
                        continue;
                    }
                    for error in errors {
                        match room.checked_sub(1) {
                            Some(left) => {
                                *room = left;
                                found.push(violation(error, &inner));
                            }
                            None => found.omit(1),
                        }
                    }
                }
                ValidationErrorsKind::Struct(errors) => self.report_struct(errors, &inner, room, found),
                ValidationErrorsKind::List(items) => {
                    for (index, errors) in items {
                        match room {
                            0 => found.omit(count(errors)),
                            _ => self.report_struct(errors, &self.item(&inner, *index), room, found),
                        }
                    }
                }
            }
        }
    }

    fn field(&self, place: &Location<'a>, field: &str, is_struct: bool) -> Location<'a> {
        let field = field.strip_prefix("r#").unwrap_or(field);
        let path = if place.path.is_empty() { field.to_owned() } else { format!("{}.{field}", place.path) };
        let explicit = self.explicit.and_then(|names| names.get(&path).or_else(|| names.get(field)));
        let known =
            || place.schemas.iter().filter_map(|schema| schema.get("properties")?.as_object()).flat_map(Map::keys);
        let name = match explicit {
            Some(name) => Some(name.as_str()),
            None => known()
                .find(|name| *name == field)
                .or_else(|| known().find(|name| plain(name) == plain(field)))
                .map(String::as_str)
                // A struct that the schema does not have is flattened into its parent.
                .or((!is_struct || place.schemas.is_empty()).then_some(field)),
        };
        let mut pointer = place.pointer.clone();
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Location { pointer, path, schemas: place.schemas.clone() };
        };
        push_name(&mut pointer, name);
        let schemas = place
            .schemas
            .iter()
            .filter_map(|schema| schema.get("properties")?.get(name))
            .flat_map(|schema| self.references.views(schema))
            .collect();
        Location { pointer, path, schemas }
    }

    fn item(&self, list: &Location<'a>, index: usize) -> Location<'a> {
        let below = |keyword: &str| -> Vec<&'a Value> {
            let schemas =
                list.schemas.iter().filter_map(|schema| schema.get(keyword)).filter(|below| below.is_object());
            schemas.flat_map(|below| self.references.views(below)).collect()
        };
        let items = below("items");
        // `validator` numbers the entries of a map in no order, so the entry is unknown.
        let is_map = items.is_empty() && list.schemas.iter().any(|schema| schema.get("additionalProperties").is_some());
        let mut pointer = list.pointer.clone();
        if !is_map {
            push_name(&mut pointer, &index.to_string());
        }
        Location {
            pointer,
            path: list.path.clone(),
            schemas: if is_map { below("additionalProperties") } else { items },
        }
    }
}

/// Counts the errors at every depth.
fn count(errors: &ValidationErrors) -> usize {
    let count_one = |kind: &ValidationErrorsKind| match kind {
        ValidationErrorsKind::Field(errors) => errors.len(),
        ValidationErrorsKind::Struct(errors) => count(errors),
        ValidationErrorsKind::List(items) => items.values().map(|errors| count(errors)).sum(),
    };
    errors.errors().values().map(count_one).sum()
}

/// The parameters of `validator` that say what it expected. Any other one may be the value.
const EXPECTED: [&str; 6] = ["min", "max", "equal", "exclusive_min", "exclusive_max", "needle"];

fn violation(error: &ValidationError, place: &Location<'_>) -> Violation {
    let code = error.code.clone();
    let asked = |name: &str| error.params.get(name).filter(|_| is_builtin(&code));
    let expected: Map<_, _> =
        EXPECTED.iter().filter_map(|name| Some(((*name).to_owned(), asked(name)?.clone()))).collect();
    let violation = match &error.message {
        Some(message) => Violation::new(code, message.clone()).at(&place.pointer),
        None => {
            let predicate = predicate(&code, &expected, place);
            Violation::of(place.pointer.clone(), code, predicate)
        }
    };
    if expected.is_empty() { violation } else { violation.with_expected(json!(expected)) }
}

fn is_builtin(code: &str) -> bool {
    matches!(code, "length" | "range" | "contains" | "does_not_contain")
}

fn predicate(code: &str, expected: &Map<String, Value>, place: &Location<'_>) -> String {
    let bound = |name: &str, words: &str| expected.get(name).map(|bound| format!("{words} {}", shown(bound)));
    match code {
        // A function of the author may have such a name too.
        "length" | "range" | "contains" | "does_not_contain" if expected.is_empty() => format!("is not valid ({code})"),
        "length" => {
            let is = |name: &str| place.schemas.iter().any(|schema| schema.get("type").is_some_and(|is| *is == *name));
            let unit = if is("array") {
                " items"
            } else if is("string") {
                " characters"
            } else {
                " in length"
            };
            let bounds = [bound("equal", "exactly"), bound("min", "at least"), bound("max", "at most")];
            format!("must have {}{unit}", join(bounds))
        }
        "range" => {
            let bounds = [
                bound("min", "at least"),
                bound("exclusive_min", "greater than"),
                bound("max", "at most"),
                bound("exclusive_max", "less than"),
            ];
            format!("must be {}", join(bounds))
        }
        "email" => "must be an email address".to_owned(),
        "url" => "must be a URL".to_owned(),
        "ip" => "must be an IP address".to_owned(),
        "ipv4" => "must be an IPv4 address".to_owned(),
        "ipv6" => "must be an IPv6 address".to_owned(),
        "credit_card" => "must be the number of a credit card".to_owned(),
        "must_match" => "must be equal to the field that it repeats".to_owned(),
        "regex" => "does not have the required form".to_owned(),
        "required" | "required_nested" => "is missing".to_owned(),
        "non_control_character" => "must not have control characters".to_owned(),
        "contains" => format!("must contain {}", join([bound("needle", "").map(|needle| needle.trim().to_owned())])),
        "does_not_contain" => {
            format!("must not contain {}", join([bound("needle", "").map(|needle| needle.trim().to_owned())]))
        }
        other => format!("is not valid ({other})"),
    }
}

fn join<const N: usize>(bounds: [Option<String>; N]) -> String {
    bounds.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

fn shown(bound: &Value) -> String {
    match bound {
        // `validator` turns every bound of a range into a double.
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        other => other.to_string(),
    }
}
