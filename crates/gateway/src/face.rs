//! What a face (protocol adapter) is to the pipeline: it reads requests of its dialect, and makes the provider's of them.

pub(crate) use push_domain::AppName;
use push_domain::{App, DeviceToken, FailReason, JobId, Kind, Privacy, ProviderRequest, Timestamp};

use crate::event::Label;
use crate::refusal::Refusal;

/// Protocol adapter: reads requests of one dialect, and makes the provider's requests of them.
pub(crate) trait Face: Send + Sync + 'static {
    /// A push as it stands in a body.
    type Draft<'a>: Draft;

    /// Reads a body, and refuses what the dialect does not allow.
    fn read<'a>(&self, body: &'a [u8]) -> Result<Self::Draft<'a>, Refusal>;

    /// Makes the request for the app's provider out of what a policy has left.
    fn request(
        &self,
        draft: &Self::Draft<'_>,
        app: &App,
        token: DeviceToken,
        id: JobId,
        now: Timestamp,
    ) -> Result<ProviderRequest, FailReason>;
}

/// Parsed push of a face, before the privacy policy is applied.
pub(crate) trait Draft: Send + Sized {
    /// The sending server, as it names itself.
    fn server(&self) -> &str;

    /// The app that it is for, by what the dialect calls it.
    fn app(&self) -> AppName<'_>;

    /// The device token, as it was written.
    fn device(&self) -> &str;

    /// What the push is for: decides how long it may take and what goes before it.
    fn kind(&self) -> Kind;

    /// By what it is counted.
    fn label(&self) -> Label;

    /// After which moment it must not be sent, where the caller says so.
    fn deadline(&self) -> Option<Timestamp> {
        None
    }

    /// What a policy lets leave of it. Every word that a user could read, and every field in which a caller could hide one, is
    /// the policy's to decide: `faces::laws` holds each face to it.
    fn apply_privacy(self, policy: Privacy) -> Result<Self, FailReason>;

    /// The refusal for an app that does not exist.
    fn no_such_app(&self) -> Refusal;
}
