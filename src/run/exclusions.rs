//! What `inputs` leave out: `!` before a path, a folder or a glob. Unaware of what is on disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use globset::GlobSet;

use crate::error::{Error, Result};
use crate::manifest::{glob_set, is_plain};

/// The exclusions of one task, and which of them have left anything out.
pub(super) struct Exclusions<'a> {
    /// The manifest's folder, which relative patterns are below.
    dir: &'a Path,
    patterns: Vec<&'a str>,
    set: GlobSet,
    /// By place in the set: the pattern that it stands for.
    pattern_of: Vec<usize>,
    has_hit: Vec<bool>,
}

impl<'a> Exclusions<'a> {
    /// # Errors
    /// If a pattern is no glob.
    pub(super) fn new(dir: &'a Path, patterns: Vec<&'a str>) -> Result<Exclusions<'a>> {
        let (mut globs, mut pattern_of) = (Vec::new(), Vec::new());
        for (n, pattern) in patterns.iter().enumerate() {
            let path = clean(dir, Path::new(pattern)).to_string_lossy().into_owned();
            // A path is a file, or a folder with all that is in it.
            if !pattern.ends_with('/') {
                globs.push(path.clone());
                pattern_of.push(n);
            }
            if pattern.ends_with('/') || is_plain(pattern) {
                globs.push(if path.is_empty() { "**".to_owned() } else { format!("{path}/**") });
                pattern_of.push(n);
            }
        }
        let no_glob = |why| Error::Usage(format!("a pattern of `inputs` is no glob: {why}"));
        let set = glob_set(globs.iter().map(String::as_str)).map_err(no_glob)?;
        let has_hit = vec![false; patterns.len()];
        Ok(Exclusions { dir, patterns, set, pattern_of, has_hit })
    }

    /// True if a file is left out.
    pub(super) fn leave_out(&mut self, path: &[u8]) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let hits = self.set.matches(clean(self.dir, Path::new(OsStr::from_bytes(path))));
        for hit in &hits {
            self.has_hit[self.pattern_of[*hit]] = true;
        }
        !hits.is_empty()
    }

    /// True if a folder is left out with all that is in it, or a file is.
    pub(super) fn leave_out_all(&mut self, path: &Path) -> bool {
        self.leave_out(path.as_os_str().as_bytes())
            || self.leave_out(path.join("*").as_os_str().as_bytes())
    }

    /// Those that left nothing out, as written.
    pub(super) fn idle(&self) -> Vec<String> {
        let idle = self.patterns.iter().zip(&self.has_hit).filter(|(_, has_hit)| !**has_hit);
        idle.map(|(pattern, _)| format!("!{pattern}")).collect()
    }
}

/// A path as it is below the manifest's folder if it lies there, however it is written.
fn clean(dir: &Path, path: &Path) -> PathBuf {
    let has_parents = path.components().any(|part| part == Component::ParentDir);
    let mut clean = PathBuf::new();
    let below = if has_parents { dir } else { Path::new("") };
    for part in below.components().chain(path.components()) {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean.strip_prefix(dir).map(Path::to_owned).unwrap_or(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusion_is_a_path_a_folder_or_a_glob_however_it_is_written() {
        let leaves_out = |pattern: &str, path: &str| {
            let mut exclusions = Exclusions::new(Path::new("/p q[1]"), vec![pattern]).unwrap();
            let is_out = exclusions.leave_out(path.as_bytes());
            assert_eq!(exclusions.idle().is_empty(), is_out);
            is_out
        };
        for (pattern, path) in [
            ("src/a.c", "src/a.c"),
            ("../p q[1]/src/a.c", "src/a.c"),
            ("src/../src/*.c", "./src/a.c"),
            ("../other/*", "/other/a"),
            ("./src//a.c", "src/a.c"),
            ("src/a.c", "./src/a.c"),
            ("/p q[1]/src/a.c", "src/a.c"),
            ("src/a.c", "/p q[1]/src/a.c"),
            ("../x/*.c", "../x/a.c"),
            ("src", "src/deep/a.c"),
            ("src/", "src/.deep/a.c"),
            ("*/", "src/deep/a.c"),
            ("./", "a.c"),
            ("**/*.c", "src/a.c"),
            ("{a,b}.c", "b.c"),
        ] {
            assert!(leaves_out(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("src/a.c", "src/a.cc"),
            ("src/", "src"),
            ("src/*.c", "src/deep/a.c"),
            ("a.c", "src/a.c"),
            ("*.c", "src/a.c"),
        ] {
            assert!(!leaves_out(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_folder_is_left_out_with_all_that_is_in_it() {
        let mut exclusions = Exclusions::new(Path::new("/p"), vec!["x/", "y", "z/*.c"]).unwrap();
        assert!(
            exclusions.leave_out_all(Path::new("/p/x"))
                && exclusions.leave_out_all(Path::new("/p/y"))
        );
        assert!(!exclusions.leave_out_all(Path::new("/p/z")));
        assert_eq!(exclusions.idle(), ["!z/*.c"]);
    }
}
