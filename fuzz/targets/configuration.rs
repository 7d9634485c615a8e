//! Whatever stands in a configuration file is a configuration or a refusal that repeats no value.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the binary uses the rest")]

#[path = "../../crates/hpns/src/config/mod.rs"]
mod config;
#[path = "../../crates/hpns/src/secret_file.rs"]
mod secret_file;

const CANARY: &str = "c4n4ryc4n4ry";

libfuzzer_sys::fuzz_target!(|text: &str| {
    let marked = text.replace('~', CANARY);
    match config::Config::parsed(&marked) {
        Ok(config) => assert!(config.threads() > 0),
        // A key that stands in the file may be named, a value may not.
        Err(error) => {
            let told = format!("{error:#}");
            let is_value = text.contains("= \"~\"") && !text.contains("[~") && text.matches('~').count() == 1;
            assert!(!is_value || !told.contains(CANARY), "{told}");
        }
    }
});
