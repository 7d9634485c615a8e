//! Privacy filter: what a licence's policy leaves of a push, before anything of it is queued.
//!
//! Nothing is taken out here: what passes is put in, field by field, by what the kind of push needs. It has the form of an
//! id, is a known word, a number within bounds or a signature that says nothing else. docs/SECURITY.md says how many bits that
//! leaves to a caller who means to say something.

mod id;
mod signature;

use std::borrow::Cow;

use push_domain::{FailReason, Kind, Privacy};

use self::id::is_id;
use self::signature::signature;
use super::message::PushMessage;

/// What a phone shows instead of the message.
const NEW_MESSAGE: &str = "You have a new message";
/// What it shows when a server says that its session is over; a server's own sentence names its site. No colon: the apps cut
/// texts at one.
const SESSION_EXPIRED: &str = "Your session has expired. Log in to keep receiving notifications.";
const KINDS: [&str; 5] = ["message", "clear", "update_badge", "session", "test"];
/// Categories that the apps know.
const CATEGORIES: [&str; 1] = ["CAN_REPLY"];
const SUB_TYPES: [&str; 1] = ["calls"];
const TRANSPORTS: [&str; 1] = ["voip"];
/// A server's own test push says "2".
const VERSIONS: [&str; 3] = ["v1", "v2", "2"];
const HIGHEST_BADGE: i64 = 9999;

/// Applies the policy to a push.
pub(super) fn applied(push: PushMessage<'_>, policy: Privacy) -> Result<PushMessage<'_>, FailReason> {
    match policy {
        Privacy::Full => Ok(push),
        Privacy::Generic => Ok(listed(push, false)),
        Privacy::IdOnlyReject if has_content(&push) => Err(FailReason::ContentNotAllowed),
        Privacy::IdOnlyStrip | Privacy::IdOnlyReject => Ok(listed(push, true)),
    }
}

/// Puts together what passes. It names every field, so that a new one is decided here before it compiles.
///
/// With `ids_only` a message becomes one that its app fetches by id.
fn listed(push: PushMessage<'_>, ids_only: bool) -> PushMessage<'_> {
    let rings = push.is_voip();
    // What rings is a message, whatever else it says: it gets no further field by another name.
    let kind = if rings { Kind::Message } else { push.labelled_kind() };
    let (is_message, clears) = (kind == Kind::Message, kind == Kind::Clear);
    let counts = is_message || clears || kind == Kind::UpdateBadge;
    let ack_id = id_if(kind != Kind::Test, push.ack_id);
    PushMessage {
        signature: signature(push.signature, &ack_id, &push.device_id),
        ack_id,
        server_id: id_if(true, push.server_id),
        channel_id: id_if(is_message || clears, push.channel_id),
        root_id: id_if(is_message || clears, push.root_id),
        post_id: id_if(is_message, push.post_id),
        team_id: id_if(is_message && !rings, push.team_id),
        // Of a message that is fetched by id it names who receives it.
        sender_id: id_if(is_message && (rings || !ids_only), push.sender_id),
        message: match kind {
            Kind::Message => NEW_MESSAGE,
            Kind::Session => SESSION_EXPIRED,
            Kind::Clear | Kind::UpdateBadge | Kind::Test | Kind::Call | Kind::Other => "",
        }
        .into(),
        badge: match kind {
            _ if counts => push.badge.clamp(-1, HIGHEST_BADGE),
            Kind::Session => 0,
            _ => -1,
        },
        is_crt_enabled: (is_message || clears) && push.is_crt_enabled,
        is_id_loaded: is_message && (ids_only || push.is_id_loaded),
        kind: one_of(true, &push.kind, &KINDS),
        category: one_of(is_message, &push.category, &CATEGORIES),
        sub_type: one_of(is_message, &push.sub_type, &SUB_TYPES),
        version: one_of(kind != Kind::Other, &push.version, &VERSIONS),
        transport: one_of(true, &push.transport, &TRANSPORTS),
        platform: push.platform,
        device_id: push.device_id,
        channel_name: "".into(),
        sender_name: "".into(),
        override_username: "".into(),
        override_icon_url: "".into(),
        from_webhook: "".into(),
    }
}

/// Says whether a push holds anything that has no form of its own: what a user could read, above all. What a kind of push does
/// not need and says nothing is no reason to refuse it.
fn has_content(push: &PushMessage<'_>) -> bool {
    let PushMessage {
        ack_id,
        server_id,
        post_id,
        team_id,
        channel_id,
        root_id,
        sender_id,
        category,
        kind,
        sub_type,
        transport,
        version,
        channel_name,
        sender_name,
        override_username,
        override_icon_url,
        from_webhook,
        message,
        is_id_loaded,
        signature: signed,
        device_id,
        platform: _,
        badge: _,
        is_crt_enabled: _,
    } = push;
    // A server that sends ids only writes a fixed sentence as its message, and of a session its own; ours replaces both.
    let says_more = !message.is_empty() && kind != "session" && !(kind == "message" && *is_id_loaded);
    let names = [channel_name, sender_name, override_username, override_icon_url, from_webhook];
    let ids = [ack_id, server_id, post_id, team_id, channel_id, root_id, sender_id];
    let words: [(&str, &[&str]); 5] = [
        (category, &CATEGORIES),
        (kind, &KINDS),
        (sub_type, &SUB_TYPES),
        (transport, &TRANSPORTS),
        (version, &VERSIONS),
    ];
    says_more
        || names.iter().any(|name| !name.is_empty())
        || ids.iter().any(|id| !id.is_empty() && !is_id(id))
        || words.iter().any(|(word, known)| !word.is_empty() && !known.contains(word))
        || signature(Cow::Borrowed(&**signed), ack_id, device_id) != *signed
}

fn id_if(is_needed: bool, text: Cow<'_, str>) -> Cow<'_, str> {
    if is_needed && is_id(&text) { text } else { Cow::Borrowed("") }
}

fn one_of<'a>(is_needed: bool, text: &str, known: &[&'static str]) -> Cow<'a, str> {
    let word = known.iter().find(|word| is_needed && **word == text);
    word.map_or(Cow::Borrowed(""), |word| Cow::Borrowed(*word))
}

#[cfg(test)]
mod tests;
