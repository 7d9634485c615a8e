//! Registry traits, one for each set of rights. *Control* (tenants, licences, keys, servers, orders to erase) may be copied
//! to other regions; *home* (devices, use, service levels, operators, the audit log) never leaves its own.

use std::time::Duration;

use async_trait::async_trait;
use push_domain::{DeviceId, LicenceId, TenantId, Timestamp};

use crate::error::RegistryError;
use crate::service_level::ServiceLevelAdmin;
use crate::{
    AdminToken, AdminTokenDraft, AdminTokenRecord, AuditContext, AuditEvent, AuditHead, AuditReport, Changes,
    DeviceActivity, DeviceCount, DeviceSummary, Erasure, IssuedAdminToken, IssuedKey, KeySummary, KeyUse,
    Licence, LicenceDraft, NewDevices, RightsReport, Snapshot, Tenant, TenantDraft, TenantQuery,
};

/// Reader of control data, for gateways: snapshots and changes. It writes nothing.
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

/// Home ledger of licence keys' use, for gateways.
#[async_trait]
pub trait KeyUseLedger: Send + Sync {
    /// Notes on which day licence keys were used, and what is offered of them. Days only move forward; a key that is not known
    /// is left out. Idempotent.
    async fn note_use(&self, uses: &[KeyUse], day: u32) -> Result<(), RegistryError>;
}

/// Device ledger, for workers: records devices and proven credentials, reads no licence.
#[async_trait]
pub trait DeliveryLedger: Send + Sync {
    /// Records what pushes taught us. Idempotent; days and states only move forward in time.
    async fn record(&self, activities: &[DeviceActivity]) -> Result<(), RegistryError>;

    /// Forgets devices that were last seen before one day, and removed ones that were before another.
    /// Returns how many they were; with many to forget, it may be a part of them.
    async fn forget(&self, seen_before: u32, removed_before: u32) -> Result<u64, RegistryError>;

    /// Notes that a provider has accepted a push to an app under credentials of this fingerprint. Of an app that
    /// had many, the latest eight are remembered. Idempotent.
    async fn prove(&self, app: &str, fingerprint: &str, day: u32) -> Result<(), RegistryError>;

    /// Lists the apps and fingerprints that were proven.
    async fn proofs(&self) -> Result<Vec<(String, String)>, RegistryError>;
}

/// Administration of tenants.
#[async_trait]
pub trait TenantAdmin: TenantReader {
    /// Makes a tenant; fails with [`RegistryError::NameTaken`] when the name is in use.
    async fn create_tenant(
        &self,
        draft: &TenantDraft,
        audit: AuditContext<'_>,
    ) -> Result<Tenant, RegistryError>;

    /// Changes what is said of a tenant, if it is as at `revision`.
    async fn update_tenant(
        &self,
        tenant: TenantId,
        draft: &TenantDraft,
        revision: Option<u64>,
        audit: AuditContext<'_>,
    ) -> Result<Tenant, RegistryError>;

    /// Finds a tenant.
    async fn tenant(&self, tenant: TenantId) -> Result<Option<Tenant>, RegistryError>;

    /// Finds a tenant by its name.
    async fn tenant_named(&self, name: &str) -> Result<Option<Tenant>, RegistryError>;

    /// Lists tenants by their names, and all licences of those.
    async fn tenants(&self, query: TenantQuery<'_>) -> Result<(Vec<Tenant>, Vec<Licence>), RegistryError>;

    /// Counts tenants, licences and live keys.
    async fn totals(&self, now: Timestamp) -> Result<[u64; 3], RegistryError>;

    /// Orders that every region forgets all of a tenant's devices: each does it once, and confirms
    /// ([`DeviceAdmin::carry_out`]).
    async fn order_erasure(
        &self,
        tenant: TenantId,
        audit: AuditContext<'_>,
    ) -> Result<Erasure, RegistryError>;
}

/// Administration of licences, their keys and their servers.
#[async_trait]
pub trait LicenceAdmin: TenantReader {
    /// Gives a tenant a licence. It is not active before the terms are accepted.
    async fn create_licence(
        &self,
        draft: LicenceDraft,
        audit: AuditContext<'_>,
    ) -> Result<Licence, RegistryError>;

    /// Changes what is agreed, if the licence is as at `revision`. It stays the same tenant's.
    async fn update_licence(
        &self,
        licence: LicenceId,
        draft: LicenceDraft,
        revision: Option<u64>,
        audit: AuditContext<'_>,
    ) -> Result<Licence, RegistryError>;

    /// Notes that a tenant has accepted a version of the terms, and by whom.
    async fn accept_terms(
        &self,
        licence: LicenceId,
        version: &str,
        by: &str,
        audit: AuditContext<'_>,
    ) -> Result<Licence, RegistryError>;

    /// Switches a licence off with a reason, or on again.
    async fn suspend_licence(
        &self,
        licence: LicenceId,
        reason: Option<&str>,
        audit: AuditContext<'_>,
    ) -> Result<Licence, RegistryError>;

    /// Finds a licence.
    async fn licence(&self, licence: LicenceId) -> Result<Option<Licence>, RegistryError>;

    /// Lists a tenant's licences, the oldest first.
    async fn licences_of(&self, tenant: TenantId) -> Result<Vec<Licence>, RegistryError>;

    /// Lists the licences, at most 1,000, that end before a moment and whose grace is not over yet, the earliest
    /// first, and their tenants' names.
    async fn expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(Licence, String)>, RegistryError>;

    /// Makes a key for a licence. The key itself is returned this once and stored nowhere.
    ///
    /// At most two keys are live: the one before ends after `overlap`. With two live keys already it fails with
    /// [`RegistryError::TooManyKeys`]; asked again under the same [`IdempotencyKey`](crate::IdempotencyKey), with
    /// [`RegistryError::DoneBefore`], because the key cannot be shown again.
    async fn issue_key(
        &self,
        licence: LicenceId,
        region: &str,
        overlap: Duration,
        audit: AuditContext<'_>,
    ) -> Result<IssuedKey, RegistryError>;

    /// Ends a key at once.
    async fn revoke_key(&self, kid: &str, audit: AuditContext<'_>) -> Result<(), RegistryError>;

    /// Finds the licence of a key.
    async fn licence_of_key(&self, kid: &str) -> Result<Option<LicenceId>, RegistryError>;

    /// Lists a licence's keys, the newest first.
    async fn keys_of(&self, licence: LicenceId) -> Result<Vec<KeySummary>, RegistryError>;

    /// Binds a licence to a server, or lets it go. A licence that is bound to some opens for no other.
    async fn bind_server(
        &self,
        licence: LicenceId,
        server: &str,
        bound: bool,
        audit: AuditContext<'_>,
    ) -> Result<(), RegistryError>;

    /// Lists the servers that a licence is bound to.
    async fn servers_of(&self, licence: LicenceId) -> Result<Vec<String>, RegistryError>;
}

/// Administration of devices: look-up, counts, erasure.
#[async_trait]
pub trait DeviceAdmin: Send + Sync {
    /// Returns what the ledger remembers of a device.
    async fn device(
        &self,
        tenant: TenantId,
        device: DeviceId,
    ) -> Result<Option<DeviceSummary>, RegistryError>;

    /// Counts a tenant's devices.
    async fn count_devices(&self, tenant: TenantId) -> Result<Vec<DeviceCount>, RegistryError>;

    /// Forgets some of a tenant's devices; returns how many were known.
    async fn erase_devices(
        &self,
        tenant: TenantId,
        devices: &[DeviceId],
        audit: AuditContext<'_>,
    ) -> Result<u64, RegistryError>;

    /// Carries an order out: forgets all of the tenant's devices here, and what their hashes were made with, and confirms it.
    /// Returns how many were known; 0 for an order that was carried out before.
    async fn carry_out(&self, order: &Erasure, audit: AuditContext<'_>) -> Result<u64, RegistryError>;

    /// Lists orders that were not carried out here, the oldest first, at most 100.
    async fn open_erasures(&self) -> Result<Vec<Erasure>, RegistryError>;

    /// Lists a tenant's orders, the newest first, at most 100.
    async fn erasures_of(&self, tenant: TenantId) -> Result<Vec<Erasure>, RegistryError>;

    /// Lists tenants with at least `least` new devices on a day, and more than three times the daily mean of the
    /// week before.
    async fn unusual_growth(&self, day: u32, least: u64) -> Result<Vec<NewDevices>, RegistryError>;
}

/// Administration of what proves who may push: signed rights, and the codes of licence keys.
#[async_trait]
pub trait RightsAdmin: Send + Sync {
    /// Compares everything that grants something with what was signed.
    async fn verify_rights(&self) -> Result<RightsReport, RegistryError>;

    /// Codes live licence keys anew that are under an older pepper, or that gateways have offered a digest of; returns how
    /// many. Afterwards the older peppers open nothing but keys that were not used since ([`RightsReport::old_keys`]).
    async fn renew_keys(&self, audit: AuditContext<'_>) -> Result<u64, RegistryError>;
}

/// Administration of operators: admin tokens, console sessions, the audit log.
#[async_trait]
pub trait OperatorAdmin: Send + Sync {
    /// Makes an admin token. The token itself is returned this once and stored nowhere.
    async fn issue_admin_token(
        &self,
        draft: AdminTokenDraft,
        audit: AuditContext<'_>,
    ) -> Result<IssuedAdminToken, RegistryError>;

    /// Ends an admin token at once.
    async fn revoke_admin_token(&self, id: &str, audit: AuditContext<'_>) -> Result<(), RegistryError>;

    /// Lists admin tokens, the newest first.
    async fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, RegistryError>;

    /// Returns what a presented token stands for, if it is one of ours; notes the day of its use.
    async fn open_admin_token(
        &self,
        token: &AdminToken,
        now: Timestamp,
    ) -> Result<Option<AdminTokenRecord>, RegistryError>;

    /// Finds an admin token by its public part.
    async fn admin_token(&self, id: &str) -> Result<Option<AdminTokenRecord>, RegistryError>;

    /// Notes something that changed nothing in the registry. `detail` holds no secret.
    async fn note(
        &self,
        action: &str,
        object: &str,
        tenant: Option<TenantId>,
        detail: serde_json::Value,
        audit: AuditContext<'_>,
    ) -> Result<(), RegistryError>;

    /// Signs somebody in, with an admin token that was opened.
    async fn begin_session(
        &self,
        session: &AdminSession,
        audit: AuditContext<'_>,
    ) -> Result<(), RegistryError>;

    /// Returns the token behind a session, if both still hold.
    async fn session_token(
        &self,
        session: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<AdminTokenRecord>, RegistryError>;

    /// Signs somebody out; nothing happens if that was done.
    async fn end_session(&self, session: &[u8; 32], audit: AuditContext<'_>) -> Result<(), RegistryError>;

    /// Lists audit events before `before`, the newest first, at most `limit`; of one tenant or of all.
    async fn audit(
        &self,
        tenant: Option<TenantId>,
        before: u64,
        limit: u32,
    ) -> Result<Vec<AuditEvent>, RegistryError>;

    /// Checks the whole chain, and whether it holds an end that was noted down elsewhere.
    async fn verify_audit(&self, noted: Option<&AuditHead>) -> Result<AuditReport, RegistryError>;

    /// Forgets audit events of before a moment, and notes that; the newest one stays. Returns how many.
    async fn cut_audit(&self, before: Timestamp, audit: AuditContext<'_>) -> Result<u64, RegistryError>;

    /// Forgets the callers' request keys of before a moment.
    async fn forget_requests(&self, before: Timestamp) -> Result<(), RegistryError>;
}

/// Console session of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSession {
    /// A hash of what the browser holds.
    pub id: [u8; 32],
    /// The public part of the admin token.
    pub token: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Bulk creation of tenants, for tests and demos.
#[async_trait]
pub trait Seeder: Send + Sync {
    /// Makes tenants of these names at once, each with a licence of these terms, accepted, and a key.
    async fn seed(
        &self,
        names: &[String],
        terms: &LicenceDraft,
        region: &str,
        audit: AuditContext<'_>,
    ) -> Result<Vec<(Tenant, IssuedKey)>, RegistryError>;
}

/// Administration of control data: what is sold, to whom, and what proves it.
pub trait ControlAdmin: TenantAdmin + LicenceAdmin + RightsAdmin + Seeder {}

impl<T: TenantAdmin + LicenceAdmin + RightsAdmin + Seeder> ControlAdmin for T {}

/// Administration of home data: what happened in this region, and who operates it.
pub trait HomeAdmin: DeviceAdmin + OperatorAdmin + ServiceLevelAdmin {}

impl<T: DeviceAdmin + OperatorAdmin + ServiceLevelAdmin> HomeAdmin for T {}

/// Both, where one registry holds them.
pub trait Administration: ControlAdmin + HomeAdmin {}

impl<T: ControlAdmin + HomeAdmin> Administration for T {}
