//! Tests of `/v1`: what is read, what is refused and how, and what leaves.

use push_domain::{Privacy, Provider};

use super::*;
use crate::faces::laws::{CANARY, leaves, no_word_leaves};

fn body(more: &str) -> String {
    format!(r#"{{"to":{{"app":"app","token":"t"}},"channel":"message"{more}}}"#)
}

fn refused(text: &str) -> String {
    let refusal = V1.read(text.as_bytes()).err().map(|refusal| refusal.text.unwrap_or_default());
    refusal.unwrap_or_default()
}

#[test]
fn a_refusal_names_the_field_and_the_rule_and_repeats_nothing() {
    for (text, told) in [
        (String::new(), "the body has to be a JSON object"),
        ("[".into(), "the body has to be a JSON object"),
        (body(r#","body":"x"}{""#), "the body has to be"),
        (body(r#","canary":1"#), "is no field of a notification"),
        (body(r#","badge":"canary""#), "`badge` does not have the type"),
        (body(r#","badge":100000,"body":"x""#), "`badge` has to be 0 to 99999"),
        (body(r#","ttl":1,"deadline":"2027-01-01T00:00:00Z","body":"x""#), "`deadline` stands for `ttl`"),
        (body(r#","deadline":"canary""#), "`deadline` does not have"),
        (body(r#","collapse_id":"a b","body":"x""#), "`collapse_id` has to be"),
        (body(r#","call_id":"1","body":"x""#), "`call_id` is for the channel `voip`"),
        (body(r#","data":{"aps":"1"}"#), "`data` has keys"),
        (body(r#","data":{"google.x":"1"}"#), "`data` has keys"),
        (body(""), "`title` or `body` or `content` is needed"),
        (r#"{"channel":"voip"}"#.into(), "`to` is missing"),
        (r#"{"to":{"app":"a"},"channel":"voip"}"#.into(), "`to.token` is missing"),
        (body("").replace("message", "canary"), "`channel` does not have"),
    ] {
        let said = refused(&text);
        assert!(said.starts_with("bad_request: ") && said.contains(told), "{text}: {said}");
        assert!(!said.contains("\"canary") && !said.contains("canary\""), "{said}");
    }
}

#[test]
fn no_word_of_it_leaves() {
    let texts =
        ["title", "subtitle", "body", "sound", "category", "thread", "image", "collapse_id", "server_id"];
    let texts = texts.map(|field| format!(r#""{field}":"{CANARY}""#)).join(",");
    let more =
        format!(r#",{texts},"data":{{"{CANARY}":"{CANARY}"}},"content":{{"sealed":"{CANARY}"}},"badge":3"#);
    let call = body(&format!(r#"{more},"call_id":"{CANARY}""#)).replace("\"message\"", "\"voip\"");
    no_word_leaves(&V1, &[body(&more), call, body(&more).replace("\"message\"", "\"background\"")]);
}

#[test]
fn each_channel_leaves_as_its_provider_wants_it() {
    let left = |body: &str, provider| leaves(&V1, body, Privacy::Full, provider).unwrap();
    let message = body(
        r#","title":"T","body":"B","badge":3,"thread":"th","data":{"k":"v"},"content":{"sealed":"eA=="}"#,
    );
    let apns = left(&message, Provider::Apns);
    for part in [
        r#""title":"t""#,
        r#""thread-id":"th""#,
        r#""mutable-content":1"#,
        r#""k":"v""#,
        r#""sealed":"ea==""#,
    ] {
        assert!(apns.contains(part), "{part}: {apns}");
    }
    let fcm = left(&message, Provider::Fcm);
    for part in [r#""priority":"high""#, r#""channel":"message""#, r#""badge":"3""#, r#""k":"v""#] {
        assert!(fcm.contains(part), "{part}: {fcm}");
    }
    let call = body(r#","call_id":"c1","ttl":600"#).replace("\"message\"", "\"voip\"");
    assert!(left(&call, Provider::Fcm).contains(r#""ttl":"30s""#), "nobody rings for longer");
    let late = body(r#","body":"x","deadline":"9999-01-01T00:00:00Z""#);
    assert!(left(&late, Provider::Fcm).contains(r#""ttl":"2419200s""#), "Google takes no more");
    let silent = body(r#","badge":1"#).replace("\"message\"", "\"background\"");
    assert!(left(&silent, Provider::Apns).contains(r#""content-available":1"#));
    assert!(left(&silent, Provider::Fcm).contains(r#""priority":"normal""#));
}
