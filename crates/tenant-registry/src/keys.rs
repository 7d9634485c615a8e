//! The keyed hashes: of licence keys, of devices, and of devices in log lines.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use data_encoding::BASE32_NOPAD;
use push_domain::{AppId, DeviceId, DeviceToken, SecretBytes, TenantId};

/// The service's own secret keys, derived from one key file.
#[derive(Clone)]
pub struct Keys {
    pepper: Key,
    devices: Key,
    logs: Key,
}

impl Keys {
    /// Derives the keys from the master secret, one for each use, so that none helps against another.
    #[must_use]
    pub fn derive(master: &SecretBytes) -> Self {
        let root = Key::new(HMAC_SHA256, master.expose());
        let derived = |label: &[u8]| Key::new(HMAC_SHA256, hmac::sign(&root, label).as_ref());
        Self {
            pepper: derived(b"hpns licence key pepper v1"),
            devices: derived(b"hpns device key v1"),
            logs: derived(b"hpns log reference v1"),
        }
    }

    /// A value that only these keys make, to recognise a registry's own key file by.
    pub(crate) fn check_value(&self) -> [u8; 32] {
        self.mac("hpns key check v1")
    }

    /// Hashes a licence key for storage. Keys carry 256 random bits, so a slow hash would add nothing
    /// but a lever for denial of service.
    pub(crate) fn mac(&self, key: &str) -> [u8; 32] {
        tag_bytes(&hmac::sign(&self.pepper, key.as_bytes()))
    }

    /// Compares in constant time.
    pub(crate) fn mac_matches(&self, key: &str, mac: &[u8; 32]) -> bool {
        hmac::verify(&self.pepper, key.as_bytes(), mac).is_ok()
    }

    /// Derives the key under which one tenant's devices are hashed.
    #[must_use]
    pub fn device_key(&self, tenant: TenantId, salt: &[u8; 32]) -> DeviceKey {
        let mut context = hmac::Context::with_key(&self.devices);
        context.update(salt);
        context.update(tenant.uuid().as_bytes());
        DeviceKey(Key::new(HMAC_SHA256, context.sign().as_ref()))
    }

    /// Derives the key for device references in log lines of one day.
    #[must_use]
    pub fn log_key(&self, day: u32) -> LogKey {
        LogKey { day, key: Key::new(HMAC_SHA256, hmac::sign(&self.logs, &day.to_be_bytes()).as_ref()) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// Hashes one tenant's device tokens.
#[derive(Clone)]
pub struct DeviceKey(Key);

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
    fn a_log_reference_cannot_be_linked_across_days() {
        let keys = Keys::derive(&SecretBytes::new(vec![7; 32]));
        let device = DeviceId::from_bytes([3; 32]);

        assert_eq!(keys.log_key(1).reference(&device).len(), 12);
        assert_ne!(keys.log_key(1).reference(&device), keys.log_key(2).reference(&device));
    }
}
