//! The house is in order: who may know whom, which doors there are, and what no file may contain. There
//! is no limit on a file's length: it made types live in several files.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use source::{File, Names, ROOT, Token, Type, rust_files, short};

/// The modules of the crate from the ground up: one may know those above it in this list, unless
/// [`STRANGERS`] says otherwise. So there are no cycles among them.
#[rustfmt::skip]
const ORDER: &[&str] = &[
    "object",
    "ids",
    "names",
    "duration",
    "size",
    "suggest",
    "order",
    "text",
    "hint",
    "labels",
    "origin",
    "export_path",
    "depfile",
    "sys",
    "elsewhere",
    "attempt",
    "stop",
    "jobserver",
    "diagnostic",
    "error",
    "folder",
    "proof",
    "tokens",
    "table",
    "manifest",
    "graph",
    "recipe",
    "store",
    "db",
    "explain",
    "dependencies",
    "step",
    "exec",
    "remote",
    "progress",
    "cli",
    "watch",
    "maintain",
    "run",
    "report",
    "commands",
];

/// Who must not know whom though it stands above.
const STRANGERS: &[(&str, &[&str])] = &[
    ("store", &["step", "db", "manifest", "graph", "recipe"]),
    ("step", &["db", "manifest", "graph", "recipe", "run"]),
    ("remote", &["db", "manifest", "graph", "recipe"]),
    ("db", &["step", "store", "manifest", "graph", "recipe", "run", "progress"]),
    ("maintain", &["manifest", "graph", "progress", "cli"]),
    ("watch", &["run", "cli", "progress", "db", "store", "step", "manifest"]),
    ("progress", &["run", "cli", "store", "step", "maintain", "manifest"]),
    ("report", &["step", "manifest", "graph", "recipe", "progress", "cli", "maintain"]),
    ("cli", &["run", "progress", "store", "step", "maintain"]),
];

/// Fails if anything breaks the rule: (what, why).
#[track_caller]
fn check(rule: &str, wrong: BTreeMap<String, String>) {
    let wrong: Vec<String> =
        wrong.iter().map(|(what, why)| format!("{rule}: {what}\n    {why}")).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let modules: BTreeSet<String> =
        source::read().iter().map(|file| file.top().to_owned()).collect();
    let listed = ORDER.iter().copied().chain(["lib", "main"]).map(str::to_owned).collect();
    assert_eq!(modules, listed);
}

/// (file, line, module of the file, module that defines what is named there)
fn dependencies(files: &[File]) -> Vec<(&File, usize, Vec<String>)> {
    let names = Names::of(files);
    let mut dependencies = Vec::new();
    for file in files {
        for one in file.uses(&names.modules) {
            dependencies.push((file, one.line, names.home(&one.path)));
        }
    }
    assert!(dependencies.len() > 500, "only {} dependencies", dependencies.len());
    dependencies
}

#[test]
fn imports_point_down() {
    let place = |module: &str| ORDER.iter().position(|known| *known == module);
    let mut wrong = BTreeMap::new();
    for (file, line, home) in dependencies(&source::read()) {
        let (module, Some(used)) = (file.top(), home.first()) else { continue };
        let strangers = STRANGERS.iter().find(|(name, _)| *name == module);
        let is_stranger =
            strangers.is_some_and(|(_, strangers)| strangers.contains(&used.as_str()));
        if let (Some(from), Some(to)) = (place(module), place(used))
            && (to > from || is_stranger)
        {
            wrong.insert(format!("{module} must not know {used}"), file.at(line));
        }
    }
    check("direction", wrong);
}

/// Within a folder a module may know its siblings in one direction only; what one names through a
/// `pub use` counts as if it named the place itself. Between a folder's `mod.rs` and its children both
/// directions are fine: they are one module, of which `mod.rs` has the types that all children share.
#[test]
fn siblings_know_each_other_in_one_direction() {
    // By folder: who knows whom, and from where.
    let mut folders: BTreeMap<Vec<String>, BTreeMap<(String, String), String>> = BTreeMap::new();
    for (file, line, home) in dependencies(&source::read()) {
        let common = file.module.iter().zip(&home).take_while(|(a, b)| a == b).count();
        if let (Some(from), Some(to)) = (file.module.get(common), home.get(common)) {
            let folder = folders.entry(home[..common].to_vec()).or_default();
            folder.entry((from.clone(), to.clone())).or_insert_with(|| file.at(line));
        }
    }
    let mut wrong = BTreeMap::new();
    for (folder, edges) in folders {
        for cycle in cycles(edges.keys()) {
            let inside = edges.iter().filter(|((from, to), _)| {
                cycle.contains(from.as_str()) && cycle.contains(to.as_str())
            });
            let inside: Vec<String> =
                inside.map(|((from, to), at)| format!("{from} -> {to} ({at})")).collect();
            let members: Vec<&str> = cycle.into_iter().collect();
            let what = format!("{} of src/{}", members.join(", "), folder.join("/"));
            wrong.insert(what, inside.join("\n    "));
        }
    }
    check("cycle", wrong);
}

/// Sets of nodes that reach each other.
fn cycles<'e>(edges: impl Iterator<Item = &'e (String, String)>) -> BTreeSet<BTreeSet<&'e str>> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges {
        reached.entry(from).or_default().insert(to);
    }
    // Folders have few modules: over and over until nothing is added.
    loop {
        let before = reached.clone();
        for far in reached.values_mut() {
            let further: Vec<&str> =
                far.iter().filter_map(|near| before.get(near)).flatten().copied().collect();
            far.extend(further);
        }
        if reached == before {
            break;
        }
    }
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|far| far.contains(to));
    let on_cycle = reached.keys().filter(|node| reaches(node, node));
    on_cycle
        .map(|node| reached[node].iter().copied().filter(|other| reaches(other, node)).collect())
        .collect()
}

#[test]
fn what_has_a_door_comes_in_by_it() {
    /// A word or the beginning of a path, and the files that may contain it.
    const DOORS: &[(&str, &[&str])] = &[
        ("rusqlite", &["src/db/", "src/error.rs"]),
        ("fs2", &["src/sys/flock.rs"]),
        ("FlockOperation", &["src/sys/flock.rs"]),
        ("/proc/", &["src/sys", "src/jobserver.rs", "src/report/environment.rs"]),
        ("unsafe", &["src/sys"]),
    ];
    let mut wrong = BTreeMap::new();
    for file in source::read() {
        for (line, token) in &file.tokens {
            for (thing, doors) in DOORS {
                let is_it = match token {
                    Token::Word(word) => word == thing,
                    Token::Text(text) => thing.contains('/') && text.contains(thing),
                    _ => false,
                };
                if is_it && !doors.iter().any(|door| file.name.starts_with(door)) {
                    let places: &mut String =
                        wrong.entry(format!("{thing} in {}", file.top())).or_default();
                    *places += &format!("{} ", file.at(*line));
                }
            }
        }
    }
    check("door", wrong);
}

/// By name: the files that define such a type.
fn types(files: &[File]) -> BTreeMap<String, Vec<(&File, Type)>> {
    let mut types: BTreeMap<String, Vec<(&File, Type)>> = BTreeMap::new();
    for file in files {
        for one in file.types() {
            types.entry(one.name.clone()).or_default().push((file, one));
        }
    }
    assert!(types.len() > 150, "only {} types", types.len());
    types
}

#[test]
fn a_type_is_one_file() {
    /// Traits that only a door may know, implemented behind it for types that must not know them.
    const BEHIND_DOORS: &[(&str, &str)] = &[("ToSql", "src/db/"), ("FromSql", "src/db/")];
    let files = source::read();
    let types = types(&files);
    let mut wrong = BTreeMap::new();
    let mut count = 0;
    for file in &files {
        for one in file.impls() {
            count += 1;
            let defined: Vec<&str> = types
                .get(&one.for_type)
                .into_iter()
                .flatten()
                .filter(|(_, one)| !one.is_alias)
                .map(|(file, _)| file.name.as_str())
                .collect();
            let is_behind_a_door = BEHIND_DOORS.iter().any(|(known, door)| {
                one.of_trait.as_deref() == Some(known) && file.name.starts_with(door)
            });
            if !defined.is_empty() && !defined.contains(&file.name.as_str()) && !is_behind_a_door {
                let why =
                    format!("{}, but it is defined in {}", file.at(one.line), defined.join(", "));
                wrong.insert(one.for_type, why);
            }
        }
    }
    assert!(count > 150, "only {count} impls");
    check("impl", wrong);
}

/// A private type is known in its file only, so that it may share its name with one of another folder
/// of the root; any other has its name for itself.
#[test]
fn a_name_is_one_type() {
    let files = source::read();
    let mut wrong = BTreeMap::new();
    for (name, defined) in types(&files) {
        let mut places = Vec::new();
        for (n, (file, one)) in defined.iter().enumerate() {
            let clashes = |(other, (elsewhere, two)): (usize, &(&File, Type))| {
                let are_public = one.is_public && two.is_public;
                other != n && (are_public || file.top() == elsewhere.top())
            };
            if defined.iter().enumerate().any(clashes) {
                places.push(file.name.as_str());
            }
        }
        if !places.is_empty() {
            wrong.insert(name, places.join(", "));
        }
    }
    check("name", wrong);
}

#[test]
fn a_module_with_children_is_a_folder() {
    let mut wrong = BTreeMap::new();
    for path in ["src", "tests/it", "benches"].into_iter().flat_map(rust_files) {
        if path.with_extension("").is_dir() {
            wrong.insert(short(&path), "move it to mod.rs in the folder of its name".to_owned());
        }
    }
    check("folder", wrong);
}

#[test]
fn what_a_module_passes_on_is_named() {
    let files = source::read();
    let modules = files.iter().map(|file| file.module.clone()).collect();
    let mut wrong = BTreeMap::new();
    for file in &files {
        for one in file.uses(&modules) {
            if one.is_public && one.is_glob() {
                wrong
                    .insert(format!("{} in {}", one.path.join("::"), file.name), file.at(one.line));
            }
        }
    }
    check("glob", wrong);
}

#[test]
fn nothing_panics_or_prints_on_its_own() {
    const MACROS: &[&str] =
        &["println", "eprintln", "print", "eprint", "panic", "todo", "unimplemented", "dbg"];
    let mut wrong = Vec::new();
    for file in source::read() {
        for tokens in file.tokens.windows(3) {
            let [(line, first), (_, second), (_, third)] = tokens else { continue };
            let is_macro = |name: &&str| first.is(name) && *second == Token::Sign('!');
            let is_method = |name: &&str| *first == Token::Sign('.') && second.is(name);
            if MACROS.iter().any(is_macro)
                || ["unwrap", "expect"].iter().any(is_method)
                || (first.is("process") && *second == Token::Path && third.is("exit"))
            {
                wrong.push(format!("{}: {first:?} {second:?}", file.at(*line)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `Path::display` hands control characters to the terminal; `text::shown` escapes them.
#[test]
fn no_path_is_shown_raw() {
    let mut wrong = Vec::new();
    for file in source::read() {
        for tokens in file.tokens.windows(2) {
            let [(line, first), (_, second)] = tokens else { continue };
            if *first == Token::Sign('.') && second.is("display") {
                wrong.push(file.at(*line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_does() {
    for path in
        rust_files("src").into_iter().chain(rust_files("tests")).chain(rust_files("benches"))
    {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! ") || path.ends_with("tests.rs"), "{}", short(&path));
    }
}

#[test]
fn every_dependency_says_why() {
    let cargo = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let sections = cargo.split("\n[").filter(|section| {
        section.starts_with("dependencies]") || section.starts_with("dev-dependencies]")
    });
    let mut count = 0;
    for line in
        sections.flat_map(|section| section.lines().skip(1)).filter(|line| line.contains('='))
    {
        assert!(line.contains("  # "), "no reason beside `{line}`");
        count += 1;
    }
    assert!(count > 10);
}
