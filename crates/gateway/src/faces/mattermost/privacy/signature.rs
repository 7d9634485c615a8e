//! Validation of a server's push signature (JWT): it may say nothing but which push and device it is for.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;

/// `{"alg":"ES256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9";
/// ECDSA on P-256: that much cannot be told from chance.
const SIGNATURE_LEN: usize = 64;

/// Keeps a signed token (JWT) that says which push and device it is for and nothing else, in the bytes that a server writes;
/// takes out any other. Mattermost's tokens bear no times.
pub(super) fn signature<'a>(text: Cow<'a, str>, ack: &str, device: &str) -> Cow<'a, str> {
    let claims = [
        format!(r#"{{"ack_id":"{ack}","device_id":"{device}"}}"#),
        format!(r#"{{"device_id":"{device}","ack_id":"{ack}"}}"#),
    ];
    let is_plain = |claims: &String| {
        let rest = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('.'));
        let rest = rest.and_then(|rest| rest.strip_prefix(&*BASE64URL_NOPAD.encode(claims.as_bytes())));
        let free = rest.and_then(|rest| BASE64URL_NOPAD.decode(rest.strip_prefix('.')?.as_bytes()).ok());
        free.is_some_and(|free| free.len() == SIGNATURE_LEN)
    };
    let is_plain = !ack.is_empty() && claims.iter().any(is_plain);
    if is_plain { text } else { Cow::Borrowed("") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: &str = "8wfsxkz1ntr1ue8yf6sba9anqc";

    fn signed(claims: &str, bytes: usize) -> String {
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        format!("{HEADER}.{}.{}", part(claims.as_bytes()), part(&vec![7; bytes]))
    }

    fn passes(text: &str) -> bool {
        !signature(text.into(), ACK, "token").is_empty()
    }

    #[test]
    fn a_signature_that_differs_in_any_byte_of_its_header_or_claims_is_taken_out() {
        let good = signed(&format!(r#"{{"ack_id":"{ACK}","device_id":"token"}}"#), 64);
        assert!(passes(&good));
        assert!(passes(&signed(&format!(r#"{{"device_id":"token","ack_id":"{ACK}"}}"#), 64)));

        let signature_at = good.rfind('.').unwrap();
        for at in 0..=signature_at {
            let mut changed = good.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!passes(std::str::from_utf8(&changed).unwrap()), "byte {at}");
        }
        for bad in [
            signed(&format!(r#"{{"ack_id":"{ACK}","device_id":"token","exp":1}}"#), 64),
            signed(&format!(r#"{{"ack_id":"{ACK}","ack_id":"{ACK}","device_id":"token"}}"#), 64),
            signed(&format!(r#"{{"ack_id": "{ACK}","device_id":"token"}}"#), 64),
            signed(r#"{"ack_id":"canary","device_id":"token"}"#, 64),
            signed("{}", 64),
            signed(&format!(r#"{{"ack_id":"{ACK}","device_id":"token"}}"#), 63),
            signed(&format!(r#"{{"ack_id":"{ACK}","device_id":"token"}}"#), 65),
            format!("{good}.canary"),
            format!("{}x", &good[..good.len() - 1]),
            "canary".into(),
        ] {
            assert!(!passes(&bad), "{bad}");
        }
    }

    #[test]
    fn a_signature_of_no_receipt_says_nothing_and_is_taken_out() {
        let text = signed(r#"{"ack_id":"","device_id":"token"}"#, 64);

        assert_eq!(signature(text.into(), "", "token"), "");
    }
}
