//! Whatever a customer's server sends is a push within its provider's limits, or a refusal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::request(bytes));
