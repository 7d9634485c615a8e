//! Face of our own API, `/v1`: typed, strict, and told in the words of RFC 9457 what is wrong (docs/push-api.yaml).

mod apns;
mod fcm;
mod notification;
mod routes;

pub(crate) use routes::router;

use push_domain::{App, DeviceToken, FailReason, JobId, Privacy, Provider, ProviderRequest, Timestamp};

use self::notification::{Channel, Notification};
use crate::event::Label;
use crate::face::{AppName, Draft, Face};
use crate::refusal::Refusal;

/// Adapter of `/v1`.
pub(crate) struct V1;

impl Face for V1 {
    type Draft<'a> = Notification;

    fn read(&self, body: &[u8]) -> Result<Notification, Refusal> {
        Notification::read(body)
    }

    fn request(
        &self,
        draft: &Notification,
        app: &App,
        token: DeviceToken,
        id: JobId,
        now: Timestamp,
    ) -> Result<ProviderRequest, FailReason> {
        match app.provider {
            Provider::Apns => apns::request(draft, token, id, now).map(ProviderRequest::Apns),
            Provider::Fcm => fcm::request(draft, token, now).map(ProviderRequest::Fcm),
        }
    }
}

impl Draft for Notification {
    fn server(&self) -> &str {
        self.server_id.as_deref().unwrap_or_default()
    }

    fn app(&self) -> AppName<'_> {
        AppName::Id(&self.to.app)
    }

    fn device(&self) -> &str {
        &self.to.token
    }

    fn kind(&self) -> push_domain::Kind {
        self.channel.kind()
    }

    fn label(&self) -> Label {
        let is_voip = self.channel == Channel::Voip;
        Label { kind: self.channel.kind(), is_voip, wants_ack: false, app_version: 0 }
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.deadline.map(|deadline| deadline.0)
    }

    fn apply_privacy(self, policy: Privacy) -> Result<Self, FailReason> {
        match policy {
            Privacy::Full => Ok(self),
            Privacy::IdOnlyReject if self.has_content() => Err(FailReason::ContentNotAllowed),
            Privacy::Generic | Privacy::IdOnlyStrip | Privacy::IdOnlyReject => Ok(self.without_words()),
        }
    }

    fn no_such_app(&self) -> Refusal {
        Refusal::because(FailReason::UnknownPlatform, "`to.app` is no app that this licence may push to")
    }
}

#[cfg(test)]
mod tests;
