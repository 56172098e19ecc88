//! Many globs matched against one name at once. `globset` takes milliseconds a name for some thousands of patterns like
//! `sample0001_*.csv`; here a name is tried only against the globs whose rarest piece of text occurs in it. Unaware of
//! where names come from.

use std::collections::HashMap;

use aho_corasick::AhoCorasick;
use globset::GlobSet;

use super::pattern::{expand, glob_set};
use crate::text::as_path;

/// Globs as [`glob_set`] understands them.
pub struct Globs {
    matchers: Vec<Matcher>,
    /// Which of the patterns each matcher comes from.
    patterns: Vec<usize>,
    /// Finds texts in a name.
    texts: AhoCorasick,
    /// For each text, the matchers of globs that match no name without it.
    by_text: Vec<Vec<usize>>,
    /// The matchers of globs that have no text.
    rest: Vec<usize>,
}

impl Globs {
    /// # Errors
    /// Why a pattern is no glob.
    pub fn new<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Globs, String> {
        let mut found = Vec::new();
        for (number, pattern) in patterns.into_iter().enumerate() {
            for alternative in alternatives(pattern) {
                found.push((number, Tokens::of(&alternative), alternative));
            }
        }
        let mut uses: HashMap<&[u8], usize> = HashMap::new();
        for text in found.iter().flat_map(|(_, tokens, _)| &tokens.texts) {
            *uses.entry(text).or_default() += 1;
        }
        let mut ids: HashMap<Vec<u8>, usize> = HashMap::new();
        let (mut by_text, mut rest) = (Vec::<Vec<usize>>::new(), Vec::new());
        for (matcher, (_, tokens, _)) in found.iter().enumerate() {
            let rarest = tokens
                .texts
                .iter()
                .min_by_key(|text| (uses.get(text.as_slice()), std::cmp::Reverse(text.len())));
            match rarest {
                Some(text) => {
                    let id = *ids.entry(text.clone()).or_insert_with(|| {
                        by_text.push(Vec::new());
                        by_text.len() - 1
                    });
                    by_text[id].push(matcher);
                }
                None => rest.push(matcher),
            }
        }
        let mut texts = vec![Vec::new(); by_text.len()];
        for (text, id) in ids {
            texts[id] = text;
        }
        let texts = AhoCorasick::new(&texts).map_err(|_| "it is too complex".to_owned())?;
        let patterns = found.iter().map(|(number, ..)| *number).collect();
        let matchers = found
            .into_iter()
            .map(|(_, tokens, pattern)| match tokens.simple {
                Some(tokens) => Ok(Matcher::Simple(tokens)),
                None => glob_set([pattern.as_str()]).map(Matcher::Compiled),
            })
            .collect::<Result<_, String>>()?;
        Ok(Globs { matchers, patterns, texts, by_text, rest })
    }

    /// Whether any of the patterns matches a name.
    pub fn is_match(&self, name: &[u8]) -> bool {
        let matches = |matcher: &usize| self.matchers[*matcher].matches(name);
        self.rest.iter().any(matches)
            || self
                .texts
                .find_overlapping_iter(name)
                .any(|found| self.by_text[found.pattern().as_usize()].iter().any(matches))
    }

    /// The places of the patterns that match a name, in their order.
    pub fn matching(&self, name: &[u8], into: &mut Vec<usize>) {
        into.clear();
        into.extend(&self.rest);
        for found in self.texts.find_overlapping_iter(name) {
            into.extend(&self.by_text[found.pattern().as_usize()]);
        }
        into.sort_unstable();
        into.dedup();
        into.retain(|matcher| self.matchers[*matcher].matches(name));
        // Matchers of one pattern stand together.
        for matcher in &mut *into {
            *matcher = self.patterns[*matcher];
        }
        into.dedup();
    }
}

/// Patterns that match together what a pattern matches: its alternatives, unless they are too many, or have a `**` which
/// means something else without its braces.
fn alternatives(pattern: &str) -> Vec<String> {
    match expand(pattern) {
        Ok(all) if !all.iter().any(|alternative| alternative.contains("**")) => all,
        _ => vec![pattern.to_owned()],
    }
}

/// Matches one glob without alternatives.
enum Matcher {
    Simple(Vec<Token>),
    /// With `/`, or odd in another way.
    Compiled(GlobSet),
}

impl Matcher {
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Matcher::Simple(tokens) => is_match(tokens, name),
            Matcher::Compiled(glob) => glob.is_match(as_path(name)),
        }
    }
}

/// Nothing of it matches a `/`.
#[derive(PartialEq)]
enum Token {
    Byte(u8),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[a-z]`: first and last byte of each range.
    Class(Vec<(u8, u8)>),
}

/// What is in a pattern.
#[derive(Default)]
struct Tokens {
    /// `None` if the pattern can't be matched by tokens alone.
    simple: Option<Vec<Token>>,
    /// Texts that occur in each name that it matches.
    texts: Vec<Vec<u8>>,
}

impl Tokens {
    /// Nothing is taken from a pattern that isn't valid, or has braces: whether it is, and what it means, is for
    /// `globset` to say.
    fn of(pattern: &str) -> Tokens {
        let mut tokens = Vec::new();
        // Like `**`, a name of which every part matches.
        let mut is_simple = pattern != "**";
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::Any),
                '{' | '}' => return Tokens::default(),
                '[' => match class(&mut chars) {
                    Some(Some(ranges)) => tokens.push(Token::Class(ranges)),
                    Some(None) => {
                        is_simple = false;
                        // Ends a text, which is all that it does now.
                        tokens.push(Token::Any);
                    }
                    None => return Tokens::default(),
                },
                '/' => {
                    is_simple = false;
                    tokens.push(Token::Any);
                }
                c => {
                    let c = if c == '\\' { chars.next() } else { Some(c) };
                    let Some(c) = c.filter(|c| *c != '/') else { return Tokens::default() };
                    let mut buffer = [0; 4];
                    tokens.extend(c.encode_utf8(&mut buffer).bytes().map(Token::Byte));
                }
            }
        }
        let text = |run: &[Token]| -> Vec<u8> {
            let byte = |token: &Token| match token {
                Token::Byte(byte) => Some(*byte),
                _ => None,
            };
            run.iter().filter_map(byte).collect()
        };
        let runs = tokens.split(|token| !matches!(token, Token::Byte(_)));
        let texts = runs.filter(|run| !run.is_empty()).map(text).collect();
        Tokens { simple: is_simple.then_some(tokens), texts }
    }
}

/// The rest of a class, behind its `[`. `Some(None)` if it is negated, or has more than ASCII, or a `/`; `None` if it is
/// none.
#[expect(clippy::option_option, reason = "no class, an odd class, or its ranges")]
fn class(chars: &mut std::str::Chars<'_>) -> Option<Option<Vec<(u8, u8)>>> {
    let mut members: Vec<char> = Vec::new();
    loop {
        match chars.next()? {
            ']' if !matches!(members.as_slice(), [] | ['!' | '^']) => break,
            c => members.push(c),
        }
    }
    if matches!(members[0], '!' | '^') || !members.iter().all(char::is_ascii) {
        return Some(None);
    }
    let mut ranges: Vec<(u8, u8)> = Vec::new();
    let mut members = members.into_iter().map(|c| c as u8).peekable();
    while let Some(first) = members.next() {
        // A `-` that is first or last is one.
        let mut after = members.clone();
        match (after.next(), after.next()) {
            (Some(b'-'), Some(last)) => {
                if last < first {
                    return None;
                }
                ranges.push((first, last));
                members = after;
            }
            _ => ranges.push((first, first)),
        }
    }
    let has_slash = ranges.iter().any(|(first, last)| (*first..=*last).contains(&b'/'));
    Some((!has_slash).then_some(ranges))
}

/// Where the name and the tokens part, the last star takes one byte more.
fn is_match(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut byte) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if tokens.get(token) == Some(&Token::Star) {
            star = Some((token, byte));
            token += 1;
            continue;
        }
        let fits = match (tokens.get(token), name.get(byte)) {
            (None, None) => return true,
            (Some(Token::Byte(wanted)), Some(found)) => wanted == found,
            (Some(Token::Any), Some(found)) => *found != b'/',
            (Some(Token::Class(ranges)), Some(found)) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(found))
            }
            _ => false,
        };
        if fits {
            token += 1;
            byte += 1;
            continue;
        }
        match &mut star {
            Some((at, taken)) if name.get(*taken).is_some_and(|byte| *byte != b'/') => {
                *taken += 1;
                (token, byte) = (*at + 1, *taken);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n as u64) as usize
        }

        fn word(&mut self, letters: &[&str]) -> String {
            let length = self.below(7);
            (0..length).map(|_| letters[self.below(letters.len())]).collect()
        }
    }

    #[test]
    fn many_globs_at_once_match_what_each_matches_alone() {
        const PATTERN: &[&str] = &[
            "a", "b", "ab", ".", "-", "é", "*", "*", "?", "**", "/", "[a-c]", "[!a]", "[^-a]",
            "[]a]", "[a-]", "[é-ö]", "[+-9]", "{a,b}", "{,*b}", "\\*", "\\[", "\\\\", "[\\a]", "]",
            ",", "!",
        ];
        const NAME: &[&str] = &[
            "a", "b", "ab", ".", "-", "é", "/", "[", "]", "*", "\\", ",", "!", "\u{e9}", "c", "\n",
        ];
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let (mut compared, mut matched) = (0, 0);
        for _ in 0..40 {
            let patterns: Vec<String> = std::iter::repeat_with(|| dice.word(PATTERN))
                .filter(|pattern| glob_set([pattern.as_str()]).is_ok())
                .take(60)
                .collect();
            let globs = Globs::new(patterns.iter().map(String::as_str)).unwrap();
            let alone: Vec<GlobSet> =
                patterns.iter().map(|pattern| glob_set([pattern.as_str()]).unwrap()).collect();
            for _ in 0..60 {
                let mut name = dice.word(NAME).into_bytes();
                if dice.below(5) == 0 {
                    name.insert(dice.below(name.len() + 1), 0xff);
                }
                let expected: Vec<usize> =
                    (0..alone.len()).filter(|n| alone[*n].is_match(as_path(&name))).collect();
                let mut found = Vec::new();
                globs.matching(&name, &mut found);
                let patterns: Vec<_> = (0..alone.len())
                    .filter(|n| expected.contains(n) != found.contains(n))
                    .map(|n| patterns[n].as_str())
                    .collect();
                let shown = crate::text::printable(&name);
                assert_eq!(found, expected, "{shown:?} {patterns:?}");
                assert_eq!(globs.is_match(&name), !expected.is_empty(), "{shown:?} {patterns:?}");
                compared += 1;
                matched += expected.len();
            }
        }
        assert!(matched > compared, "{matched} matches of {compared} names prove little");
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        for pattern in ["[", "[z-a]", "a\\", "a}", "[!"] {
            assert!(Globs::new(["*", pattern]).is_err(), "{pattern}");
        }
        assert!(!Globs::new([]).unwrap().is_match(b"a"));
    }
}
