//! Verdict of a worker about one push, its timing, and whose fault it is if it failed.

use std::time::Duration;

use crate::{Answer, FailReason, Reason};

/// Timing of one push, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From acceptance until a worker started.
    pub queued: Duration,
    /// From then until the verdict: pacing, attempts and the waits between them.
    pub sending: Duration,
    /// Of that, the time in which the provider had the push: the sum over all attempts.
    pub provider: Duration,
}

/// Verdict of a worker about one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the caller will be told.
    pub answer: Answer,
    /// The provider's last word, if it was not a plain yes.
    pub reason: Option<Reason>,
    /// How many attempts it took; 0 if nothing was sent.
    pub attempts: u32,
    /// How long it took.
    pub timing: Timing,
}

impl Verdict {
    /// Makes the verdict on a job that was never sent.
    #[must_use]
    pub fn unsent(reason: FailReason) -> Self {
        Self { answer: Answer::Fail(reason), reason: None, attempts: 0, timing: Timing::default() }
    }
}

/// Party that answers for a push that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// This service, and who runs it: its capacity, its credentials, its faults.
    Ours,
    /// Apple or Google: out of reach, out of order, or asking for less.
    Provider,
    /// The caller: its request, its licence, its limits, its device tokens.
    Tenant,
    /// The phone: the app was removed, or the token ended.
    Device,
}

impl Owner {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ours, Self::Provider, Self::Tenant, Self::Device];

    /// Returns the name used in metrics, reports and the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Provider => "provider",
            Self::Tenant => "tenant",
            Self::Device => "device",
        }
    }
}

impl FailReason {
    /// Says who answers for it. Where it can be either, it is ours: docs/API.md has the table.
    #[must_use]
    pub const fn owner(self) -> Owner {
        match self {
            Self::BadRequest
            | Self::BodyTooLarge
            | Self::BadDeviceToken
            | Self::PayloadTooLarge
            | Self::LicenceMissing
            | Self::LicenceUnknown
            | Self::LicenceInactive
            | Self::LicenceExpired
            | Self::LicenceSuspended
            | Self::LicenceNeedsTls
            | Self::ServerNotBound
            | Self::ContentNotAllowed
            | Self::WrongRegion
            | Self::UnknownPlatform
            | Self::TokensDoubted
            | Self::RateLimited => Owner::Tenant,
            Self::ProviderBusy | Self::ProviderDown => Owner::Provider,
            Self::AppMisconfigured
            | Self::Busy
            | Self::Unavailable
            | Self::Deadline
            | Self::Rejected
            | Self::Poison
            | Self::Internal => Owner::Ours,
        }
    }
}

impl Answer {
    /// Says who answers for it; nobody has to for a delivered push.
    #[must_use]
    pub const fn owner(self) -> Option<Owner> {
        match self {
            Self::Ok => None,
            Self::Remove => Some(Owner::Device),
            Self::Fail(reason) => Some(reason.owner()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_says_who_answers_for_each_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/API.md");
        let text = std::fs::read_to_string(path).unwrap();
        for reason in FailReason::ALL {
            let line = text.lines().find(|line| line.starts_with(&format!("| `{}` |", reason.code())));
            let line = line.unwrap_or_else(|| panic!("{} is not documented", reason.code()));
            let owner = reason.owner().label();
            assert!(line.ends_with(&format!("| {owner} |")), "{}: {owner}", reason.code());
        }
        assert_eq!((Answer::Ok.owner(), Answer::Remove.owner()), (None, Some(Owner::Device)));
    }
}
