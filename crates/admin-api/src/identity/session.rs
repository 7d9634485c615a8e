//! Browser sessions: a signed cookie with an admin token's id, a session and its end. The registry keeps a
//! hash of the session, so that it ends here when somebody signs out.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use http::header::COOKIE as COOKIES;
use push_domain::{SecretBytes, Timestamp};

/// The cookie's name: behind TLS one that only this very host can set, and only over TLS (RFC 6265bis, 4.1.3).
pub(crate) const fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-hpns_session" } else { "hpns_session" }
}

/// Browser session: the admin token behind it, its secret and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The public part of the admin token.
    pub(crate) token: String,
    /// 128 random bits that nobody else has.
    secret: [u8; SECRET_LEN],
    pub(crate) expires_at: Timestamp,
}

const SECRET_LEN: usize = 16;

impl Session {
    /// Begins one; `None` where the system has no random bytes.
    pub(crate) fn begin(token: String, expires_at: Timestamp) -> Option<Self> {
        let mut secret = [0; SECRET_LEN];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Some(Self { token, secret, expires_at })
    }

    /// What the registry keeps of it.
    pub(crate) fn id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, &self.secret).as_ref());
        id
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.token, BASE64URL_NOPAD.encode(&self.secret), self.expires_at.millis())
    }

    /// Returns the cookie's value, under the newest key; none where there is no key.
    pub(crate) fn signed(&self, keys: &[SecretBytes]) -> Option<String> {
        let text = self.text();
        let tag = sign(&Key::new(HMAC_SHA256, keys.first()?.expose()), text.as_bytes());
        Some(format!("{text}.{}", BASE64URL_NOPAD.encode(tag.as_ref())))
    }

    /// Reads a cookie's value, if it is ours, under whichever key, and its time is not over.
    pub(crate) fn read(value: &str, keys: &[SecretBytes], now: Timestamp) -> Option<Self> {
        let (text, tag) = value.rsplit_once('.')?;
        let tag = BASE64URL_NOPAD.decode(tag.as_bytes()).ok()?;
        let is_ours =
            |key: &SecretBytes| verify(&Key::new(HMAC_SHA256, key.expose()), text.as_bytes(), &tag).is_ok();
        keys.iter().find(|key| is_ours(key))?;
        let mut parts = text.splitn(3, '.');
        let (token, secret, expires_at) = (parts.next()?, parts.next()?, parts.next()?);
        let secret = BASE64URL_NOPAD.decode(secret.as_bytes()).ok()?.try_into().ok()?;
        let expires_at = Timestamp::from_millis(expires_at.parse().ok()?);
        (now < expires_at).then(|| Self { token: token.to_owned(), secret, expires_at })
    }

    /// What forms of this session have to bring, so that no other page can send them.
    pub(crate) fn form_key(&self) -> [u8; 32] {
        let tag = sign(&Key::new(HMAC_SHA256, &self.secret), b"hpns console form v1");
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }
}

/// Returns the session cookie of a request, by the only name that it may have.
pub(crate) fn presented(headers: &HeaderMap, is_tls: bool) -> Option<&str> {
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
        let expires_at = Timestamp::from_millis(NOW.millis() + 1000);
        Session { token: "abcdefghijkl".into(), secret: [7; 16], expires_at }
    }

    #[test]
    fn a_session_is_read_until_its_end_and_only_under_its_key() {
        let [key, other] = [1, 2].map(|byte| vec![SecretBytes::new(vec![byte; 32])]);
        let cookie = a_session().signed(&key).unwrap();
        let rotated = [other.clone(), key.clone()].concat();
        assert_eq!(Session::read(&cookie, &rotated, NOW), Some(a_session()), "a newer key came on top");
        assert_eq!((a_session().signed(&[]), Session::read(&cookie, &[], NOW)), (None, None));

        assert_eq!(Session::read(&cookie, &key, NOW), Some(a_session()));
        assert_eq!(Session::read(&cookie, &other, NOW), None);
        assert_eq!(Session::read(&cookie, &key, a_session().expires_at), None);
    }

    #[test]
    fn any_changed_character_makes_a_session_nobodys() {
        let key = vec![SecretBytes::new(vec![1; 32])];
        let cookie = a_session().signed(&key).unwrap();
        for at in 0..cookie.len() {
            let mut changed = cookie.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of a tag has bits that mean nothing; a strict reader refuses them all the same.
            assert_eq!(Session::read(&changed, &key, NOW), None, "at {at}");
        }
    }
}
