//! The peer's metrics, with bounded labels, so that existing dashboards keep working.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use push_domain::{Answer, FailReason, Kind, Provider, Reason, Verdict};

/// Every counter of the hot path, made once.
pub(crate) struct Metrics {
    pushes: [[[PushCounters; 2]; Kind::ALL.len()]; 2],
    /// By platform name; made at the first push to an app of that name.
    versions: RwLock<HashMap<String, [Counter; 3]>>,
    bad_requests: Counter,
    requests: Histogram,
}

struct PushCounters {
    notifications: Counter,
    successes: Counter,
    acked_successes: Counter,
    failures: Counter,
}

/// By what a push is counted.
#[derive(Clone, Copy)]
pub(super) struct PushLabels {
    pub(super) provider: Provider,
    /// By the type that the caller wrote: the peer counts a call as the message that it is.
    pub(super) kind: Kind,
    pub(super) is_voip: bool,
    pub(super) wants_ack: bool,
}

const fn transport_label(is_voip: bool) -> &'static str {
    if is_voip { "voip" } else { "" }
}

impl PushCounters {
    fn new(provider: Provider, kind: Kind, is_voip: bool) -> Self {
        let named = |name: &'static str| {
            let (platform, kind) = (provider.label(), kind.label());
            counter!(name, "platform" => platform, "type" => kind, "transport" => transport_label(is_voip))
        };
        Self {
            notifications: named("service_notifications_total"),
            successes: named("service_success_total"),
            acked_successes: named("service_success_with_ack_total"),
            failures: named("service_failure_total"),
        }
    }
}

fn versions(platform: &str) -> [Counter; 3] {
    ["1", "2", "other"].map(|version| {
        let platform = platform.to_owned();
        counter!("service_notifications_by_app_version_total", "platform" => platform, "app_version" => version)
    })
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            pushes: [Provider::Apns, Provider::Fcm].map(|provider| {
                Kind::ALL.map(|kind| [false, true].map(|is_voip| PushCounters::new(provider, kind, is_voip)))
            }),
            versions: RwLock::default(),
            bad_requests: counter!("service_bad_request_total"),
            requests: histogram!("service_request_duration_seconds"),
        }
    }

    pub(super) fn request_took(&self, time: Duration) {
        self.requests.record(time);
    }

    /// Counts a refusal; as the peer's "bad request" only what the peer calls one.
    pub(super) fn refused(&self, reason: FailReason) {
        counter!("gateway_refusals_total", "reason" => reason.code()).increment(1);
        if matches!(reason, FailReason::BadRequest | FailReason::BadDeviceToken | FailReason::UnknownPlatform)
        {
            self.bad_requests.increment(1);
        }
    }

    pub(super) fn routed(&self, platform: &str, app_version: i64, labels: PushLabels) {
        let place =
            usize::try_from(app_version).ok().filter(|it| (1..=2).contains(it)).map_or(2, |it| it - 1);
        let known = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(versions) = known.get(platform) {
            versions[place].increment(1);
        } else {
            drop(known);
            let mut known = self.versions.write().unwrap_or_else(PoisonError::into_inner);
            known.entry(platform.to_owned()).or_insert_with(|| versions(platform))[place].increment(1);
        }
        if let Some(counters) = self.counters(labels) {
            counters.notifications.increment(1);
        }
    }

    pub(super) fn settled(&self, labels: PushLabels, verdict: &Verdict) {
        let Some(counters) = self.counters(labels) else {
            return;
        };
        let reason = match verdict.answer {
            Answer::Ok => {
                counters.successes.increment(1);
                if labels.wants_ack {
                    counters.acked_successes.increment(1);
                }
                return;
            }
            Answer::Remove => verdict.reason.as_ref().map_or("other", Reason::label),
            Answer::Fail(code) => verdict.reason.as_ref().map_or(code.code(), Reason::label),
        };
        counters.failures.increment(1);
        let (platform, transport) = (labels.provider.label(), transport_label(labels.is_voip));
        let kind = labels.kind.label();
        counter!("service_failure_with_reason_total", "platform" => platform, "type" => kind, "transport" => transport, "reason" => reason)
            .increment(1);
        if verdict.answer == Answer::Remove {
            counter!("service_removal_total", "platform" => platform, "transport" => transport, "reason" => reason)
                .increment(1);
        }
    }

    pub(super) fn acked(platform: &str, kind: &str) {
        let platform = ["ios", "android"].into_iter().find(|known| *known == platform).unwrap_or("other");
        let kind = Kind::ALL.into_iter().map(Kind::label).find(|known| *known == kind).unwrap_or("other");
        counter!("service_delivered_total", "platform" => platform, "type" => kind, "transport" => "")
            .increment(1);
    }

    fn counters(&self, labels: PushLabels) -> Option<&PushCounters> {
        self.pushes.get(labels.provider as usize)?.get(labels.kind.index())?.get(usize::from(labels.is_voip))
    }
}
