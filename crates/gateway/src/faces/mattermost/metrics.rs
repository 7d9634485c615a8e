//! The peer's metrics, with bounded labels, so that existing dashboards keep working.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use push_domain::{Answer, FailReason, Kind, Provider, Reason, Verdict};

use crate::event::{Answered, Label, Refused, Sink};

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
            pushes: Provider::ALL.map(|provider| {
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
    pub(super) fn count_refusal(&self, reason: FailReason) {
        counter!("gateway_refusals_total", "reason" => reason.code()).increment(1);
        if matches!(reason, FailReason::BadRequest | FailReason::BadDeviceToken | FailReason::UnknownPlatform)
        {
            self.bad_requests.increment(1);
        }
    }

    fn routed(&self, platform: &str, provider: Provider, label: Label) {
        let app_version = label.app_version;
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
        if let Some(counters) = self.counters(provider, label) {
            counters.notifications.increment(1);
        }
    }

    fn settled(&self, provider: Provider, label: Label, verdict: &Verdict) {
        let Some(counters) = self.counters(provider, label) else {
            return;
        };
        let reason = match verdict.answer {
            Answer::Ok => {
                counters.successes.increment(1);
                if label.wants_ack {
                    counters.acked_successes.increment(1);
                }
                return;
            }
            Answer::Remove => verdict.reason.as_ref().map_or("other", Reason::label),
            Answer::Fail(code) => verdict.reason.as_ref().map_or(code.code(), Reason::label),
        };
        counters.failures.increment(1);
        let (platform, transport) = (provider.label(), transport_label(label.is_voip));
        let kind = label.kind.label();
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

    fn counters(&self, provider: Provider, label: Label) -> Option<&PushCounters> {
        self.pushes.get(provider as usize)?.get(label.kind.index())?.get(usize::from(label.is_voip))
    }
}

impl Sink for Metrics {
    fn answered(&self, event: &Answered) {
        let (provider, label) = (event.app.provider, event.label);
        self.routed(&event.app.platform, provider, label);
        self.settled(provider, label, &event.verdict);
    }

    fn refused(&self, event: &Refused) {
        self.count_refusal(event.reason);
    }
}
