//! APNs payload of a `/v1` notification.

use push_domain::{
    ApnsRequest, CollapseId, Content, DeviceToken, FailReason, JobId, Priority, PushType, Timestamp,
};
use serde_json::{Map, Value, json};

use super::notification::{Channel, Notification, Urgency};

/// Builds the finished request; one that does not fit is refused later, with its size.
pub(super) fn request(
    draft: &Notification,
    token: DeviceToken,
    id: JobId,
    now: Timestamp,
) -> Result<ApnsRequest, FailReason> {
    let push_type = match draft.channel {
        Channel::Voip => PushType::Voip,
        Channel::Message => PushType::Alert,
        Channel::Background => PushType::Background,
    };
    // Apple refuses a push that shows nothing at any other priority than 5.
    let priority = match (draft.channel, draft.priority) {
        (Channel::Background, _) | (Channel::Message, Some(Urgency::Normal)) => Priority::Normal,
        (Channel::Voip | Channel::Message, _) => Priority::High,
    };
    Ok(ApnsRequest {
        token,
        id,
        push_type,
        priority,
        expires_at: draft.expires_at(now),
        collapse_id: draft.collapse_id.clone().and_then(|id| CollapseId::new(id).ok()),
        body: Content::new(serde_json::to_vec(&payload(draft)).map_err(|_| FailReason::Internal)?),
    })
}

fn payload(draft: &Notification) -> Value {
    let mut body = Map::new();
    body.insert("aps".into(), Value::Object(aps(draft)));
    let sealed = draft.content.as_ref().map(|content| &content.sealed);
    for (name, value) in [("call_id", &draft.call_id), ("image", &draft.image), ("sealed", &sealed.cloned())]
    {
        if let Some(value) = value {
            body.insert(name.into(), json!(value));
        }
    }
    // What rings draws its own screen.
    if draft.channel == Channel::Voip {
        for (name, value) in [("title", &draft.title), ("body", &draft.body)] {
            if let Some(value) = value {
                body.insert(name.into(), json!(value));
            }
        }
    }
    body.extend(draft.data.iter().map(|(key, value)| (key.clone(), json!(value))));
    Value::Object(body)
}

fn aps(draft: &Notification) -> Map<String, Value> {
    let mut aps = Map::new();
    if draft.channel == Channel::Message {
        let mut alert = Map::new();
        for (name, value) in [("title", &draft.title), ("subtitle", &draft.subtitle), ("body", &draft.body)] {
            if let Some(value) = value {
                alert.insert(name.into(), json!(value));
            }
        }
        // Something has to stand there until the app has opened what is sealed.
        if alert.is_empty() {
            alert.insert("body".into(), json!("…"));
        }
        aps.insert("alert".into(), Value::Object(alert));
        if draft.content.is_some() || draft.image.is_some() {
            aps.insert("mutable-content".into(), json!(1));
        }
    }
    if draft.channel == Channel::Background {
        aps.insert("content-available".into(), json!(1));
    }
    if let Some(badge) = draft.badge {
        aps.insert("badge".into(), json!(badge));
    }
    for (name, value) in
        [("sound", &draft.sound), ("category", &draft.category), ("thread-id", &draft.thread)]
    {
        if let Some(value) = value {
            aps.insert(name.into(), json!(value));
        }
    }
    aps
}
