//! The name of an object: the SHA-256 of its bytes. Unaware of where objects are kept.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Bytes of a stream that are hashed at a time.
const PIECE: usize = 64 << 10;

/// SHA-256 of an object's bytes. Prints as 64 lower-case hex digits, and reads back only that:
/// two spellings would be two file names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectHash([u8; 32]);

/// Why a text is no object hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHash;

impl fmt::Display for NotAHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object hash is 64 lower-case hex digits")
    }
}

impl ObjectHash {
    /// The object of no bytes, on which a root without inputs works.
    pub const EMPTY: ObjectHash = ObjectHash([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);

    /// Hash of bytes in memory.
    pub fn of(bytes: &[u8]) -> ObjectHash {
        ObjectHash(Sha256::digest(bytes).into())
    }

    /// Hash of everything that is left of a stream, in constant memory.
    ///
    /// # Errors
    /// Those of reading it; a read that a signal interrupts is made again.
    pub fn of_stream(stream: &mut impl Read) -> io::Result<ObjectHash> {
        let mut hasher = ObjectHasher::default();
        let mut buffer = vec![0; PIECE];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// The 32 raw bytes, as the database keeps them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The other way round.
    pub fn from_bytes(bytes: [u8; 32]) -> ObjectHash {
        ObjectHash(bytes)
    }

    /// Reads 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`NotAHash`] for any other text, upper case included.
    pub fn parse(text: &str) -> Result<ObjectHash, NotAHash> {
        from_hex(text).map(ObjectHash)
    }

    /// 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        to_hex(&self.0)
    }

    /// The same, for those who need it thousands of times a second.
    pub(crate) fn digits(&self) -> [u8; 64] {
        digits(&self.0)
    }

    /// The shard, `objects/AB`, that keeps this object.
    pub fn shard(&self) -> u8 {
        self.0[0]
    }
}

/// 32 bytes as 64 lower-case hex digits: a hash, or a secret.
pub(crate) fn to_hex(bytes: &[u8; 32]) -> String {
    digits(bytes).iter().copied().map(char::from).collect()
}

/// Reads what [`to_hex`] has written.
pub(crate) fn from_hex(text: &str) -> Result<[u8; 32], NotAHash> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return Err(NotAHash);
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn digits(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

fn nibble(digit: u8) -> Result<u8, NotAHash> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotAHash),
    }
}

/// As its 64 hex digits.
impl Serialize for ObjectHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ObjectHash, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        ObjectHash::parse(&text).map_err(D::Error::custom)
    }
}

impl fmt::Display for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectHash({})", self.hex())
    }
}

/// Hashes a stream piece by piece, so that a file of any size costs constant memory.
#[derive(Default)]
pub struct ObjectHasher(Sha256);

impl ObjectHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that was taken.
    pub fn finish(self) -> ObjectHash {
        ObjectHash(self.0.finalize().into())
    }
}

/// SHA-256 over tagged, length-prefixed fields: no two lists of fields give the same bytes, which
/// plain concatenation can't promise.
#[derive(Default)]
pub struct FieldHasher(Sha256);

impl FieldHasher {
    /// Starts a hash of the given kind; the version in `kind` keeps old and new formats apart.
    pub fn new(kind: &str) -> FieldHasher {
        let mut hasher = FieldHasher::default();
        hasher.field("kind", kind.as_bytes());
        hasher
    }

    /// Adds one field.
    pub fn field(&mut self, tag: &str, value: &[u8]) -> &mut FieldHasher {
        for part in [tag.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// The hash of all fields.
    pub fn finish(self) -> ObjectHash {
        ObjectHash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_prints_and_reads_back_and_refuses_other_spellings() {
        let hash = ObjectHash::of(b"abc");
        assert_eq!(hash.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(ObjectHash::parse(&hash.hex()), Ok(hash));
        assert_eq!(ObjectHash::parse(&hash.hex().to_uppercase()), Err(NotAHash));
        assert_eq!(ObjectHash::parse("ba78"), Err(NotAHash));
        assert_eq!(ObjectHash::of(b""), ObjectHash::EMPTY);
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_hash() {
        let hash = |a: &[u8], b: &[u8]| {
            let mut hasher = FieldHasher::new("test 1");
            hasher.field("x", a).field("y", b);
            hasher.finish()
        };
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
    }
}
