//! Words that argh must not see: it accepts only UTF-8, takes anything that begins with `-` for an
//! option, and the word `help` for a request. Such a word travels through argh as a token that spells
//! its bytes.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::text;

/// First character of a token, from Unicode's private use area. A word that really begins with it
/// becomes a token too, so no word is mistaken for one.
const MARK: char = '\u{f8ff}';

/// The word in a form that is safe to pass to argh.
pub(super) fn encode(word: &OsStr) -> String {
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

/// The word that [`encode`] was given.
pub(super) fn decode(word: &str) -> OsString {
    let Some(digits) = word.strip_prefix(MARK) else {
        return word.into();
    };
    let nibble = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
    let pairs = digits.as_bytes().chunks_exact(2);
    OsString::from_vec(pairs.map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect())
}

/// The word that [`encode`] was given, escaped for a message.
pub(super) fn printable(word: &str) -> String {
    text::printable(decode(word).as_bytes()).into_owned()
}
