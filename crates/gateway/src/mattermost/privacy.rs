//! What a licence's privacy policy leaves of a push, before anything of it is queued.
//!
//! With ids only, nothing that a caller wrote passes but what has the form of an id, a known word, or a signature
//! that says nothing else: a caller that puts words where ids belong has them taken out, or is refused.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;
use push_domain::FailReason;
use serde::Deserialize;
use tenant_registry::Privacy;

use super::message::PushMessage;

/// What a phone shows instead of the message.
const NEW_MESSAGE: &str = "You have a new message";
/// Categories that the apps know.
const CATEGORIES: [&str; 1] = ["CAN_REPLY"];
const KINDS: [&str; 5] = ["message", "clear", "update_badge", "session", "test"];
const SUB_TYPES: [&str; 1] = ["calls"];
const TRANSPORTS: [&str; 1] = ["voip"];
/// A server's own test push says "2".
const VERSIONS: [&str; 3] = ["v1", "v2", "2"];
/// The headers of a server's signature.
const HEADERS: [&[u8]; 2] = [br#"{"alg":"ES256","typ":"JWT"}"#, br#"{"typ":"JWT","alg":"ES256"}"#];
/// Seconds: far enough.
const LATEST_TIME: u64 = 10_000_000_000;

/// Applies the policy to a push.
pub(super) fn applied(push: PushMessage<'_>, policy: Privacy) -> Result<PushMessage<'_>, FailReason> {
    match policy {
        Privacy::Full => Ok(push),
        Privacy::Generic => Ok(generic(push)),
        Privacy::IdOnlyReject if has_content(&push) => Err(FailReason::ContentNotAllowed),
        Privacy::IdOnlyStrip | Privacy::IdOnlyReject => Ok(ids_only(push)),
    }
}

/// Replaces the message and takes out names; what the app needs to open the right channel stays.
fn generic(push: PushMessage<'_>) -> PushMessage<'_> {
    let message = if push.message.is_empty() { "" } else { NEW_MESSAGE };
    let empty = Cow::Borrowed("");
    PushMessage {
        message: message.into(),
        channel_name: empty.clone(),
        sender_name: empty.clone(),
        override_username: empty.clone(),
        override_icon_url: empty.clone(),
        from_webhook: empty,
        ..push
    }
}

/// Keeps what has the form of an id or is a known word; a message becomes one that its app fetches by id.
fn ids_only(push: PushMessage<'_>) -> PushMessage<'_> {
    let generic = generic(push);
    let is_message = generic.shows_text();
    let ack_id = id(generic.ack_id);
    PushMessage {
        signature: signature(generic.signature, &ack_id, &generic.device_id),
        ack_id,
        server_id: id(generic.server_id),
        post_id: id(generic.post_id),
        team_id: id(generic.team_id),
        channel_id: id(generic.channel_id),
        root_id: id(generic.root_id),
        sender_id: id(generic.sender_id),
        category: one_of(&generic.category, &CATEGORIES),
        kind: one_of(&generic.kind, &KINDS),
        sub_type: one_of(&generic.sub_type, &SUB_TYPES),
        transport: one_of(&generic.transport, &TRANSPORTS),
        version: one_of(&generic.version, &VERSIONS),
        is_id_loaded: is_message,
        badge: generic.badge.clamp(-1, 9999),
        ..generic
    }
}

/// Says whether a push holds anything that a user could read.
fn has_content(push: &PushMessage<'_>) -> bool {
    let names = [
        &push.channel_name,
        &push.sender_name,
        &push.override_username,
        &push.override_icon_url,
        &push.from_webhook,
    ];
    // A server that sends ids only writes a fixed sentence as its message.
    let says_more = !push.message.is_empty() && !push.is_id_loaded;
    let ids = [
        &push.ack_id,
        &push.server_id,
        &push.post_id,
        &push.team_id,
        &push.channel_id,
        &push.root_id,
        &push.sender_id,
    ];
    let words: [(&str, &[&'static str]); 5] = [
        (&push.category, &CATEGORIES),
        (&push.kind, &KINDS),
        (&push.sub_type, &SUB_TYPES),
        (&push.transport, &TRANSPORTS),
        (&push.version, &VERSIONS),
    ];
    let signed = signature(Cow::Borrowed(&*push.signature), &push.ack_id, &push.device_id);
    says_more
        || names.iter().any(|name| !name.is_empty())
        || !ids.iter().all(|text| is_id(text))
        || !words.iter().all(|(word, known)| word.is_empty() || known.contains(word))
        || signed != push.signature
}

/// Mattermost's ids are 26 letters and digits (its own base 32); nothing counts as one too.
fn is_id(text: &str) -> bool {
    text.is_empty()
        || (text.len() == 26 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

fn id(text: Cow<'_, str>) -> Cow<'_, str> {
    if is_id(&text) { text } else { Cow::Borrowed("") }
}

fn one_of<'a>(text: &str, known: &[&'static str]) -> Cow<'a, str> {
    known.iter().find(|word| **word == text).map_or(Cow::Borrowed(""), |word| Cow::Borrowed(*word))
}

/// Keeps a signed token (JWT) that says which push and device it is for, and when, and nothing else.
fn signature<'a>(text: Cow<'a, str>, ack: &str, device: &str) -> Cow<'a, str> {
    let mut parts = text.split('.').map(|part| BASE64URL_NOPAD.decode(part.as_bytes()));
    let plain = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(header)), Some(Ok(claims)), Some(Ok(signature)), None) => {
            // 64 bytes of ECDSA on P-256: that much cannot be told from chance.
            HEADERS.contains(&&*header) && are_plain(&claims, ack, device) && signature.len() == 64
        }
        _ => false,
    };
    if plain { text } else { Cow::Borrowed("") }
}

/// The claims of a server's signature. Deriving refuses what is unknown or said twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims<'a> {
    #[serde(borrow)]
    ack_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    device_id: Option<Cow<'a, str>>,
    exp: Option<u64>,
    iat: Option<u64>,
    nbf: Option<u64>,
}

fn are_plain(claims: &[u8], ack: &str, device: &str) -> bool {
    // Blanks and escapes have room for words.
    if claims.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'\\') {
        return false;
    }
    let Ok(claims) = serde_json::from_slice::<Claims<'_>>(claims) else { return false };
    let known = |claim: Option<Cow<'_, str>>, expected: &str| claim.is_none_or(|claim| claim == expected);
    let times = [claims.exp, claims.iat, claims.nbf];
    known(claims.ack_id, ack)
        && known(claims.device_id, device)
        && times.into_iter().flatten().all(|time| time < LATEST_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_push() -> PushMessage<'static> {
        let body: &'static [u8] = br#"{"ack_id":"aaaaaaaaaaaaaaaaaaaaaaaaaa","server_id":"bbbbbbbbbbbbbbbbbbbbbbbbbb",
            "device_id":"token","platform":"android_rn","type":"message","message":"canary","channel_name":"canary",
            "sender_name":"canary","override_username":"canary","override_icon_url":"canary","from_webhook":"canary",
            "channel_id":"cccccccccccccccccccccccccc","post_id":"dddddddddddddddddddddddddd","category":"CAN_REPLY","badge":3}"#;
        PushMessage::parse(body).unwrap()
    }

    #[test]
    fn generic_keeps_ids_and_replaces_words() {
        let push = applied(a_push(), Privacy::Generic).ok().unwrap();

        assert_eq!((&*push.message, &*push.channel_name, &*push.sender_name), (NEW_MESSAGE, "", ""));
        assert_eq!((&*push.channel_id, push.badge), ("cccccccccccccccccccccccccc", 3));
    }

    #[test]
    fn ids_only_strips_or_rejects() {
        let stripped = applied(a_push(), Privacy::IdOnlyStrip).ok().unwrap();
        let rejected = applied(a_push(), Privacy::IdOnlyReject).err();
        let mut bare = applied(a_push(), Privacy::IdOnlyStrip).ok().unwrap();
        bare.message = "You've received a new message.".into();

        assert!(stripped.is_id_loaded && stripped.message == NEW_MESSAGE);
        assert_eq!(rejected, Some(FailReason::ContentNotAllowed));
        let passed = applied(bare, Privacy::IdOnlyReject).ok().unwrap();
        assert_eq!(passed.message, NEW_MESSAGE);
    }

    #[test]
    fn words_where_ids_belong_are_taken_out() {
        for text in [
            "canary",
            "Aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "a canary of twenty six cha",
        ] {
            assert_eq!(id(text.into()), "", "{text}");
        }
        assert_eq!(id("8wfsxkz1ntr1ue8yf6sba9anqc".into()), "8wfsxkz1ntr1ue8yf6sba9anqc");
    }

    #[test]
    fn a_signature_says_nothing_but_ids_and_times() {
        const ACK: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let signed = |claims: &str, bytes: usize| {
            format!(
                "{}.{}.{}",
                part(r#"{"alg":"ES256","typ":"JWT"}"#),
                part(claims),
                BASE64URL_NOPAD.encode(&vec![7; bytes])
            )
        };
        let good = signed(&format!(r#"{{"ack_id":"{ACK}","device_id":"token","exp":1}}"#), 64);
        assert_eq!(signature((&*good).into(), ACK, "token"), good);

        for bad in [
            signed(r#"{"ack_id":"canary"}"#, 64),
            signed(r#"{"ack_id":"bbbbbbbbbbbbbbbbbbbbbbbbbb"}"#, 64),
            signed(&format!(r#"{{"ack_id":"canary","ack_id":"{ACK}"}}"#), 64),
            signed(r#"{"device_id":"\u0074oken"}"#, 64),
            signed("{ \t}", 64),
            signed(r#"{"canary":1}"#, 64),
            signed(r#"{"exp":{"canary":1}}"#, 64),
            signed(r#"{"exp":99999999999}"#, 64),
            signed("{}", 65),
            good.replacen(
                &part(r#"{"alg":"ES256","typ":"JWT"}"#),
                &part(r#"{"alg":"canary","alg":"ES256"}"#),
                1,
            ),
            "canary".into(),
            "a.b.c".into(),
        ] {
            assert_eq!(signature((&*bad).into(), ACK, "token"), "", "{bad}");
        }
    }

    #[test]
    fn a_word_in_any_field_is_refused_where_ids_only_are_to_come() {
        let bare = || {
            let mut push = applied(a_push(), Privacy::IdOnlyStrip).ok().unwrap();
            push.message = "".into();
            push
        };
        assert!(applied(bare(), Privacy::IdOnlyReject).is_ok());
        let put: [fn(&mut PushMessage<'_>); 6] = [
            |push| push.category = "canary".into(),
            |push| push.kind = "canary".into(),
            |push| push.sub_type = "canary".into(),
            |push| push.transport = "canary".into(),
            |push| push.version = "canary".into(),
            |push| push.signature = "canary".into(),
        ];
        for put in put {
            let mut push = bare();
            put(&mut push);
            assert_eq!(applied(push, Privacy::IdOnlyReject).err(), Some(FailReason::ContentNotAllowed));
        }
    }
}
