//! The form of a licence key: `hpns_<region>_<kid>_<secret><crc>`.
//!
//! The prefix lets secret scanners find it, the CRC-32 rejects typos without asking anybody, and the
//! alphabet is safe in a URL path, in userinfo and in a header.

use std::fmt;

use aws_lc_rs::rand;
use secrecy::{ExposeSecret, SecretString};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &str = "hpns_";
const KID_CHARACTERS: usize = 12;
const SECRET_CHARACTERS: usize = 43;
const CRC_CHARACTERS: usize = 6;

/// A licence key, well formed. Whether it is one of ours, only the registry knows.
#[derive(Clone)]
pub struct LicenceKey {
    text: SecretString,
    region_length: usize,
}

/// A text that cannot be a licence key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a licence key has the form hpns_<region>_<12 characters>_<49 characters> and a check sum")]
pub struct InvalidKey;

impl LicenceKey {
    /// Makes a key with 256 random bits from the operating system.
    #[must_use]
    pub fn generate(region: &str) -> Self {
        let (kid, secret) = (random_text(KID_CHARACTERS), random_text(SECRET_CHARACTERS));
        let body = format!("hpns_{region}_{kid}_{secret}");
        let crc = base62(crc32fast::hash(body.as_bytes())).map(char::from);
        Self { text: (body + &String::from_iter(crc)).into(), region_length: region.len() }
    }

    /// Parses a key that a caller presents.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.split('_');
        let (Some("hpns"), Some(region), Some(kid), Some(rest), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidKey);
        };
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric());
        let lengths = (1..=16).contains(&region.len())
            && kid.len() == KID_CHARACTERS
            && rest.len() == SECRET_CHARACTERS + CRC_CHARACTERS;
        if !lengths || !plain(region) || !plain(kid) || !plain(rest) {
            return Err(InvalidKey);
        }
        let (body, crc) = text.split_at(text.len() - CRC_CHARACTERS);
        if base62(crc32fast::hash(body.as_bytes())) != crc.as_bytes() {
            return Err(InvalidKey);
        }
        Ok(Self { text: text.into(), region_length: region.len() })
    }

    /// Returns the public part, by which the key is found.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.expose()[PREFIX.len() + self.region_length + 1..][..KID_CHARACTERS]
    }

    /// Returns the region that the key names, as a hint for people.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.expose()[PREFIX.len()..][..self.region_length]
    }

    /// Gives the whole key to the one place that shows or hashes it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for LicenceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LicenceKey").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

/// Draws characters without bias: bytes of 248 and above, which would favour the first eight, are drawn again.
fn random_text(length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes).expect("the operating system's random source does not fail once it is up");
        let fair = bytes.iter().filter(|byte| **byte < 248);
        text.extend(fair.take(length - text.len()).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    text
}

fn base62(mut number: u32) -> [u8; CRC_CHARACTERS] {
    let mut digits = [b'0'; CRC_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_parses_and_fits_into_a_url() {
        let key = LicenceKey::generate("us");

        let parsed = LicenceKey::parse(key.expose()).unwrap();

        assert_eq!(parsed.kid(), key.kid());
        assert!(key.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    }

    #[test]
    fn a_key_with_any_character_changed_is_refused() {
        let key = LicenceKey::generate("de").expose().to_owned();
        for at in 0..key.len() {
            let mut changed = key.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            assert!(LicenceKey::parse(std::str::from_utf8(&changed).unwrap()).is_err(), "at {at}");
        }
    }

    #[test]
    fn a_key_does_not_show_its_secret_in_debug_output() {
        let key = LicenceKey::generate("us");

        assert!(!format!("{key:?}").contains(&key.expose()[22..]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_key_that_reads_the_same_or_none(text in "\\PC*|hpns_[a-z]{2}_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}") {
            if let Ok(key) = LicenceKey::parse(&text) {
                assert_eq!(key.expose(), text);
            }
        }
    }
}
