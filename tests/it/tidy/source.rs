//! The source as the rules of the house look at it: each file's tokens, without comments and without
//! what only tests see, and what can be told from them without a compiler. Reads the crate's own style,
//! not all of Rust: items stand at the left edge of a file, not in inline modules or macros.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// A string literal, without its quotes.
    Text(String),
    /// `::`
    Path,
    Sign(char),
}

impl Token {
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(known) if known == word)
    }

    fn is_sign(&self, sign: char) -> bool {
        *self == Token::Sign(sign)
    }
}

/// One source file below `src`.
pub(super) struct File {
    /// Relative to the project.
    pub(super) name: String,
    /// `["db", "flow"]` of `src/db/flow.rs`, `["db"]` of `src/db/mod.rs`.
    pub(super) module: Vec<String>,
    /// Each with its line.
    pub(super) tokens: Vec<(usize, Token)>,
}

/// A path that begins with `crate`, `super` or a child module.
pub(super) struct Use {
    pub(super) line: usize,
    /// From the root of the crate.
    pub(super) path: Vec<String>,
    /// The name it gets in this file, if this is a `use`; `*` for a glob.
    name: Option<String>,
    pub(super) is_public: bool,
}

impl Use {
    pub(super) fn is_glob(&self) -> bool {
        self.path.last().is_some_and(|last| last == "*")
    }
}

/// A `struct`, `enum`, `union`, `trait` or `type`.
pub(super) struct Type {
    pub(super) name: String,
    pub(super) is_public: bool,
    pub(super) is_alias: bool,
}

/// A block of `impl`.
pub(super) struct Impl {
    pub(super) line: usize,
    pub(super) of_trait: Option<String>,
    pub(super) for_type: String,
}

/// Every Rust file below a folder of the project.
pub(super) fn rust_files(below: &str) -> Vec<PathBuf> {
    // A folder that isn't there yet has no files.
    let files = walkdir::WalkDir::new(Path::new(ROOT).join(below)).sort_by_file_name();
    let files = files.into_iter().flatten().map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|ext| ext == "rs")).collect()
}

pub(super) fn short(path: &Path) -> String {
    path.strip_prefix(ROOT).unwrap().display().to_string()
}

/// All of `src` but the tests.
pub(super) fn read() -> Vec<File> {
    let mut files = Vec::new();
    for path in rust_files("src") {
        let name = short(&path);
        let stem = name.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
        let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
        if module.iter().any(|part| part == "tests") {
            continue;
        }
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        let tokens = without_tests(tokens(&fs::read_to_string(&path).unwrap()));
        files.push(File { name, module, tokens });
    }
    assert!(files.len() > 50, "only {} files", files.len());
    files
}

fn tokens(text: &str) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (length, token) = token(rest, first);
        tokens.extend(token.map(|token| (line, token)));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// How long the next token is, and which; `None` for what no rule asks about.
fn token(text: &str, first: char) -> (usize, Option<Token>) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let after = &text[first.len_utf8()..];
    match first {
        '/' if after.starts_with('/') => (text.find('\n').unwrap_or(text.len()), None),
        '/' if after.starts_with('*') => (text.find("*/").unwrap() + 2, None),
        '"' => {
            let end = end_of_quote(text, '"');
            (end + 1, Some(Token::Text(text[1..end].to_owned())))
        }
        'r' if after.trim_start_matches('#').starts_with('"') => {
            let hashes = after.len() - after.trim_start_matches('#').len();
            let inside = &after[hashes + 1..];
            let end = inside.find(&format!("\"{}", "#".repeat(hashes))).unwrap();
            (2 * hashes + end + 3, Some(Token::Text(inside[..end].to_owned())))
        }
        // Else it is a lifetime.
        '\'' if after.starts_with('\\') || after.chars().nth(1) == Some('\'') => {
            (end_of_quote(text, '\'') + 1, None)
        }
        '\'' => (1 + after.find(|c| !is_word(c)).unwrap_or(after.len()), None),
        ':' if after.starts_with(':') => (2, Some(Token::Path)),
        // The head of an arrow closes no bracket.
        '-' | '=' if after.starts_with('>') => (2, None),
        _ if is_word(first) => {
            let word = &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())];
            // `b"…"` is a text with a prefix.
            let is_prefix = text[word.len()..].starts_with('"');
            (word.len(), (!is_prefix).then(|| Token::Word(word.to_owned())))
        }
        _ => (first.len_utf8(), (!first.is_whitespace()).then_some(Token::Sign(first))),
    }
}

/// Offset of the quote that ends a literal which begins with one.
fn end_of_quote(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// Drops every item behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<(usize, Token)>) -> Vec<(usize, Token)> {
    let signs = |n: usize| tokens.get(n).map(|(_, token)| token);
    let mut kept = Vec::with_capacity(tokens.len());
    let mut n = 0;
    while n < tokens.len() {
        let is_test = signs(n).is_some_and(|token| token.is_sign('#'))
            && signs(n + 2).is_some_and(|token| token.is("cfg"))
            && signs(n + 4).is_some_and(|token| token.is("test"));
        if !is_test {
            kept.push(tokens[n].clone());
            n += 1;
            continue;
        }
        n += 7;
        let mut depth = 0;
        while let Some(token) = signs(n) {
            n += 1;
            match token {
                Token::Sign('{' | '[' | '(') => depth += 1,
                Token::Sign(']' | ')') => depth -= 1,
                Token::Sign('}') => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                Token::Sign(';') if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

impl File {
    /// Where a token stands.
    pub(super) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }

    /// The first module below the root: `db` of `src/db/flow.rs`.
    pub(super) fn top(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    fn token(&self, n: usize) -> Option<&Token> {
        self.tokens.get(n).map(|(_, token)| token)
    }

    /// Tokens outside of all brackets, by number.
    fn outside(&self) -> Vec<usize> {
        let mut depth = 0;
        let mut outside = Vec::new();
        for (n, (_, token)) in self.tokens.iter().enumerate() {
            match token {
                Token::Sign('{' | '(' | '[') => depth += 1,
                Token::Sign('}' | ')' | ']') => depth -= 1,
                _ if depth == 0 => outside.push(n),
                _ => {}
            }
        }
        outside
    }

    /// The types and traits defined here.
    pub(super) fn types(&self) -> Vec<Type> {
        let mut types = Vec::new();
        for n in self.outside() {
            let (Some(Token::Word(keyword)), Some(Token::Word(name))) =
                (self.token(n), self.token(n + 1))
            else {
                continue;
            };
            if ["struct", "enum", "union", "trait", "type"].contains(&keyword.as_str()) {
                let is_public = n > 0 && self.is_public(n - 1);
                types.push(Type { name: name.clone(), is_public, is_alias: keyword == "type" });
            }
        }
        types
    }

    /// True if this is the end of `pub` or `pub(…)`, which stands before an item.
    fn is_public(&self, n: usize) -> bool {
        self.token(n).is_some_and(|token| token.is("pub") || token.is_sign(')'))
    }

    /// The blocks of `impl`.
    pub(super) fn impls(&self) -> Vec<Impl> {
        let mut impls = Vec::new();
        for n in self.outside() {
            if !self.token(n).is_some_and(|token| token.is("impl")) {
                continue;
            }
            // Path heads of the header outside of `<…>`: trait and type, or the type alone.
            let (mut depth, mut heads, mut is_path) = (0, vec![String::new()], false);
            for n in n + 1.. {
                match self.token(n) {
                    Some(Token::Sign('<')) => depth += 1,
                    Some(Token::Sign('>')) => depth -= 1,
                    Some(Token::Word(word)) if depth == 0 => match word.as_str() {
                        "for" => heads.push(String::new()),
                        "where" => break,
                        "dyn" | "mut" | "const" => {}
                        name => {
                            let head = heads.last_mut().unwrap();
                            if is_path || head.is_empty() {
                                *head = name.to_owned();
                            }
                        }
                    },
                    Some(Token::Sign('{')) | None => break,
                    Some(_) => {}
                }
                is_path = self.token(n) == Some(&Token::Path);
            }
            let for_type = heads.pop().unwrap();
            impls.push(Impl { line: self.tokens[n].0, of_trait: heads.pop(), for_type });
        }
        impls
    }

    /// Everything of this crate that the file names by a path.
    pub(super) fn uses(&self, modules: &BTreeSet<Vec<String>>) -> Vec<Use> {
        let mut uses = Vec::new();
        let mut n = 0;
        while let Some(token) = self.token(n) {
            let is_use = token.is("use");
            let begins = is_use || token.is("crate") || token.is("super");
            let is_inside = n > 0 && self.token(n - 1) == Some(&Token::Path);
            if !begins || is_inside || (!is_use && self.token(n + 1) != Some(&Token::Path)) {
                n += 1;
                continue;
            }
            let is_public = is_use && n > 0 && self.is_public(n - 1);
            let line = self.tokens[n].0;
            let mut paths = Vec::new();
            n = self.tree(n + usize::from(is_use), &[], &mut paths);
            for (path, alias) in paths {
                let name = alias.or_else(|| path.last().cloned()).filter(|_| is_use);
                if let Some(path) = self.absolute(&path, modules) {
                    uses.push(Use { line, path, name, is_public });
                }
            }
        }
        uses
    }

    /// Reads a path with its groups from token `n`, and says where it ends.
    fn tree(
        &self,
        mut n: usize,
        before: &[String],
        paths: &mut Vec<(Vec<String>, Option<String>)>,
    ) -> usize {
        let mut path = before.to_vec();
        loop {
            match self.token(n) {
                Some(Token::Word(word)) if word == "as" => {
                    let Some(Token::Word(alias)) = self.token(n + 1) else { return n + 1 };
                    paths.push((path, Some(alias.clone())));
                    return n + 2;
                }
                Some(Token::Word(word)) => path.push(word.clone()),
                Some(Token::Sign('*')) => path.push("*".to_owned()),
                Some(Token::Sign('{')) => {
                    while !self.token(n).is_none_or(|token| token.is_sign('}')) {
                        n = self.tree(n + 1, &path, paths);
                    }
                    return n + 1;
                }
                // `f::<T>`, or the end of a group.
                _ if path.len() == before.len() => return n,
                _ => {
                    paths.push((path, None));
                    return n;
                }
            }
            n += 1;
            if self.token(n) == Some(&Token::Path) {
                n += 1;
            } else if !self.token(n).is_some_and(|token| token.is("as")) {
                // `a::{self}` is `a`.
                if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                paths.push((path, None));
                return n;
            }
        }
    }

    /// `None` if it leads out of the crate.
    fn absolute(&self, path: &[String], modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
        let mut from = match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" | "super" => self.module.clone(),
            child => {
                let mut below = self.module.clone();
                below.push(child.to_owned());
                modules.contains(&below).then_some(self.module.clone())?
            }
        };
        for part in path {
            match part.as_str() {
                "self" => {}
                "super" => drop(from.pop()),
                part => from.push(part.to_owned()),
            }
        }
        Some(from)
    }
}

/// Which module each used name is defined in.
pub(super) struct Names {
    pub(super) modules: BTreeSet<Vec<String>>,
    /// By module: the names that it takes from elsewhere, and from where.
    taken: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
}

impl Names {
    pub(super) fn of(files: &[File]) -> Names {
        let modules: BTreeSet<_> = files.iter().map(|file| file.module.clone()).collect();
        let mut taken = BTreeMap::new();
        for file in files {
            let uses = file.uses(&modules);
            let names = uses.into_iter().filter_map(|one| Some((one.name?, one.path)));
            taken.insert(file.module.clone(), names.collect());
        }
        Names { modules, taken }
    }

    /// The module in which the thing is that a path names, through any `pub use` on the way.
    pub(super) fn home(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        // A name can't be passed on more often than that.
        for _ in 0..self.modules.len() {
            let depth = (0..=path.len()).rev().find(|n| self.modules.contains(&path[..*n]));
            let depth = depth.expect("the root is a module");
            let passed_on = path.get(depth).and_then(|name| self.taken[&path[..depth]].get(name));
            match passed_on {
                Some(from) if *from != path => {
                    let rest = path.split_off(depth + 1);
                    path = from.iter().cloned().chain(rest).collect();
                }
                _ => return path[..depth].to_vec(),
            }
        }
        panic!("{path:?} leads nowhere");
    }
}

#[test]
fn a_file_is_read_as_the_rules_need_it() {
    const TEXT: &str = r##"
//! crate::not_this
use crate::db::{self, flow::Flow as Wiring, types::*};
pub(crate) use child::Thing;
#[cfg(test)]
mod tests { use crate::nor_this; }
pub struct One<'a, T: Into<String>>(&'a T, char); // struct Comment
enum Two { A = '"' as isize }
impl<'a, T: Fn(&str) -> Vec<T>> fmt::Display for super::One<'a, T> where T: Copy {
    fn fmt(&self) { r#"impl X "for" Y "#; struct Inner; crate::text::size::<u8>(b"\"crate::no") }
}
impl Two {}
type Three = One;
"##;
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let tokens = without_tests(tokens(TEXT));
    let file = File { name: "src/a/b/mod.rs".to_owned(), module: module("a::b"), tokens };
    let uses = file.uses(&BTreeSet::from([module("a::b::child")]));
    let paths: Vec<(String, bool)> =
        uses.iter().map(|one| (one.path.join("::"), one.is_public)).collect();
    let path = |path: &str, is_public| (path.to_owned(), is_public);
    assert_eq!(
        paths,
        [
            path("db", false),
            path("db::flow::Flow", false),
            path("db::types::*", false),
            path("a::b::child::Thing", true),
            path("a::One", false),
            path("text::size", false),
        ]
    );
    let types: Vec<(String, bool, bool)> =
        file.types().into_iter().map(|one| (one.name, one.is_public, one.is_alias)).collect();
    let known = |name: &str, is_public, is_alias| (name.to_owned(), is_public, is_alias);
    let wanted =
        [known("One", true, false), known("Two", false, false), known("Three", false, true)];
    assert_eq!(types, wanted);
    let impls: Vec<(usize, Option<String>, String)> =
        file.impls().into_iter().map(|one| (one.line, one.of_trait, one.for_type)).collect();
    let of = |line, of_trait: Option<&str>, name: &str| {
        (line, of_trait.map(str::to_owned), name.to_owned())
    };
    assert_eq!(impls, [of(9, Some("Display"), "One"), of(12, None, "Two")]);
}
