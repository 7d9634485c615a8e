//! `Face` and `Draft` of Mattermost: a stock server's push, as the pipeline asks for it.

use push_domain::{App, DeviceToken, FailReason, JobId, Kind, Privacy, Provider, ProviderRequest, Timestamp};

use super::message::PushMessage;
use super::{apns, fcm, platform, privacy};
use crate::MattermostConfig;
use crate::event::Label;
use crate::face::{AppName, Draft, Face};
use crate::refusal::Refusal;

/// The most that is repeated of what a caller wrote.
const MAX_ECHO_CHARACTERS: usize = 64;

/// Mattermost face: the dialect of mattermost-push-proxy.
pub(crate) struct Mattermost {
    config: MattermostConfig,
}

impl Mattermost {
    pub(crate) const fn new(config: MattermostConfig) -> Self {
        Self { config }
    }
}

impl Face for Mattermost {
    type Draft<'a> = PushMessage<'a>;

    /// Checks in the peer's order, and says what the peer says.
    fn read<'a>(&self, body: &'a [u8]) -> Result<PushMessage<'a>, Refusal> {
        let bad = |text: String| Refusal::verbatim(FailReason::BadRequest, text);
        let push =
            PushMessage::parse(body).map_err(|why| bad(format!("Failed to read message body: {why}")))?;
        if push.server_id.is_empty() {
            return Err(bad("Failed because of missing server Id".to_owned()));
        }
        if push.device_id.is_empty() {
            let server = echo(&push.server_id);
            return Err(bad(format!("Failed because of missing device Id serverId={server}")));
        }
        Ok(push)
    }

    fn request(
        &self,
        push: &PushMessage<'_>,
        app: &App,
        token: DeviceToken,
        id: JobId,
        now: Timestamp,
    ) -> Result<ProviderRequest, FailReason> {
        let (_, version) = platform::split(&push.platform);
        match app.provider {
            Provider::Apns => {
                apns::request(push, version, token, id, now, &self.config).map(ProviderRequest::Apns)
            }
            Provider::Fcm => fcm::request(push, token, &self.config).map(ProviderRequest::Fcm),
        }
    }
}

impl Draft for PushMessage<'_> {
    fn server(&self) -> &str {
        &self.server_id
    }

    fn app(&self) -> AppName<'_> {
        AppName::Platform(platform::split(&self.platform).0)
    }

    fn device(&self) -> &str {
        &self.device_id
    }

    fn kind(&self) -> Kind {
        Self::kind(self)
    }

    /// By the type that the caller wrote: the peer counts a call as the message that it is.
    fn label(&self) -> Label {
        Label {
            kind: self.labelled_kind(),
            is_voip: self.is_voip(),
            wants_ack: !self.ack_id.is_empty(),
            app_version: platform::split(&self.platform).1,
        }
    }

    fn apply_privacy(self, policy: Privacy) -> Result<Self, FailReason> {
        privacy::applied(self, policy)
    }

    fn no_such_app(&self) -> Refusal {
        let (platform, server) = (echo(platform::split(&self.platform).0), echo(&self.server_id));
        Refusal::verbatim(
            FailReason::UnknownPlatform,
            format!(
                "Did not send message because of missing platform property type={platform} serverId={server}"
            ),
        )
    }
}

/// Repeats a little of what the caller wrote, as the peer's texts do.
fn echo(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_ECHO_CHARACTERS).collect()
}
