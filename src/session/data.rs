use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::value::RawValue;

use super::SessionError;

/// The data of a session: values under keys. Each value stays as its own `Serialize` wrote it, whatever else is changed.
#[derive(Clone, Default)]
pub struct Data {
    entries: BTreeMap<String, Box<RawValue>>,
}

impl Data {
    /// Returns the value of `key`, or `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`SessionError::Undecodable`] if it is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SessionError> {
        self.entries.get(key).map(|value| decode(key, value)).transpose()
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unencodable`] if it cannot be written as JSON.
    pub fn set<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), SessionError> {
        let value = serde_json::value::to_raw_value(value)
            .map_err(|error| SessionError::Unencodable { key: key.to_owned(), error })?;
        self.entries.insert(key.to_owned(), value);
        Ok(())
    }

    /// Removes `key`. Returns false if it was not there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    /// Returns the keys, sorted.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

impl fmt::Debug for Data {
    /// Shows the keys only. The values are private to the users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Data {
    /// Writes the text of a record.
    pub(super) fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.entries)
    }

    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(|entries| Self { entries })
    }
}

/// Finds one value in the text of a record, without storing the others.
pub(super) fn peek<T: DeserializeOwned>(text: &str, key: &str) -> Result<Option<T>, PeekError> {
    struct Peek<'k>(&'k str);
    impl<'de> Visitor<'de> for Peek<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the data of a session")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(is_it) = map.next_key_seed(IsKey(self.0))? {
                if is_it {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    let mut text = serde_json::Deserializer::from_str(text);
    let found =
        text.deserialize_map(Peek(key)).and_then(|found| text.end().map(|()| found)).map_err(PeekError::Record)?;
    found.map(|value| decode(key, value)).transpose().map_err(PeekError::Value)
}

/// The error of a record, or of the value in it, that cannot be read.
pub(super) enum PeekError {
    Record(serde_json::Error),
    Value(SessionError),
}

/// Compares a key without copying it.
struct IsKey<'k>(&'k str);

impl<'de> serde::de::DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

fn decode<T: DeserializeOwned>(key: &str, value: &RawValue) -> Result<T, SessionError> {
    serde_json::from_str(value.get()).map_err(|error| SessionError::Undecodable { key: key.to_owned(), error })
}
