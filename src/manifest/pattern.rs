//! The globs of `inputs` and `match`, with one meaning everywhere: as in a shell, `*` and `?` stop at
//! a `/`, `**` doesn't, and `\` takes away a character's meaning. Unaware of what is matched.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Longest pattern taken: no path is longer, and the glob parser recurses on nested braces.
const LONGEST: usize = 4096;

/// A matcher for paths or names that match any of the patterns.
///
/// # Errors
/// A sentence for the first pattern that is no glob. The patterns of a [`super::Task`] were all
/// checked when the manifest was read.
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
    // Not `Glob::compile_matcher`, which panics where a glob makes too large a regex.
    set.build().map_err(|_| "it is too complex".to_owned())
}

/// True if a pattern names one path, letter by letter.
pub fn is_plain(pattern: &str) -> bool {
    !pattern.contains(is_special)
}

/// The folders before the first component with a wildcard, with their `/`: `data/` of `data/*/x.csv`,
/// `a/b/` of `a/b/c.csv`, nothing of `*.csv`. What follows it is a file's logical name.
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
