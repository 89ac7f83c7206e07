//! Hints: the name or value that was probably meant.

/// The longest name that is compared: the time grows with the square of the length.
const MAX_COMPARED: usize = 64;

/// The limit of comparisons for the hints of one answer, in pairs of letters.
const MAX_PAIRS: usize = 200_000;

/// The hints of one answer, which compare at most [`MAX_PAIRS`] together.
#[derive(Debug)]
pub(super) struct Hints {
    pairs_left: usize,
}

impl Hints {
    pub(super) fn new() -> Self {
        Self { pairs_left: MAX_PAIRS }
    }

    /// Creates no hints.
    pub(super) fn off() -> Self {
        Self { pairs_left: 0 }
    }

    /// Returns the closest name, if at most a third of the letters differ, among as many as may still be compared.
    pub(super) fn nearest<'a>(&mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
        if name.len() > MAX_COMPARED {
            return None;
        }
        let plain = plain(name);
        let mut nearest = None;
        for known in known {
            let letters = if known.len() <= MAX_COMPARED { known.len() * (1 + plain.len()) } else { 1 };
            self.pairs_left = self.pairs_left.checked_sub(letters)?;
            if known.len() > MAX_COMPARED {
                continue;
            }
            let found = (strsim::damerau_levenshtein(&self::plain(known), &plain), known);
            if found.0 * 3 <= known.chars().count().max(name.chars().count()) {
                nearest = Some(nearest.map_or(found, |nearest| found.min(nearest)));
            }
        }
        nearest.map(|(_, known)| known.to_owned())
    }

    /// Returns how many pairs of letters were compared.
    #[cfg(test)]
    pub(super) fn pairs(&self) -> usize {
        MAX_PAIRS - self.pairs_left
    }
}

/// Returns the closest name.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    Hints::new().nearest(name, known)
}

/// Returns a name without case and separators.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_several_names_is_suggested() {
        assert_eq!(nearest("amonut", ["mount", "amount", "account"]), Some("amount".to_owned()));
        assert_eq!(nearest("fromAccount", ["to_account", "from_account"]), Some("from_account".to_owned()));
    }

    #[test]
    fn a_suggestion_differs_in_at_most_a_third_of_its_letters() {
        assert_eq!(nearest("abcdxx", ["abcdef"]), Some("abcdef".to_owned()));
        assert_eq!(nearest("abcxxx", ["abcdef"]), None);
        assert_eq!(nearest("abx", ["abc"]), Some("abc".to_owned()));
        assert_eq!(nearest("ab", ["ac"]), None);
    }

    #[test]
    fn names_that_are_too_long_are_not_compared() {
        let longest = "a".repeat(MAX_COMPARED);
        let longer = "a".repeat(MAX_COMPARED + 1);
        assert_eq!(nearest(&longest, [longest.as_str()]), Some(longest.clone()));
        assert_eq!(nearest(&longer, [longest.as_str()]), None);
        assert_eq!(nearest(&longest, [longer.as_str()]), None);
    }

    #[test]
    fn an_answer_has_hints_until_the_limit_of_comparisons() {
        let mut hints = Hints::new();
        let known: Vec<_> = (0..100).map(|index| format!("a_rather_long_name_of_a_property_{index:03}")).collect();
        let told =
            (0..1_000).take_while(|_| hints.nearest("a_rather_long_name", known.iter().map(String::as_str)).is_none());
        assert_eq!(told.count(), 1_000, "none of them is near");
        assert!(hints.pairs() <= MAX_PAIRS);
        assert_eq!(hints.nearest("a_rather_long_name_of_a_property_00", known.iter().map(String::as_str)), None);
        assert_eq!(Hints::off().nearest("amonut", ["amount"]), None);
    }
}
