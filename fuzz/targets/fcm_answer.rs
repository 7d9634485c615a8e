//! Whatever Google answers is judged, no 5xx calls a device dead, and only a 200 with a name is a yes.
#![no_main]

use std::time::UNIX_EPOCH;

use fcm_sender::response::{retry_after, classify};
use push_domain::Outcome;

libfuzzer_sys::fuzz_target!(|answer: (u16, &str, &[u8])| {
    let (status, header, body) = answer;
    let judged = classify(status, body, retry_after(header, UNIX_EPOCH));
    if judged.outcome == Outcome::Accepted {
        assert_eq!(status, 200);
    }
    if matches!(judged.outcome, Outcome::TokenDead { .. }) {
        assert!((400..500).contains(&status), "{status}");
    }
});
