//! FCM message of a `/v1` notification: data only, the app draws it.

use push_domain::{Content, DeviceToken, FailReason, FcmRequest, Timestamp};
use serde_json::{Map, Value, json};

use super::notification::{Channel, Notification, Urgency};

/// Builds the finished request; one that does not fit is refused later, with its size.
pub(super) fn request(
    draft: &Notification,
    token: DeviceToken,
    now: Timestamp,
) -> Result<FcmRequest, FailReason> {
    let data = data(draft);
    let data_bytes = data.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    // High priority is for what the user sees: Google lowers that of an app that shows nothing.
    let is_normal = draft.channel == Channel::Background || draft.priority == Some(Urgency::Normal);
    let priority = if is_normal && draft.channel != Channel::Voip { "normal" } else { "high" };
    let mut android = Map::from_iter([("priority".to_owned(), json!(priority))]);
    if let Some(at) = draft.expires_at(now) {
        let left = at.millis().saturating_sub(now.millis()) / 1000;
        android.insert("ttl".into(), json!(format!("{left}s")));
    }
    if let Some(id) = &draft.collapse_id {
        android.insert("collapse_key".into(), json!(id));
    }
    let body = json!({ "message": { "token": token.expose(), "android": android, "data": data } });
    let body = serde_json::to_vec(&body).map_err(|_| FailReason::Internal)?;
    Ok(FcmRequest { token, body: Content::new(body), data_bytes })
}

/// Texts only.
fn data(draft: &Notification) -> Map<String, Value> {
    let channel = match draft.channel {
        Channel::Voip => "voip",
        Channel::Message => "message",
        Channel::Background => "background",
    };
    let mut data = Map::from_iter([("channel".to_owned(), json!(channel))]);
    let (badge, sealed) =
        (draft.badge.map(|it| it.to_string()), draft.content.as_ref().map(|it| it.sealed.clone()));
    for (name, value) in [
        ("title", &draft.title),
        ("subtitle", &draft.subtitle),
        ("body", &draft.body),
        ("badge", &badge),
        ("sound", &draft.sound),
        ("category", &draft.category),
        ("thread", &draft.thread),
        ("image", &draft.image),
        ("sealed", &sealed),
        ("call_id", &draft.call_id),
    ] {
        if let Some(value) = value {
            data.insert(name.into(), json!(value));
        }
    }
    data.extend(draft.data.iter().map(|(key, value)| (key.clone(), json!(value))));
    data
}
