//! Tenant registry: tenants, licences, licence keys, devices and operators, on PostgreSQL or SQLite.
//!
//! The traits are split by right, not by table: [`TenantReader`] for those who check callers,
//! [`DeliveryLedger`] for those who record what became of pushes, [`TenantAdmin`], [`LicenceAdmin`],
//! [`DeviceAdmin`] and [`OperatorAdmin`] for those who run the service. Whatever the last four change stands in the
//! audit log. A licence key is stored as a keyed hash, a device as a keyed hash and days; the crate never sees
//! notification content.

mod audit;
mod config;
#[cfg(test)]
mod conformance;
mod digest;
mod error;
mod key_set;
mod keys;
mod ledger_writer;
mod licence;
mod licence_key;
mod model;
mod operator;
mod plan;
mod postgres;
mod retention;
mod rights;
mod row;
mod rows;
mod service_level;
mod snapshot;
mod sql;
mod sqlite;
mod traits;

pub use audit::{AuditCheck, AuditEvent, AuditFault, AuditHead, AuditReport};
pub use config::Config;
pub use digest::KeyDigest;
pub use error::RegistryError;
pub use key_set::{InvalidKeySet, KeyPurpose, KeySet};
pub use keys::{DeviceKey, Keys, LogKey};
pub use ledger_writer::LedgerWriter;
pub use licence::{
    Acceptance, IssuedKey, KeyRecord, KeySummary, KeyUse, Licence, LicenceDraft, Standing, Suspension,
};
pub use licence_key::{InvalidKey, LicenceKey};
pub use model::{
    DeviceActivity, DeviceCount, DeviceState, DeviceSummary, Erasure, NewDevices, Tenant, TenantDraft,
    TenantQuery,
};
pub use operator::{
    AdminToken, AdminTokenDraft, AdminTokenRecord, AuditContext, IdempotencyKey, IssuedAdminToken, Role,
};
pub use plan::{Plan, PlanTerms};
pub use postgres::{PostgresLedger, PostgresRegistry};
pub use retention::run_device_retention;
pub use rights::RightsReport;
pub use service_level::{
    DAYS_KEPT, HOURS_HELD, HOURS_KEPT_DAYS, LedgerProcess, ServiceLevelAdmin, ServiceLevelKey,
    ServiceLevelLedger, ServiceLevelRow, everybody, hour_of, nobody,
};
pub use snapshot::{Changes, Permit, Refusal, Snapshot};
pub use sqlite::SqliteRegistry;
pub use traits::{
    AdminSession, Administration, ControlAdmin, DeliveryLedger, DeviceAdmin, HomeAdmin, KeyUseLedger,
    LicenceAdmin, OperatorAdmin, RightsAdmin, Seeder, TenantAdmin, TenantReader,
};
