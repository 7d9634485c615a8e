//! Keyed hashes (HMAC-SHA256) of licence keys, admin tokens, devices, and devices in log lines.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use data_encoding::BASE32_NOPAD;
use push_domain::{AppId, DeviceId, DeviceToken, SecretBytes, TenantId};

use crate::digest::{self, KeyDigest};
use crate::rights::RightsKeys;
use crate::{AdminToken, KeyPurpose, KeySet};

/// The service's own keys, of those purposes that this process has. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<KeyRings>);

/// A key is about a kilobyte: its hash states are computed ahead. Of each purpose the newest comes last.
struct KeyRings {
    control: Vec<(u32, Key)>,
    devices: Vec<(u32, Key)>,
    logs: Vec<(u32, Key)>,
    operators: Vec<(u32, Key)>,
    rights: RightsKeys,
    /// Stands for keys that this process does not have: nobody else knows it, so that nothing is opened by it.
    none: Key,
}

impl Keys {
    /// Takes keys as they stand in files.
    #[must_use]
    pub fn of(set: &KeySet) -> Self {
        let ring = |purpose| {
            set.of(purpose).map(|(number, key)| (number, Key::new(HMAC_SHA256, key.expose()))).collect()
        };
        let mut none = [0; 32];
        // Without random bytes nothing is kept that anybody could open.
        let is_random = aws_lc_rs::rand::fill(&mut none).is_ok();
        debug_assert!(is_random, "the system has no random bytes");
        Self(Arc::new(KeyRings {
            control: ring(KeyPurpose::Control),
            devices: ring(KeyPurpose::Devices),
            logs: ring(KeyPurpose::Log),
            operators: ring(KeyPurpose::Operators),
            rights: RightsKeys::of(set),
            none: Key::new(HMAC_SHA256, &none),
        }))
    }

    /// Derives the keys of all purposes from one secret.
    #[must_use]
    pub fn derive(master: &SecretBytes) -> Self {
        Self::with_peppers(master, &[])
    }

    /// The same with newer peppers for licence keys, oldest first: keys are stored under the newest, and those
    /// that were stored under an older one are still known.
    #[must_use]
    pub fn with_peppers(master: &SecretBytes, newer: &[SecretBytes]) -> Self {
        Self::of(&KeySet::of_master(master, newer))
    }

    fn newest<'a>(&'a self, ring: &'a [(u32, Key)]) -> (u32, &'a Key) {
        ring.last().map_or((0, &self.0.none), |(number, key)| (*number, key))
    }

    /// A value that only these keys make, to recognise a registry's own key file by: that of the newest pepper.
    pub(crate) fn check_value(&self) -> [u8; 32] {
        tag_bytes(&hmac::sign(self.newest(&self.0.control).1, CHECK))
    }

    /// Says whether a registry's value was made by any of these keys.
    pub(crate) fn knows_check(&self, value: &[u8]) -> bool {
        self.0.control.iter().any(|(_, key)| hmac::verify(key, CHECK, value).is_ok())
    }

    /// Codes a licence key's digest for storage, and says under which pepper.
    pub(crate) fn mac(&self, digest: &KeyDigest) -> ([u8; 32], u32) {
        let (number, newest) = self.newest(&self.0.control);
        (tag_bytes(&hmac::sign(newest, digest.bytes())), number)
    }

    /// Compares in constant time; `hashed` says whether the code is one over the key's digest or, as once, over the key. A
    /// pepper that is not known any more opens nothing.
    pub(crate) fn mac_matches(&self, key: &str, pepper: u32, hashed: bool, mac: &[u8; 32]) -> bool {
        let known = self.0.control.iter().find(|(number, _)| *number == pepper).map(|(_, key)| key);
        let digest = KeyDigest::of(key);
        let said = if hashed { digest.bytes() } else { key.as_bytes() };
        let matches = hmac::verify(known.unwrap_or(&self.0.none), said, mac).is_ok();
        matches && known.is_some()
    }

    /// The number of the newest pepper; 0 if there is none.
    pub(crate) fn newest_pepper(&self) -> u32 {
        self.newest(&self.0.control).0
    }

    /// Seals a key's digest for those who sell licences: gateways cannot open it again.
    pub(crate) fn wrap(&self, kid: &str, digest: &KeyDigest) -> Option<Vec<u8>> {
        let (number, key) = self.0.operators.last()?;
        digest.sealed(*number, &derived(key, "licence key digest"), kid)
    }

    /// Opens what [`Self::wrap`] made.
    pub(crate) fn unwrap(&self, kid: &str, wrapped: &[u8]) -> Option<KeyDigest> {
        let (_, key) = self.0.operators.iter().find(|(number, _)| digest::is_under(wrapped, *number))?;
        KeyDigest::opened(wrapped, &derived(key, "licence key digest"), kid)
    }

    /// The number of the key that digests are wrapped under; what is wrapped begins with it.
    pub(crate) fn wrap_number(&self) -> u32 {
        self.newest(&self.0.operators).0
    }

    /// Seals a key's digest as a gateway offers it, to those who check keys.
    pub(crate) fn offer(&self, kid: &str, digest: &KeyDigest) -> Option<Vec<u8>> {
        let (number, key) = self.0.control.last()?;
        digest.sealed(*number, &derived(key, "licence key offer"), kid)
    }

    /// Opens what [`Self::offer`] made.
    pub(crate) fn take_offer(&self, kid: &str, offered: &[u8]) -> Option<KeyDigest> {
        let (_, key) = self.0.control.iter().find(|(number, _)| digest::is_under(offered, *number))?;
        KeyDigest::opened(offered, &derived(key, "licence key offer"), kid)
    }

    /// Whether this process may sign what grants anything, and note that it did.
    #[must_use]
    pub fn can_sign_rights(&self) -> bool {
        self.0.rights.can_sign() && self.audit_key().is_some()
    }

    pub(crate) fn rights(&self) -> &RightsKeys {
        &self.0.rights
    }

    /// Codes a licence key as the version before does.
    pub(crate) fn legacy_mac(&self, key: &str) -> ([u8; 32], u32) {
        let (number, newest) = self.newest(&self.0.control);
        (tag_bytes(&hmac::sign(newest, key.as_bytes())), number)
    }

    /// Hashes an admin token for storage.
    pub(crate) fn token_mac(&self, token: &AdminToken) -> [u8; 32] {
        tag_bytes(&hmac::sign(self.newest(&self.0.operators).1, token.expose().as_bytes()))
    }

    /// Compares in constant time, under every key that there is.
    pub(crate) fn token_matches(&self, token: &AdminToken, mac: &[u8]) -> bool {
        let verified = |key: &Key| hmac::verify(key, token.expose().as_bytes(), mac).is_ok();
        let known = self.0.operators.iter().map(|(_, key)| verified(key));
        known.fold(false, |found, one| found | one)
    }

    /// Derives keys for a purpose of operators that the caller names, such as `console session`, the newest first.
    #[must_use]
    pub fn purpose_keys(&self, purpose: &str) -> Vec<SecretBytes> {
        let derived = |(_, key): &(u32, Key)| SecretBytes::new(derived(key, purpose).as_ref().to_vec());
        self.0.operators.iter().rev().map(derived).collect()
    }

    /// The number of the key under which the audit log goes on; `None` for a process that may not write it.
    pub(crate) fn audit_key(&self) -> Option<u32> {
        self.0.operators.last().map(|(number, _)| *number)
    }

    /// Makes a code of the audit log under one key; `None` if this process does not have it.
    pub(crate) fn audit_mac(&self, number: u32, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let (_, key) = self.0.operators.iter().find(|(known, _)| *known == number)?;
        let mut context = hmac::Context::with_key(&Key::new(HMAC_SHA256, derived(key, "audit log").as_ref()));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Some(tag_bytes(&context.sign()))
    }

    /// Hashes where a caller comes from, so that no address has to be kept.
    #[must_use]
    pub fn source_hash(&self, parts: &[&[u8]]) -> u64 {
        let mut context = hmac::Context::with_key(self.newest(&self.0.logs).1);
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
        device_key(self.newest(&self.0.devices).1, tenant, salt)
    }

    /// Derives all keys under which a tenant's devices may have been hashed, the newest first.
    #[must_use]
    pub fn device_keys(&self, tenant: TenantId, salt: &[u8; 32]) -> Vec<DeviceKey> {
        self.0.devices.iter().rev().map(|(_, key)| device_key(key, tenant, salt)).collect()
    }

    /// Derives the key for device references in log lines of one day.
    #[must_use]
    pub fn log_key(&self, day: u32) -> LogKey {
        let newest = self.newest(&self.0.logs).1;
        LogKey { day, key: Key::new(HMAC_SHA256, hmac::sign(newest, &day.to_be_bytes()).as_ref()) }
    }
}

const CHECK: &[u8] = b"hpns key check v1";

fn derived(key: &Key, purpose: &str) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(b"hpns purpose v1|");
    context.update(purpose.as_bytes());
    context.sign()
}

fn device_key(key: &Key, tenant: TenantId, salt: &[u8; 32]) -> DeviceKey {
    let mut context = hmac::Context::with_key(key);
    context.update(salt);
    context.update(tenant.uuid().as_bytes());
    DeviceKey(Arc::new(Key::new(HMAC_SHA256, context.sign().as_ref())))
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
        let key = KeyDigest::of("key");
        let ((old, old_version), (new, new_version)) = (before.mac(&key), after.mac(&key));

        assert_eq!((old_version, new_version), (1, 2));
        assert!(after.mac_matches("key", 1, true, &old) && after.mac_matches("key", 2, true, &new));
        assert!(!after.mac_matches("key", 1, true, &new) && !before.mac_matches("key", 2, true, &new));
        let of_before = tag_bytes(&hmac::sign(before.newest(&before.0.control).1, b"key"));
        assert!(
            after.mac_matches("key", 1, false, &of_before) && !after.mac_matches("key", 1, true, &of_before)
        );
        assert!(after.knows_check(&before.check_value()) && !before.knows_check(&after.check_value()));
    }

    #[test]
    fn keys_of_a_purpose_that_a_process_lacks_open_nothing() {
        let whole = KeySet::of_master(&SecretBytes::new(vec![7; 32]), &[]);
        let without = |purpose| {
            let mut set = KeySet::default();
            for other in KeyPurpose::ALL.into_iter().filter(|other| *other != purpose) {
                set.merge(KeySet::parse(&whole.lines(other)).unwrap()).unwrap();
            }
            Keys::of(&set)
        };
        let (all, token) = (Keys::of(&whole), AdminToken::generate());
        let gateway = without(KeyPurpose::Operators);
        assert!(all.token_matches(&token, &all.token_mac(&token)));
        assert!(!gateway.token_matches(&token, &gateway.token_mac(&token)), "not even what it makes itself");
        assert!(gateway.purpose_keys("console session").is_empty() && gateway.audit_key().is_none());
        assert!(gateway.mac_matches("key", 1, true, &all.mac(&KeyDigest::of("key")).0));

        let no_peppers = without(KeyPurpose::Control);
        assert!(
            !no_peppers.mac_matches("key", 1, true, &all.mac(&KeyDigest::of("key")).0)
                && !no_peppers.knows_check(&all.check_value())
        );
    }

    #[test]
    fn a_log_reference_cannot_be_linked_across_days() {
        let keys = Keys::derive(&SecretBytes::new(vec![7; 32]));
        let device = DeviceId::from_bytes([3; 32]);

        assert_eq!(keys.log_key(1).reference(&device).len(), 12);
        assert_ne!(keys.log_key(1).reference(&device), keys.log_key(2).reference(&device));
    }
}
