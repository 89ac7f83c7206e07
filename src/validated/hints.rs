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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_several_is_meant() {
        assert_eq!(nearest("amonut", ["mount", "amount", "account"]), Some("amount".to_owned()));
        assert_eq!(nearest("fromAccount", ["to_account", "from_account"]), Some("from_account".to_owned()));
    }

    #[test]
    fn a_third_of_the_letters_may_differ_and_no_more() {
        assert_eq!(nearest("abcdxx", ["abcdef"]), Some("abcdef".to_owned()));
        assert_eq!(nearest("abcxxx", ["abcdef"]), None);
        assert_eq!(nearest("abx", ["abc"]), Some("abc".to_owned()));
        assert_eq!(nearest("ab", ["ac"]), None);
    }

    #[test]
    fn what_is_too_long_is_not_compared() {
        let longest = "a".repeat(MAX_COMPARED);
        let longer = "a".repeat(MAX_COMPARED + 1);
        assert_eq!(nearest(&longest, [longest.as_str()]), Some(longest.clone()));
        assert_eq!(nearest(&longer, [longest.as_str()]), None);
        assert_eq!(nearest(&longest, [longer.as_str()]), None);
    }
}
