//! "did you mean": the most similar of some known words. Unaware of what the words mean.

/// The known word of which `word` is most likely a misspelling. It may have about one slip in three
/// letters; case doesn't count, and two swapped letters are one slip.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect();
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let most = (word.len().max(letters.len()) / 3).max(1);
        // The distance is at least the difference in length: no need to compute it.
        if letters.len() > LONGEST || letters.len().abs_diff(word.len()) > most {
            continue;
        }
        let slips = distance(&word, &letters);
        // Every single letter is one slip from every other: such a suggestion would be useless.
        if slips <= most && slips < letters.len() && best.is_none_or(|(least, _)| slips < least) {
            best = Some((slips, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Characters. Longer words get no suggestion: finding one takes time quadratic in the length.
const LONGEST: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (the distance of
/// Damerau and Levenshtein, each letter changed at most once).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let known = ["name", "script", "timeout", "retries", "retry_delay"];
        let guess = |word| nearest(word, known);
        assert_eq!(guess("nmae"), Some("name"));
        assert_eq!(guess("Script"), Some("script"));
        assert_eq!(guess("scrpt"), Some("script"));
        assert_eq!(guess("time_out"), Some("timeout"));
        assert_eq!(guess("retry-delay"), Some("retry_delay"));
        assert_eq!(guess("colour"), None);
        assert_eq!(guess(""), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest(&"x".repeat(100_000), ["xx"]), None);
    }

    #[test]
    fn swapped_letters_are_one_slip() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("from"), &letters("form")), 1);
        assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
        assert_eq!(distance(&letters(""), &letters("abc")), 3);
    }
}
