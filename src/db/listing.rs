//! Listings, in the format of `sha256sum`: of what a gather step works on, and of what a step sees by `with`.

use crate::attempt::NamedObject;
use crate::object::ObjectHash;

/// A line of the listing, as `sha256sum` writes it: a name with a backslash or a newline is escaped,
/// and the line says so by a backslash of its own.
/// The `*`, which for `sha256sum` says that a file was read as binary and makes no difference, marks one with the
/// executable bit: it is part of what a gather step works on.
pub fn listing_line(listing: &mut Vec<u8>, input: &NamedObject) {
    let escaped = input.name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if escaped {
        listing.push(b'\\');
    }
    listing.extend_from_slice(input.object.hex().as_bytes());
    listing.extend_from_slice(if input.executable { b" *" } else { b"  " });
    for &byte in &input.name {
        match byte {
            b'\\' => listing.extend_from_slice(b"\\\\"),
            b'\n' => listing.extend_from_slice(b"\\n"),
            b'\r' => listing.extend_from_slice(b"\\r"),
            byte => listing.push(byte),
        }
    }
    listing.push(b'\n');
}

/// What a listing lists. Those of older builds don't say which inputs have the executable bit.
pub fn read_listing(listing: &[u8]) -> Vec<NamedObject> {
    listing.split(|&byte| byte == b'\n').filter_map(listed_item).collect()
}

/// A line as [`listing_line`] writes it.
fn listed_item(line: &[u8]) -> Option<NamedObject> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let (hash, mark, name) = (line.get(..64)?, *line.get(65)?, line.get(66..)?);
    let object = ObjectHash::parse(std::str::from_utf8(hash).ok()?).ok()?;
    let name = if escaped { unescape(name) } else { name.to_vec() };
    Some(NamedObject { name, object, executable: mark == b'*' })
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                _ => b'\\',
            },
            byte => byte,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_reads_back_whatever_the_names_are() {
        let names: [&[u8]; 4] = [b"plain", b"new\nline", b"back\\slash\\n", b"\xff\r"];
        let mut listing = Vec::new();
        let rows = names.into_iter().enumerate().map(|(n, name)| {
            let (object, executable) = (ObjectHash::of(name), n % 2 == 1);
            NamedObject { name: name.to_vec(), object, executable }
        });
        let rows: Vec<NamedObject> = rows.collect();
        rows.iter().for_each(|row| listing_line(&mut listing, row));
        assert_eq!(read_listing(&listing), rows);
    }
}
