//! Service layer: the operations of operators, for the API and the console alike.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use dispatch_stream::{AppQueueState, ProcessState};
use push_domain::{AppId, Audience, DeviceToken, LicenceId, TenantId, Timestamp};
use tenant_registry::{
    AuditContext, DeviceState, IssuedKey, Licence, LicenceDraft, Standing, Tenant, TenantQuery,
};

use crate::failure::{Failure, invalid, missing};
use crate::identity::Identity;
use crate::rules;
use crate::state::Admin;
use crate::wire::{
    AppView, BusyTenant, DeviceInput, LaneView, LicenceView, LineView, Moment, NewKey, OverviewView, Page,
    ProcessView, QueuesView, TenantRow, UsageView,
};

/// A page of a list is so long at most.
pub(crate) const LONGEST_PAGE: u32 = 100;

impl Admin {
    /// Refuses a licence with what its plan does not include. Terms that it has already are left to it.
    pub(crate) async fn check_plan(
        &self,
        draft: &LicenceDraft,
        known: Option<&Licence>,
    ) -> Result<(), Failure> {
        let same = known.is_some_and(|known| {
            let terms = &known.terms;
            (terms.plan, terms.privacy, &terms.regions, terms.rate_per_second)
                == (draft.plan, draft.privacy, &draft.regions, draft.rate_per_second)
        });
        if same {
            return Ok(());
        }
        let licences = self.control.licences_of(draft.tenant).await?;
        let now = self.now();
        let others = licences.iter().filter(|it| {
            known.is_none_or(|known| known.id != it.id) && it.standing(now) != Standing::Expired
        });
        let beside: Vec<_> = others.map(|it| it.terms.plan).collect();
        match draft.plan_refusal(&self.region, &beside) {
            Some((field, rule)) => Err(invalid(field, rule)),
            None => Ok(()),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Finds a tenant that the caller may see.
    pub(crate) async fn find_tenant(&self, caller: &Identity, id: &str) -> Result<Tenant, Failure> {
        let id: TenantId = id.parse().map_err(|_| missing("tenant"))?;
        caller.sees(id)?;
        self.control.tenant(id).await?.ok_or_else(|| missing("tenant"))
    }

    /// Finds a licence that the caller may see.
    pub(crate) async fn find_licence(&self, caller: &Identity, id: &str) -> Result<Licence, Failure> {
        let id: LicenceId = id.parse().map_err(|_| missing("licence"))?;
        let licence = self.control.licence(id).await?.ok_or_else(|| missing("licence"))?;
        caller.sees(licence.terms.tenant).map_err(|_| missing("licence"))?;
        Ok(licence)
    }

    /// Lists tenants by name, a page at a time.
    pub(crate) async fn list_tenants(
        &self,
        search: &str,
        after: &str,
        limit: u32,
    ) -> Result<Page<TenantRow>, Failure> {
        let limit = limit.clamp(1, LONGEST_PAGE);
        let query = TenantQuery { search, after, limit: limit + 1 };
        let (mut tenants, licences) = self.control.tenants(query).await?;
        let more = tenants.len() > limit as usize;
        tenants.truncate(limit as usize);
        let now = self.now();
        let mut by_tenant: HashMap<TenantId, Vec<LicenceView>> = HashMap::new();
        for licence in licences {
            by_tenant.entry(licence.terms.tenant).or_default().push(LicenceView::new(licence, now));
        }
        let next_cursor = tenants.last().filter(|_| more).map(|last| encode_cursor(&last.name));
        let row = |tenant: Tenant| {
            let licences = by_tenant.remove(&tenant.id).unwrap_or_default();
            TenantRow { tenant: tenant.into(), licences }
        };
        Ok(Page { items: tenants.into_iter().map(row).collect(), next_cursor })
    }

    /// Makes a key, and what goes into the customer's server.
    pub(crate) async fn new_key(
        &self,
        licence: LicenceId,
        overlap_hours: u32,
        audit: AuditContext<'_>,
    ) -> Result<NewKey, Failure> {
        let overlap = rules::overlap(overlap_hours)?;
        let issued = self.control.issue_key(licence, &self.region, overlap, audit).await?;
        Ok(self.shown(&issued))
    }

    fn shown(&self, issued: &IssuedKey) -> NewKey {
        let key = issued.key.expose().to_owned();
        let push_url = format!("{}/t/{key}", self.config.push_url.trim_end_matches('/'));
        NewKey { kid: issued.record.kid.clone(), key, push_url }
    }

    /// Hashes a device token as the gateways do, under every key that there is: the newest first.
    pub(crate) fn devices(
        &self,
        tenant: &Tenant,
        input: DeviceInput,
    ) -> Result<Vec<push_domain::DeviceId>, Failure> {
        let app = self
            .apps
            .get(&AppId::new(&input.app))
            .ok_or_else(|| invalid("app", "is no app of this service"))?;
        let token = DeviceToken::parse(app.provider, input.token)
            .map_err(|rule| invalid("token", &format!("is no device token of this app: {rule}")))?;
        let keys = self.keys.device_keys(tenant.id, &tenant.device_salt);
        Ok(keys.iter().map(|key| key.device_id(&app.id, &token)).collect())
    }

    pub(crate) async fn processes(&self) -> Vec<ProcessState> {
        let mut states = self.peers.states().await.unwrap_or_default();
        states.retain(|state| state.is_gateway || state.is_worker);
        states.sort_by(|a, b| a.process.cmp(&b.process));
        states
    }

    /// What a tenant's pushes of the last minutes were answered, and how many devices it has.
    pub(crate) async fn usage(&self, tenant: TenantId) -> Result<UsageView, Failure> {
        let mut usage = UsageView::default();
        let id = tenant.to_string();
        for state in self.processes().await.iter().flat_map(|it| &it.tenants).filter(|it| it.tenant == id) {
            usage.under_way += state.under_way;
            for (answer, count) in &state.answers {
                *usage.answers.entry(answer.clone()).or_default() += count;
            }
        }
        for count in self.home.count_devices(tenant).await? {
            match count.state {
                DeviceState::Active => usage.active_devices += count.count,
                DeviceState::Removed => usage.removed_devices += count.count,
            }
        }
        Ok(usage)
    }

    /// All apps, and how the workers find them.
    pub(crate) async fn app_views(&self) -> Vec<AppView> {
        let processes = self.processes().await;
        let mut views: Vec<_> = self.apps.all().iter().map(|app| self.app_view(app, &processes)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    #[expect(clippy::unused_self, reason = "one of the operators' views")]
    fn app_view(&self, app: &Arc<push_domain::App>, processes: &[ProcessState]) -> AppView {
        let name = app.id.to_string();
        let states: Vec<_> =
            processes.iter().filter(|it| it.is_worker).filter_map(|it| it.apps.get(&name)).collect();
        let all = |is: fn(&dispatch_stream::AppState) -> bool| states.iter().all(|state| is(state));
        let health = if states.is_empty() {
            "unknown"
        } else if all(|state| state.credentials.is_empty()) {
            "no_credentials"
        } else if all(|state| state.is_held) {
            "held"
        } else if all(|state| state.is_broken) {
            "broken"
        } else {
            "healthy"
        };
        let mut fingerprints: Vec<_> =
            states.iter().map(|state| state.fingerprint.clone()).filter(|text| !text.is_empty()).collect();
        fingerprints.sort();
        fingerprints.dedup();
        let accepted = states.iter().map(|state| state.last_accepted_ms).max().filter(|at| *at > 0);
        AppView {
            provider: app.provider.label().to_owned(),
            platform: app.platform.clone(),
            audience: match app.audience {
                Audience::Shared => "shared".to_owned(),
                Audience::Tenant(tenant) => tenant.to_string(),
            },
            topic: app.topic.clone(),
            health: health.to_owned(),
            credentials: states.first().map(|state| state.credentials.clone()).unwrap_or_default(),
            fingerprints,
            days_left: states.iter().filter_map(|state| state.days_left).min(),
            last_accepted_at: accepted.map(|at| Moment(Timestamp::from_millis(at))),
            workers: states.len(),
            name,
        }
    }

    /// What waits, and where.
    pub(crate) async fn queues(&self) -> Result<QueuesView, Failure> {
        let processes = self.processes().await;
        let mut lines: BTreeMap<String, AppQueueState> = BTreeMap::new();
        let mut busy: BTreeMap<String, BusyTenant> = BTreeMap::new();
        for state in &processes {
            for (app, line) in &state.lines {
                let known = lines.entry(app.clone()).or_default();
                *known = known.with(*line);
            }
            for tenant in &state.tenants {
                let known = busy.entry(tenant.tenant.clone()).or_insert_with(|| BusyTenant {
                    tenant: tenant.tenant.clone(),
                    name: None,
                    under_way: 0,
                    answers: BTreeMap::new(),
                });
                known.under_way += tenant.under_way;
                for (answer, count) in &tenant.answers {
                    *known.answers.entry(answer.clone()).or_default() += count;
                }
            }
        }
        let mut tenants: Vec<_> = busy.into_values().collect();
        tenants.sort_by_key(|it| std::cmp::Reverse((it.under_way, it.answers.values().sum::<u64>())));
        tenants.truncate(20);
        for tenant in &mut tenants {
            if let Ok(id) = tenant.tenant.parse() {
                tenant.name = self.control.tenant(id).await?.map(|it| it.name);
            }
        }
        Ok(QueuesView {
            processes: processes.iter().map(process_view).collect(),
            lines: lines.into_iter().map(|(app, line)| (app, line_view(line))).collect(),
            lanes: self.lanes().await,
            tenants,
        })
    }

    async fn lanes(&self) -> Vec<LaneView> {
        let depths = self.peers.depths().await;
        let view = |it: dispatch_stream::LaneDepth| LaneView {
            lane: it.lane,
            is_up: it.depth.is_some(),
            depth: it.depth.unwrap_or_default(),
        };
        depths.into_iter().map(view).collect()
    }

    /// The service at a glance.
    pub(crate) async fn overview(&self) -> Result<OverviewView, Failure> {
        let [tenants, licences, live_keys] = self.control.totals(self.now()).await?;
        let processes = self.processes().await;
        let lanes = self.lanes().await;
        Ok(OverviewView {
            region: self.region.clone(),
            tenants,
            licences,
            live_keys,
            gateways: processes.iter().filter(|it| it.is_gateway).count(),
            workers: processes.iter().filter(|it| it.is_worker).count(),
            lanes_up: lanes.iter().filter(|it| it.is_up).count(),
            lanes: lanes.len(),
            alerts: self.alerts().await?,
        })
    }
}

fn process_view(state: &ProcessState) -> ProcessView {
    let barred: HashSet<_> = state
        .apps
        .iter()
        .filter(|(_, app)| app.is_broken || app.is_held)
        .map(|(name, _)| name.clone())
        .collect();
    let mut barred: Vec<_> = barred.into_iter().collect();
    barred.sort();
    ProcessView {
        process: state.process.clone(),
        version: state.version.clone(),
        is_gateway: state.is_gateway,
        is_worker: state.is_worker,
        barred,
    }
}

const fn line_view(line: AppQueueState) -> LineView {
    LineView {
        waiting: line.waiting,
        oldest_ms: line.oldest_ms,
        under_way: line.under_way,
        window: line.window,
    }
}

/// A place in a list, as callers carry it.
pub(crate) fn encode_cursor(text: &str) -> String {
    data_encoding::BASE64URL_NOPAD.encode(text.as_bytes())
}

/// Reads a place in a list.
pub(crate) fn decode_cursor(cursor: &str) -> Result<String, Failure> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(cursor.as_bytes()).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| invalid("cursor", "has to be one that a page before has given"))
}
