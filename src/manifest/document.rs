//! From the bytes of a TOML file to its tables, with a list of all mistakes. Unaware of what the keys mean.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use toml::de::DeTable;

use super::findings::Findings;
use crate::diagnostic::{Diagnostic, SourceText};

/// Stack of the parser's thread. The parser limits the nesting of brackets and the parts of a dotted key
/// but not their product: 80 nested inline tables with keys of 80 parts make a tree 6,400 deep, and
/// dropping that takes over 4 MiB of stack in a debug build. Pages that aren't touched cost nothing.
const STACK: usize = 64 << 20;

/// Bytes of text from which on the memory that parsing took is worth giving back: the allocator would keep it for the
/// thread that is gone.
const LARGE: usize = 64 << 10;

/// What `read` makes of a TOML file, or all mistakes in the order of the text.
pub(super) fn read<T: Send>(
    path: &Path,
    bytes: &[u8],
    read: impl Fn(&mut Findings<'_>, &DeTable<'_>) -> T + Sync,
) -> Result<T, Vec<Diagnostic>> {
    let text = std::str::from_utf8(bytes).map_err(|err| vec![not_utf8(path, bytes, err)])?;
    // Windows editors begin a file with a byte order mark, which no editor counts as a column.
    let source = SourceText::new(path, text.strip_prefix('\u{feff}').unwrap_or(text));
    let parse = || {
        let mut found = Findings::new(&source);
        let (root, errors) = DeTable::parse_recoverable(source.text());
        for error in &errors {
            found.syntax(error.span(), error.message());
        }
        let made = read(&mut found, &root.into_inner());
        let diagnostics = found.into_diagnostics();
        if diagnostics.is_empty() { Ok(made) } else { Err(diagnostics) }
    };
    let made = thread::scope(|scope| {
        let parser = thread::Builder::new().stack_size(STACK);
        match parser.spawn_scoped(scope, parse) {
            Ok(parser) => parser.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // No thread to be had: ordinary manifests need little stack.
            Err(_) => parse(),
        }
    });
    if text.len() > LARGE {
        crate::sys::give_back_memory();
    }
    made
}

fn not_utf8(path: &Path, bytes: &[u8], err: std::str::Utf8Error) -> Diagnostic {
    let at = err.valid_up_to();
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let message = "the file is UTF-16, not UTF-8";
        return Diagnostic::of_file(path, message, "save it as UTF-8: iconv -f UTF-16 -t UTF-8");
    }
    let byte = bytes.get(at).copied().unwrap_or_default();
    let message = format!("the file is not UTF-8: byte 0x{byte:02x} at offset {at}");
    let help = "save it as UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8".to_owned();
    // The text before the bad byte is the same, so the offset is right in the repaired text too.
    let text = String::from_utf8_lossy(bytes);
    SourceText::new(path, &text).diagnostic(&(at..at + 1), message, Some(help))
}
