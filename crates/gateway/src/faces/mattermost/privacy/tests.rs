//! The laws of the policies, byte by byte in what leaves for Apple and Google.

use proptest::prelude::*;
use proptest::sample::select;
use push_domain::{DeviceToken, JobId, Provider, ProviderRequest, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::MattermostConfig;
use crate::faces::mattermost::{apns, fcm};

const APPLE_TOKEN: &str = "abababababababababababababababababababababababababababababababab";
const IDS: [&str; 7] = ["ack_id", "server_id", "post_id", "team_id", "channel_id", "root_id", "sender_id"];
/// Every field with text in it, but those that choose what a push is and where it goes.
const TEXTS: [&str; 16] = [
    "ack_id",
    "server_id",
    "post_id",
    "team_id",
    "channel_id",
    "root_id",
    "sender_id",
    "category",
    "sub_type",
    "version",
    "channel_name",
    "sender_name",
    "override_username",
    "override_icon_url",
    "from_webhook",
    "signature",
];
const KINDS_AND_OTHERS: [&str; 7] = ["message", "clear", "update_badge", "session", "test", "canary", ""];

fn an_id(number: u8) -> String {
    let symbols = "ybndrfg8ejkmcpqxot1uwisza345h769".as_bytes();
    let mut id = b"8wfsxkz1ntr1ue8yf6sba9anqc".to_vec();
    id[0] = symbols[usize::from(number) % symbols.len()];
    String::from_utf8(id).unwrap()
}

fn signed(ack: &str) -> String {
    let part = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let claims = format!(r#"{{"ack_id":"{ack}","device_id":"{APPLE_TOKEN}"}}"#);
    format!("{}.{}.{}", part(br#"{"alg":"ES256","typ":"JWT"}"#), part(claims.as_bytes()), part(&[7; 64]))
}

/// A push as a stock server with ids only sends it, with every id.
fn stock(kind: &str) -> Value {
    let mut push = json!({
        "device_id": APPLE_TOKEN, "platform": "apple_rn", "type": kind, "version": "v2", "badge": 3,
        "category": "CAN_REPLY", "is_crt_enabled": true, "signature": signed(&an_id(0)),
    });
    for (number, field) in (0..).zip(IDS) {
        push[field] = an_id(number).into();
    }
    match kind {
        "message" => {
            push["message"] = "You've received a new message.".into();
            push["is_id_loaded"] = true.into();
        }
        "session" => push["message"] = "Session Expired: Please log in to canary to continue.".into(),
        _ => {}
    }
    push
}

/// What leaves for Apple and Google of a push: bodies, and what stands in headers.
fn sent(push: &Value, policy: Privacy) -> Result<[String; 2], FailReason> {
    let text = push.to_string();
    let push = applied(PushMessage::parse(text.as_bytes()).ok().unwrap(), policy)?;
    let config = MattermostConfig {
        message_ttl_seconds: 0,
        call_ttl_seconds: 30,
        clear_with_normal_priority: true,
        collapse_by_ack_id: true,
    };
    let ios = DeviceToken::parse(Provider::Apns, APPLE_TOKEN.into()).unwrap();
    let android = DeviceToken::parse(Provider::Fcm, "token".into()).unwrap();
    let now = Timestamp::from_millis(1_800_000_000_000);
    let ios = apns::request(&push, 2, ios, JobId::new(), now, &config).map(ProviderRequest::Apns);
    let android = fcm::request(&push, android, &config).map(ProviderRequest::Fcm);
    Ok([ios, android].map(|request| match request.unwrap() {
        ProviderRequest::Apns(it) => {
            let body = String::from_utf8(it.body.expose().to_vec()).unwrap();
            format!("{:?} {:?} {:?} {body}", it.push_type, it.priority, it.collapse_id)
        }
        ProviderRequest::Fcm(it) => String::from_utf8(it.body.expose().to_vec()).unwrap(),
    }))
}

fn with(mut push: Value, field: &str, text: &str) -> Value {
    push[field] = text.into();
    push
}

proptest! {
    #[test]
    fn a_text_that_is_no_id_and_no_known_word_sends_the_bytes_of_an_empty_field(
        field in select(&TEXTS[..]),
        kind in select(&KINDS_AND_OTHERS[..]),
        rings: bool,
        loaded: bool,
        text in prop_oneof![
            "\\PC{1,80}", "[a-z]{26}", "[ybndrfg8ejkmcpqxot1uwisza345h769]{26}", "[a-z]{3,9}( [a-z]{3,9}){1,6}",
        ],
    ) {
        let known = [&CATEGORIES[..], &SUB_TYPES, &VERSIONS].concat();
        prop_assume!(!is_id(&text) && !known.contains(&&*text));
        let mut push = stock("message");
        push["type"] = kind.into();
        push["transport"] = if rings { "voip" } else { "" }.into();
        push["is_id_loaded"] = loaded.into();
        for policy in [Privacy::Generic, Privacy::IdOnlyStrip] {
            let empty = sent(&with(push.clone(), field, ""), policy);
            prop_assert_eq!(sent(&with(push.clone(), field, &text), policy), empty);
        }
        let refused = sent(&with(push, field, &text), Privacy::IdOnlyReject);
        prop_assert_eq!(refused, Err(FailReason::ContentNotAllowed));
    }

    #[test]
    fn nothing_of_a_message_leaves_whatever_it_says(
        kind in select(&KINDS_AND_OTHERS[..]), one in "\\PC{1,200}", other in "\\PC{1,200}",
    ) {
        let push = |text: &str| with(stock(kind), "message", text);
        for policy in [Privacy::Generic, Privacy::IdOnlyStrip] {
            prop_assert_eq!(sent(&push(&one), policy), sent(&push(&other), policy));
        }
    }
}

#[test]
fn what_a_stock_server_with_ids_only_sends_is_never_refused_and_keeps_what_the_apps_read() {
    for kind in KINDS {
        let push = stock(kind);
        for policy in [Privacy::Generic, Privacy::IdOnlyStrip, Privacy::IdOnlyReject] {
            let [apple, google] = sent(&push, policy).unwrap();
            assert!(apple.contains(&an_id(1)) && google.contains(&an_id(1)), "{kind}: the server");
            let keeps = |field: &str| {
                let number = IDS.iter().position(|it| *it == field).unwrap();
                let id = an_id(u8::try_from(number).unwrap());
                apple.contains(&id) && google.contains(&id)
            };
            assert_eq!(keeps("ack_id"), kind != "test", "{kind}");
            assert_eq!(keeps("channel_id"), ["message", "clear"].contains(&kind), "{kind}");
            assert_eq!(keeps("post_id"), kind == "message", "{kind}");
            assert_eq!(google.contains("NO_SIGNATURE"), kind == "test", "{kind}: the apps want a signature");
        }
    }
}

#[test]
fn a_session_push_says_our_sentence_under_all_three_policies_and_its_own_under_none() {
    let push = stock("session");
    for policy in [Privacy::Generic, Privacy::IdOnlyStrip, Privacy::IdOnlyReject] {
        for body in sent(&push, policy).unwrap() {
            assert!(body.contains(SESSION_EXPIRED) && !body.contains("canary"), "{body}");
            assert!(!body.contains("id_loaded\":true") && !body.contains("id_loaded\":\"true"), "{body}");
        }
    }
    assert!(sent(&push, Privacy::Full).unwrap()[0].contains("canary"), "nothing is touched");
}

#[test]
fn our_sentences_hold_nothing_that_the_apps_cut_at_or_replace() {
    for sentence in [NEW_MESSAGE, SESSION_EXPIRED] {
        assert!(!sentence.contains(':'), "{sentence}");
    }
}

#[test]
fn what_rings_gets_no_field_of_another_kind() {
    for kind in KINDS_AND_OTHERS {
        let push = with(stock(kind), "transport", "voip");
        for body in sent(&push, Privacy::IdOnlyStrip).unwrap() {
            assert!(!body.contains(&an_id(3)), "{kind}: the team, {body}");
        }
    }
}

/// What each policy leaves to a caller who means to say something, in bits: docs/SECURITY.md states it.
#[test]
fn the_stated_capacity_is_the_sum_of_the_list() {
    const ID: f64 = 122.0;
    let signature = 512.0 + 1.0; // And the order of two claims.
    let choices = |count: usize| f64::log2(u32::try_from(count).unwrap().into());
    let (badge, kind, version) = (choices(10_001), choices(KINDS.len() + 1), choices(VERSIONS.len() + 1));
    let word = 1.0;
    // Acknowledgement, server, channel, post, team and root; badge, version, category, sub-type, threads.
    let message = 6.0 * ID + signature + badge + kind + version + 3.0 * word;
    let sums = [
        ("ids only", "message", message),
        ("generic", "message", message + ID + word), // And the sender, and whether it is fetched by id.
        ("both", "call", 6.0 * ID + signature + badge + kind + version + 4.0 * word),
        ("both", "clear", 4.0 * ID + signature + badge + kind + version + word),
        ("both", "badge", 2.0 * ID + signature + badge + kind + version),
        ("both", "session", 2.0 * ID + signature + kind + version),
        ("both", "test", ID + kind + version),
    ];
    let docs = include_str!("../../../../../../docs/SECURITY.md");
    for (policy, kind, bits) in sums {
        let row = format!("| {kind} | {policy} | {:.0} |", bits.ceil());
        assert!(docs.contains(&row), "docs/SECURITY.md has no row {row}");
    }
}
