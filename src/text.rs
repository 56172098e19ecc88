//! Arbitrary bytes made fit for a screen, a log line or JSON. Unaware of what they name.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Bytes of a name or a log line with everything a terminal could obey written as an escape:
/// `\n`, `\t`, `\\`, `\xff` (control characters and bytes that are not UTF-8). Text without any of
/// these comes back as it is. The escape is unambiguous, since a backslash is escaped too.
pub fn printable(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(|c| c.is_control() || c == '\\' || is_bidi(c))
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                c if c.is_control() || is_bidi(c) => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        let _ = write!(out, "\\x{byte:02x}");
                    }
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    Cow::Owned(out)
}

/// Characters that reorder the text around them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// One line of a log for a screen: tabs stay, a backslash stays, what a terminal could obey goes.
pub fn printable_line(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\t' || !(c.is_control() || is_bidi(c)) {
                out.push(c);
            } else {
                out.extend(c.escape_default());
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A size as people read it: `512 B`, `3.4 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A span of time as people read it: `12 ms`, `3.4 s`, `2 min 05 s`, `1 h 02 min`.
pub fn span(time: std::time::Duration) -> String {
    let ms = time.as_millis();
    let s = time.as_secs();
    match () {
        () if ms < 1000 => format!("{ms} ms"),
        () if s < 60 => format!("{:.1} s", time.as_secs_f64()),
        () if s < 3600 => format!("{} min {:02} s", s / 60, s % 60),
        () => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// `step 12 count (src/lib.rs)`: how a step is named everywhere.
pub fn step(id: i64, task: &str, input: &[u8]) -> String {
    if input.is_empty() {
        return format!("step {id} {task}");
    }
    format!("step {id} {task} ({})", printable(input))
}

/// Text between the quotes of a label in the language of Graphviz.
pub fn dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The bytes of a path, as the database keeps them.
pub fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A path that was kept as bytes.
pub fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_could_obey_is_escaped() {
        assert_eq!(printable(b"plain name.txt"), "plain name.txt");
        assert_eq!(printable("grün".as_bytes()), "grün");
        assert_eq!(printable(b"a\nb\x1b[31m\\\xff"), "a\\nb\\x1b[31m\\\\\\xff");
        assert_eq!(printable("\u{202e}x".as_bytes()), "\\xe2\\x80\\xaex");
        assert_eq!(printable_line(b"a\tb\\ \x1b[0m"), "a\tb\\ \\u{1b}[0m");
    }

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(span(std::time::Duration::from_millis(12)), "12 ms");
        assert_eq!(span(std::time::Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(span(std::time::Duration::from_secs(3720)), "1 h 02 min");
    }
}
