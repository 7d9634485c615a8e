//! The keyed hashes: of licence keys, of devices, and of devices in log lines.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use data_encoding::BASE32_NOPAD;
use push_domain::{AppId, DeviceId, DeviceToken, SecretBytes, TenantId};

use crate::AdminToken;

/// The service's own secret keys, derived from one key file. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Derived>);

/// A key is about a kilobyte: its hash states are computed ahead.
struct Derived {
    /// The first is the oldest; new licence keys are stored under the last.
    peppers: Vec<Key>,
    devices: Key,
    logs: Key,
    tokens: Key,
    check: Key,
}

impl Keys {
    /// Derives the keys from the master secret, one for each use, so that none helps against another.
    #[must_use]
    pub fn derive(master: &SecretBytes) -> Self {
        Self::with_peppers(master, &[])
    }

    /// The same with newer peppers for licence keys, oldest first: keys are stored under the newest, and those
    /// that were stored under an older one are still known.
    #[must_use]
    pub fn with_peppers(master: &SecretBytes, newer: &[SecretBytes]) -> Self {
        let derived = |secret: &SecretBytes, label: &[u8]| {
            let root = Key::new(HMAC_SHA256, secret.expose());
            Key::new(HMAC_SHA256, hmac::sign(&root, label).as_ref())
        };
        let pepper = |secret: &SecretBytes| derived(secret, b"hpns licence key pepper v1");
        Self(Arc::new(Derived {
            peppers: std::iter::once(master).chain(newer).map(pepper).collect(),
            devices: derived(master, b"hpns device key v1"),
            logs: derived(master, b"hpns log reference v1"),
            tokens: derived(master, b"hpns admin token v1"),
            check: pepper(master),
        }))
    }

    /// A value that only these keys make, to recognise a registry's own key file by.
    pub(crate) fn check_value(&self) -> [u8; 32] {
        tag_bytes(&hmac::sign(&self.0.check, b"hpns key check v1"))
    }

    /// Hashes a licence key for storage, and says under which pepper. Keys carry 256 random bits, so a slow hash
    /// would add nothing but a lever for denial of service.
    pub(crate) fn mac(&self, key: &str) -> ([u8; 32], u32) {
        let newest = self.0.peppers.last().unwrap_or(&self.0.check);
        let version = u32::try_from(self.0.peppers.len()).unwrap_or(u32::MAX);
        (tag_bytes(&hmac::sign(newest, key.as_bytes())), version)
    }

    /// Compares in constant time. A pepper that is not known any more opens nothing.
    pub(crate) fn mac_matches(&self, key: &str, pepper: u32, mac: &[u8; 32]) -> bool {
        let known = (pepper as usize).checked_sub(1).and_then(|at| self.0.peppers.get(at));
        let matches = hmac::verify(known.unwrap_or(&self.0.check), key.as_bytes(), mac).is_ok();
        matches && known.is_some()
    }

    /// Hashes an admin token for storage.
    pub(crate) fn token_mac(&self, token: &AdminToken) -> [u8; 32] {
        tag_bytes(&hmac::sign(&self.0.tokens, token.expose().as_bytes()))
    }

    /// Compares in constant time.
    pub(crate) fn token_matches(&self, token: &AdminToken, mac: &[u8]) -> bool {
        hmac::verify(&self.0.tokens, token.expose().as_bytes(), mac).is_ok()
    }

    /// Derives a key for a purpose that the caller names, such as `console sessions`.
    #[must_use]
    pub fn purpose_key(&self, purpose: &str) -> SecretBytes {
        let mut context = hmac::Context::with_key(&self.0.tokens);
        context.update(b"hpns purpose v1|");
        context.update(purpose.as_bytes());
        SecretBytes::new(context.sign().as_ref().to_vec())
    }

    /// Hashes where a caller comes from, so that no address has to be kept.
    #[must_use]
    pub fn source_hash(&self, parts: &[&[u8]]) -> u64 {
        let mut context = hmac::Context::with_key(&self.0.logs);
        context.update(b"source");
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }

    /// Derives the key under which one tenant's devices are hashed.
    #[must_use]
    pub fn device_key(&self, tenant: TenantId, salt: &[u8; 32]) -> DeviceKey {
        let mut context = hmac::Context::with_key(&self.0.devices);
        context.update(salt);
        context.update(tenant.uuid().as_bytes());
        DeviceKey(Arc::new(Key::new(HMAC_SHA256, context.sign().as_ref())))
    }

    /// Derives the key for device references in log lines of one day.
    #[must_use]
    pub fn log_key(&self, day: u32) -> LogKey {
        LogKey { day, key: Key::new(HMAC_SHA256, hmac::sign(&self.0.logs, &day.to_be_bytes()).as_ref()) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// Hashes one tenant's device tokens. Cheap to clone: a key is about a kilobyte.
#[derive(Clone)]
pub struct DeviceKey(Arc<Key>);

impl DeviceKey {
    /// Returns the id under which the ledger knows a device: a keyed hash of app and token.
    #[must_use]
    pub fn device_id(&self, app: &AppId, token: &DeviceToken) -> DeviceId {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(app.as_str().as_bytes());
        context.update(b"|");
        context.update(token.expose().as_bytes());
        DeviceId::from_bytes(tag_bytes(&context.sign()))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

/// Makes the device references of one day's log lines, which cannot be linked to those of another day.
#[derive(Clone)]
pub struct LogKey {
    day: u32,
    key: Key,
}

impl LogKey {
    /// Returns the day that the key is for.
    #[must_use]
    pub const fn day(&self) -> u32 {
        self.day
    }

    /// Returns 12 characters that stand for a device on this day.
    #[must_use]
    pub fn reference(&self, device: &DeviceId) -> String {
        let tag = tag_bytes(&hmac::sign(&self.key, device.as_bytes()));
        let mut text = BASE32_NOPAD.encode(&tag[..8]);
        text.truncate(12);
        text
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogKey").field("day", &self.day).finish_non_exhaustive()
    }
}

fn tag_bytes(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use push_domain::Provider;

    use super::*;

    #[test]
    fn a_device_has_another_id_for_every_tenant_app_and_token() {
        let keys = Keys::derive(&SecretBytes::new(vec![7; 32]));
        let token = |text: &str| DeviceToken::parse(Provider::Fcm, text.into()).unwrap();
        let (one, two) = (TenantId::new(), TenantId::new());
        let id = |tenant, app: &str, text| {
            keys.device_key(tenant, &[1; 32]).device_id(&AppId::new(app), &token(text))
        };

        assert_eq!(id(one, "app", "a"), id(one, "app", "a"));
        assert_ne!(id(one, "app", "a"), id(two, "app", "a"));
        assert_ne!(id(one, "app", "a"), id(one, "other", "a"));
        assert_ne!(id(one, "app", "a"), id(one, "app", "b"));
    }

    #[test]
    fn a_newer_pepper_leaves_older_keys_known() {
        let (master, newer) = (SecretBytes::new(vec![7; 32]), SecretBytes::new(vec![8; 32]));
        let before = Keys::derive(&master);
        let after = Keys::with_peppers(&master, &[newer]);
        let ((old, old_version), (new, new_version)) = (before.mac("key"), after.mac("key"));

        assert_eq!((old_version, new_version), (1, 2));
        assert!(after.mac_matches("key", 1, &old) && after.mac_matches("key", 2, &new));
        assert!(!after.mac_matches("key", 1, &new) && !before.mac_matches("key", 2, &new));
        assert_eq!(before.check_value(), after.check_value());
    }

    #[test]
    fn a_log_reference_cannot_be_linked_across_days() {
        let keys = Keys::derive(&SecretBytes::new(vec![7; 32]));
        let device = DeviceId::from_bytes([3; 32]);

        assert_eq!(keys.log_key(1).reference(&device).len(), 12);
        assert_ne!(keys.log_key(1).reference(&device), keys.log_key(2).reference(&device));
    }
}
