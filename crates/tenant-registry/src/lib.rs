//! Tenants, licences, keys and devices, and who may do what with them.
//!
//! The traits are split by right, not by table: [`TenantReader`] for those who check callers,
//! [`DeliveryLedger`] for those who record what became of pushes, [`TenantAdmin`], [`LicenceAdmin`],
//! [`DeviceAdmin`] and [`OperatorAdmin`] for those who run the service. Whatever the last four change stands in the
//! audit log. A licence key is stored as a keyed hash, a device as a keyed hash and days; the crate never sees
//! notification content.

mod access;
mod audit;
mod config;
#[cfg(test)]
mod conformance;
mod digest;
mod key_set;
mod keys;
mod licence;
mod licence_key;
mod model;
mod operator;
mod postgres;
mod recorder;
mod retention;
mod rights;
mod rows;
mod snapshot;
mod sql;
mod sqlite;

pub use access::{
    AdminSession, Administration, DeliveryLedger, DeviceAdmin, LicenceAdmin, OperatorAdmin, RegistryError,
    Seeder, TenantAdmin, TenantReader,
};
pub use audit::{AuditCheck, AuditEvent, AuditFault, AuditHead, AuditReport};
pub use config::Config;
pub use digest::KeyDigest;
pub use key_set::{InvalidKeySet, KeyPurpose, KeySet};
pub use keys::{DeviceKey, Keys, LogKey};
pub use licence::{
    Acceptance, IssuedKey, KeyRecord, KeySummary, KeyUse, Licence, LicenceDraft, Plan, Standing, Suspension,
};
pub use licence_key::{InvalidKey, LicenceKey};
pub use model::{
    DeviceCount, DeviceState, DeviceSummary, NewDevices, Sighting, Tenant, TenantDraft, TenantQuery,
};
pub use operator::{Act, AdminToken, AdminTokenDraft, AdminTokenRecord, IssuedAdminToken, Once, Role};
pub use postgres::{PostgresLedger, PostgresRegistry};
pub use recorder::Recorder;
pub use retention::keep_forgetting;
pub use rights::RightsReport;
pub use snapshot::{Changes, Permit, Refusal, Snapshot};
pub use sqlite::SqliteRegistry;
