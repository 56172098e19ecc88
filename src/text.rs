//! Bytes, numbers and times made fit for people: on a screen, in a log line or in JSON. Unaware of what
//! they mean.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Bytes of a name with everything that a terminal could act on escaped: control characters, characters
/// that change the direction of text, bytes that are not UTF-8 (`\n`, `\t`, `\xff`). A backslash is
/// escaped too, so that no two names look the same. Text without any of these comes back as it is.
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

/// The bytes that [`printable`] writes so: a name that was copied from where it was printed. `None` if there is no
/// such name, because a backslash begins no escape.
pub fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let escape = rest.next()?;
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        bytes.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'\\' => b'\\',
            b'x' => (digit()? * 16 + digit()?) as u8,
            _ => return None,
        });
    }
    Some(bytes)
}

/// Characters that change the direction of the text around them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// A line of a log for the screen: as [`printable`], but tabs and backslashes stay as they are.
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

/// A size in bytes as people read it: `512 B`, `3.4 MiB`.
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

/// A duration as people read it: `12 ms`, `3.4 s`, `2 min 05 s`, `1 h 02 min`.
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

/// A time in milliseconds since 1970 as `2026-01-31 12:34:56 UTC`.
pub fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, time) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // The date from the days since 1970-01-01, in eras of 400 years that begin on 1 March of year 0, so
    // that the leap day is the last day of a year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// The ending of a noun after a number: `1 step`, `2 steps`.
pub fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `34 attempts, 8 of them failed`
pub fn attempts_text(all: u64, failed: u64) -> String {
    let s = plural(all);
    match failed {
        0 => format!("{all} attempt{s}"),
        failed if failed == all => {
            format!("{all} attempt{s}, {} failed", if all == 1 { "which" } else { "all" })
        }
        failed => format!("{all} attempt{s}, {failed} of them failed"),
    }
}

/// A number with its noun, which takes an `s`: `1 step`, `2 steps`.
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", plural(count))
}

/// ` -db DIR` after a command that is recommended, as a shell reads it; nothing for the default.
pub fn db_option(db: &Path) -> String {
    match path_bytes(db).strip_prefix(b"./").unwrap_or(path_bytes(db)) {
        b"db" | b"db/" => String::new(),
        _ => format!(" -db {}", shell_word(&shown(db))),
    }
}

/// A word as a shell reads it.
fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "_./+,:@%=-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// `step 12 count (src/lib.rs)`: what a step is called everywhere.
pub fn step(id: i64, task: &str, input: &[u8]) -> String {
    if input.is_empty() {
        return format!("step {id} {task}");
    }
    format!("step {id} {task} ({})", printable(input))
}

/// How many lines of its log are shown with a failed step.
pub const TAIL_LINES: usize = 20;

/// No more bytes than this are read for [`tail`].
const TAIL_BYTES: u64 = 16 << 10;

/// How many lines a file has above its last ones, as [`tail`] gives them.
///
/// # Errors
/// Those of reading the file.
pub fn lines_above(file: &mut File, tail: &[Vec<u8>]) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut piece = vec![0; TAIL_BYTES as usize];
    let (mut lines, mut last) = (0, b'\n');
    loop {
        let read = file.read(&mut piece)?;
        let Some(&end) = piece[..read].last() else { break };
        lines += piece[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        last = end;
    }
    lines += u64::from(last != b'\n');
    Ok(lines.saturating_sub(tail.len() as u64))
}

/// The last lines of a file, without line ends. Of a line longer than 16 KiB only the end.
///
/// # Errors
/// Those of reading the file.
pub fn tail(file: &mut File, lines: usize) -> io::Result<Vec<Vec<u8>>> {
    let size = file.metadata()?.len();
    let from = size.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(last_lines(&bytes, lines, from > 0))
}

fn last_lines(bytes: &[u8], lines: usize, cut: bool) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut all: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    // The first may be the end of a line; it is shown only if there is nothing else.
    if cut && all.len() > 1 {
        all.remove(0);
    }
    all.split_off(all.len().saturating_sub(lines))
}

/// As much of a text as fits; `…` says that there is more.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        short.push(c);
    }
    if columns > 0 { short + "…" } else { short }
}

/// Text for a quoted label in Graphviz.
pub fn dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The bytes of a path, which the database keeps as a blob.
pub fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A path for people: as [`printable`] writes its bytes.
pub fn shown(path: &Path) -> Cow<'_, str> {
    printable(path_bytes(path))
}

/// The path of such bytes.
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
    fn a_name_that_was_printed_can_be_read_back() {
        let reads_back = |bytes: &[u8]| {
            let printed = printable(bytes);
            assert_eq!(unescaped(printed.as_bytes()).as_deref(), Some(bytes), "{printed}");
        };
        // All pairs of bytes, alone and within text that might join with them.
        for pair in 0..=u16::MAX {
            let [a, b] = pair.to_be_bytes();
            reads_back(&[a, b]);
            reads_back(&[b'\\', a, b, b'x', b'0']);
        }
        // All that UTF-8 can say, two characters at a time.
        let mut before = 'x';
        for c in '\0'..=char::MAX {
            reads_back(format!("{before}{c}").as_bytes());
            before = c;
        }
        for no_escape in [r"a\", r"\s", r"\x", r"\x1", r"\x1g", r"\u{1b}"] {
            assert_eq!(unescaped(no_escape.as_bytes()), None, "{no_escape}");
        }
    }

    #[test]
    fn a_recommended_command_names_the_database_unless_it_is_the_default() {
        for default in ["db", "./db", "./db/"] {
            assert_eq!(db_option(Path::new(default)), "");
        }
        assert_eq!(db_option(Path::new("build/db")), " -db build/db");
        assert_eq!(db_option(Path::new("my db's")), r" -db 'my db'\''s'");
    }

    #[test]
    fn the_lines_above_the_last_ones_are_counted() {
        let above = |text: &str, lines| {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            let tail = tail(&mut file, lines).unwrap();
            lines_above(&mut file, &tail).unwrap()
        };
        assert_eq!([above("", 2), above("a", 2), above("a\nb\n", 2)], [0, 0, 0]);
        assert_eq!([above("a\nb\nc", 2), above("a\nb\nc\n", 2)], [1, 1]);
        assert_eq!(above(&"line\n".repeat(10_000), 20), 9980);
    }

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(span(std::time::Duration::from_millis(12)), "12 ms");
        assert_eq!(span(std::time::Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(span(std::time::Duration::from_secs(3720)), "1 h 02 min");
    }

    #[test]
    fn one_of_a_thing_is_no_plural() {
        assert_eq!([0_u64, 1, 2].map(|n| counted(n, "step")), ["0 steps", "1 step", "2 steps"]);
    }

    #[test]
    fn the_last_lines_are_whole_lines() {
        let tail = |text: &str, lines, cut| {
            let lines = last_lines(text.as_bytes(), lines, cut);
            lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(tail("a\nb\nc\n", 2, false), ["b", "c"]);
        assert_eq!(tail("a\nb", 5, true), ["b"]);
        assert_eq!(tail("", 5, false), [""; 0]);
    }

    #[test]
    fn a_moment_reads_as_a_calendar_has_it() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31 23:59:59 UTC");
    }
}
