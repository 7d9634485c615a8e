//! Errors of the registry.

/// Error of a registry operation.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Another tenant has the name.
    #[error("the tenant name is taken")]
    NameTaken,
    /// The thing that the call names does not exist.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Somebody else has changed it since it was looked at.
    #[error("it has been changed in the meantime")]
    RevisionConflict,
    /// Two keys of the licence are live.
    #[error("two keys of the licence are live already: revoke one first")]
    TooManyKeys,
    /// What the request asks for was done when it was sent before, and cannot be shown again.
    #[error("this was done before: {0}")]
    DoneBefore(String),
    /// The caller's key of the request was used for another one.
    #[error("the request key was used for another request")]
    RequestKeyReused,
    /// The database holds something that this version cannot read.
    #[error("the registry holds an unreadable {0}")]
    Unreadable(&'static str),
    /// Everything stored is keyed with another key file.
    #[error(
        "the key file does not belong to this registry: its licence keys and devices are keyed with another one"
    )]
    WrongKey,
    /// This process may not write the audit log, and so change nothing.
    #[error("this process does not have the operators' keys")]
    NoAuditKey,
    /// A row that is to be changed is not as it was written.
    #[error(
        "the registry was changed past this service: look with `hpns registry verify`; `hpns registry seal` takes it as it is"
    )]
    RightsChanged,
    /// The signature over what grants anything does not hold.
    #[error(
        "what the registry grants is not signed by a key that is known here: look with `hpns registry verify`"
    )]
    RightsUnproven,
    /// Nothing is signed yet.
    #[error("what the registry grants is not signed yet: run `hpns registry seal`")]
    RightsUnsealed,
    /// The audit log was tampered with: nothing of it is forgotten.
    #[error("the audit log was tampered with: look with `hpns audit verify`")]
    AuditBroken,
    /// A registry that is older than what was known of it.
    #[error(
        "the registry went back: it is older than what this process knew; if it was put back from a backup, start again"
    )]
    RevisionRegressed,
    /// This process may not sign, and so change nothing.
    #[error("this process does not have the keys that sign rights")]
    NoRightsKey,
    /// The database did not answer or refused.
    #[error("the registry database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema is not that of this version.
    #[error("the registry's schema is {0} this version: run `hpns migrate` of the newest version in use")]
    SchemaDiffers(&'static str),
    /// No migration run has bound the registry to a key file yet.
    #[error("the registry is bound to no key file yet: run `hpns migrate`")]
    Unbound,
    /// The database has not answered in time.
    #[error("the registry does not answer")]
    Timeout,
    /// The schema could not be brought up to date.
    #[error("the registry schema could not be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}
