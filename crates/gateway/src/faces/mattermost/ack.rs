//! Delivery receipts of Mattermost (`/api/v1/ack`): a phone tells its server, the server tells us.

use std::borrow::Cow;

use super::fields::{Fields, Slot, Unreadable, read};

/// The fields of `model.PushNotificationAck` that are used.
#[derive(Default)]
pub(super) struct Ack<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) platform: Cow<'a, str>,
    pub(super) kind: Cow<'a, str>,
    received_at: i64,
    is_id_loaded: bool,
    post_id: Cow<'a, str>,
}

impl<'a> Fields<'a> for Ack<'a> {
    fn slot(&mut self, name: &str) -> Option<(&'static str, Slot<'_, 'a>)> {
        Some(match name {
            "id" => ("id", Slot::Text(&mut self.id)),
            "platform" => ("platform", Slot::Text(&mut self.platform)),
            "type" => ("type", Slot::Text(&mut self.kind)),
            "received_at" => ("received_at", Slot::Number(&mut self.received_at)),
            "is_id_loaded" => ("is_id_loaded", Slot::Flag(&mut self.is_id_loaded)),
            "post_id" => ("post_id", Slot::Text(&mut self.post_id)),
            _ => return None,
        })
    }
}

impl<'a> Ack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Unreadable> {
        read(body)
    }

    /// Returns the peer's text for the first field that is missing.
    pub(super) fn missing(&self) -> Option<&'static str> {
        if self.id.is_empty() {
            return Some("Failed because of missing ack Id");
        }
        if self.platform.is_empty() {
            return Some("Failed because of missing ack platform");
        }
        self.kind.is_empty().then_some("Failed because of missing ack type")
    }
}
