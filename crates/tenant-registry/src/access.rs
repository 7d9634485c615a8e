//! The three rights.

use async_trait::async_trait;
use push_domain::{DeviceId, LicenceId, TenantId, Timestamp};

use crate::{Changes, DeviceSummary, IssuedKey, Licence, LicenceDraft, Sighting, Snapshot, Tenant};

/// Why the registry could not do it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Another tenant has the name.
    #[error("the tenant name is taken")]
    NameTaken,
    /// The thing that the call names does not exist.
    #[error("no such {0}")]
    Missing(&'static str),
    /// The database holds something that this version cannot read.
    #[error("the registry holds an unreadable {0}")]
    Unreadable(&'static str),
    /// Everything stored is keyed with another key file.
    #[error(
        "the key file does not belong to this registry: its licence keys and devices are keyed with another one"
    )]
    WrongKey,
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
    Silent,
    /// The schema could not be brought up to date.
    #[error("the registry schema could not be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// For those who check callers: reads licences, writes nothing.
#[async_trait]
pub trait TenantReader: Send + Sync {
    /// Returns the number that grows with every change of tenants, licences and keys.
    async fn revision(&self) -> Result<u64, RegistryError>;

    /// Reads all tenants, licences and live keys as they are at one moment.
    async fn snapshot(&self) -> Result<Snapshot, RegistryError>;

    /// Reads what is new since `revision`, as it is at one moment.
    async fn changes_since(&self, revision: u64) -> Result<Changes, RegistryError>;

    /// Waits until there may be a change. A database that cannot tell never says so: look from time to
    /// time all the same, also because news may be lost on the way.
    ///
    /// Cancel safe.
    async fn changed(&self);
}

/// For those who deliver: records devices, reads no licence.
#[async_trait]
pub trait DeliveryLedger: Send + Sync {
    /// Records what pushes taught us. Idempotent; days and states only move forward in time.
    async fn record(&self, sightings: &[Sighting]) -> Result<(), RegistryError>;

    /// Forgets devices that were last seen before one day, and removed ones that were before another.
    /// Returns how many they were; with many to forget, it may be a part of them.
    async fn forget(&self, seen_before: u32, removed_before: u32) -> Result<u64, RegistryError>;
}

/// For those who sell licences.
#[async_trait]
pub trait TenantAdmin: TenantReader {
    /// Makes a tenant; fails with [`RegistryError::NameTaken`] when the name is in use.
    async fn create_tenant(&self, name: &str, now: Timestamp) -> Result<Tenant, RegistryError>;

    /// Finds a tenant by its name.
    async fn tenant_named(&self, name: &str) -> Result<Option<Tenant>, RegistryError>;

    /// Gives a tenant a licence.
    async fn create_licence(&self, draft: LicenceDraft) -> Result<Licence, RegistryError>;

    /// Switches a licence off or on again.
    async fn suspend_licence(&self, licence: LicenceId, suspended: bool) -> Result<(), RegistryError>;

    /// Makes a key for a licence. The key itself is returned this once and stored nowhere.
    async fn issue_key(
        &self,
        licence: LicenceId,
        region: &str,
        now: Timestamp,
    ) -> Result<IssuedKey, RegistryError>;

    /// Ends a key at once.
    async fn revoke_key(&self, kid: &str, now: Timestamp) -> Result<(), RegistryError>;

    /// Returns what the ledger remembers of a device.
    async fn device(
        &self,
        tenant: TenantId,
        device: DeviceId,
    ) -> Result<Option<DeviceSummary>, RegistryError>;
}
