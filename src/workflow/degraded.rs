use std::borrow::Cow;
use std::collections::HashSet;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// The value or the error of each source, in the order in which the sources were given.
///
/// It serializes to an object with an entry for each: `{"status": "success", "data": …}`, or `{"status": "error", "error": …}`
/// with a sentence that the caller may read. See [what the caller reads](super#what-the-caller-reads-of-an-error).
///
/// Names are unique here: if several sources have the same name, the second one is `name#2`, the third one `name#3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded<T>(Vec<(Cow<'static, str>, Result<T, String>)>);

impl<T> Degraded<T> {
    pub(super) fn new(answers: impl Iterator<Item = (Cow<'static, str>, Result<T, String>)>) -> Self {
        let mut names = HashSet::new();
        Self(answers.map(|(name, answer)| (distinct(name, &mut names), answer)).collect())
    }

    /// Returns the data of the source with this name, or the sentence that says why there is none.
    ///
    /// `None` if there is no such source.
    #[must_use]
    pub fn get(&self, source: &str) -> Option<Result<&T, &str>> {
        self.iter().find(|(name, _)| *name == source).map(|(_, answer)| answer)
    }

    /// Returns the data or the error of each source.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Result<&T, &str>)> {
        self.0.iter().map(|(name, answer)| (name.as_ref(), answer.as_ref().map_err(String::as_str)))
    }

    /// Returns the names of the sources that failed.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(_, answer)| answer.is_err()).map(|(name, _)| name)
    }

    /// Returns whether every source succeeded. If not, the answer is partial, and no cache should keep it for long.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed().next().is_none()
    }
}

/// Numbers a name that is taken, so that each source has an entry.
fn distinct(name: Cow<'static, str>, names: &mut HashSet<Cow<'static, str>>) -> Cow<'static, str> {
    if names.insert(name.clone()) {
        return name;
    }
    let mut number = 2;
    loop {
        let free: Cow<'static, str> = format!("{name}#{number}").into();
        if names.insert(free.clone()) {
            return free;
        }
        number += 1;
    }
}

impl<T: Serialize> Serialize for Degraded<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, answer)| (name, Status(answer))))
    }
}

struct Status<'a, T>(&'a Result<T, String>);

impl<T: Serialize> Serialize for Status<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut status = serializer.serialize_map(Some(2))?;
        match self.0 {
            Ok(data) => {
                status.serialize_entry("status", "success")?;
                status.serialize_entry("data", data)?;
            }
            Err(sentence) => {
                status.serialize_entry("status", "error")?;
                status.serialize_entry("error", sentence)?;
            }
        }
        status.end()
    }
}
