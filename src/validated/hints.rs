//! What was probably meant.

/// How long a name may be to be compared: the comparison takes the square of the time.
const MAX_COMPARED: usize = 64;

/// The name that comes closest, if at most a third of the letters differ.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if name.len() > MAX_COMPARED {
        return None;
    }
    let plain = plain(name);
    known
        .into_iter()
        .filter(|known| known.len() <= MAX_COMPARED)
        .map(|known| (strsim::damerau_levenshtein(&self::plain(known), &plain), known))
        .filter(|(distance, known)| distance * 3 <= known.chars().count().max(name.chars().count()))
        .min()
        .map(|(_, known)| known.to_owned())
}

/// A name without what writers of names do not agree about: case and separators.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
