//! Key set: the service's own keys by purpose, as they stand in files; a role gets only those it needs.
//!
//! ```text
//! control 2 6c0f…   a pepper of licence keys, wherever these open anything
//! devices 1 91ab…   under which device tokens are hashed, where these are known
//! log 1 07d2…       for references in log lines, and for sources in limits
//! operators 1 e55c… admin tokens, sessions, the audit log's codes
//! rights 1 3b7e…    signs what grants anything, where licences are sold
//! rights-check 1 d4… proves these signatures, wherever licences are read: it is no secret
//! ```
//!
//! A line is a purpose, a number and a key of 64 hexadecimal digits. Of one purpose the highest number makes, all of them
//! know what they made.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use push_domain::SecretBytes;

const KEY_LEN: usize = 32;

/// Purpose of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPurpose {
    /// Peppers of licence keys.
    Control,
    /// Hashes of devices.
    Devices,
    /// References in log lines, and hashes of callers' networks.
    Log,
    /// Admin tokens, console sessions, codes of the audit log.
    Operators,
    /// Signs licences, keys and tokens (Ed25519 seeds).
    Rights,
    /// Proves those signatures (Ed25519 public keys).
    RightsCheck,
}

impl KeyPurpose {
    /// All purposes.
    pub const ALL: [Self; 6] =
        [Self::Control, Self::Devices, Self::Log, Self::Operators, Self::Rights, Self::RightsCheck];

    /// Its name in a file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Devices => "devices",
            Self::Log => "log",
            Self::Operators => "operators",
            Self::Rights => "rights",
            Self::RightsCheck => "rights-check",
        }
    }
}

/// A text that holds no such keys. The message repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// A line is not a purpose, a number and a key.
    #[error(
        "line {0} has to be control, devices, log, operators, rights or rights-check, a number, and 64 hexadecimal digits"
    )]
    Line(usize),
    /// Two keys of one purpose and number.
    #[error("line {0} repeats a purpose and a number")]
    Repeated(usize),
    /// No key at all.
    #[error("there is no key in it")]
    Empty,
}

/// Keys by purpose and number.
#[derive(Clone, Default)]
pub struct KeySet(BTreeMap<(KeyPurpose, u32), SecretBytes>);

impl KeySet {
    /// Reads the text of a key file. One of a former version, with one master secret and newer peppers, is all purposes.
    pub fn parse(text: &str) -> Result<Self, InvalidKeySet> {
        let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
        let lines: Vec<_> = lines.filter(|(_, line)| !line.starts_with('#')).collect();
        let Some((_, first)) = lines.first() else { return Err(InvalidKeySet::Empty) };
        if !first.contains(' ') {
            let secrets = lines.iter().map(|(number, line)| key(line).ok_or(InvalidKeySet::Line(*number)));
            let secrets: Vec<_> = secrets.collect::<Result<_, _>>()?;
            let (master, newer) = secrets.split_first().ok_or(InvalidKeySet::Empty)?;
            return Ok(Self::of_master(master, newer));
        }
        let mut set = Self::default();
        for (number, line) in lines {
            let mut parts = line.split_whitespace();
            let purpose =
                parts.next().and_then(|name| KeyPurpose::ALL.into_iter().find(|it| it.as_str() == name));
            let of = parts.next().and_then(|text| text.parse().ok()).filter(|of| *of > 0);
            let (Some(purpose), Some(of), Some(key), None) =
                (purpose, of, parts.next().and_then(key), parts.next())
            else {
                return Err(InvalidKeySet::Line(number));
            };
            set.insert(purpose, of, key).map_err(|()| InvalidKeySet::Repeated(number))?;
        }
        Ok(set)
    }

    /// What a master secret and newer peppers, oldest first, were derived into.
    #[must_use]
    pub fn of_master(master: &SecretBytes, newer: &[SecretBytes]) -> Self {
        let derived = |secret: &SecretBytes, label: &[u8]| {
            let root = Key::new(HMAC_SHA256, secret.expose());
            SecretBytes::new(hmac::sign(&root, label).as_ref().to_vec())
        };
        let peppers = (1..).zip(std::iter::once(master).chain(newer));
        let peppers = peppers.map(|(number, secret)| {
            ((KeyPurpose::Control, number), derived(secret, b"hpns licence key pepper v1"))
        });
        let others: [(KeyPurpose, &[u8]); 4] = [
            (KeyPurpose::Devices, b"hpns device key v1"),
            (KeyPurpose::Log, b"hpns log reference v1"),
            (KeyPurpose::Operators, b"hpns admin token v1"),
            (KeyPurpose::Rights, b"hpns rights v1"),
        ];
        let others = others.into_iter().map(|(purpose, label)| ((purpose, 1), derived(master, label)));
        let mut set = Self::default();
        for ((purpose, number), key) in peppers.chain(others) {
            let is_new = set.insert(purpose, number, key);
            debug_assert!(is_new.is_ok(), "each purpose and number is named once");
        }
        set
    }

    /// Adds a key; fails where its place is taken by another. Who signs can check.
    fn insert(&mut self, purpose: KeyPurpose, number: u32, key: SecretBytes) -> Result<(), ()> {
        if purpose == KeyPurpose::Rights {
            let check = check_key(&key).ok_or(())?;
            self.insert(KeyPurpose::RightsCheck, number, check)?;
        }
        let known = self.0.entry((purpose, number));
        match known {
            Entry::Vacant(place) => drop(place.insert(key)),
            // A file of checks may stand beside the keys that they were made of.
            Entry::Occupied(known)
                if purpose == KeyPurpose::RightsCheck && known.get().expose() == key.expose() => {}
            Entry::Occupied(_) => return Err(()),
        }
        Ok(())
    }

    /// Adds the keys of another file; says whether it repeats one.
    pub fn merge(&mut self, other: Self) -> Result<(), InvalidKeySet> {
        for ((purpose, number), key) in other.0.into_iter().rev() {
            self.insert(purpose, number, key).map_err(|()| InvalidKeySet::Repeated(1))?;
        }
        Ok(())
    }

    /// Says whether there is a key for a purpose.
    #[must_use]
    pub fn holds(&self, purpose: KeyPurpose) -> bool {
        self.of(purpose).next().is_some()
    }

    /// The number of the newest key of a purpose; 0 if there is none.
    #[must_use]
    pub fn newest(&self, purpose: KeyPurpose) -> u32 {
        self.of(purpose).last().map_or(0, |(number, _)| number)
    }

    /// Writes the keys of one purpose as a file of their own.
    #[must_use]
    pub fn lines(&self, purpose: KeyPurpose) -> String {
        let line = |(number, key): (u32, &SecretBytes)| {
            [purpose.as_str(), " ", &number.to_string(), " ", &HEXLOWER.encode(key.expose()), "\n"].concat()
        };
        self.of(purpose).map(line).collect()
    }

    /// The keys of one purpose, by number.
    pub(crate) fn of(&self, purpose: KeyPurpose) -> impl Iterator<Item = (u32, &SecretBytes)> {
        self.0.iter().filter(move |((of, _), _)| *of == purpose).map(|((_, number), key)| (*number, key))
    }
}

fn key(digits: &str) -> Option<SecretBytes> {
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    (bytes.len() == KEY_LEN).then(|| SecretBytes::new(bytes))
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.0.keys()).finish()
    }
}

/// The public key to a seed; `None` if it is none.
fn check_key(seed: &SecretBytes) -> Option<SecretBytes> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
    Some(SecretBytes::new(pair.public_key().as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_or_refused_with_the_line() {
        let hex = "ab".repeat(32);
        let refused = |text: &str| KeySet::parse(text).unwrap_err();
        let set =
            KeySet::parse(&format!("# ours\ncontrol 1 {hex}\n\ncontrol 2 {hex}\nlog 1 {hex}\n")).unwrap();
        assert!(set.holds(KeyPurpose::Control) && !set.holds(KeyPurpose::Operators));

        assert_eq!(refused("# nothing"), InvalidKeySet::Empty);
        for bad in
            [format!("others 1 {hex}"), format!("log 0 {hex}"), "log 1 ab".into(), format!("log 1 {hex} x")]
        {
            assert_eq!(refused(&format!("control 1 {hex}\n{bad}")), InvalidKeySet::Line(2), "{bad}");
        }
        assert_eq!(refused(&format!("log 1 {hex}\nlog 1 {hex}")), InvalidKeySet::Repeated(2));
        assert!(!format!("{set:?}").contains("abab"));
    }

    #[test]
    fn a_master_is_split_into_files_that_hold_nothing_of_it_and_of_each_other() {
        let (master, newer) = ("11".repeat(32), "22".repeat(32));
        let whole = KeySet::parse(&format!("{master}\n{newer}\n")).unwrap();
        let mut again = KeySet::default();
        for purpose in KeyPurpose::ALL {
            let lines = whole.lines(purpose);
            assert!(!lines.contains(&master) && !lines.contains(&newer));
            let alone = KeySet::parse(&lines).unwrap();
            let brought =
                |other| other == purpose || (purpose, other) == (KeyPurpose::Rights, KeyPurpose::RightsCheck);
            assert!(KeyPurpose::ALL.into_iter().all(|other| alone.holds(other) == brought(other)));
            again.merge(alone).unwrap();
        }

        assert_eq!(whole.lines(KeyPurpose::Control).lines().count(), 2);
        assert!(KeyPurpose::ALL.into_iter().all(|purpose| whole.lines(purpose) == again.lines(purpose)));
    }
}
