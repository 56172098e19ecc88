//! The globs of `inputs` and `match`: as in a shell, `*` and `?` don't match `/`, `**` does, and `\`
//! escapes a special character. Unaware of what is matched.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Bytes. No path is longer, and the glob parser recurses on nested braces.
const LONGEST: usize = 4096;

/// Matches paths or names that match any of the patterns.
///
/// # Errors
/// Why the first invalid pattern is invalid. The patterns of a [`super::Task`] are all valid: they are
/// checked when the manifest is read.
pub fn glob_set<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if pattern.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let mut glob = GlobBuilder::new(pattern);
        let glob = glob.literal_separator(true).backslash_escape(true).empty_alternates(true);
        let glob = glob.build();
        set.add(glob.map_err(|err| err.kind().to_string())?);
    }
    // Not `Glob::compile_matcher`, which panics if the regex of a glob is too large.
    set.build().map_err(|_| "it is too complex".to_owned())
}

/// Patterns that an input's pattern may stand for.
const MOST: usize = 10_000;

/// The patterns without braces that a pattern stands for: `a.x` and `a.y` for `a.{x,y}`.
///
/// # Errors
/// A sentence if they are too many, or a brace is not closed.
pub fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut waiting = vec![pattern.to_owned()];
    while let Some(pattern) = waiting.pop() {
        match first_braces(&pattern)? {
            None => done.push(pattern),
            Some(commas) => {
                let (open, close) = (commas[0], commas[commas.len() - 1]);
                for pair in commas.windows(2).rev() {
                    let alternative = &pattern[pair[0] + 1..pair[1]];
                    let (before, after) = (&pattern[..open], &pattern[close + 1..]);
                    waiting.push(format!("{before}{alternative}{after}"));
                }
            }
        }
        if done.len() + waiting.len() > MOST {
            return Err(format!("its braces stand for more than {MOST} patterns"));
        }
    }
    Ok(done)
}

/// Where the first pair of braces opens, where its commas are, and where it closes.
fn first_braces(pattern: &str) -> Result<Option<Vec<usize>>, String> {
    let (mut places, mut depth) = (Vec::new(), 0_usize);
    let bytes = pattern.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'[' => {
                // In a class a brace stands for itself; a `]` that comes first does so too.
                let first = at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'!' | b'^')));
                let end = bytes.iter().skip(first + 1).position(|byte| *byte == b']');
                at = end.map_or(at, |end| first + 1 + end);
            }
            b'{' => {
                depth += 1;
                if depth == 1 {
                    places.push(at);
                }
            }
            b',' if depth == 1 => places.push(at),
            b'}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    places.push(at);
                    return Ok(Some(places));
                }
            }
            _ => {}
        }
        at += 1;
    }
    if depth > 0 { Err("a brace is not closed".to_owned()) } else { Ok(None) }
}

/// True if a pattern has no special characters: it is the path of one file.
pub fn is_plain(pattern: &str) -> bool {
    !pattern.contains(is_special)
}

/// The folders before the first component with a special character, with the last `/`: `data/` for
/// `data/*/x.csv`, `a/b/` for `a/b/c.csv`, nothing for `*.csv`. The rest of a file's path is its logical
/// name.
pub fn fixed_part(pattern: &str) -> &str {
    let plain = &pattern[..pattern.find(is_special).unwrap_or(pattern.len())];
    &plain[..plain.rfind('/').map_or(0, |slash| slash + 1)]
}

fn is_special(c: char) -> bool {
    matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        let matches = |pattern, name| glob_set([pattern]).expect(pattern).is_match(name);
        assert!(matches("*.txt", "a.txt"));
        assert!(!matches("*.txt", "sub/a.txt"));
        assert!(matches("**/*.txt", "sub/a.txt"));
        assert!(matches("**/*.txt", "a.txt"));
        assert!(matches("{a,b}.[ch]", "b.h"));
        assert!(matches("a{,.gz}", "a") && matches("a{,.gz}", "a.gz"));
        assert!(matches(r"a\[1\].txt", "a[1].txt"));
    }

    #[test]
    fn what_is_no_glob_is_refused_without_a_panic() {
        for pattern in ["[", "a{b", "[z-a]", "a\\", &"{".repeat(2000), &"x".repeat(5000)] {
            assert!(glob_set([pattern]).is_err(), "{pattern}");
        }
        for (open, close, depth) in [("{", "}", 2048), ("{a,", "}", 1024), ("{*,", "b}", 819)] {
            let _ = glob_set([format!("{}{}", open.repeat(depth), close.repeat(depth)).as_str()]);
        }
    }

    #[test]
    fn braces_stand_for_their_alternatives() {
        let expanded = |pattern: &str| expand(pattern).expect(pattern).join(" ");
        assert_eq!(expanded("a.{x,y}"), "a.x a.y");
        assert_eq!(expanded("{a,{b,c}d}/{1,2}"), "a/1 a/2 bd/1 bd/2 cd/1 cd/2");
        assert_eq!(expanded("{a}{,b}"), "a ab");
        assert_eq!(expanded(r"\{a,b} [{,}]"), r"\{a,b} [{,}]");
        assert!(expand("{a").is_err() && expand(&"{a,b}".repeat(20)).is_err());
    }

    #[test]
    fn the_fixed_part_ends_before_the_first_wildcard() {
        assert_eq!(fixed_part("data/*.csv"), "data/");
        assert_eq!(fixed_part("data/2024-*/x.csv"), "data/");
        assert_eq!(fixed_part("a/b/c.csv"), "a/b/");
        assert_eq!(fixed_part("*.csv"), "");
        assert_eq!(fixed_part("/var/log/**"), "/var/log/");
        assert!(is_plain("a/b.csv") && !is_plain("a/?.csv") && !is_plain(r"a\*"));
    }
}
