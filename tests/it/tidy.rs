//! The house is in order: who may know whom, and what no file may contain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// From the ground up. A module may know those of its own layer and below, unless [`STRANGERS`] says
/// otherwise.
const LAYERS: &[&[&str]] = &[
    &["attempt", "object", "ids", "text", "diff", "duration", "names", "stop", "suggest", "sys"],
    &["jobserver"],
    &["error", "proof", "manifest", "graph", "recipe"],
    &["store", "db"],
    &["step"],
    &["progress", "cli", "watch"],
    &["maintain"],
    &["run"],
    &["report"],
    &["commands"],
];

/// Who must not know whom though it stands above.
const STRANGERS: &[(&str, &[&str])] = &[
    ("store", &["step", "db", "manifest", "graph", "recipe"]),
    ("step", &["db", "manifest", "graph", "recipe", "run"]),
    ("db", &["step", "store", "manifest", "graph", "recipe", "run", "progress"]),
    ("maintain", &["manifest", "graph", "progress", "cli"]),
    ("watch", &["run", "cli", "progress", "db", "store", "step", "manifest"]),
    ("progress", &["run", "cli", "store", "step", "maintain", "manifest"]),
    ("report", &["step", "manifest", "graph", "recipe", "progress", "cli", "maintain"]),
    ("cli", &["run", "progress", "store", "step", "maintain"]),
];

fn rust_files(below: &str) -> Vec<PathBuf> {
    // A folder that isn't there yet has no files.
    let files = walkdir::WalkDir::new(Path::new(ROOT).join(below))
        .sort_by_file_name()
        .into_iter()
        .flatten();
    files
        .map(|entry| entry.into_path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

fn short(path: &Path) -> String {
    path.strip_prefix(ROOT).unwrap().display().to_string()
}

/// The numbered lines of the source files, without comments and without what only tests see.
fn lines_of_code() -> Vec<(PathBuf, usize, String)> {
    let mut lines = Vec::new();
    for path in rust_files("src") {
        let below = path.strip_prefix(Path::new(ROOT).join("src")).unwrap();
        if below
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut is_test = false;
        for (n, line) in text.lines().enumerate() {
            // A test module is the last thing in its file, or a line that names another file.
            is_test |= line.starts_with("#[cfg(test)]");
            if is_test && line.starts_with("mod ") && line.ends_with(';') {
                is_test = false;
                continue;
            }
            let code = line.split("//").next().unwrap_or_default();
            if !is_test && !code.trim().is_empty() {
                lines.push((path.clone(), n + 1, code.to_owned()));
            }
        }
    }
    assert!(lines.len() > 1000, "only {} lines of code", lines.len());
    lines
}

/// (module, used module, place) of every `crate::…` in the source.
fn crate_imports() -> Vec<(String, String, String)> {
    let mut imports = Vec::new();
    for (path, line, code) in lines_of_code() {
        let below = path.strip_prefix(Path::new(ROOT).join("src")).unwrap();
        let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let used: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(
                !used.is_empty(),
                "{}:{line}: name each module on a line of its own",
                short(&path)
            );
            imports.push((module.clone(), used, format!("{}:{line}", short(&path))));
        }
    }
    assert!(imports.len() > 50, "only {} imports", imports.len());
    imports
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn every_module_has_its_layer() {
    let modules: BTreeSet<String> = fs::read_dir(Path::new(ROOT).join("src"))
        .unwrap()
        .map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".rs").to_owned()
        })
        .filter(|name| name != "lib" && name != "main")
        .collect();
    let listed: BTreeSet<String> =
        LAYERS.iter().flat_map(|layer| layer.iter().map(|name| (*name).to_owned())).collect();
    assert_eq!(modules, listed);
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (module, used, at) in crate_imports() {
        let (Some(upper), Some(lower)) = (layer(&module), layer(&used)) else { continue };
        let strangers = STRANGERS
            .iter()
            .find(|(name, _)| *name == module)
            .map_or(&[][..], |(_, strangers)| strangers);
        if module != used && (lower > upper || strangers.contains(&used.as_str())) {
            wrong.push(format!("{at}: `{module}` must not know about `{used}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_panics_or_prints_on_its_own() {
    const BANNED: &[&str] = &[
        "println!",
        "eprintln!",
        "print!(",
        "eprint!(",
        ".unwrap()",
        ".expect(",
        "panic!(",
        "todo!(",
        "unimplemented!(",
        "dbg!(",
        "process::exit",
    ];
    let mut wrong = Vec::new();
    for (path, line, code) in lines_of_code() {
        for banned in BANNED.iter().filter(|banned| code.contains(**banned)) {
            wrong.push(format!("{}:{line}: {banned}", short(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_place() {
    let wrong: Vec<String> = lines_of_code()
        .into_iter()
        .filter(|(path, _, code)| code.contains("unsafe ") && !short(path).starts_with("src/sys"))
        .map(|(path, line, code)| format!("{}:{line}: {code}", short(&path)))
        .collect();
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
