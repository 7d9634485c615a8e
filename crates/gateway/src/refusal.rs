//! Refusal: the error of a request that is answered without asking a provider.

use std::fmt::Display;

use http_edge::BodyFault;
use push_domain::{FailReason, TenantId};

/// Refusal of a request, made by the pipeline or a face; a face renders it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What it is, for metrics and the log.
    pub(crate) reason: FailReason,
    /// Whose request it is, if that is known.
    pub(crate) tenant: Option<TenantId>,
    /// A text in the face's own dialect, or a sentence that fits better than the reason's.
    pub(crate) text: Option<String>,
    /// Whether the rest of the request cannot be read, so that the connection has to end.
    pub(crate) closes: bool,
}

impl Refusal {
    /// With the reason's own sentence.
    pub(crate) const fn plain(reason: FailReason) -> Self {
        Self { reason, tenant: None, text: None, closes: false }
    }

    /// With the reason's code and a sentence that fits better.
    pub(crate) fn because(reason: FailReason, sentence: impl Display) -> Self {
        Self { text: Some(format!("{}: {sentence}", reason.code())), ..Self::plain(reason) }
    }

    /// With a whole text of a face's own.
    pub(crate) fn verbatim(reason: FailReason, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::plain(reason) }
    }

    /// The same, of a caller that is known.
    pub(crate) fn of(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }
}

/// A body that cannot be read.
impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Self {
        let refusal = match fault {
            BodyFault::TooLarge => Self::plain(FailReason::BodyTooLarge),
            BodyFault::TooSlow => {
                Self::because(FailReason::BadRequest, "the request body took too long to arrive")
            }
            BodyFault::Crowded => Self::plain(FailReason::Busy),
            BodyFault::Broken => Self::because(FailReason::BadRequest, "the request body broke off"),
        };
        Self { closes: true, ..refusal }
    }
}
