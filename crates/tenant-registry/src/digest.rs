//! The SHA-256 of a licence key: what codes are made of, so that a pepper can be followed by a newer one, and a region can
//! join, without new keys.
//!
//! A key carries 256 random bits, so a slow hash would add nothing but a lever for denial of service. The digest is stored
//! sealed alone (AES-256-GCM, bound to the key's public part): a number of four bytes, a nonce of twelve, the rest.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

const NUMBER_LEN: usize = 4;

/// The SHA-256 of a licence key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Hashes a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        Self(std::array::from_fn(|at| hash.as_ref()[at]))
    }

    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Seals it under a key of that number; `None` only without random bytes.
    pub(crate) fn sealed(&self, number: u32, key: &hmac::Tag, kid: &str) -> Option<Vec<u8>> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        let mut text = self.0.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut text).ok()?;
        Some([&number.to_be_bytes()[..], &nonce.as_ref()[..], &text].concat())
    }

    /// Opens what [`Self::sealed`] made; `None` if it was not made so for this key.
    pub(crate) fn opened(sealed: &[u8], key: &hmac::Tag, kid: &str) -> Option<Self> {
        let (nonce, text) = sealed.get(NUMBER_LEN..)?.split_at_checked(NONCE_LEN)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        let (nonce, mut text) = (Nonce::try_assume_unique_for_key(nonce).ok()?, text.to_vec());
        let digest = key.open_in_place(nonce, Aad::from(kid.as_bytes()), &mut text).ok()?;
        Some(Self((&*digest).try_into().ok()?))
    }
}

/// Whether something is sealed under the key of a number.
pub(crate) fn is_under(sealed: &[u8], number: u32) -> bool {
    sealed.starts_with(&number.to_be_bytes())
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_opens_for_its_own_key_alone() {
        let tag = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"x");
        let digest = KeyDigest::of("a key");
        let sealed = digest.sealed(3, &tag(b"1"), "kid").unwrap();

        assert!(is_under(&sealed, 3) && !is_under(&sealed, 2));
        assert_eq!(KeyDigest::opened(&sealed, &tag(b"1"), "kid"), Some(digest));
        assert_eq!(KeyDigest::opened(&sealed, &tag(b"2"), "kid"), None);
        assert_eq!(KeyDigest::opened(&sealed, &tag(b"1"), "other"), None);
        assert!((0..sealed.len()).all(|end| KeyDigest::opened(&sealed[..end], &tag(b"1"), "kid").is_none()));
    }
}
