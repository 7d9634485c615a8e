//! Fuzzing entry point: bytes that may stand in a stream.

use std::sync::Arc;

use push_domain::{App, AppCatalogue, AppId, Audience, JobId, Provider};
use tokio::time::Instant;
use uuid::Uuid;

use crate::seal::{Binding, LaneTimestamp, Sealer};
use crate::{KeyRing, wire};

const RING: &str = "00000000000000a1 1111111111111111111111111111111111111111111111111111111111111111";

/// Reads bytes as an envelope, as the record inside one, as a parcel, as a verdict and as a list of them. What can be read is written and read
/// again; nothing else may open.
///
/// # Panics
///
/// If that is not so.
#[expect(clippy::expect_used, reason = "this is what the fuzzer looks for")]
pub fn entry(bytes: &[u8]) {
    let app = AppId::new("ios");
    let job = JobId::from_uuid(Uuid::from_u128(7 << 64));
    let deadline = LaneTimestamp { millis: 1_800_000_000_000, epoch: 3 };
    let binding = Binding { job, gateway: "gateway", app: &app, deadline };
    let sealer = Sealer::new(Arc::new(KeyRing::parse(RING).expect("a good ring")));
    assert!(sealer.open(binding, bytes).is_err(), "a forged envelope opens");
    let sealed = sealer.seal(binding, bytes).expect("anything can be sealed");
    assert_eq!(sealer.open(binding, &sealed).expect("our own"), bytes);

    let apps = Provider::ALL.map(|provider| App {
        id: AppId::new(if provider == Provider::Apns { "ios" } else { "android" }),
        platform: provider.label().into(),
        audience: Audience::Shared,
        provider,
        topic: "com.example".into(),
    });
    let apps = AppCatalogue::new(apps).expect("two apps");
    let deadline = Instant::now();
    for app in [AppId::new("ios"), AppId::new("android")] {
        let Ok(read) = wire::read_push(bytes.to_vec().into(), job, &app, &apps, deadline) else { continue };
        let again =
            wire::read_push(wire::write_push(&read).into(), job, &app, &apps, deadline).expect("our own");
        assert_eq!(read.notification.device, again.notification.device);
    }
    if let Ok(read) = wire::read_parcel(bytes.to_vec().into()) {
        let again = wire::write_parcel(read.binding(), &read.envelope);
        assert_eq!(wire::read_parcel(again).expect("our own").envelope, read.envelope);
    }
    if let Ok(told) = wire::read_verdicts(bytes.to_vec().into()) {
        told.for_each(drop);
    }
    if let Ok(verdict) = wire::read_verdict(bytes) {
        assert_eq!(wire::read_verdict(&wire::write_verdict(&verdict)).as_ref(), Ok(&verdict));
    }
}
