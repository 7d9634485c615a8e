//! Erasure of all of a tenant's devices: an order in the control data, which every region carries out for itself.

use tenant_registry::{AuditContext, Tenant};
use tracing::{info, warn};

use crate::failure::Failure;
use crate::state::Admin;

impl Admin {
    /// Orders that all of a tenant's devices are forgotten, and forgets those of this region; returns how many it knew. An order
    /// that cannot be carried out just now stands, and is carried out within minutes.
    pub(crate) async fn erase_all_devices(
        &self,
        tenant: &Tenant,
        audit: AuditContext<'_>,
    ) -> Result<u64, Failure> {
        let order = self.control.order_erasure(tenant.id, audit).await?;
        Ok(self.home.carry_out(&order, audit).await?)
    }

    /// Carries out what was ordered and is not done here: ordered in another region, or here when something was in the way.
    pub(crate) async fn carry_out_erasures(&self) {
        let carried_out = async {
            for order in self.home.open_erasures().await? {
                let devices = self.home.carry_out(&order, AuditContext::new("hpns", self.now())).await?;
                info!(order = %order.id, tenant = %order.tenant, devices, "a tenant's devices are erased, as was ordered");
            }
            Ok::<_, tenant_registry::RegistryError>(())
        };
        if let Err(error) = carried_out.await {
            warn!(%error, "devices that are to be erased are not yet; it is tried again");
        }
    }
}
