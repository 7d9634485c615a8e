//! Outcome of one delivery attempt, as the provider decided it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::Timestamp;

/// A provider's own word for its decision, such as `BadDeviceToken` or `UNREGISTERED`.
///
/// Words that we know are static. An unknown one is kept only if it looks like a word: at most 40
/// letters and underscores, so that no token and no text can pass for one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Reason(Cow<'static, str>);

impl Reason {
    /// Wraps a word of ours.
    #[must_use]
    pub const fn known(word: &'static str) -> Self {
        Self(Cow::Borrowed(word))
    }

    /// Keeps a provider's word that we do not know, or `other` where it is no word.
    #[must_use]
    pub fn foreign(word: &str) -> Self {
        let is_word =
            (1..=40).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        Self(if is_word { Cow::Owned(word.to_owned()) } else { Cow::Borrowed("other") })
    }

    /// Returns the word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the word as a metric label: `other` for one that is not ours.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match &self.0 {
            Cow::Borrowed(word) => word,
            Cow::Owned(_) => "other",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Scope of a retry: what must wait when a provider says "later".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryScope {
    /// This attempt only; another connection may fare better at once.
    Attempt,
    /// This device: it gets too many pushes.
    Device,
    /// Everything under these credentials.
    Credential,
}

/// Outcome of one attempt: what the push provider decided.
///
/// Faults of ours are not outcomes; neither is what we decide without asking (see [`crate::FailReason`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took responsibility for it.
    Accepted,
    /// The device token is dead; the customer's server should forget it.
    TokenDead {
        /// Since when, if the provider said.
        since: Option<Timestamp>,
        /// The provider's word.
        reason: Reason,
    },
    /// Dead only if our own configuration is right: the token belongs to another topic or project.
    WrongApp {
        /// The provider's word.
        reason: Reason,
    },
    /// Will never be accepted as it is.
    Refused {
        /// The provider's word.
        reason: Reason,
    },
    /// Our credentials or our set-up of the app are wrong; no push of this app can succeed.
    Misconfigured {
        /// The provider's word.
        reason: Reason,
    },
    /// Not now.
    TryLater {
        /// How long the provider asked us to wait, if it did.
        after: Option<Duration>,
        /// What must wait.
        scope: RetryScope,
        /// Whether the provider may have taken it all the same, so that a re-send may show twice.
        ambiguous: bool,
        /// The provider's word, or ours for a transport fault.
        reason: Reason,
    },
}

impl Outcome {
    /// Returns the name used in metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::TokenDead { .. } => "token_dead",
            Self::WrongApp { .. } => "wrong_app",
            Self::Refused { .. } => "refused",
            Self::Misconfigured { .. } => "misconfigured",
            Self::TryLater { .. } => "try_later",
        }
    }

    /// Returns the provider's word, if it was not a plain yes.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Accepted => None,
            Self::TokenDead { reason, .. }
            | Self::WrongApp { reason }
            | Self::Refused { reason }
            | Self::Misconfigured { reason }
            | Self::TryLater { reason, .. } => Some(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_passes_for_a_foreign_reason() {
        assert_eq!(Reason::foreign("SomethingNew").as_str(), "SomethingNew");
        assert_eq!(Reason::foreign("SomethingNew").label(), "other");
        for text in ["", "two words", "Bad\n\"", "c0ffee00c0ffee00c0ffee00c0ffee00", &"x".repeat(41)] {
            assert_eq!(Reason::foreign(text).as_str(), "other");
        }
    }
}
