//! What a run and its workers have in common and nobody else knows. Whoever connects proves that it knows the secret
//! without telling it: by an HMAC of what the other side has made up for this very connection.

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::Sha256;

use crate::error::{OrIo as _, Result};
use crate::object::{from_hex, to_hex};

/// Bytes of a secret, of a nonce, and of a proof.
pub(super) const LENGTH: usize = 32;

/// Who proves something: a proof of one side is worth nothing to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Worker,
    Coordinator,
}

/// A secret of one run.
#[derive(Clone)]
pub(super) struct Secret([u8; LENGTH]);

/// Bytes that nobody can guess.
///
/// # Errors
/// If the system has none.
pub(super) fn nonce() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    // Up to 256 bytes come whole, or not at all.
    getrandom(&mut bytes, GetRandomFlags::empty()).or_system("get random bytes")?;
    Ok(bytes)
}

impl Secret {
    pub(super) fn new() -> Result<Secret> {
        nonce().map(Secret)
    }

    /// Reads what [`Self::hex`] has written.
    pub(super) fn parse(text: &str) -> Option<Secret> {
        from_hex(text.trim()).ok().map(Secret)
    }

    /// As it is handed to a worker.
    pub(super) fn hex(&self) -> String {
        to_hex(&self.0)
    }

    /// The proof of a side: of what the other side has made up, and what this side says with it.
    pub(super) fn prove(&self, side: Side, nonce: &[u8], said: &[u8]) -> [u8; LENGTH] {
        self.mac(side, nonce, said).finalize().into_bytes().into()
    }

    /// Whether a proof is right. Takes the same time whichever byte is wrong.
    pub(super) fn is_proof(&self, side: Side, nonce: &[u8], said: &[u8], proof: &[u8]) -> bool {
        self.mac(side, nonce, said).verify_slice(proof).is_ok()
    }

    fn mac(&self, side: Side, nonce: &[u8], said: &[u8]) -> Hmac<Sha256> {
        let side: &[u8] = match side {
            Side::Worker => b"worker",
            Side::Coordinator => b"coordinator",
        };
        // A key has the length of a block, filled up with zeroes (RFC 2104).
        let mut key = [0; 64];
        key[..LENGTH].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&key.into());
        for part in [side, nonce, said] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_one_secret_one_side_one_nonce_and_one_sentence() {
        let secret = Secret::new().unwrap();
        let again = Secret::parse(&format!("{}\n", secret.hex())).unwrap();
        let (one, two) = (nonce().unwrap(), nonce().unwrap());
        let proof = secret.prove(Side::Worker, &one, b"hello");
        assert!(again.is_proof(Side::Worker, &one, b"hello", &proof));
        assert!(!secret.is_proof(Side::Coordinator, &one, b"hello", &proof));
        assert!(!secret.is_proof(Side::Worker, &two, b"hello", &proof));
        assert!(!secret.is_proof(Side::Worker, &one, b"hell", &proof));
        assert!(!secret.is_proof(Side::Worker, &one, b"hello", &proof[1..]));
        assert!(!Secret::new().unwrap().is_proof(Side::Worker, &one, b"hello", &proof));
        assert!(Secret::parse("ab").is_none() && Secret::parse(&"xy".repeat(32)).is_none());
    }
}
