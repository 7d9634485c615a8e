//! Error type of the handlers: maps registry errors to problem documents.

use axum::response::{IntoResponse, Response};
use http_edge::{ErrorKind, Problem};
use tenant_registry::RegistryError;
use tracing::error;

/// Error of a request, as the caller reads it.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

/// What is not there, and what is somebody else's, look the same.
pub(crate) fn missing(what: &str) -> Failure {
    Failure(Problem::new(ErrorKind::NotFound, "not_found", format!("no such {what}")))
}

/// A field of the request that breaks a rule.
pub(crate) fn invalid(field: &str, rule: &str) -> Failure {
    Failure(Problem::new(ErrorKind::BadRequest, "invalid_field", format!("`{field}` {rule}")))
}

impl Failure {
    /// Somebody does too often what has to be noted each time.
    pub(crate) fn too_many_notes() -> Self {
        let text = "this is noted in the audit log each time, and may be done once a second";
        Self(Problem::new(ErrorKind::Throttled, "too_many_requests", text))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<RegistryError> for Failure {
    fn from(cause: RegistryError) -> Self {
        let (kind, code) = match &cause {
            RegistryError::NotFound(what) => return missing(what),
            RegistryError::NameTaken => (ErrorKind::Conflict, "name_taken"),
            RegistryError::RevisionConflict => (ErrorKind::PreconditionFailed, "changed"),
            RegistryError::TooManyKeys => (ErrorKind::Conflict, "too_many_keys"),
            RegistryError::DoneBefore(_) => (ErrorKind::Conflict, "done_before"),
            RegistryError::RequestKeyReused => (ErrorKind::Conflict, "request_key_reused"),
            RegistryError::RightsChanged => (ErrorKind::Conflict, "rights_changed"),
            RegistryError::Unreadable(_)
            | RegistryError::WrongKey
            | RegistryError::NoAuditKey
            | RegistryError::NoRightsKey
            | RegistryError::AuditBroken
            | RegistryError::RevisionRegressed
            | RegistryError::RightsUnproven
            | RegistryError::RightsUnsealed
            | RegistryError::Database(_)
            | RegistryError::SchemaDiffers(_)
            | RegistryError::Unbound
            | RegistryError::Timeout
            | RegistryError::Migration(_) => {
                error!(error = %cause, "the registry failed an operator");
                let text = "the registry cannot be used at this moment; the fault has been logged";
                return Self(Problem::new(ErrorKind::Unavailable, "unavailable", text));
            }
        };
        Self(Problem::new(kind, code, cause.to_string()))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}
