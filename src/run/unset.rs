//! What a shell says of a variable that is not set, and what was probably meant: scripts are run by `sh -eu`.

use crate::attempt::var;
use crate::manifest::Task;
use crate::suggest;

/// What `sh`, `dash`, `ksh` and `zsh` say, and what `bash` says, behind the name.
const SAID: [&str; 2] = [": parameter not set", ": unbound variable"];

/// What to say of a failure whose log ends like this.
pub(super) fn hint(log_tail: &[Vec<u8>], task: &Task) -> Option<String> {
    let line = std::str::from_utf8(log_tail.last()?).ok()?;
    let before = SAID.iter().find_map(|said| line.strip_suffix(said))?;
    let name = before.rsplit([' ', ':']).next()?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) {
        return None;
    }
    let of_task = task.env.keys().chain(task.params.keys()).chain(&task.label_keys);
    let known = var::ALL.into_iter().chain(of_task.map(String::as_str));
    let cure = match suggest::nearest(name, known.filter(|known| *known != name)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if task.env_from.contains_key(name) => "whoever runs this has to set it".to_owned(),
        None if task.clean_env && std::env::var_os(name).is_some() => {
            format!("`clean_env` keeps it away: add env_from = [\"{name}\"]")
        }
        None => format!("write ${{{name}:-}} where it may be unset"),
    };
    Some(format!("`{name}` is not set; {cure}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::Manifest;

    fn of(line: &str, keys: &str) -> Option<String> {
        let text = format!("[params]\nseed = 1\n[[task]]\nname = 't'\nscript = ':'\n{keys}\n");
        let manifest = Manifest::from_text(Path::new("m.toml"), Path::new("/"), text.as_bytes());
        hint(&[b"before".to_vec(), line.into()], &manifest.expect("a manifest").tasks[0])
    }

    #[test]
    fn what_was_meant_or_what_to_do_is_told() {
        let of = |line: &str, keys: &str| of(line, keys).expect("a hint");
        let meant = "`OUTPUTDIR` is not set; did you mean `OUTPUT_DIR`?";
        assert_eq!(of("/tmp/s/a: 1: OUTPUTDIR: parameter not set", ""), meant);
        assert_eq!(of("/tmp/s/a: line 1: OUTPUTDIR: unbound variable", ""), meant);
        assert_eq!(
            of("a: 1: sead: parameter not set", "params = [\"seed\"]"),
            "`sead` is not set; did you mean `seed`?"
        );
        assert_eq!(
            of("a: 1: NO_SUCH: parameter not set", "env_from = [\"NO_SUCH\"]"),
            "`NO_SUCH` is not set; whoever runs this has to set it"
        );
        assert_eq!(
            of("a: 1: PWD: parameter not set", "clean_env = true"),
            "`PWD` is not set; `clean_env` keeps it away: add env_from = [\"PWD\"]"
        );
        assert_eq!(
            of("a: 1: other: parameter not set", ""),
            "`other` is not set; write ${other:-} where it may be unset"
        );
    }

    #[test]
    fn other_lines_say_nothing_of_variables() {
        for line in
            ["", "parameter not set", "a: $x y: parameter not set!", "a: b-c: parameter not set"]
        {
            assert_eq!(of(line, ""), None, "{line}");
        }
    }
}
