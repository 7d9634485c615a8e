//! Push request of a Mattermost server: parsing and truncation.

use std::borrow::Cow;

use push_domain::Kind;

use super::fields::{Fields, Slot, Unreadable, read};
use super::text::cut;

/// Longer messages are cut to one byte less than the peer's limit, as the peer does.
const MESSAGE_LIMIT: usize = 2047;
const CUT_MESSAGE: usize = 2046;
const CHANNEL_NAME_LIMIT: usize = 64;
const UNSIGNED: &str = "NO_SIGNATURE";

/// The fields of `model.PushNotification` that are used. No `Debug`: it holds content.
#[derive(Default)]
pub(crate) struct PushMessage<'a> {
    pub(super) ack_id: Cow<'a, str>,
    pub(super) platform: Cow<'a, str>,
    pub(super) server_id: Cow<'a, str>,
    pub(super) device_id: Cow<'a, str>,
    pub(super) post_id: Cow<'a, str>,
    pub(super) category: Cow<'a, str>,
    pub(super) message: Cow<'a, str>,
    pub(super) badge: i64,
    pub(super) team_id: Cow<'a, str>,
    pub(super) channel_id: Cow<'a, str>,
    pub(super) root_id: Cow<'a, str>,
    pub(super) channel_name: Cow<'a, str>,
    pub(super) kind: Cow<'a, str>,
    pub(super) sub_type: Cow<'a, str>,
    pub(super) transport: Cow<'a, str>,
    pub(super) sender_id: Cow<'a, str>,
    pub(super) sender_name: Cow<'a, str>,
    pub(super) override_username: Cow<'a, str>,
    pub(super) override_icon_url: Cow<'a, str>,
    pub(super) from_webhook: Cow<'a, str>,
    pub(super) version: Cow<'a, str>,
    pub(super) is_crt_enabled: bool,
    pub(super) is_id_loaded: bool,
    pub(super) signature: Cow<'a, str>,
}

impl<'a> Fields<'a> for PushMessage<'a> {
    fn slot(&mut self, name: &str) -> Option<(&'static str, Slot<'_, 'a>)> {
        Some(match name {
            "ack_id" => ("ack_id", Slot::Text(&mut self.ack_id)),
            "platform" => ("platform", Slot::Text(&mut self.platform)),
            "server_id" => ("server_id", Slot::Text(&mut self.server_id)),
            "device_id" => ("device_id", Slot::Text(&mut self.device_id)),
            "post_id" => ("post_id", Slot::Text(&mut self.post_id)),
            "category" => ("category", Slot::Text(&mut self.category)),
            "message" => ("message", Slot::Text(&mut self.message)),
            "badge" => ("badge", Slot::Number(&mut self.badge)),
            "team_id" => ("team_id", Slot::Text(&mut self.team_id)),
            "channel_id" => ("channel_id", Slot::Text(&mut self.channel_id)),
            "root_id" => ("root_id", Slot::Text(&mut self.root_id)),
            "channel_name" => ("channel_name", Slot::Text(&mut self.channel_name)),
            "type" => ("type", Slot::Text(&mut self.kind)),
            "sub_type" => ("sub_type", Slot::Text(&mut self.sub_type)),
            "transport" => ("transport", Slot::Text(&mut self.transport)),
            "sender_id" => ("sender_id", Slot::Text(&mut self.sender_id)),
            "sender_name" => ("sender_name", Slot::Text(&mut self.sender_name)),
            "override_username" => ("override_username", Slot::Text(&mut self.override_username)),
            "override_icon_url" => ("override_icon_url", Slot::Text(&mut self.override_icon_url)),
            "from_webhook" => ("from_webhook", Slot::Text(&mut self.from_webhook)),
            "version" => ("version", Slot::Text(&mut self.version)),
            "is_crt_enabled" => ("is_crt_enabled", Slot::Flag(&mut self.is_crt_enabled)),
            "is_id_loaded" => ("is_id_loaded", Slot::Flag(&mut self.is_id_loaded)),
            "signature" => ("signature", Slot::Text(&mut self.signature)),
            _ => return None,
        })
    }
}

impl<'a> PushMessage<'a> {
    /// Reads a body and cuts what is too long, at the end of a character.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Unreadable> {
        let mut message: Self = read(body)?;
        if message.message.len() > MESSAGE_LIMIT {
            message.message = cut(&message.message, CUT_MESSAGE).to_owned().into();
        }
        if message.channel_name.len() > CHANNEL_NAME_LIMIT {
            message.channel_name = cut(&message.channel_name, CHANNEL_NAME_LIMIT).to_owned().into();
        }
        Ok(message)
    }

    /// Says what the push is for.
    pub(super) fn kind(&self) -> Kind {
        let rings = self.is_voip() || (self.kind == "message" && self.sub_type == "calls");
        if rings { Kind::Call } else { self.labelled_kind() }
    }

    /// Says what the caller wrote that it is for: a call is a message here.
    pub(super) fn labelled_kind(&self) -> Kind {
        match &*self.kind {
            "message" => Kind::Message,
            "clear" => Kind::Clear,
            "update_badge" => Kind::UpdateBadge,
            "session" => Kind::Session,
            "test" => Kind::Test,
            _ => Kind::Other,
        }
    }

    pub(super) fn is_voip(&self) -> bool {
        self.transport == "voip"
    }

    /// The badge to show; -1 means none, and so does everything below.
    pub(super) fn badge(&self) -> Option<i64> {
        (self.badge >= 0).then_some(self.badge)
    }

    pub(super) fn signature(&self) -> &str {
        if self.signature.is_empty() { UNSIGNED } else { &self.signature }
    }

    /// Whether it shows text, as `message` and `session` do.
    pub(super) fn shows_text(&self) -> bool {
        matches!(&*self.kind, "message" | "session")
    }
}
