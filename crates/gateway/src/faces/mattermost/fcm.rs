//! FCM message of a Mattermost push: data only, the app draws the notification.

use std::borrow::Cow;

use push_domain::{Content, DeviceToken, FailReason, FcmRequest, Kind, MAX_PAYLOAD_BYTES};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::emoji;
use super::message::PushMessage;
use super::text::cut;
use crate::MattermostConfig;

/// What an id-loaded push says instead of a name.
const SOMEONE: &str = "Someone";

/// `message.data`: texts only, in the order in which they are written.
struct Data<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl Data<'_> {
    /// What Google limits: keys and values.
    fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Takes at least `excess` bytes from the message, as far as there is one.
    fn shorten_message(&mut self, excess: usize) {
        if let Some((_, message)) = self.0.iter_mut().find(|(key, _)| *key == "message") {
            let short = cut(message, message.len().saturating_sub(excess)).to_owned();
            *message = Cow::Owned(short);
        }
    }
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    token: &'a str,
    android: Android,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Android {
    priority: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

/// Builds the finished request. A message that does not fit is shortened; a push that does not fit
/// even without its message is refused.
pub(super) fn request(
    push: &PushMessage<'_>,
    token: DeviceToken,
    config: &MattermostConfig,
) -> Result<FcmRequest, FailReason> {
    let mut data = data(push);
    let excess = data.bytes().saturating_sub(MAX_PAYLOAD_BYTES);
    if excess > 0 {
        data.shorten_message(excess);
    }
    let data_bytes = data.bytes();
    let mut body = Vec::with_capacity(1024);
    let message = Message { token: token.expose(), android: android(push.kind(), config), data };
    serde_json::to_writer(&mut body, &Body { message }).map_err(|_| FailReason::Internal)?;
    Ok(FcmRequest { token, body: Content::new(body), data_bytes })
}

/// High priority is for what the user sees: Google lowers that of an app that shows nothing.
fn android(kind: Kind, config: &MattermostConfig) -> Android {
    let priority = match kind {
        Kind::UpdateBadge => "normal",
        Kind::Clear if config.clear_with_normal_priority => "normal",
        Kind::Message | Kind::Clear | Kind::Session | Kind::Test | Kind::Call | Kind::Other => "high",
    };
    let seconds = if kind.is_call() { config.call_ttl_seconds.max(1) } else { config.message_ttl_seconds };
    Android { priority, ttl: (seconds > 0).then(|| format!("{seconds}s")) }
}

fn data<'a>(push: &'a PushMessage<'_>) -> Data<'a> {
    let text = |text: &'a str| Cow::Borrowed(text);
    let mut data = vec![
        ("ack_id", text(&push.ack_id)),
        ("type", text(&push.kind)),
        ("sub_type", text(&push.sub_type)),
        ("version", text(&push.version)),
        ("channel_id", text(&push.channel_id)),
        ("is_crt_enabled", text(if push.is_crt_enabled { "true" } else { "false" })),
        ("server_id", text(&push.server_id)),
        ("category", text(&push.category)),
        ("signature", text(push.signature())),
    ];
    if let Some(badge) = push.badge() {
        data.push(("badge", Cow::Owned(badge.to_string())));
    }
    if !push.root_id.is_empty() {
        data.push(("root_id", text(&push.root_id)));
    }
    if push.is_id_loaded {
        data.extend([
            ("post_id", text(&push.post_id)),
            ("message", text(&push.message)),
            ("id_loaded", text("true")),
            ("sender_id", text(&push.sender_id)),
            ("sender_name", text(SOMEONE)),
            ("team_id", text(&push.team_id)),
        ]);
    } else if push.shows_text() {
        data.extend([
            ("team_id", text(&push.team_id)),
            ("sender_id", text(&push.sender_id)),
            ("sender_name", text(&push.sender_name)),
            ("message", emoji::replaced(&push.message)),
            ("channel_name", text(&push.channel_name)),
            ("post_id", text(&push.post_id)),
            ("override_username", text(&push.override_username)),
            ("override_icon_url", text(&push.override_icon_url)),
            ("from_webhook", text(&push.from_webhook)),
        ]);
    }
    Data(data)
}
