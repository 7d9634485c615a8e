//! Operations of service levels: reports, their hours, the busiest tenants, and the ledger's upkeep.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use push_domain::{Owner, Tally, TenantId, Timestamp};
use tenant_registry::{ServiceLevelRow, Tenant, everybody, hour_of, nobody};
use tracing::warn;

use super::{Month, Subject, hours_csv, report};
use crate::alerts::alert;
use crate::failure::Failure;
use crate::sshsig;
use crate::state::Admin;
use crate::wire::{AlertView, HashedReport, ServiceLevelReport, SignedReport, TenantLevelView};

/// As fast as it may be, the budget lasts for the month; so many tenths of that, for two days (14.4).
const FAST_BURN_TENTHS: u64 = 144;
/// Fewer failures by our fault are no trend.
const ENOUGH: u64 = 10;
/// Tenants that are listed of the last hours.
const LISTED: usize = 20;
/// So much is put together in one turn of the upkeep.
const TURNS: usize = 50;

impl Admin {
    /// The report of a tenant's month, and the rows that it was computed from.
    pub(crate) async fn tenant_report(
        &self,
        tenant: &Tenant,
        month: Month,
    ) -> Result<(ServiceLevelReport, Vec<ServiceLevelRow>), Failure> {
        let licences = self.control.licences_of(tenant.id).await?;
        let (from, until) = month.hours();
        // By the licences of today, whether or not they stand now: a suspension takes nothing from a month that was promised.
        let promised = licences.iter().map(|licence| &licence.terms).any(|terms| {
            let begins = hour_of(terms.not_before) < until;
            let lasts = terms.grace_until().is_none_or(|end| hour_of(end) >= from);
            begins && lasts && terms.plan.terms().service_level
        });
        let subject = Subject {
            id: tenant.id.to_string(),
            name: tenant.name.clone(),
            region: self.region.clone(),
            objectives: promised.then_some(self.objectives),
        };
        self.report_of(tenant.id, &subject, month).await
    }

    /// The report of a tenant's month with its hours, and a signature over the report's very text, which holds the hash of
    /// the hours.
    pub(crate) async fn signed_report(&self, tenant: &Tenant, month: Month) -> Result<SignedReport, Failure> {
        let (report, rows) = self.tenant_report(tenant, month).await?;
        let hours = hours_csv(&rows);
        let hours_sha256 = HEXLOWER.encode(digest(&SHA256, hours.as_bytes()).as_ref());
        let report = serde_json::to_string_pretty(&HashedReport { report, hours_sha256 }).unwrap_or_default();
        let signature = self.report_keys.first().map(|pair| sshsig::sign(pair, report.as_bytes()));
        Ok(SignedReport { report, hours, signature: signature.unwrap_or_default() })
    }

    /// The keys that sign reports, and those that did, as OpenSSH lists them.
    pub(crate) fn report_signers(&self) -> String {
        let name = format!("hpns-{}", self.region);
        self.report_keys.iter().map(|pair| sshsig::allowed_signer(&name, pair)).collect()
    }

    /// The report of all tenants together, and the rows that it was computed from.
    pub(crate) async fn region_report(
        &self,
        month: Month,
    ) -> Result<(ServiceLevelReport, Vec<ServiceLevelRow>), Failure> {
        let subject = Subject {
            id: "all".into(),
            name: "all".into(),
            region: self.region.clone(),
            objectives: Some(self.objectives),
        };
        self.report_of(everybody(), &subject, month).await
    }

    async fn report_of(
        &self,
        tenant: TenantId,
        subject: &Subject,
        month: Month,
    ) -> Result<(ServiceLevelReport, Vec<ServiceLevelRow>), Failure> {
        let rows = self.level_rows(tenant, month).await?;
        let from = Timestamp::from_millis(month.hours().0 * 3_600_000);
        let processes = self.home.ledger_processes(from).await?;
        Ok((report(subject, month, &rows, &processes, self.now()), rows))
    }

    /// The hours and days that a report is made of.
    pub(crate) async fn level_rows(
        &self,
        tenant: TenantId,
        month: Month,
    ) -> Result<Vec<ServiceLevelRow>, Failure> {
        let (from, until) = month.hours();
        Ok(self.home.service_level(tenant, from, until).await?)
    }

    /// The tenants of this hour and the one before: those with most failures by our fault or the provider's first, then the
    /// busiest.
    pub(crate) async fn busiest_tenants(&self) -> Result<Vec<TenantLevelView>, Failure> {
        let hour = hour_of(self.now());
        let mut sums = self.home.service_level_by_tenant(hour.saturating_sub(1), hour + 1).await?;
        sums.retain(|(tenant, _)| *tenant != everybody() && *tenant != nobody());
        sums.sort_by_key(|(_, tally)| {
            std::cmp::Reverse((tally.bad(Owner::Ours), tally.bad(Owner::Provider), tally.valid()))
        });
        sums.truncate(LISTED);
        let mut views = Vec::new();
        for (tenant, tally) in sums {
            let name = self.control.tenant(tenant).await?.map(|it| it.name).unwrap_or_default();
            views.push(TenantLevelView {
                tenant: tenant.to_string(),
                name,
                tally: super::report::tally_view(&tally),
            });
        }
        Ok(views)
    }

    /// Says whether the month's error budget would be gone in two days at the pace of this hour and the one before: of the
    /// region, and then of which tenants. Nothing more is read while nothing fails by our fault.
    pub(crate) async fn budget_alerts(&self, alerts: &mut Vec<AlertView>) -> Result<(), Failure> {
        let hour = hour_of(self.now());
        let mut all = Tally::default();
        for row in self.home.service_level(everybody(), hour.saturating_sub(1), hour + 1).await? {
            all.add(&row.tally);
        }
        if all.bad(Owner::Ours) == 0 {
            return Ok(());
        }
        let allowed = 1_000_000 - self.objectives.availability_ppm;
        if let Some(text) = burning(&all, allowed) {
            alerts.push(alert("budget_burning", "alarm", "service_level", &self.region, text));
        }
        for tenant in self.burning_tenants(hour, allowed).await? {
            alerts.push(tenant);
        }
        Ok(())
    }

    async fn burning_tenants(&self, hour: u64, allowed: u32) -> Result<Vec<AlertView>, Failure> {
        let mut found = Vec::new();
        let sums = self.home.service_level_by_tenant(hour.saturating_sub(1), hour + 1).await?;
        for (tenant, tally) in sums.into_iter().filter(|(tenant, _)| *tenant != everybody()) {
            if let Some(text) = burning(&tally, allowed)
                && found.len() < LISTED
                && let Some(tenant) = self.control.tenant(tenant).await?
            {
                let id = tenant.id.to_string();
                found.push(alert("tenant_budget_burning", "warning", &id, &tenant.name, text));
            }
        }
        Ok(found)
    }

    /// Puts hours together and forgets old ones: a part of it at a time.
    pub(crate) async fn maintain_ledger(&self) {
        for _ in 0..TURNS {
            match self.home.keep_service_level(self.now()).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    return warn!(%error, "the service-level ledger cannot be put in order; it is tried again");
                }
            }
        }
    }
}

/// Says how fast an error budget burns, if that is too fast.
fn burning(tally: &Tally, allowed_ppm: u32) -> Option<String> {
    let (bad, valid) = (tally.bad(Owner::Ours), tally.valid());
    let allowed = u128::from(valid) * u128::from(allowed_ppm);
    let tenths = (u128::from(bad) * 1_000_000 * 10).checked_div(allowed)?;
    let text =
        || format!("{} times as fast as it may; {bad} of {valid} pushes failed by our fault", tenths / 10);
    (bad >= ENOUGH && tenths >= u128::from(FAST_BURN_TENTHS)).then(text)
}

#[cfg(test)]
mod tests {
    use push_domain::FailReason;

    use super::*;

    #[test]
    fn a_budget_burns_when_it_would_be_gone_in_two_days_and_not_for_a_handful() {
        let with = |bad: u64, ok: u64| {
            let mut tally = Tally { ok, ..Tally::default() };
            tally.failed[FailReason::Internal.owner() as usize] = bad;
            burning(&tally, 500).is_some()
        };

        assert!(with(72, 9928) && !with(71, 9929));
        assert!(!with(9, 0) && with(10, 0) && !with(0, 0));
        assert!(with(u64::MAX / 4, u64::MAX / 4));
    }
}
