//! Answers to the customer's server, and the failure reasons that they carry.

use std::fmt;

/// Failure reason: why a push was not delivered, as a stable code. Listed in docs/API.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// The request itself is wrong.
    BadRequest,
    /// The body is larger than we read.
    BodyTooLarge,
    /// The device token cannot be one of this platform.
    BadDeviceToken,
    /// The payload cannot be made small enough.
    PayloadTooLarge,
    /// No licence key came with the request, and this service asks for one.
    LicenceMissing,
    /// The licence key is not one of ours.
    LicenceUnknown,
    /// The licence does not apply: it is not valid yet, or nobody has accepted the terms.
    LicenceInactive,
    /// The licence has expired, and its grace is over.
    LicenceExpired,
    /// An operator has switched the licence off.
    LicenceSuspended,
    /// A licence key came over a connection that is not encrypted.
    LicenceNeedsTls,
    /// The licence is bound to other servers.
    ServerNotBound,
    /// The licence allows ids only, and there was more in the push.
    ContentNotAllowed,
    /// The licence holds for other regions.
    WrongRegion,
    /// No app of this platform name.
    UnknownPlatform,
    /// The app's credentials do not work; the operator has been told.
    AppMisconfigured,
    /// Most device tokens of this tenant are not of this app; other tenants' are.
    TokensDoubted,
    /// The caller's rate is over its limit.
    RateLimited,
    /// We cannot take more at this moment.
    Busy,
    /// Our licence data could not be read.
    Unavailable,
    /// The time for this push is over.
    Deadline,
    /// The provider asked for less: this device, or all of us.
    ProviderBusy,
    /// The provider cannot be reached, or is broken.
    ProviderDown,
    /// The provider refused this push for good.
    Rejected,
    /// Processes that were to send it ended, several times.
    Poison,
    /// A fault of ours.
    Internal,
}

impl FailReason {
    /// Every reason, for the documentation's test and for metrics.
    pub const ALL: [Self; 25] = [
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::BadDeviceToken,
        Self::PayloadTooLarge,
        Self::LicenceMissing,
        Self::LicenceUnknown,
        Self::LicenceInactive,
        Self::LicenceExpired,
        Self::LicenceSuspended,
        Self::LicenceNeedsTls,
        Self::ServerNotBound,
        Self::ContentNotAllowed,
        Self::WrongRegion,
        Self::UnknownPlatform,
        Self::AppMisconfigured,
        Self::TokensDoubted,
        Self::RateLimited,
        Self::Busy,
        Self::Unavailable,
        Self::Deadline,
        Self::ProviderBusy,
        Self::ProviderDown,
        Self::Rejected,
        Self::Poison,
        Self::Internal,
    ];

    /// Returns the stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BodyTooLarge => "body_too_large",
            Self::BadDeviceToken => "bad_device_token",
            Self::PayloadTooLarge => "payload_too_large",
            Self::LicenceMissing => "licence_missing",
            Self::LicenceUnknown => "licence_unknown",
            Self::LicenceInactive => "licence_inactive",
            Self::LicenceExpired => "licence_expired",
            Self::LicenceSuspended => "licence_suspended",
            Self::LicenceNeedsTls => "licence_needs_tls",
            Self::ServerNotBound => "server_not_bound",
            Self::ContentNotAllowed => "content_not_allowed",
            Self::WrongRegion => "wrong_region",
            Self::UnknownPlatform => "unknown_platform",
            Self::AppMisconfigured => "app_misconfigured",
            Self::TokensDoubted => "tokens_doubted",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Deadline => "deadline",
            Self::ProviderBusy => "provider_busy",
            Self::ProviderDown => "provider_down",
            Self::Rejected => "rejected",
            Self::Poison => "poison",
            Self::Internal => "internal",
        }
    }

    /// Finds the reason of a code.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Returns the sentence for a person who reads a server's log. It names no secret.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::BadRequest => "the request cannot be read",
            Self::BodyTooLarge => "the request body is larger than this service reads",
            Self::BadDeviceToken => "the device id is not a device token of this platform",
            Self::PayloadTooLarge => {
                "the notification does not fit into the provider's limit, even without its message"
            }
            Self::LicenceMissing => {
                "this service asks for a licence key; put it into the push URL as https://HOST/t/KEY"
            }
            Self::LicenceUnknown => "the licence key in the push URL is not known here",
            Self::LicenceInactive => "the licence is not valid yet, or its terms have not been accepted",
            Self::LicenceExpired => "the licence has expired",
            Self::LicenceSuspended => "the licence is suspended; ask the operator",
            Self::LicenceNeedsTls => {
                "a licence key must not travel in the clear: use https in the push URL, and a new key"
            }
            Self::ServerNotBound => "the licence is bound to other servers than this one",
            Self::ContentNotAllowed => "the licence allows id-only pushes, and there was more in this one",
            Self::WrongRegion => "the licence does not hold in this region",
            Self::UnknownPlatform => "no app is set up for this platform",
            Self::AppMisconfigured => "the credentials of this app do not work; the operator has been told",
            Self::TokensDoubted => {
                "most device tokens that this tenant sends belong to another app, project or environment"
            }
            Self::RateLimited => "more pushes than the licence allows",
            Self::Busy => "the service cannot take more at this moment",
            Self::Unavailable => "the licence cannot be checked at this moment",
            Self::Deadline => "the time for the push ended before its outcome was known",
            Self::ProviderBusy => "the push provider asks for fewer pushes",
            Self::ProviderDown => "the push provider does not take pushes at this moment",
            Self::Rejected => "the push provider refused the push",
            Self::Poison => "the processes that were to send the push ended, several times",
            Self::Internal => "a fault of this service; it has been logged",
        }
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.sentence())
    }
}

/// Answer to the customer's server about one push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The provider accepted it.
    Ok,
    /// The provider named the device token dead.
    Remove,
    /// We have stopped trying.
    Fail(FailReason),
}

impl Answer {
    /// Returns the name used in metrics and logs: `ok`, `remove` or the fail code.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Remove => "remove",
            Self::Fail(reason) => reason.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fail_code_is_its_own_and_snake_case() {
        let mut codes: Vec<_> = FailReason::ALL.iter().map(|reason| reason.code()).collect();
        codes.sort_unstable();
        codes.dedup();

        assert_eq!(codes.len(), FailReason::ALL.len());
        assert!(codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}
