//! Which variables a script uses, as far as its text tells. Unaware of what they are.

use std::collections::HashSet;
use std::ops::Range;

use super::task::Draft;

/// Each variable, of those that are `meant`, that the script of a task expands as a shell does, and where: the first time.
/// None if it is no shell's script, or gives the variable a value itself.
pub(super) fn expanded<'d>(
    source: &str,
    draft: &'d Draft,
    is_meant: impl Fn(&str) -> bool,
) -> Vec<(&'d str, Range<usize>)> {
    let script = &draft.task.script;
    if !is_shell(&draft.task.interpreter()) {
        return Vec::new();
    }
    let is_meant = |name: &str| is_meant(name) && !is_assigned(script, name);
    placed(source, draft, &|text| Box::new(mentions(text)), &is_meant)
}

/// The same, of variables that the script reads from its environment in the way of another language, such as
/// `os.environ["NAME"]`.
pub(super) fn read<'d>(
    source: &str,
    draft: &'d Draft,
    is_meant: impl Fn(&str) -> bool,
) -> Vec<(&'d str, Range<usize>)> {
    placed(source, draft, &|text| Box::new(reads(text)), &is_meant)
}

/// Names in a text, and where they are.
type Found<'a> = Box<dyn Iterator<Item = (usize, &'a str)> + 'a>;

/// The first place of each name that `find` finds in the script, in the file.
fn placed<'d>(
    source: &str,
    draft: &'d Draft,
    find: &dyn for<'a> Fn(&'a str) -> Found<'a>,
    is_meant: &dyn Fn(&str) -> bool,
) -> Vec<(&'d str, Range<usize>)> {
    let Some(place) = &draft.script_place else { return Vec::new() };
    let script = &draft.task.script;
    let mut told: HashSet<&str> = HashSet::new();
    let mut names = Vec::new();
    for (n, (at, name)) in find(script).enumerate() {
        if !is_meant(name) || is_in_comment(script, at) || !told.insert(name) {
            continue;
        }
        // As it is written there are escapes and quotes around it, but as many variables.
        let written = source.get(place.clone()).unwrap_or_default();
        let place = match find(written).nth(n) {
            Some((at, same)) if same == name => {
                let start = place.start + at;
                let before = written[at..].find(name).unwrap_or_default();
                start..start + before + name.len()
            }
            _ => place.clone(),
        };
        names.push((name, place));
    }
    names
}

/// What comes before the name of a variable where programs read their environment.
const READS: [&str; 8] = [
    "environ[",
    "environ.get(",
    "environb[",
    "getenv(",
    "ENV[",
    "ENV.fetch(",
    "$ENV{",
    "process.env.",
];

/// Every name that a text reads from the environment, and where what names it begins.
fn reads(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut places: Vec<(usize, &str)> = READS
        .iter()
        .flat_map(|before| text.match_indices(before))
        .map(|(at, before)| {
            let rest = &text[at + before.len()..];
            // A quote is escaped within a string of TOML.
            let rest = rest.trim_start_matches([' ', 'b', '\\']).trim_start_matches(['"', '\'']);
            (at, &rest[..rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len())])
        })
        .collect();
    places.sort_unstable();
    places.into_iter().filter(|(_, name)| !name.is_empty())
}

/// True if a program expands `$name` as a shell does; in Perl or awk that is something else.
fn is_shell(interpreter: &[String]) -> bool {
    const SHELLS: [&str; 14] = [
        "sh", "bash", "dash", "ash", "busybox", "ksh", "ksh93", "mksh", "zsh", "yash", "posh",
        "fish", "csh", "tcsh",
    ];
    let words = interpreter.iter().flat_map(|word| word.split_ascii_whitespace());
    let mut names = words.map(|word| word.rsplit('/').next().unwrap_or(word));
    let is_option = |word: &&str| word.starts_with('-') || word.contains('=');
    match names.next() {
        Some("env") => {
            names.find(|word| !is_option(word)).is_some_and(|name| SHELLS.contains(&name))
        }
        first => first.is_some_and(|name| SHELLS.contains(&name)),
    }
}

/// Every `$name` and `${name…}` of a text, and where its `$` is. What is in single quotes counts: it may be another
/// shell's script.
fn mentions(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(found) = text[at..].find(['$', '\\']) {
            let start = at + found;
            let rest = &text[start + 1..];
            if text[start..].starts_with('\\') || rest.starts_with('$') {
                // The next character stands for itself, or is the number of the shell.
                at = start + 1 + rest.chars().next().map_or(0, char::len_utf8);
                continue;
            }
            let braces = rest.strip_prefix('{');
            let rest = braces.map_or(rest, |inner| inner.strip_prefix(['#', '!']).unwrap_or(inner));
            let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
            at = text.len() - rest.len() + end;
            if end > 0 {
                return Some((start, &rest[..end]));
            }
        }
        None
    })
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// True if what is at an offset is probably in a comment: behind a `#` that begins a word and is not within quotes.
fn is_in_comment(script: &str, at: usize) -> bool {
    let line = &script[script[..at].rfind('\n').map_or(0, |end| end + 1)..at];
    line.match_indices('#').any(|(hash, _)| {
        let before = &line[..hash];
        let begins_word = before.is_empty() || before.ends_with([' ', '\t', ';']);
        begins_word && ['"', '\''].iter().all(|quote| before.matches(*quote).count() % 2 == 0)
    })
}

/// True if a script gives a variable a value itself, wherever that is: `seed=1`, `for seed in`, `read seed`.
fn is_assigned(script: &str, name: &str) -> bool {
    /// The words after them are names of variables.
    const BINDERS: [&str; 11] = [
        "for",
        "read",
        "select",
        "local",
        "declare",
        "typeset",
        "mapfile",
        "readarray",
        "getopts",
        "let",
        "set",
    ];
    /// May come before a command or an assignment.
    const PREFIXES: [&str; 15] = [
        "do", "then", "else", "elif", "if", "while", "until", "!", "time", "export", "readonly",
        "env", "command", "builtin", "nohup",
    ];
    script.match_indices(name).any(|(at, _)| {
        let (before, after) = (&script[..at], &script[at + name.len()..]);
        let command = before.rfind([';', '&', '|', '(', ')', '{', '}', '\n', '`']);
        let command = &before[command.map_or(0, |end| end + 1)..];
        let open = command.trim_end_matches(['"', '\'']);
        if !(open.is_empty() || open.ends_with([' ', '\t'])) || after.starts_with(is_of_name) {
            return false;
        }
        let mut words = open.split_ascii_whitespace();
        if words.clone().any(|word| BINDERS.contains(&word)) {
            return true;
        }
        let is_value = after.starts_with('=') || after.starts_with("+=");
        let is_option = words.clone().next_back() == Some("-v");
        let comes_first = words.all(|word| PREFIXES.contains(&word) || word.contains('='));
        is_option || is_value && comes_first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mention_is_what_a_shell_would_expand() {
        let names = |text| mentions(text).map(|(_, name)| name).collect::<Vec<_>>().join(" ");
        assert_eq!(
            names("echo $seed ${seed} \"${seed:-1}\" ${#seed} '$seed'"),
            "seed seed seed seed seed"
        );
        assert_eq!(names(r"\$seed $$seed $1 $( $seed_2 $seeds"), "1 seed_2 seeds");
        assert_eq!(names("$"), "");
        assert_eq!(names("${"), "");
        assert_eq!(names("ä$ä \\"), "");
    }

    #[test]
    fn a_variable_of_the_scripts_own_is_told_by_how_it_is_set() {
        for script in [
            "seed=1",
            "x=1 seed=2 cmd",
            "if seed=$(cmd); then",
            "for seed in 1 2; do",
            "read -r a seed",
            "local seed",
            "export seed=1",
            "(seed=1)",
            "printf -v seed x",
            "awk -v seed=1",
            "awk -v 'seed=1'",
            "cat | while read seed; do",
            "seed+=x",
            "while getopts s: seed; do",
            "((seed=1))",
        ] {
            assert!(is_assigned(script, "seed"), "{script}");
        }
        for script in [
            "cmd --seed=$seed",
            "cmd seed=$seed",
            "echo seed",
            "seeds=1",
            "my_seed=1",
            "cmd -seed 1",
            "for x in $seed; do echo seed=1",
            "./seed=1",
            "echo $seed",
        ] {
            assert!(!is_assigned(script, "seed"), "{script}");
        }
    }

    #[test]
    fn what_is_read_from_the_environment_is_told_by_the_ways_of_other_languages() {
        let names = |text| reads(text).map(|(_, name)| name).collect::<Vec<_>>().join(" ");
        assert_eq!(
            names("os.environ['A'] os.environ.get(\"B\") os.getenv('C', 1) os.environb[b'D']"),
            "A B C D"
        );
        assert_eq!(
            names("ENV['A'] ENV.fetch('B') $ENV{C} process.env.D std::getenv(\"E\")"),
            "A B C D E"
        );
        assert_eq!(names(r#"os.environ[\"A\"]"#), "A");
        assert_eq!(names("os.environ[name] step['A'] environ[]"), "name");
    }

    #[test]
    fn only_shells_expand_a_dollar_as_a_shell_does() {
        let is = |line: &str| is_shell(&line.split('|').map(str::to_owned).collect::<Vec<_>>());
        assert!(
            is("sh|-e")
                && is("/bin/bash")
                && is("/usr/bin/env|bash")
                && is("/usr/bin/env|-S bash -eu")
        );
        assert!(!is("perl") && !is("/usr/bin/env|python3") && !is("awk|-f") && !is("tclsh"));
    }

    #[test]
    fn a_comment_mentions_nothing() {
        let is = |script: &str| is_in_comment(script, script.find('$').unwrap_or_default());
        assert!(is("# $seed") && is("echo  # $seed") && is("a\n\t# b $seed\n"));
        assert!(!is("echo \"# $seed\"") && !is("echo a#$seed") && !is("# a\necho $seed"));
    }
}
