//! Whatever a caller presents as a key is a key that reads the same again, or none; no key shows itself.
#![no_main]

use tenant_registry::LicenceKey;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(key) = LicenceKey::parse(text) {
        assert_eq!(key.expose(), text);
        assert!(!format!("{key:?}").contains(text));
    }
});
