//! APNs payload of a Mattermost push.

use std::time::Duration;

use push_domain::{
    ApnsRequest, CollapseId, Content, DeviceToken, FailReason, JobId, Kind, Priority, PushType, Timestamp,
};
use serde::Serialize;

use super::emoji;
use super::message::PushMessage;
use super::text::shortened;
use crate::MattermostConfig;

#[derive(Serialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Aps<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<Alert<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutable_content: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_available: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Alert<'a> {
    Text(&'a str),
    Parts {
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Standard<'a> {
    aps: Aps<'a>,
    #[serde(rename = "type")]
    kind: &'a str,
    sub_type: &'a str,
    server_id: &'a str,
    is_crt_enabled: bool,
    signature: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_loaded: Option<bool>,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ack_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    team_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sender_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sender_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    post_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    root_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    override_username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    override_icon_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    from_webhook: &'a str,
}

/// A call's payload. The app rejects it without a signature.
#[derive(Serialize)]
struct Voip<'a> {
    aps: Aps<'a>,
    #[serde(rename = "type")]
    kind: &'a str,
    sub_type: &'a str,
    channel_id: &'a str,
    server_id: &'a str,
    post_id: &'a str,
    thread_id: &'a str,
    sender_id: &'a str,
    id_loaded: bool,
    signature: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sender_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ack_id: &'a str,
}

/// Builds the finished request. A message that does not fit is shortened; a push that does not fit
/// even without its message is refused.
pub(super) fn request(
    push: &PushMessage<'_>,
    app_version: i64,
    token: DeviceToken,
    id: JobId,
    now: Timestamp,
    config: &MattermostConfig,
) -> Result<ApnsRequest, FailReason> {
    let push_type = if push.is_voip() { PushType::Voip } else { PushType::Alert };
    let body = match push_type {
        PushType::Voip => to_json(&voip(push))?,
        PushType::Alert | PushType::Background => fitted(push, app_version, push_type.max_payload_bytes())?,
    };
    let kind = push.kind();
    let lasts = |seconds: u64| (seconds > 0).then(|| now.plus(Duration::from_secs(seconds)));
    let expires_at = match push_type {
        PushType::Voip => lasts(config.call_ttl_seconds.max(1)),
        PushType::Alert | PushType::Background => lasts(config.message_ttl_seconds),
    };
    let collapses = config.collapse_by_ack_id && kind == Kind::Message && !push.ack_id.is_empty();
    Ok(ApnsRequest {
        token,
        id,
        push_type,
        priority: if kind == Kind::Clear && config.clear_with_normal_priority {
            Priority::Normal
        } else {
            Priority::High
        },
        expires_at,
        collapse_id: collapses.then(|| CollapseId::new(push.ack_id.to_string()).ok()).flatten(),
        body: Content::new(body),
    })
}

fn fitted(push: &PushMessage<'_>, app_version: i64, limit: usize) -> Result<Vec<u8>, FailReason> {
    let text = if push.is_id_loaded || !push.shows_text() {
        push.message.clone()
    } else {
        emoji::replaced(&push.message)
    };
    let body = to_json(&standard(push, &text, app_version))?;
    if body.len() <= limit {
        return Ok(body);
    }
    let text = shortened(&text, body.len() - limit);
    to_json(&standard(push, text, app_version))
}

fn to_json(payload: &impl Serialize) -> Result<Vec<u8>, FailReason> {
    let mut body = Vec::with_capacity(1024);
    serde_json::to_writer(&mut body, payload).map_err(|_| FailReason::Internal)?;
    Ok(body)
}

fn standard<'a>(push: &'a PushMessage<'_>, text: &'a str, app_version: i64) -> Standard<'a> {
    let aps = aps(push, text, app_version);
    let shows_channel = push.shows_text() && !push.is_id_loaded;
    Standard {
        aps,
        kind: &push.kind,
        sub_type: &push.sub_type,
        server_id: &push.server_id,
        is_crt_enabled: push.is_crt_enabled,
        signature: push.signature(),
        version: (push.is_id_loaded || push.shows_text()).then_some(&push.version),
        id_loaded: push.is_id_loaded.then_some(true),
        channel_name: if shows_channel { &push.channel_name } else { "" },
        ack_id: &push.ack_id,
        channel_id: &push.channel_id,
        team_id: &push.team_id,
        sender_id: &push.sender_id,
        sender_name: &push.sender_name,
        post_id: &push.post_id,
        root_id: &push.root_id,
        override_username: &push.override_username,
        override_icon_url: &push.override_icon_url,
        from_webhook: &push.from_webhook,
    }
}

fn aps<'a>(push: &'a PushMessage<'_>, text: &'a str, app_version: i64) -> Aps<'a> {
    let filled = |text: &'a str| (!text.is_empty()).then_some(text);
    // A badge of 0 would make iOS wipe the notifications of the user's other servers too.
    let keeps_others = push.kind == "clear" && push.badge == 0 && app_version > 1;
    let thread =
        if push.is_crt_enabled && !push.root_id.is_empty() { &push.root_id } else { &push.channel_id };
    let base = Aps {
        badge: if keeps_others { Some(1) } else { push.badge() },
        thread_id: filled(&push.channel_id).map(|_| &**thread),
        ..Aps::default()
    };
    if push.is_id_loaded {
        return Aps {
            alert: Some(Alert::Parts { title: None, body: filled(text) }),
            category: filled(&push.category),
            sound: Some("default"),
            mutable_content: Some(1),
            content_available: Some(1),
            ..base
        };
    }
    if push.shows_text() {
        let titled = !push.channel_name.is_empty() && push.version == "v2";
        return Aps {
            alert: Some(if titled {
                Alert::Parts { title: Some(&push.channel_name), body: filled(text) }
            } else {
                Alert::Text(text)
            }),
            category: filled(&push.category),
            sound: Some("default"),
            mutable_content: Some(1),
            content_available: (push.kind == "message").then_some(1),
            ..base
        };
    }
    Aps { content_available: matches!(&*push.kind, "clear" | "test").then_some(1), ..base }
}

fn voip<'a>(push: &'a PushMessage<'_>) -> Voip<'a> {
    Voip {
        aps: Aps { content_available: Some(1), ..Aps::default() },
        kind: &push.kind,
        sub_type: &push.sub_type,
        channel_id: &push.channel_id,
        server_id: &push.server_id,
        post_id: &push.post_id,
        thread_id: &push.root_id,
        sender_id: &push.sender_id,
        id_loaded: push.is_id_loaded,
        signature: push.signature(),
        sender_name: &push.sender_name,
        channel_name: &push.channel_name,
        ack_id: &push.ack_id,
    }
}
