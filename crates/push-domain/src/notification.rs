//! Notification: one push to one device, parsed and valid, the same for every face.

use std::sync::Arc;

use crate::{App, DeviceId, JobId, ProviderRequest, TenantId};

/// Traffic class of a push, in every dialect: decides which goes first, and what is promised for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrafficClass {
    /// Rings: before all others.
    Call,
    /// Shows something to a person.
    Message,
    /// Shows nothing: badges, and what clears them. It keeps a tenth while others wait.
    Background,
}

impl TrafficClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Call, Self::Message, Self::Background];

    /// Returns the name used in metrics, storage and reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Message => "message",
            Self::Background => "background",
        }
    }
}

/// Kind of a push: what it is for. Bounded, so that it can be a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message that a user should see.
    Message,
    /// A channel was read elsewhere.
    Clear,
    /// The unread count changed.
    UpdateBadge,
    /// A session expired.
    Session,
    /// A server asks whether pushes work.
    Test,
    /// An incoming call that should ring.
    Call,
    /// A type that we do not know; sent all the same.
    Other,
}

impl Kind {
    /// Every kind, in the order of [`Kind::index`].
    pub const ALL: [Self; 7] =
        [Self::Message, Self::Clear, Self::UpdateBadge, Self::Session, Self::Test, Self::Call, Self::Other];

    /// Returns the name used in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Clear => "clear",
            Self::UpdateBadge => "update_badge",
            Self::Session => "session",
            Self::Test => "test",
            Self::Call => "call",
            Self::Other => "other",
        }
    }

    /// Returns the position in [`Kind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Says what kind of attention it gets.
    #[must_use]
    pub const fn class(self) -> TrafficClass {
        match self {
            Self::Call => TrafficClass::Call,
            Self::Message | Self::Session | Self::Test | Self::Other => TrafficClass::Message,
            Self::Clear | Self::UpdateBadge => TrafficClass::Background,
        }
    }

    /// Says whether the push rings: it goes before all others.
    #[must_use]
    pub const fn is_call(self) -> bool {
        matches!(self, Self::Call)
    }
}

/// Notification: one push to one device.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its id from acceptance to answer; re-sends keep it.
    pub id: JobId,
    /// Who pushes.
    pub tenant: TenantId,
    /// To which app.
    pub app: Arc<App>,
    /// To which device, as the ledger knows it.
    pub device: DeviceId,
    /// What for.
    pub kind: Kind,
    /// The finished request for the app's provider.
    pub request: ProviderRequest,
}
