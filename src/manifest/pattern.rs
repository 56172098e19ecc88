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
        let glob = glob.literal_separator(true).backslash_escape(true).build();
        set.add(glob.map_err(|err| err.kind().to_string())?);
    }
    // Not `Glob::compile_matcher`, which panics if the regex of a glob is too large.
    set.build().map_err(|_| "it is too complex".to_owned())
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
    fn the_fixed_part_ends_before_the_first_wildcard() {
        assert_eq!(fixed_part("data/*.csv"), "data/");
        assert_eq!(fixed_part("data/2024-*/x.csv"), "data/");
        assert_eq!(fixed_part("a/b/c.csv"), "a/b/");
        assert_eq!(fixed_part("*.csv"), "");
        assert_eq!(fixed_part("/var/log/**"), "/var/log/");
        assert!(is_plain("a/b.csv") && !is_plain("a/?.csv") && !is_plain(r"a\*"));
    }
}
