//! Reads what compilers leave beside their output to say what they have read: rules of make (`cc -MMD -MF`). Unaware of
//! files: the names are those that are written.

use std::collections::HashSet;

/// What the rules in a depfile name as prerequisites, each once, in the order in which they are first named.
///
/// As in make, a line that ends in `\` goes on, `\ `, `\#` and `\:` are the character itself, `$$` is `$`, `#` begins a
/// comment, and lines that begin with a tab are commands. What stands behind a `|` is not read. Targets end with the
/// first colon that a blank or the end of the line follows, or, if there is none, with the first colon.
///
/// # Errors
/// A phrase with the line if this is no rule of make's, or one that only make could work out.
pub(crate) fn prerequisites(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for (number, line) in logical_lines(text) {
        if line.contains(&0) {
            return Err(format!("line {number} has a NUL in it"));
        }
        let words = match line.first() {
            None | Some(b'\t') => continue,
            Some(_) => words(&line).map_err(|why| format!("line {number} {why}"))?,
        };
        if words.is_empty() {
            continue;
        }
        let Some(words) = behind_targets(words) else {
            return Err(format!("line {number} has no `:` behind a target"));
        };
        for word in words {
            if word == b"|" {
                break;
            }
            if seen.insert(word.clone()) {
                found.push(word);
            }
        }
    }
    Ok(found)
}

/// Each line with those that it goes on in, and its number from 1.
fn logical_lines(text: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut goes_on = false;
    for (n, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let backslashes = line.iter().rev().take_while(|byte| **byte == b'\\').count();
        let is_continued = backslashes % 2 == 1;
        let line = if is_continued { &line[..line.len() - 1] } else { line };
        match lines.last_mut() {
            Some((_, last)) if goes_on => {
                last.push(b' ');
                last.extend_from_slice(line);
            }
            _ => lines.push((n + 1, line.to_vec())),
        }
        goes_on = is_continued;
    }
    lines
}

/// A word of a line, and where in it there is an unescaped colon.
struct Word {
    text: Vec<u8>,
    colons: Vec<usize>,
}

fn words(line: &[u8]) -> Result<Vec<Word>, &'static str> {
    let mut words: Vec<Word> = Vec::new();
    let mut word: Option<Word> = None;
    let mut rest = line;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let started = || Word { text: Vec::new(), colons: Vec::new() };
        match first {
            b' ' | b'\t' => words.extend(word.take()),
            b'#' => break,
            b'\\' => {
                let more = rest.iter().take_while(|byte| **byte == b'\\').count();
                let next = rest.get(more).copied();
                let word = word.get_or_insert_with(started);
                rest = &rest[more..];
                match next {
                    // Only before these a backslash is more than itself.
                    Some(next @ (b' ' | b'\t' | b'#' | b':')) => {
                        word.text.extend(std::iter::repeat_n(b'\\', more.div_ceil(2)));
                        if more % 2 == 0 {
                            word.text.push(next);
                            rest = &rest[1..];
                        }
                    }
                    _ => word.text.extend(std::iter::repeat_n(b'\\', more + 1)),
                }
            }
            b'$' => {
                if let Some(b'(' | b'{') = rest.first() {
                    return Err("has a variable of make's, whose value nobody knows");
                }
                rest = rest.strip_prefix(b"$").unwrap_or(rest);
                word.get_or_insert_with(started).text.push(b'$');
            }
            byte => {
                let word = word.get_or_insert_with(started);
                if byte == b':' {
                    word.colons.push(word.text.len());
                }
                word.text.push(byte);
            }
        }
    }
    words.extend(word);
    Ok(words)
}

/// The words behind the targets; `None`: there is no colon.
fn behind_targets(words: Vec<Word>) -> Option<Vec<Vec<u8>>> {
    let ends = |word: &Word| word.colons.last().is_some_and(|at| at + 1 == word.text.len());
    let (last, at) = match words.iter().position(ends) {
        Some(word) => (word, words[word].text.len() - 1),
        None => {
            let word = words.iter().position(|word| !word.colons.is_empty())?;
            (word, words[word].colons[0])
        }
    };
    let mut behind = words.into_iter().skip(last).map(|word| word.text);
    let glued = behind.next().map(|word| word[at + 1..].to_vec());
    Some(glued.filter(|word| !word.is_empty()).into_iter().chain(behind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let found = prerequisites(text.as_bytes()).unwrap();
        found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn a_rule_names_what_stands_behind_its_targets() {
        assert_eq!(read("x.o: x.c x.h\n"), ["x.c", "x.h"]);
        assert_eq!(read("x.o y.o : x.c"), ["x.c"]);
        assert_eq!(read("x.o: x.c \\\n  a.h \\\r\n b.h\n"), ["x.c", "a.h", "b.h"]);
        assert_eq!(read(""), [""; 0]);
        assert_eq!(read("x.o:\n"), [""; 0]);
        assert_eq!(read("x.o:x.c y.h\n"), ["x.c", "y.h"]);
        assert_eq!(read("x.o:: x.c | later.h\n"), ["x.c"]);
    }

    #[test]
    fn several_rules_are_one_list_and_phony_targets_add_nothing() {
        assert_eq!(read("x.o: x.c a.h\n\na.h:\nb.h:\ny.o: a.h b.h\n"), ["x.c", "a.h", "b.h"]);
        assert_eq!(read("# made by rustc\nx: a.rs # this too\n# env-dep:A=b\n"), ["a.rs"]);
        assert_eq!(read("x: a\n\tcc -c a: b\n"), ["a"]);
    }

    #[test]
    fn characters_that_mean_something_to_make_can_be_in_names() {
        assert_eq!(
            read(r"x\ y.o: my\ file.h a\#b.h c$$d.h e\:f.h g:h.h"),
            ["my file.h", "a#b.h", "c$d.h", "e:f.h", "g:h.h"]
        );
        // Before a blank, two backslashes are one; elsewhere they are two.
        assert_eq!(read(r"x: a\\\ b c\\ d\e\\f"), [r"a\ b", r"c\", r"d\e\\f"]);
        assert_eq!(read("/a:b/x.o: c"), ["c"]);
        assert_eq!(prerequisites(b"x: \xff.h").unwrap(), [b"\xff.h"]);
    }

    #[test]
    fn what_is_no_rule_is_told_with_its_line() {
        let why = |text: &str| prerequisites(text.as_bytes()).unwrap_err();
        assert_eq!(why("x: y\nsrc/a.h src/b.h\n"), "line 2 has no `:` behind a target");
        assert_eq!(
            why("x: \\\n $(HEADERS)"),
            "line 1 has a variable of make's, whose value nobody knows"
        );
        assert_eq!(why("x: a\0b"), "line 1 has a NUL in it");
    }
}
