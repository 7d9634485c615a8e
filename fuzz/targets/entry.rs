//! Whatever lies in a lane is a push, a verdict, or refused; nothing that we have not sealed opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dispatch_stream::fuzzing::entry(bytes));
