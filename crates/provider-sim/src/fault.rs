//! Fault injection: a provider's lasting fault profile, and single faults on its open connections.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Provider: Apple (APNs) or Google (FCM).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderName {
    /// Apple.
    Apns,
    /// Google: pushes and access tokens alike.
    Fcm,
}

/// Reaction to a request beyond the limit of concurrent streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExcessAction {
    /// Its stream is refused.
    Refuse,
    /// The connection is given up.
    GoAway,
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptMode {
    /// They are served.
    Open,
    /// They are closed at once.
    Shut,
    /// They are accepted and never spoken to.
    Dark,
    /// They are shown a certificate that has expired.
    Expired,
}

/// Latency distribution of answers (log-normal): half take at most `p50_ms`, 95 of 100 at most `p95_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile, in milliseconds.
    pub p95_ms: f64,
}

/// Fault profile of one provider: limits, delays, time-outs. 0 stands for "never" and "no limit".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultProfile {
    /// What becomes of new connections.
    pub door: AcceptMode,
    /// Everything that the server says arrives so much later.
    pub rtt_ms: u64,
    /// And up to so much more, by chance.
    pub jitter_ms: u64,
    /// How long answers take besides.
    pub latency: Option<Latency>,
    /// The sender gets its connection window back when it has used this much of its 65,535 bytes.
    pub window_refill_bytes: u32,
    /// How many requests may be open on a connection (once a provider token was accepted, at Apple).
    pub streams: u32,
    /// What happens to more.
    pub excess: ExcessAction,
    /// Whether a 4xx other than 410 lowers `streams` to 1 until the next success.
    pub throttles: bool,
    /// So many `BadDeviceToken` end a connection.
    pub bad_tokens: u32,
    /// A connection ends with GOAWAY `max_age` so long after it began.
    pub max_age_ms: u64,
    /// The same after so many requests.
    pub max_requests: u64,
    /// A connection without requests ends with GOAWAY `session_timeout`.
    pub idle_ms: u64,
    /// So many PINGs without a request between them end a connection with GOAWAY `too_many_pings`.
    pub pings: u32,
    /// Whether every answer is followed by a PING.
    pub ping_after_answer: bool,
    /// Whether bodies end with an empty DATA frame of its own.
    pub split_answers: bool,
    /// How many pushes a minute the project or team may send.
    pub quota_per_minute: u64,
    /// How many pushes a minute one device may get.
    pub device_per_minute: u64,
    /// How long an access token lives.
    pub token_life_seconds: u64,
}

impl FaultProfile {
    /// What is known of Apple.
    pub(crate) const fn apple() -> Self {
        Self {
            door: AcceptMode::Open,
            rtt_ms: 0,
            jitter_ms: 0,
            latency: None,
            window_refill_bytes: 32_768,
            streams: 1000,
            excess: ExcessAction::Refuse,
            throttles: true,
            bad_tokens: 0,
            max_age_ms: 0,
            max_requests: 0,
            idle_ms: 0,
            pings: 0,
            ping_after_answer: false,
            split_answers: false,
            quota_per_minute: 0,
            device_per_minute: 400,
            token_life_seconds: 3600,
        }
    }

    /// What is known of Google.
    pub(crate) const fn google() -> Self {
        Self {
            streams: 100,
            excess: ExcessAction::GoAway,
            throttles: false,
            max_age_ms: 3_600_000,
            idle_ms: 240_000,
            pings: 3,
            ping_after_answer: true,
            split_answers: true,
            quota_per_minute: 600_000,
            device_per_minute: 240,
            token_life_seconds: 3599,
            ..Self::apple()
        }
    }

    /// Nothing but speed: for benchmarks.
    pub(crate) const fn unlimited(streams: u32, rtt_ms: u64) -> Self {
        Self { streams, throttles: false, device_per_minute: 0, rtt_ms, ..Self::apple() }
    }

    /// How much later the server's next words arrive.
    pub(crate) fn delay(&self) -> Duration {
        let jitter = if self.jitter_ms == 0 { 0 } else { rand::rng().random_range(0..=self.jitter_ms) };
        Duration::from_millis(self.rtt_ms + jitter)
    }

    /// How long the next answer takes.
    pub(crate) fn latency(&self) -> Duration {
        /// The 95th percentile of the standard normal distribution.
        const P95: f64 = 1.645;
        let Some(Latency { p50_ms, p95_ms }) = self.latency else {
            return Duration::ZERO;
        };
        let mut rng = rand::rng();
        let (radius, angle): (f64, f64) = (rng.random_range(f64::EPSILON..1.0), rng.random_range(0.0..1.0));
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        let ms = p50_ms * (normal * (p95_ms / p50_ms).ln() / P95).exp();
        Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
    }
}

/// Injected fault on the connections that are open at the moment; later ones are as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "blow", rename_all = "snake_case")]
pub enum Fault {
    /// They stay open and read everything, but never say a word again, not even to a PING.
    BlackHole,
    /// They stay open and do not even read.
    Freeze,
    /// They are closed without a word.
    Close,
    /// Every open request is reset.
    Reset,
    /// They are given up with a GOAWAY; what was begun is still answered.
    GoAway,
    /// The same, in plain text instead of JSON.
    GoAwayText,
    /// They are given up with a GOAWAY that covers none of the open requests.
    GoAwayUnprocessed,
    /// They allow so many open requests from now on.
    Streams {
        /// How many.
        streams: u32,
    },
}

#[derive(Debug, Clone)]
struct State {
    profile: Arc<FaultProfile>,
    fault: Option<Fault>,
    /// Counts the faults.
    number: u64,
}

/// Fault controller of one provider: sets its profile, injects faults into its open connections.
#[derive(Debug)]
pub(crate) struct FaultController(watch::Sender<State>);

impl FaultController {
    pub(crate) fn new(profile: FaultProfile) -> Self {
        Self(watch::Sender::new(State { profile: Arc::new(profile), fault: None, number: 0 }))
    }

    pub(crate) fn profile(&self) -> Arc<FaultProfile> {
        Arc::clone(&self.0.borrow().profile)
    }

    pub(crate) fn set(&self, profile: FaultProfile) {
        self.0.send_modify(|state| state.profile = Arc::new(profile));
    }

    pub(crate) fn inject_fault(&self, fault: Fault) {
        self.0.send_modify(|state| {
            state.fault = Some(fault);
            state.number += 1;
        });
    }

    /// What a connection listens to from now on.
    pub(crate) fn subscribe(&self) -> FaultSubscription {
        let mut state = self.0.subscribe();
        let number = state.borrow_and_update().number;
        FaultSubscription { state, number }
    }
}

/// Subscription of one connection to its provider's profile and faults.
pub(crate) struct FaultSubscription {
    state: watch::Receiver<State>,
    number: u64,
}

impl FaultSubscription {
    pub(crate) fn profile(&self) -> Arc<FaultProfile> {
        Arc::clone(&self.state.borrow().profile)
    }

    /// Waits for a change: a fault, or other habits. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Fault> {
        if self.state.changed().await.is_err() {
            return std::future::pending().await;
        }
        let state = self.state.borrow_and_update();
        if state.number == self.number {
            return None;
        }
        self.number = state.number;
        state.fault
    }
}
