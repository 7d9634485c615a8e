//! Laws of the whole face, from any bytes to the finished request.

use proptest::prelude::*;
use push_domain::{DeviceToken, FailReason, JobId, Provider, ProviderRequest, Timestamp};
use serde_json::{Value, json};

use super::ack::Ack;
use super::message::PushMessage;
use super::{apns, fcm};
use crate::MattermostConfig;

fn config() -> MattermostConfig {
    MattermostConfig {
        message_ttl_seconds: 0,
        call_ttl_seconds: 30,
        clear_with_normal_priority: false,
        collapse_by_ack_id: true,
    }
}

/// Builds both requests, as far as the push allows.
fn requests(push: &PushMessage<'_>) -> [Result<ProviderRequest, FailReason>; 2] {
    let ios = DeviceToken::parse(Provider::Apns, "ab".repeat(32)).unwrap();
    let android = DeviceToken::parse(Provider::Fcm, "token".into()).unwrap();
    let now = Timestamp::from_millis(1_800_000_000_000);
    [
        apns::request(push, 2, ios, JobId::new(), now, &config()).map(ProviderRequest::Apns),
        fcm::request(push, android, &config()).map(ProviderRequest::Fcm),
    ]
}

fn body(request: &ProviderRequest) -> Value {
    let content = match request {
        ProviderRequest::Apns(request) => request.body.expose(),
        ProviderRequest::Fcm(request) => request.body.expose(),
    };
    serde_json::from_slice(&content).unwrap()
}

proptest! {
    #[test]
    fn any_bytes_are_a_push_or_a_refusal(bytes: Vec<u8>) {
        if let Ok(push) = PushMessage::parse(&bytes) {
            let _ = requests(&push);
        }
        let _ = Ack::parse(&bytes);
    }

    #[test]
    fn any_push_makes_json_within_the_providers_limits(
        kind in "(message|clear|update_badge|session|test|x)",
        transport in "(|voip)",
        message in "(\\PC|:\\+1:|[\"<가👍]){0,1500}",
        channel_name in "\\PC{0,90}",
        category in "\\PC{0,1500}",
        badge in any::<i64>(),
        is_id_loaded: bool,
    ) {
        let fields = json!({
            "server_id": "s", "type": kind, "transport": transport, "message": message, "version": "v2",
            "channel_name": channel_name, "category": category, "badge": badge, "is_id_loaded": is_id_loaded,
        });
        let text = fields.to_string();
        let push = PushMessage::parse(text.as_bytes()).ok().unwrap();
        for request in requests(&push) {
            let request = request.unwrap();
            // What does not fit has no message left to shorten.
            let rest = category.len() + channel_name.len() * 3;
            prop_assert!(request.check().is_ok() || rest > 2500 || transport == "voip");
            prop_assert!(body(&request).is_object());
        }
    }
}

#[test]
fn no_word_of_a_stock_servers_push_leaves_under_a_policy() {
    use crate::faces::laws::{CANARY, no_word_leaves};
    let bodies = ["message", "clear", "update_badge", "session", "test", CANARY].map(|kind| {
        let mut push =
            json!({ "type": kind, "server_id": CANARY, "device_id": "token", "platform": "app", "badge": 1 });
        for field in [
            "ack_id",
            "post_id",
            "category",
            "message",
            "team_id",
            "channel_id",
            "root_id",
            "channel_name",
            "sub_type",
            "transport",
            "sender_id",
            "sender_name",
            "override_username",
            "override_icon_url",
            "from_webhook",
            "version",
            "signature",
        ] {
            push[field] = format!("{CANARY} {field}").into();
        }
        push.to_string()
    });
    no_word_leaves(&super::draft::Mattermost::new(config()), &bodies);
}
