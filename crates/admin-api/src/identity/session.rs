//! A signed-in browser: a cookie that names an admin token and an end, under our signature. Nothing of it is stored.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use http::header::COOKIE as COOKIES;
use push_domain::{SecretBytes, Timestamp};

/// The cookie's name: behind TLS one that only this very host can set, and only over TLS (RFC 6265bis, 4.1.3).
pub(crate) const fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-hpns_session" } else { "hpns_session" }
}

/// Who is signed in, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The public part of the admin token.
    pub(crate) token: String,
    pub(crate) expires_at: Timestamp,
}

impl Session {
    fn text(&self) -> String {
        format!("{}.{}", self.token, self.expires_at.millis())
    }

    /// Returns the cookie's value.
    pub(crate) fn signed(&self, key: &SecretBytes) -> String {
        let text = self.text();
        let tag = sign(&Key::new(HMAC_SHA256, key.expose()), text.as_bytes());
        format!("{text}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
    }

    /// Reads a cookie's value, if it is ours and its time is not over.
    pub(crate) fn read(value: &str, key: &SecretBytes, now: Timestamp) -> Option<Self> {
        let (text, tag) = value.rsplit_once('.')?;
        let tag = BASE64URL_NOPAD.decode(tag.as_bytes()).ok()?;
        verify(&Key::new(HMAC_SHA256, key.expose()), text.as_bytes(), &tag).ok()?;
        let (token, expires_at) = text.split_once('.')?;
        let expires_at = Timestamp::from_millis(expires_at.parse().ok()?);
        (now < expires_at).then(|| Self { token: token.to_owned(), expires_at })
    }

    /// What forms of this session have to bring, so that no other page can send them.
    pub(crate) fn form_key(&self, key: &SecretBytes) -> [u8; 32] {
        let text = format!("form|{}", self.text());
        let tag = sign(&Key::new(HMAC_SHA256, key.expose()), text.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }
}

/// Returns the session cookie of a request, by the only name that it may have.
pub(super) fn presented(headers: &HeaderMap, is_tls: bool) -> Option<&str> {
    cookie(headers, cookie_name(is_tls))
}

/// Returns a cookie's value.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIES).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn a_session() -> Session {
        Session { token: "abcdefghijkl".into(), expires_at: Timestamp::from_millis(NOW.millis() + 1000) }
    }

    #[test]
    fn a_session_is_read_until_its_end_and_only_under_its_key() {
        let (key, other) = (SecretBytes::new(vec![1; 32]), SecretBytes::new(vec![2; 32]));
        let cookie = a_session().signed(&key);

        assert_eq!(Session::read(&cookie, &key, NOW), Some(a_session()));
        assert_eq!(Session::read(&cookie, &other, NOW), None);
        assert_eq!(Session::read(&cookie, &key, a_session().expires_at), None);
    }

    #[test]
    fn any_changed_character_makes_a_session_nobodys() {
        let key = SecretBytes::new(vec![1; 32]);
        let cookie = a_session().signed(&key);
        for at in 0..cookie.len() {
            let mut changed = cookie.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of a tag has bits that mean nothing; a strict reader refuses them all the same.
            assert_eq!(Session::read(&changed, &key, NOW), None, "at {at}");
        }
    }

    #[test]
    fn a_form_key_is_no_session() {
        let key = SecretBytes::new(vec![1; 32]);

        assert_ne!(
            a_session().signed(&key).rsplit_once('.').unwrap().1,
            BASE64URL_NOPAD.encode(&a_session().form_key(&key))
        );
    }
}
