//! Secret types: device tokens, content and keys that cannot be printed, logged or serialised by accident.

use std::fmt;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::Provider;

/// A device token: the address of one app on one phone. Never printed, never stored.
#[derive(Clone)]
pub struct DeviceToken(SecretString);

/// A device token that its provider cannot have issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Apple's tokens are hexadecimal, of even length, 32 to 200 digits.
    #[error("an APNs device token is 32 to 200 hexadecimal digits, an even number of them")]
    Apns,
    /// Google's tokens are 1 to 4,096 of `A-Z a-z 0-9 _ : . -`.
    #[error("an FCM device token is 1 to 4096 characters of A-Z a-z 0-9 _ : . -")]
    Fcm,
}

impl DeviceToken {
    /// Parses a token as `provider` issues them, so that it is safe in a URL path and in JSON.
    ///
    /// Apple says not to assume a length ("Sending notification requests to APNs"), hence the wide range.
    pub fn parse(provider: Provider, text: String) -> Result<Self, InvalidToken> {
        let bytes = text.as_bytes();
        match provider {
            Provider::Apns => {
                let hex = bytes.iter().all(u8::is_ascii_hexdigit);
                if !hex || !bytes.len().is_multiple_of(2) || !(32..=200).contains(&bytes.len()) {
                    return Err(InvalidToken::Apns);
                }
            }
            Provider::Fcm => {
                let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'-');
                if !bytes.iter().all(plain) || !(1..=4096).contains(&bytes.len()) {
                    return Err(InvalidToken::Fcm);
                }
            }
        }
        Ok(Self(text.into()))
    }

    /// Gives the token to the one place that must send or hash it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceToken(…)")
    }
}

/// What a user would read, as the finished bytes for a provider. Lives in memory only.
#[derive(Clone)]
pub struct Content(Bytes);

impl Content {
    /// Wraps the finished body of a provider request.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self(body.into())
    }

    /// Gives the bytes to the sender; cheap, they are shared.
    #[must_use]
    pub fn expose(&self) -> Bytes {
        self.0.clone()
    }

    /// Returns the size in bytes, which is what providers limit.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// Key material as it was read from a file; wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretBytes(SecretSlice<u8>);

impl SecretBytes {
    /// Takes ownership of key material.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// Gives the key material to the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_could_change_a_url_is_refused() {
        let hex = "ab".repeat(16);
        for junk in ["/", "?", "#", "..", " ", "\n", "%2f", "é", ""] {
            assert!(
                DeviceToken::parse(Provider::Apns, format!("{hex}{junk}ab{junk}")).is_err()
                    || junk.is_empty()
            );
            assert!(DeviceToken::parse(Provider::Fcm, format!("{junk}/")).is_err());
        }
    }

    #[test]
    fn apns_tokens_have_32_to_200_hex_digits_and_an_even_number() {
        for (digits, valid) in
            [(30, false), (31, false), (32, true), (33, false), (64, true), (200, true), (202, false)]
        {
            assert_eq!(DeviceToken::parse(Provider::Apns, "a".repeat(digits)).is_ok(), valid, "{digits}");
        }
    }

    #[test]
    fn fcm_tokens_have_1_to_4096_plain_characters() {
        for (length, valid) in [(0, false), (1, true), (4096, true), (4097, false)] {
            assert_eq!(DeviceToken::parse(Provider::Fcm, "x".repeat(length)).is_ok(), valid, "{length}");
        }
        assert!(DeviceToken::parse(Provider::Fcm, "fV9:APA91b_-.x".into()).is_ok());
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let token = DeviceToken::parse(Provider::Fcm, "canary".into()).unwrap();

        let shown =
            format!("{token:?} {:?} {:?}", Content::new("canary"), SecretBytes::new(b"canary".to_vec()));

        assert!(!shown.contains("canary"), "{shown}");
    }
}
