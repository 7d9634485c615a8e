//! API schemas of tenants.

use serde::{Deserialize, Serialize};
use tenant_registry::Tenant;
use utoipa::ToSchema;

use super::{LicenceView, Moment};

/// A tenant to be.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantInput {
    /// Its name, 1 to 100 characters; no two tenants share one.
    #[schema(min_length = 1, max_length = 100, examples("Acme GmbH"))]
    pub(crate) name: String,
    /// Whom to write to, up to 200 characters.
    #[serde(default)]
    #[schema(max_length = 200, examples("push@acme.example"))]
    pub(crate) contact: String,
    /// Whether its pushes may go through another region when its own is down.
    #[serde(default)]
    pub(crate) failover_consent: bool,
}

/// A customer of the service.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TenantView {
    /// Its id.
    #[schema(examples("ten_01a20141cc5e76ab9c0144f4d27c5424"))]
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Whom to write to.
    pub(crate) contact: String,
    /// Whether its pushes may go through another region when its own is down.
    pub(crate) failover_consent: bool,
    /// When it was made.
    pub(crate) created_at: Moment,
    /// What changes with every change; the `ETag`.
    pub(crate) revision: u64,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            name: tenant.name,
            contact: tenant.contact,
            failover_consent: tenant.failover_consent,
            created_at: Moment(tenant.created_at),
            revision: tenant.revision,
        }
    }
}

/// A tenant in a list, with its licences.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TenantRow {
    /// The tenant.
    #[serde(flatten)]
    pub(crate) tenant: TenantView,
    /// Its licences.
    pub(crate) licences: Vec<LicenceView>,
}
