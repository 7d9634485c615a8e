//! Operator alerts: shown in the console, and as one gauge for each kind.

use std::collections::BTreeMap;
use std::time::Duration;

use push_domain::Timestamp;
use tenant_registry::Standing;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::audit_watch::PublishedAuditHead;
use crate::failure::Failure;
use crate::state::Admin;
use crate::wire::AlertView;

const DAY: Duration = Duration::from_hours(24);
/// Licences are told of so long before their end, and while their grace lasts.
const LICENCE: Duration = Duration::from_hours(30 * 24);
/// Certificates.
const WARN_DAYS: u32 = 30;
const ALARM_DAYS: u32 = 7;
/// So many answers make a share; so many removals of a hundred are too many.
const ENOUGH: u64 = 20;
const REMOVALS_PERCENT: u64 = 20;
/// New devices of a day that are worth a look.
const NEW_DEVICES: u64 = 100;
/// How often the gauges are renewed.
const RENEW: Duration = Duration::from_secs(30);

const KINDS: [&str; 11] = [
    "licence_expiring",
    "licence_in_grace",
    "credential_expiring",
    "credential_missing",
    "app_held",
    "provider_down",
    "removals",
    "new_devices",
    "rights_changed",
    "budget_burning",
    "tenant_budget_burning",
];

pub(crate) fn alert(kind: &str, severity: &str, object: &str, name: &str, text: String) -> AlertView {
    AlertView { kind: kind.into(), severity: severity.into(), object: object.into(), name: name.into(), text }
}

impl Admin {
    /// Everything that an operator should look at.
    pub(crate) async fn alerts(&self) -> Result<Vec<AlertView>, Failure> {
        let mut alerts = self.app_alerts().await;
        let changed = self.watch.changed();
        if changed > 0 {
            let text = if changed == crate::registry_watch::UNKNOWN {
                "what grants anything bears no signature of ours; gateways go on with what they knew"
                    .to_owned()
            } else {
                format!("{changed} licences, keys or tokens are not as they were written; they grant nothing")
            };
            alerts.push(alert("rights_changed", "alarm", "registry", "registry", text));
        }
        self.licence_alerts(&mut alerts).await?;
        self.tenant_alerts(&mut alerts).await?;
        // Last: of what is slow or broken in the ledger, nothing else must fall silent.
        if let Err(failure) = self.budget_alerts(&mut alerts).await {
            warn!(reason = failure.0.detail(), "the service level cannot be watched at the moment");
        }
        Ok(alerts)
    }

    async fn app_alerts(&self) -> Vec<AlertView> {
        let mut alerts = Vec::new();
        for app in self.app_views().await {
            let mut add = |kind, severity, text: String| {
                alerts.push(alert(kind, severity, &app.name, &app.name, text));
            };
            match &*app.health {
                "held" => add(
                    "app_held",
                    "alarm",
                    "the provider refuses the app: its credentials or its set-up".into(),
                ),
                "broken" => {
                    add("provider_down", "alarm", "the provider is out of order for every worker".into());
                }
                "no_credentials" => {
                    add("credential_missing", "alarm", "no worker can use the app's credentials".into());
                }
                _ => {}
            }
            if let Some(days) = app.days_left.filter(|days| *days < WARN_DAYS) {
                let severity = if days < ALARM_DAYS { "alarm" } else { "warning" };
                add("credential_expiring", severity, format!("the certificate ends in {days} days"));
            }
        }
        alerts
    }

    async fn licence_alerts(&self, alerts: &mut Vec<AlertView>) -> Result<(), Failure> {
        let now = self.now();
        for (licence, tenant) in self.control.expiring(now, now.plus(LICENCE)).await? {
            let id = licence.id.to_string();
            let days = |until: Timestamp| until.since(now).as_secs() / DAY.as_secs();
            match (licence.standing(now), licence.terms.expires_at) {
                (Standing::Grace(until), _) => {
                    let text = format!("the licence has expired; its grace ends in {} days", days(until));
                    alerts.push(alert("licence_in_grace", "alarm", &id, &tenant, text));
                }
                (Standing::Active | Standing::NotYet, Some(end)) => {
                    let text = format!("the licence ends in {} days", days(end));
                    alerts.push(alert("licence_expiring", "warning", &id, &tenant, text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn tenant_alerts(&self, alerts: &mut Vec<AlertView>) -> Result<(), Failure> {
        let mut answers: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        for state in self.processes().await.iter().flat_map(|process| &process.tenants) {
            let known = answers.entry(state.tenant.clone()).or_default();
            let count = |label: &str| state.answers.get(label).copied().unwrap_or_default();
            known[0] += count("remove");
            known[1] += count("remove") + count("ok");
        }
        for (tenant, [removed, decided]) in answers {
            if decided >= ENOUGH && removed * 100 > decided * REMOVALS_PERCENT {
                let percent = removed * 100 / decided;
                let text = format!("{percent} % of its devices of the last minutes are dead");
                alerts.push(alert("removals", "warning", &tenant, &self.name_of(&tenant).await?, text));
            }
        }
        for growth in self.home.unusual_growth(self.now().day(), NEW_DEVICES).await? {
            let id = growth.tenant.to_string();
            let text =
                format!("{} new devices today, {} in the week before", growth.today, growth.week_before);
            alerts.push(alert("new_devices", "warning", &id, &self.name_of(&id).await?, text));
        }
        Ok(())
    }

    async fn name_of(&self, tenant: &str) -> Result<String, Failure> {
        let Ok(id) = tenant.parse() else { return Ok(tenant.to_owned()) };
        Ok(self.control.tenant(id).await?.map_or_else(|| tenant.to_owned(), |tenant| tenant.name))
    }

    /// Shows how many alerts of each kind there are, until `stop`; forgets old request keys on the way.
    pub async fn run_monitoring(self, stop: CancellationToken) {
        let mut told = PublishedAuditHead::default();
        loop {
            match self.alerts().await {
                Ok(alerts) => {
                    for kind in KINDS {
                        let count = alerts.iter().filter(|alert| alert.kind == kind).count();
                        #[expect(clippy::cast_precision_loss, reason = "some hundred at most")]
                        metrics::gauge!("operator_alerts", "kind" => kind).set(count as f64);
                    }
                }
                Err(failure) => warn!(reason = failure.0.detail(), "alerts cannot be told at the moment"),
            }
            self.publish_audit_head(&mut told).await;
            self.note_failures().await;
            self.carry_out_erasures().await;
            self.watch.maintain(&*self.control, &*self.home, self.config.audit_days, self.now()).await;
            self.maintain_ledger().await;
            let yesterday =
                self.now().millis().saturating_sub(u64::try_from(DAY.as_millis()).unwrap_or_default());
            let _ = self.home.forget_requests(Timestamp::from_millis(yesterday)).await;
            tokio::select! {
                () = stop.cancelled() => return self.note_failures().await,
                () = tokio::time::sleep(RENEW) => {}
            }
        }
    }
}
