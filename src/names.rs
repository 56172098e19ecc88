//! File names for many logical names in one folder. Pure: looks at no disk. INPUT_DIR of a `gather` step
//! and `export` both use it, so that they give the same names.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::object::ObjectHash;

/// The file name of an input without a name.
pub(crate) const NAMELESS: &[u8] = b"input";

/// The file in which `export` notes what it wrote into a folder. Names that begin like it are never those of outputs there.
pub(crate) const EXPORT_RECORD: &str = ".task-pipeline-export";

/// Longest component of a path on Linux file systems, in bytes.
const LONGEST: usize = 255;

/// A path below the folder for each name, in the same order. No two are the same, none leads out of the
/// folder, and none is a file where another needs a folder.
///
/// The first of each name keeps it; the n-th of `name.txt` becomes `name~n.txt`, so that `*.txt` finds all of them. If that
/// one is taken, by a real `name~2.txt` or by a folder (`a` beside `a/b`), the next free number is used. Depends on the
/// list alone, so the same list always gives the same paths.
pub(crate) fn distinct<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let names: Vec<Cow<'_, [u8]>> = names.into_iter().map(below).collect();
    let folders: HashSet<&[u8]> = names.iter().flat_map(|name| folders(name)).collect();
    let mut taken: HashSet<Cow<'_, [u8]>> = HashSet::with_capacity(names.len());
    // Names as they are go first, wherever in the list: an output called `a~2` keeps its name although a
    // second `a` comes before it.
    let keeps: Vec<bool> = names
        .iter()
        .map(|name| !folders.contains(&**name) && taken.insert(Cow::Borrowed(&**name)))
        .collect();
    let mut numbers: HashMap<&[u8], usize> = HashMap::new();
    let mut paths = Vec::with_capacity(names.len());
    for (name, keeps) in names.iter().zip(keeps) {
        let mut path = name.clone().into_owned();
        if !keeps {
            let number = numbers.entry(name).or_insert(1);
            loop {
                *number += 1;
                path = numbered(name, *number);
                if !folders.contains(path.as_slice()) && taken.insert(Cow::Owned(path.clone())) {
                    break;
                }
            }
        }
        paths.push(path);
    }
    paths
}

/// A name as a path that can't leave its folder: without empty components and `.`, with `__` for `..`,
/// long components cut; [`NAMELESS`] if nothing is left. Names of outputs come back as they are.
pub(crate) fn below(name: &[u8]) -> Cow<'_, [u8]> {
    let is_fine =
        |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && part.len() <= LONGEST;
    if name.split(|byte| *byte == b'/').all(is_fine) {
        return Cow::Borrowed(name);
    }
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        let part = match part {
            b"" | b"." => continue,
            b".." => b"__",
            part => &part[..part.len().min(LONGEST)],
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.is_empty() { Cow::Borrowed(NAMELESS) } else { Cow::Owned(path) }
}

/// Values joined by `/`, so that each component can be the name of a file or folder: an empty one becomes `%`, `.` and
/// `..` become `%2E` and `%2E%2E`, those that look like one of these get `%25` for each `%`, and of what is too long some
/// digits of a hash stand for the end. All others stay.
pub(crate) fn of_values(values: &[&str]) -> String {
    let component = |part: &str| match part {
        "" => "%".to_owned(),
        "." | ".." => part.replace('.', "%2E"),
        "%" | "%2E" | "%2E%2E" => part.replace('%', "%25"),
        part if part.starts_with("%25") => part.replace('%', "%25"),
        part => shortened(part, LONGEST),
    };
    let all = values.join("/");
    let path = all.split('/').map(component).collect::<Vec<_>>().join("/");
    if path.len() > LONGEST_OF_VALUES { shortened(&all.replace('/', "%"), LONGEST) } else { path }
}

/// Longest path of values, in bytes: the folders above it have to fit into the 4,096 of a path too.
const LONGEST_OF_VALUES: usize = 1024;

/// Bytes that are left of what is too long, so that a script can add an extension.
const CUT: usize = 200;

fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = (0..=CUT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}~{}", &text[..end], &ObjectHash::of(text.as_bytes()).hex()[..16])
}

/// The folder part of a path (empty if it has none), and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The name of a file that a row names in this column: two of one file name have two names.
pub(crate) fn in_column(column: &str, path: &[u8]) -> Vec<u8> {
    [column.as_bytes(), b"/", split(path).1].concat()
}

/// Every folder above a path: `a` and `a/b` for `a/b/c`.
pub(crate) fn folders(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| &path[..slash])
}

/// `name~n.txt` for `name.txt`, cut before the number where the last component would become too long.
fn numbered(name: &[u8], number: usize) -> Vec<u8> {
    let suffix = format!("~{number}");
    let base = split(name).1;
    let excess = (base.len() + suffix.len()).saturating_sub(LONGEST);
    // What takes up nearly all of the name is no extension.
    let extension = match extension(base) {
        found if found.len() + excess < base.len() => found,
        _ => b"",
    };
    let stem = name.len() - extension.len();
    let mut path = name[..stem - excess.min(base.len())].to_vec();
    path.extend_from_slice(suffix.as_bytes());
    path.extend_from_slice(extension);
    path
}

/// The end of a file name that says what is in it, with its dots: `.jpg`, or `.fastq.gz` of `reads.1.fastq.gz`. It has letters
/// and digits only. All of it but the last word begins with a letter: `2.5.txt` ends in `.txt`.
fn extension(base: &[u8]) -> &[u8] {
    let mut start = base.len();
    while let Some(dot) = base[..start].iter().rposition(|byte| *byte == b'.') {
        let word = &base[dot + 1..start];
        let begins_well = start == base.len() || word.first().is_some_and(u8::is_ascii_alphabetic);
        if dot == 0
            || word.is_empty()
            || !begins_well
            || !word.iter().all(u8::is_ascii_alphanumeric)
        {
            break;
        }
        start = dot;
    }
    &base[start..]
}

/// INPUT_NAME of each of some files, in the same order: the base name. Those that share one with a file in another folder
/// have their path below the folder in which all of that base name lie: `a/x` and `b/x`.
pub(crate) fn of_files(paths: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = paths.iter().map(|path| split(path).1.to_vec()).collect();
    let mut by_name: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(paths.len());
    for (n, path) in paths.iter().enumerate() {
        by_name.entry(split(path).1).or_default().push(n);
    }
    for same in by_name.values().filter(|same| same.len() > 1) {
        let parts: Vec<Vec<&[u8]>> = same.iter().map(|&n| resolved(paths[n])).collect();
        // The base name itself is no folder.
        let is_common =
            |at: usize| parts.iter().all(|path| at + 1 < path.len() && path[at] == parts[0][at]);
        let common = (0..).take_while(|&at| is_common(at)).count();
        for (&n, path) in same.iter().zip(&parts) {
            names[n] = path[common..].join(&b'/');
        }
    }
    names
}

/// The components of a path, each `..` taken together with the one before it: what is left of a name can't lead out of a
/// folder.
fn resolved(path: &[u8]) -> Vec<&[u8]> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<String> {
        distinct(names.iter().map(|name| name.as_bytes()))
            .into_iter()
            .map(|path| String::from_utf8(path).unwrap())
            .collect()
    }

    #[test]
    fn any_values_make_a_path_of_folders_below_another_one() {
        assert_eq!(of_values(&["A", "x y/\u{e9}"]), "A/x y/\u{e9}");
        assert_eq!(of_values(&[""]), "%");
        // No two values have one name.
        assert_eq!(of_values(&["%", "%2E", "%2E%2E", "%25"]), "%25/%252E/%252E%252E/%2525");
        assert_eq!(of_values(&["/..", "a//.b", "."]), "%/%2E%2E/a/%/.b/%2E");
        let (long, other) = ("\u{e9}".repeat(300), "\u{e9}".repeat(301));
        let (a, b) = (of_values(&[&long]), of_values(&[&other]));
        assert!(a.len() <= LONGEST && a.starts_with("\u{e9}\u{e9}") && a != b, "{a} {b}");
        let deep = "a/".repeat(2000);
        assert!(of_values(&[&deep]).len() <= LONGEST);
    }

    #[test]
    fn the_nth_of_one_name_gets_its_number() {
        assert_eq!(paths(&["a", "b/c", "b/c", "b/c", "d"]), ["a", "b/c", "b/c~2", "b/c~3", "d"]);
    }

    #[test]
    fn the_number_stands_before_the_extension() {
        let second = |name: &str| paths(&[name, name]).remove(1);
        assert_eq!(second("d.d/thumb.jpg"), "d.d/thumb~2.jpg");
        assert_eq!(second("reads.1.fastq.gz"), "reads.1~2.fastq.gz");
        assert_eq!(second("part.001"), "part~2.001");
        for whole in ["none", ".hidden", "d.d/none", "...", "ends.", "Dr. No", "a.b~c"] {
            assert_eq!(second(whole), format!("{whole}~2"), "{whole}");
        }
        assert_eq!(paths(&["a.txt", "a.txt", "a~2.txt"]), ["a.txt", "a~3.txt", "a~2.txt"]);
        let long = format!("{}.txt", "x".repeat(251));
        assert_eq!(second(&long), format!("{}~2.txt", "x".repeat(249)));
        let all = format!("x.{}", "y".repeat(253));
        assert_eq!(second(&all), format!("x.{}~2", "y".repeat(251)));
    }

    #[test]
    fn files_of_one_base_name_keep_the_folders_that_tell_them_apart() {
        let names = |paths: &[&str]| {
            let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
            let names = of_files(&paths).into_iter();
            names.map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["/d/a/x", "/d/b/x", "/e/y"]), ["a/x", "b/x", "y"]);
        assert_eq!(names(&["/d/x", "/d/b/x"]), ["x", "b/x"]);
        assert_eq!(names(&["/d/x", "/d/x"]), ["x", "x"]);
        assert_eq!(names(&["/d/b/../x", "/d/b/x", "/x"]), ["d/x", "d/b/x", "x"]);
        assert_eq!(names(&["/../x", "/a/x"]), ["x", "a/x"]);
    }

    #[test]
    fn a_real_name_is_never_taken_away() {
        assert_eq!(paths(&["a", "a", "a~2"]), ["a", "a~3", "a~2"]);
        assert_eq!(paths(&["a", "a", "a", "a~2", "a~2"]), ["a", "a~3", "a~4", "a~2", "a~2~2"]);
    }

    #[test]
    fn a_file_gives_way_to_a_folder() {
        assert_eq!(paths(&["a", "a/b"]), ["a~2", "a/b"]);
        assert_eq!(paths(&["a", "a", "a/b", "a~2/x"]), ["a~3", "a~4", "a/b", "a~2/x"]);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        assert_eq!(
            paths(&["../x", "/etc/passwd", "a//b", "./c", "", "..", "/"]),
            ["__/x", "etc/passwd", "a/b", "c", "input", "__~2", "input~2"]
        );
    }

    #[test]
    fn long_components_stay_within_what_a_file_system_takes() {
        let long = "x".repeat(255);
        let found = paths(&[&long, &long]);
        assert_eq!(found[0], long);
        assert_eq!(found[1], format!("{}~2", "x".repeat(253)));
        assert_eq!(paths(&[&"y".repeat(300)])[0].len(), 255);
    }

    #[test]
    fn names_from_a_walk_come_back_as_they_are() {
        for name in [&b"a/b.txt"[..], b"\xff\n", b"...", b"-x"] {
            assert_eq!(&*below(name), name);
        }
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
    }
}
