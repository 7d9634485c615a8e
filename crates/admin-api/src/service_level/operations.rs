//! Operations of service levels: reports, their hours, the busiest tenants, and the ledger's upkeep.

use push_domain::{Owner, Timestamp};
use tenant_registry::{ServiceLevelRow, Standing, Tenant, everybody, hour_of, nobody};
use tracing::warn;

use super::{Month, Subject, report};
use crate::failure::Failure;
use crate::state::Admin;
use crate::wire::{ServiceLevelReport, TenantLevelView};

/// Tenants that are listed of the last hours.
const LISTED: usize = 20;
/// So much is put together in one turn of the upkeep.
const TURNS: usize = 50;

impl Admin {
    /// The report of a tenant's month.
    pub(crate) async fn tenant_report(
        &self,
        tenant: &Tenant,
        month: Month,
    ) -> Result<ServiceLevelReport, Failure> {
        let licences = self.registry.licences_of(tenant.id).await?;
        let now = self.now();
        let promised = licences.iter().any(|licence| {
            let stands = matches!(licence.standing(now), Standing::Active | Standing::Grace { .. });
            stands && licence.terms.plan.terms().service_level
        });
        let subject = Subject {
            id: tenant.id.to_string(),
            name: tenant.name.clone(),
            region: self.region.clone(),
            objectives: promised.then_some(self.objectives),
        };
        let rows = self.level_rows(tenant.id, month).await?;
        self.report_of(&subject, month, &rows).await
    }

    /// The report of all tenants together.
    pub(crate) async fn region_report(&self, month: Month) -> Result<ServiceLevelReport, Failure> {
        let subject = Subject {
            id: "all".into(),
            name: "all".into(),
            region: self.region.clone(),
            objectives: Some(self.objectives),
        };
        let rows = self.level_rows(everybody(), month).await?;
        self.report_of(&subject, month, &rows).await
    }

    async fn report_of(
        &self,
        subject: &Subject,
        month: Month,
        rows: &[ServiceLevelRow],
    ) -> Result<ServiceLevelReport, Failure> {
        let from = Timestamp::from_millis(month.hours().0 * 3_600_000);
        let processes = self.registry.ledger_processes(from).await?;
        Ok(report(subject, month, rows, &processes, self.now()))
    }

    /// The hours and days that a report is made of.
    pub(crate) async fn level_rows(
        &self,
        tenant: push_domain::TenantId,
        month: Month,
    ) -> Result<Vec<ServiceLevelRow>, Failure> {
        let (from, until) = month.hours();
        Ok(self.registry.service_level(tenant, from, until).await?)
    }

    /// The tenants of this hour and the one before: those with most failures by our fault or the provider's first, then the
    /// busiest.
    pub(crate) async fn busiest_tenants(&self) -> Result<Vec<TenantLevelView>, Failure> {
        let hour = hour_of(self.now());
        let mut sums = self.registry.service_level_by_tenant(hour.saturating_sub(1), hour + 1).await?;
        sums.retain(|(tenant, _)| *tenant != everybody() && *tenant != nobody());
        sums.sort_by_key(|(_, tally)| {
            std::cmp::Reverse((tally.bad(Owner::Ours), tally.bad(Owner::Provider), tally.valid()))
        });
        sums.truncate(LISTED);
        let mut views = Vec::new();
        for (tenant, tally) in sums {
            let name = self.registry.tenant(tenant).await?.map(|it| it.name).unwrap_or_default();
            views.push(TenantLevelView {
                tenant: tenant.to_string(),
                name,
                tally: super::report::tally_view(&tally),
            });
        }
        Ok(views)
    }

    /// Puts hours together and forgets old ones: a part of it at a time.
    pub(crate) async fn maintain_ledger(&self) {
        for _ in 0..TURNS {
            match self.registry.keep_service_level(self.now()).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    return warn!(%error, "the service-level ledger cannot be put in order; it is tried again");
                }
            }
        }
    }
}
