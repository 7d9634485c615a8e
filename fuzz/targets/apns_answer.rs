//! Whatever Apple answers is judged, and only a 410 or `BadDeviceToken` calls a device dead.
#![no_main]

use apns_sender::response::{read_error, classify};
use push_domain::Outcome;

libfuzzer_sys::fuzz_target!(|answer: (u16, &[u8])| {
    let (status, body) = answer;
    let (reason, timestamp) = read_error(body);
    let judged = classify(status, &reason, timestamp, None);
    if matches!(judged.outcome, Outcome::TokenDead { .. }) {
        assert!(status == 410 || (status == 400 && reason == "BadDeviceToken"));
    }
    assert_eq!(judged.outcome == Outcome::Accepted, status == 200);
});
