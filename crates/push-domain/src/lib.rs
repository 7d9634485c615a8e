//! Domain types that every crate of `hpns` shares: who pushes ([`TenantId`]), to what ([`App`],
//! [`DeviceToken`]), what ([`Notification`], [`ProviderRequest`]), what the provider decided
//! ([`Outcome`]) and what the customer's server is told ([`Answer`]).
//!
//! This crate does no I/O and knows neither HTTP servers nor databases. Everything that a user
//! would read, and every secret, is a type that cannot be printed ([`Content`], [`DeviceToken`]).

mod answer;
mod app;
mod clock;
mod id;
mod log_sampler;
mod notification;
mod outcome;
mod pacing;
mod privacy;
mod proxy;
mod request;
mod secret;
mod sender;
mod service_level;
mod setting;
mod text;
mod verdict;

pub use answer::{Answer, FailReason};
pub use app::{AmbiguousApp, App, AppCatalogue, AppId, AppName, Audience, Provider, PushEnvironment};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use id::{DeviceId, InvalidId, JobId, LicenceId, TenantId};
pub use log_sampler::LogSampler;
pub use notification::{Kind, Notification, TrafficClass};
pub use outcome::{Outcome, Reason, RetryScope};
pub use pacing::{Backoff, Gcra, Turn};
pub use privacy::Privacy;
pub use proxy::OutboundProxy;
pub use request::{
    ApnsRequest, CollapseId, FcmRequest, InvalidRequest, MAX_PAYLOAD_BYTES, MAX_VOIP_PAYLOAD_BYTES, Priority,
    ProviderRequest, PushType,
};
pub use secret::{Content, DeviceToken, InvalidToken, SecretBytes};
pub use sender::{Attempt, PushSender};
pub use service_level::{Latency, Objectives, PartsPerMillion, Tally};
pub use setting::InvalidSetting;
pub use text::is_hidden;
pub use verdict::{Owner, Timing, Verdict};
