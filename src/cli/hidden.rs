//! Words that argh must not look at: it takes only UTF-8, takes what begins with `-` for an option
//! and the word `help` for a request. Such a word goes through it as a token that spells the bytes.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::text;

/// First character of a token, from Unicode's private area. A word that really begins with it becomes
/// a token too, so that no word is taken for one.
const MARK: char = '\u{f8ff}';

/// A word as argh may see it.
pub(super) fn hide(word: &OsStr) -> String {
    match word.to_str() {
        Some(text) if text != "help" && !text.starts_with(['-', MARK]) => text.to_owned(),
        _ => {
            let mut token = String::from(MARK);
            for byte in word.as_bytes() {
                let _ = write!(token, "{byte:02x}");
            }
            token
        }
    }
}

/// The word that was hidden.
pub(super) fn reveal(word: &str) -> OsString {
    let Some(digits) = word.strip_prefix(MARK) else {
        return word.into();
    };
    let nibble = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
    let pairs = digits.as_bytes().chunks_exact(2);
    OsString::from_vec(pairs.map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect())
}

/// The word that was hidden, for a message.
pub(super) fn printable(word: &str) -> String {
    text::printable(reveal(word).as_bytes()).into_owned()
}
