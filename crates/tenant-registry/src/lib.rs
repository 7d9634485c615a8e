//! Tenants, licences, keys and devices, and who may do what with them.
//!
//! The traits are split by right, not by table: [`TenantReader`] for those who check callers,
//! [`DeliveryLedger`] for those who record what became of pushes, [`TenantAdmin`] for those who
//! sell licences. A licence key is stored as a keyed hash, a device as a keyed hash and days; the
//! crate never sees notification content.

mod access;
#[cfg(test)]
mod conformance;
mod keys;
mod licence_key;
mod model;
mod postgres;
mod recorder;
mod rows;
mod snapshot;
mod sql;
mod sqlite;

pub use access::{DeliveryLedger, RegistryError, TenantAdmin, TenantReader};
pub use keys::{DeviceKey, Keys, LogKey};
pub use licence_key::{InvalidKey, LicenceKey};
pub use model::{
    DeviceState, DeviceSummary, IssuedKey, KeyRecord, Licence, LicenceDraft, Plan, Sighting, Tenant,
};
pub use postgres::{PostgresLedger, PostgresRegistry};
pub use recorder::Recorder;
pub use snapshot::{Changes, Permit, Refusal, Snapshot};
pub use sqlite::SqliteRegistry;
