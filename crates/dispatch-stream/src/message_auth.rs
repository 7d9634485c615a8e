//! Message authentication (HMAC) of verdicts and peer states that processes exchange through lanes.
//!
//! ```text
//! version 1 | kid, 8 bytes | HMAC-SHA256(what is said), 16 bytes | what is said
//! ```
//!
//! Who may write to a lane can lose, delay or repeat what is said there, and say nothing of its own. The key is derived
//! by direction, and by whom it is about, so that what was said in one place means nothing in another:
//! HKDF-SHA256(ring key, salt = "hpns verdicts 1" or "hpns board 1", info = the name).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use push_domain::SecretBytes;

use crate::KeyRing;
use crate::seal::{InvalidKeyRing, KEY_LEN, KID_LEN, Kid};

const VERSION: u8 = 1;
const CODE_LEN: usize = 16;
const HEADER_LEN: usize = 1 + KID_LEN + CODE_LEN;
/// Derived keys that are remembered.
const REMEMBERED_KEYS: usize = 4096;
/// What a line of the board's own keys begins with.
const BOARD: &str = "board ";

/// MAC keys of the peer directory ("board"): for what processes publish of themselves, apps and tenants.
///
/// They are derived from a [`KeyRing`], and open no push. Who has to read the board and nothing else, the administration,
/// gets them in a file of its own: a line `board KID KEY` for each key of the ring, as [`BoardKeys::lines`] writes them.
#[derive(Clone)]
pub struct BoardKeys(Arc<MessageAuthenticator>);

impl BoardKeys {
    /// Derives them.
    #[must_use]
    pub fn of(ring: &KeyRing) -> Self {
        let keys = ring.keys.iter().filter_map(|(kid, key)| Some((*kid, derived(key, "hpns board 1", "")?)));
        Self(Arc::new(MessageAuthenticator::new(ring.sealing, keys.collect())))
    }

    /// Reads the text of a file: of these keys, or of the ring that they are derived from.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyRing> {
        let own: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix(BOARD)).collect();
        if own.is_empty() {
            return Ok(Self::of(&KeyRing::parse(text)?));
        }
        let ring = KeyRing::parse(&own.join("\n"))?;
        Ok(Self(Arc::new(MessageAuthenticator::new(ring.sealing, ring.keys))))
    }

    /// Writes them as a file of their own, the newest first.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut keys: Vec<_> = self.0.keys.iter().collect();
        keys.sort_by_key(|(kid, _)| (**kid != self.0.newest, **kid));
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        let lines =
            keys.into_iter().map(|(kid, key)| [BOARD, &hex(kid), " ", &hex(key.expose()), "\n"].concat());
        lines.collect()
    }

    /// Returns what is said about `name`, with its code.
    pub(crate) fn sign(&self, name: &str, what: &[u8]) -> Vec<u8> {
        self.0.sign(name, what)
    }

    /// Returns what was said about `name`, if somebody with the keys said it.
    pub(crate) fn verify<'a>(&self, name: &str, said: &'a [u8]) -> Option<&'a [u8]> {
        self.0.verify(name, said)
    }
}

/// HMAC-SHA256 signer and verifier. Keys are derived once for each name and remembered.
pub(crate) struct MessageAuthenticator {
    newest: Kid,
    keys: HashMap<Kid, SecretBytes>,
    known: Mutex<HashMap<(Kid, String), Arc<hmac::Key>>>,
}

impl MessageAuthenticator {
    fn new(newest: Kid, keys: HashMap<Kid, SecretBytes>) -> Self {
        Self { newest, keys, known: Mutex::default() }
    }

    /// For what workers tell gateways; each gateway has a name.
    pub(crate) fn of_verdicts(ring: &KeyRing) -> Self {
        let keys =
            ring.keys.iter().filter_map(|(kid, key)| Some((*kid, derived(key, "hpns verdicts 1", "")?)));
        Self::new(ring.sealing, keys.collect())
    }

    pub(crate) fn sign(&self, name: &str, what: &[u8]) -> Vec<u8> {
        let mut said = Vec::with_capacity(HEADER_LEN + what.len());
        said.push(VERSION);
        said.extend(self.newest);
        // Without a key nothing is said that anybody would believe.
        match self.key(self.newest, name) {
            Some(key) => said.extend(code(&key, what)),
            None => said.extend([0; CODE_LEN]),
        }
        said.extend(what);
        said
    }

    pub(crate) fn verify<'a>(&self, name: &str, said: &'a [u8]) -> Option<&'a [u8]> {
        let (header, what) = said.split_at_checked(HEADER_LEN)?;
        let kid = Kid::try_from(&header[1..=KID_LEN]).ok().filter(|_| header[0] == VERSION)?;
        let key = self.key(kid, name)?;
        verify_slices_are_equal(&code(&key, what), &header[1 + KID_LEN..]).ok().map(|()| what)
    }

    fn key(&self, kid: Kid, name: &str) -> Option<Arc<hmac::Key>> {
        let ring_key = self.keys.get(&kid)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (kid, name.to_owned());
        if let Some(key) = known.get(&place) {
            return Some(Arc::clone(key));
        }
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, derived(ring_key, "name", name)?.expose()));
        if known.len() >= REMEMBERED_KEYS {
            known.clear();
        }
        known.insert(place, Arc::clone(&key));
        Some(key)
    }
}

struct OneKey;

impl KeyType for OneKey {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

fn derived(key: &SecretBytes, purpose: &str, name: &str) -> Option<SecretBytes> {
    let mut bytes = vec![0; KEY_LEN];
    let salt = Salt::new(HKDF_SHA256, purpose.as_bytes());
    salt.extract(key.expose())
        .expand(&[name.as_bytes()], OneKey)
        .and_then(|okm| okm.fill(&mut bytes))
        .ok()?;
    Some(SecretBytes::new(bytes))
}

fn code(key: &hmac::Key, what: &[u8]) -> [u8; CODE_LEN] {
    let mut code = [0; CODE_LEN];
    code.copy_from_slice(&hmac::sign(key, what).as_ref()[..CODE_LEN]);
    code
}

impl fmt::Debug for BoardKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoardKeys").field("keys", &self.0.keys.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for MessageAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageAuthenticator").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "00000000000000a1 1111111111111111111111111111111111111111111111111111111111111111";
    const NEW: &str = "00000000000000b2 2222222222222222222222222222222222222222222222222222222222222222";

    fn ring(lines: &[&str]) -> KeyRing {
        KeyRing::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn what_was_said_is_heard_under_its_own_name_and_unchanged_only() {
        let keys = MessageAuthenticator::of_verdicts(&ring(&[NEW, OLD]));
        let said = keys.sign("gateway-1", b"what");
        assert_eq!(keys.verify("gateway-1", &said), Some(&b"what"[..]));

        assert_eq!(keys.verify("gateway-2", &said), None);
        for at in 0..said.len() {
            let mut changed = said.clone();
            changed[at] ^= 1;
            assert_eq!(keys.verify("gateway-1", &changed), None, "byte {at}");
            assert_eq!(keys.verify("gateway-1", &said[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn one_directions_words_mean_nothing_in_another() {
        let ring = ring(&[NEW]);
        let (verdicts, board) = (MessageAuthenticator::of_verdicts(&ring), BoardKeys::of(&ring));

        assert_eq!(board.verify("name", &verdicts.sign("name", b"what")), None);
        assert_eq!(verdicts.verify("name", &board.sign("name", b"what")), None);
    }

    #[test]
    fn words_survive_a_new_key_and_not_one_that_was_taken_away() {
        let [before, between, after] = [vec![OLD], vec![OLD, NEW], vec![NEW, OLD]]
            .map(|lines| MessageAuthenticator::of_verdicts(&ring(&lines)));
        for (says, hears) in
            [(&before, &between), (&between, &before), (&between, &after), (&after, &between)]
        {
            assert!(hears.verify("gw", &says.sign("gw", b"x")).is_some());
        }
        assert_eq!(before.verify("gw", &after.sign("gw", b"x")), None);
    }

    #[test]
    fn the_boards_own_file_reads_the_board_and_opens_no_push() {
        let ring = ring(&[NEW, OLD]);
        let lines = BoardKeys::of(&ring).lines();
        let own = BoardKeys::parse(&format!("# of the ring\n{lines}")).unwrap();

        assert!(KeyRing::parse(&lines).is_err(), "it is no ring");
        assert_eq!(own.verify("summary", &BoardKeys::of(&ring).sign("summary", b"x")), Some(&b"x"[..]));
        assert_eq!(BoardKeys::of(&ring).verify("summary", &own.sign("summary", b"x")), Some(&b"x"[..]));
        assert!(!lines.contains("2222222222") && !format!("{own:?}").contains("2222"));
    }
}
