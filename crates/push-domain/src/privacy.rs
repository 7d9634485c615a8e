//! Privacy policies: how much of a message is passed on to Apple and Google.

use std::str::FromStr;

/// Privacy policy: how much of a message may leave the service towards Apple and Google.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Privacy {
    /// What the tenant's server sends.
    Full,
    /// Message text and names are replaced before anything is queued.
    Generic,
    /// Ids only: everything that a user could read is taken out.
    IdOnlyStrip,
    /// Ids only: a push with anything that a user could read is refused.
    IdOnlyReject,
}

impl Privacy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Full, Self::Generic, Self::IdOnlyStrip, Self::IdOnlyReject];

    /// Returns the name used in storage and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Generic => "generic",
            Self::IdOnlyStrip => "id_only_strip",
            Self::IdOnlyReject => "id_only_reject",
        }
    }
}

impl FromStr for Privacy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let known = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        known.ok_or("a privacy policy is full, generic, id_only_strip or id_only_reject")
    }
}
