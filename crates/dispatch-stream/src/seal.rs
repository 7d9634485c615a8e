//! Envelope encryption (AES-256-GCM) of pushes in Redis, bound to push, gateway, app and deadline.
//!
//! ```text
//! version 2 | kid, 8 bytes | nonce, 12 bytes | AES-256-GCM(record) with its tag
//! additional data: version | kid | job, 16 bytes | deadline, 8 bytes | epoch, 8 bytes
//!                  | app's length, 1 byte | app | gateway
//! ```
//!
//! The deadline is in the time of the lane that the push goes to, and holds in one epoch of its clock: what is put
//! back into a lane after that is refused, whoever put it there.
//!
//! The key comes from a ring that every gateway and worker mounts. It does not seal by itself: a push
//! is sealed under HKDF-SHA256(ring key, salt = gateway, info = the 19 hours in which the push was made), so
//! that random nonces stay far below 2^32 under one key (NIST SP 800-38D, 8.3).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use bytes::Bytes;
use data_encoding::HEXLOWER_PERMISSIVE;
use push_domain::{AppId, JobId, SecretBytes};

const VERSION: u8 = 2;
pub(crate) const KID_LEN: usize = 8;
pub(crate) const KEY_LEN: usize = 32;
const HEADER_LEN: usize = 1 + KID_LEN + NONCE_LEN;
/// Derived keys that are remembered.
const REMEMBERED_KEYS: usize = 4096;
/// 2^26 ms: at 50,000 pushes a second some 3.4 thousand million nonces, below 2^32.
const WINDOW_BITS: u32 = 26;

pub(crate) type Kid = [u8; KID_LEN];

/// A text that is no key ring. The message repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyRing {
    /// A line is not a kid and a key.
    #[error("line {0} has to be a kid of 16 and a key of 64 hexadecimal digits, with a space between them")]
    Line(usize),
    /// Two keys under one kid.
    #[error("line {0} repeats a kid")]
    Repeated(usize),
    /// No key at all.
    #[error("there is no key in it")]
    Empty,
}

/// An envelope that cannot be opened. It says why, never what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    #[error("the envelope is of another version")]
    Version,
    #[error("the key ring does not hold the envelope's key")]
    UnknownKey,
    #[error("the envelope was changed, or is not of this push, gateway, app and deadline")]
    Broken,
}

/// Key ring: the keys under which pushes travel. The first one seals, all of them open.
///
/// One `KID KEY` a line, in hexadecimal; empty lines and lines that begin with `#` are skipped.
#[derive(Clone)]
pub struct KeyRing {
    pub(crate) sealing: Kid,
    pub(crate) keys: HashMap<Kid, SecretBytes>,
}

impl KeyRing {
    /// Reads the text of a key ring file.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyRing> {
        let mut sealing = None;
        let mut keys = HashMap::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (kid, key) = line.split_once(' ').ok_or(InvalidKeyRing::Line(number))?;
            let bytes = |text: &str| HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
            let kid = bytes(kid).and_then(|it| Kid::try_from(it).ok()).ok_or(InvalidKeyRing::Line(number))?;
            let key = bytes(key).filter(|it| it.len() == KEY_LEN).ok_or(InvalidKeyRing::Line(number))?;
            sealing.get_or_insert(kid);
            if keys.insert(kid, SecretBytes::new(key)).is_some() {
                return Err(InvalidKeyRing::Repeated(number));
            }
        }
        Ok(Self { sealing: sealing.ok_or(InvalidKeyRing::Empty)?, keys })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Timestamp in a lane's own time, and the epoch of its clock in which it means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneTimestamp {
    pub(crate) millis: u64,
    pub(crate) epoch: u64,
}

/// Associated data that an envelope is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) job: JobId,
    pub(crate) gateway: &'a str,
    pub(crate) app: &'a AppId,
    /// After it nobody may send the push.
    pub(crate) deadline: LaneTimestamp,
}

/// Seals and opens under one ring. Keys are derived once and remembered.
pub(crate) struct Sealer {
    ring: Arc<KeyRing>,
    derived: Mutex<HashMap<(Kid, String, u64), Arc<RandomizedNonceKey>>>,
}

struct ContentKey;

impl KeyType for ContentKey {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

impl Sealer {
    pub(crate) fn new(ring: Arc<KeyRing>) -> Self {
        Self { ring, derived: Mutex::default() }
    }

    /// Seals a record under the newest key.
    pub(crate) fn seal(&self, binding: Binding<'_>, record: &[u8]) -> Result<Bytes, SealError> {
        let kid = self.ring.sealing;
        let key = self.key(kid, binding)?;
        let mut sealed = record.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(additional_data(kid, binding)), &mut sealed)
            .map_err(|_| SealError::Broken)?;
        let mut envelope = Vec::with_capacity(HEADER_LEN + sealed.len());
        envelope.push(VERSION);
        envelope.extend(kid);
        envelope.extend(nonce.as_ref());
        envelope.append(&mut sealed);
        Ok(envelope.into())
    }

    /// Opens an envelope under whichever key of the ring sealed it.
    pub(crate) fn open(&self, binding: Binding<'_>, envelope: &[u8]) -> Result<Bytes, SealError> {
        if envelope.first() != Some(&VERSION) {
            return Err(SealError::Version);
        }
        let (header, sealed) = envelope.split_at_checked(HEADER_LEN).ok_or(SealError::Broken)?;
        let kid = Kid::try_from(&header[1..=KID_LEN]).map_err(|_| SealError::Broken)?;
        let nonce =
            Nonce::try_assume_unique_for_key(&header[1 + KID_LEN..]).map_err(|_| SealError::Broken)?;
        let key = self.key(kid, binding)?;
        let mut opened = sealed.to_vec();
        let length = key
            .open_in_place(nonce, Aad::from(additional_data(kid, binding)), &mut opened)
            .map_err(|_| SealError::Broken)?
            .len();
        opened.truncate(length);
        Ok(opened.into())
    }

    fn key(&self, kid: Kid, binding: Binding<'_>) -> Result<Arc<RandomizedNonceKey>, SealError> {
        let window = window(binding.job);
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (kid, binding.gateway.to_owned(), window);
        if let Some(key) = derived.get(&name) {
            return Ok(Arc::clone(key));
        }
        let ring_key = self.ring.keys.get(&kid).ok_or(SealError::UnknownKey)?;
        let salt = Salt::new(HKDF_SHA256, binding.gateway.as_bytes());
        let info = [b"hpns push 2".as_slice(), &window.to_be_bytes()];
        let mut bytes = [0; KEY_LEN];
        let key = salt.extract(ring_key.expose());
        let key = key.expand(&info, ContentKey).and_then(|okm| okm.fill(&mut bytes));
        let key = key.and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, &bytes));
        let key = Arc::new(key.map_err(|_| SealError::Broken)?);
        if derived.len() >= REMEMBERED_KEYS {
            derived.clear();
        }
        derived.insert(name, Arc::clone(&key));
        Ok(key)
    }
}

/// The time in which a push was made, as its id tells it (`UUIDv7`).
fn window(job: JobId) -> u64 {
    let (made_and_more, _) = job.uuid().as_u64_pair();
    made_and_more >> 16 >> WINDOW_BITS
}

fn additional_data(kid: Kid, binding: Binding<'_>) -> Vec<u8> {
    let app = binding.app.as_str().as_bytes();
    let mut data = Vec::with_capacity(1 + KID_LEN + 16 + 8 + 8 + 1 + app.len() + binding.gateway.len());
    data.push(VERSION);
    data.extend(kid);
    data.extend(binding.job.uuid().as_bytes());
    data.extend(binding.deadline.millis.to_be_bytes());
    data.extend(binding.deadline.epoch.to_be_bytes());
    // An app's name is at most 64 bytes long; its length keeps it apart from what follows.
    data.push(u8::try_from(app.len()).unwrap_or(u8::MAX));
    data.extend(app);
    data.extend(binding.gateway.as_bytes());
    data
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "00000000000000a1 1111111111111111111111111111111111111111111111111111111111111111";
    const NEW: &str = "00000000000000b2 2222222222222222222222222222222222222222222222222222222222222222";

    fn sealer(lines: &[&str]) -> Sealer {
        Sealer::new(Arc::new(KeyRing::parse(&lines.join("\n")).unwrap()))
    }

    const DEADLINE: LaneTimestamp = LaneTimestamp { millis: 1_800_000_000_000, epoch: 3 };

    fn a_job() -> JobId {
        "job_01933b2f8a2c7d01b4c6d8e0f2a4b6c8".parse().unwrap()
    }

    #[test]
    fn a_ring_is_read_or_refused_with_the_line() {
        let refused = |text: &str| KeyRing::parse(text).unwrap_err();

        assert_eq!(KeyRing::parse(&format!("# newest first\n\n{NEW}\n{OLD}\n")).unwrap().keys.len(), 2);
        assert_eq!(refused("# nothing\n"), InvalidKeyRing::Empty);
        assert_eq!(refused(&format!("{NEW}\ncanary")), InvalidKeyRing::Line(2));
        assert_eq!(refused(&OLD[..40]), InvalidKeyRing::Line(1));
        assert_eq!(refused(&format!("{NEW}\n{NEW}")), InvalidKeyRing::Repeated(2));
        assert!(!format!("{:?}", KeyRing::parse(OLD)).contains("1111"));
    }

    #[test]
    fn what_one_process_seals_another_opens_before_and_after_a_new_key() {
        let app = AppId::new("ios");
        let binding = Binding { job: a_job(), gateway: "gw", app: &app, deadline: DEADLINE };
        let (before, between, after) = (sealer(&[OLD]), sealer(&[OLD, NEW]), sealer(&[NEW, OLD]));

        for (seals, opens) in
            [(&before, &between), (&between, &before), (&between, &after), (&after, &between)]
        {
            let envelope = seals.seal(binding, b"canary").unwrap();
            assert_eq!(opens.open(binding, &envelope).unwrap(), &b"canary"[..]);
            assert!(!envelope.windows(6).any(|part| part == b"canary"));
        }
        let newest = after.seal(binding, b"x").unwrap();
        assert_eq!(before.open(binding, &newest), Err(SealError::UnknownKey));
    }

    #[test]
    fn an_envelope_opens_for_its_own_push_gateway_app_and_deadline_only() {
        let (ios, other) = (AppId::new("ios"), AppId::new("io"));
        let binding = Binding { job: a_job(), gateway: "gw", app: &ios, deadline: DEADLINE };
        let sealer = sealer(&[NEW]);
        let envelope = sealer.seal(binding, b"record").unwrap();

        for wrong in [
            Binding { job: JobId::new(), ..binding },
            Binding { gateway: "gw2", ..binding },
            Binding { app: &other, gateway: "sgw", ..binding },
            Binding { deadline: LaneTimestamp { millis: DEADLINE.millis + 1, ..DEADLINE }, ..binding },
            Binding { deadline: LaneTimestamp { epoch: 4, ..DEADLINE }, ..binding },
        ] {
            assert_eq!(sealer.open(wrong, &envelope), Err(SealError::Broken));
        }
    }

    #[test]
    fn a_changed_envelope_is_refused_whichever_byte_it_is() {
        let app = AppId::new("ios");
        let binding = Binding { job: a_job(), gateway: "gw", app: &app, deadline: DEADLINE };
        let sealer = sealer(&[NEW]);
        let envelope = sealer.seal(binding, b"record").unwrap();

        for at in 0..envelope.len() {
            let mut changed = envelope.to_vec();
            changed[at] ^= 1;
            assert!(sealer.open(binding, &changed).is_err(), "byte {at}");
            assert!(sealer.open(binding, &envelope[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn two_envelopes_of_one_push_differ() {
        let app = AppId::new("ios");
        let binding = Binding { job: a_job(), gateway: "gw", app: &app, deadline: DEADLINE };
        let sealer = sealer(&[NEW]);

        assert_ne!(sealer.seal(binding, b"record").unwrap(), sealer.seal(binding, b"record").unwrap());
    }
}
