//! The audit log: a chain of events, each of which holds the hash of the one before.

use aws_lc_rs::digest::{Context, SHA256};
use push_domain::{TenantId, Timestamp};

use crate::Keys;

/// Audit event: one link of the hash chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its place in the chain, counted from 1.
    pub seq: u64,
    /// When it was done.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// What was done, such as `licence.suspend`.
    pub action: String,
    /// To what: an id, never a secret.
    pub object: String,
    /// Whom it concerns, if it is one tenant.
    pub tenant: Option<TenantId>,
    /// More of it, in JSON.
    pub detail: String,
    /// The hash of the event before; empty for the first.
    pub prev_hash: Vec<u8>,
    /// The hash of all of the above.
    pub hash: Vec<u8>,
    /// The number of the operators' key under which it is hashed; 0 for none, as all were once.
    pub hash_key: u32,
    /// What was signed by then of what grants anything, as hashes; empty where nothing was.
    pub rights: Vec<u8>,
}

impl AuditEvent {
    /// Hashes everything but the hash itself, each field with its length before it: under the event's key (HMAC-SHA256), or
    /// without one (SHA-256). `None` if the key is not here.
    #[must_use]
    pub fn computed_hash(&self, keys: &Keys) -> Option<[u8; 32]> {
        let (seq, at, hash_key) =
            (self.seq.to_be_bytes(), self.at.millis().to_be_bytes(), self.hash_key.to_be_bytes());
        let tenant = self.tenant.map(|tenant| *tenant.uuid().as_bytes());
        let fields: [&[u8]; 8] = [
            &seq,
            &at,
            self.actor.as_bytes(),
            self.action.as_bytes(),
            self.object.as_bytes(),
            tenant.as_ref().map_or(&[], |it| &it[..]),
            self.detail.as_bytes(),
            &self.prev_hash,
        ];
        if self.hash_key > 0 && !self.rights.is_empty() {
            let parts = [&[&b"hpns audit v3"[..], &hash_key], &fields[..], &[&self.rights[..]]].concat();
            return keys.audit_mac(self.hash_key, &parts);
        }
        if self.hash_key > 0 {
            return keys
                .audit_mac(self.hash_key, &[&[&b"hpns audit v2"[..], &hash_key], &fields[..]].concat());
        }
        let mut digest = Context::new(&SHA256);
        for bytes in std::iter::once(&b"hpns audit v1"[..]).chain(fields) {
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.finish().as_ref());
        Some(hash)
    }
}

/// A code over the end of the log, so that nobody without the key puts the end elsewhere.
pub(crate) fn head_mac(keys: &Keys, hash_key: u32, seq: u64, hash: &[u8]) -> Option<[u8; 32]> {
    keys.audit_mac(hash_key, &[b"hpns audit head v1", &seq.to_be_bytes(), hash])
}

/// Report on the whole chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// How many events there are.
    pub events: u64,
    /// The hash of the last one: whoever noted it down earlier can find it in the chain.
    pub head: Vec<u8>,
    /// What is wrong, and where first.
    pub fault: Option<AuditFault>,
    /// The first event under a key that is here, and when it was: who could write the database before that could have written those
    /// before it.
    pub keyed_from: Option<(u64, Timestamp)>,
    /// The last of the events that were cut off in time; 0: none was.
    pub cut_through: u64,
}

/// Fault of the chain, and the event where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFault {
    /// An event was changed.
    Changed(u64),
    /// An event is missing, or was put in, before this one.
    Broken(u64),
    /// The last events are missing.
    Cut,
    /// An event is under no key, after some that are.
    Unkeyed(u64),
    /// The end of the log bears no code of ours.
    Head,
    /// An event is under a key that is not here.
    UnknownKey(u64),
    /// The log does not hold the end that was told before.
    Noted(u64),
    /// The service found the log tampered with before this event, and noted it.
    Found(u64),
}

/// The action of an event that tells that the log was tampered with before it.
pub(crate) const TAMPERED_ACTION: &str = "audit.broken";

/// The action of an event that tells that the log begins later than it did.
pub(crate) const CUT_ACTION: &str = "audit.cut";

/// What such an event says: the last event that was cut off, and its hash.
pub(crate) fn cut_detail(seq: u64, hash: &[u8]) -> serde_json::Value {
    serde_json::json!({ "through": seq, "hash": data_encoding::HEXLOWER.encode(hash) })
}

/// Says whether the log ends where this service ended it: at its last event, and with a code of ours if that is under a key.
pub(crate) fn is_end(keys: &Keys, seq: u64, hash: &[u8], code: &[u8], last: Option<(Vec<u8>, i64)>) -> bool {
    match last {
        None => seq == 0 && hash.is_empty(),
        Some((last, key)) => {
            let key = u32::try_from(key).unwrap_or(u32::MAX);
            let is_ours = || head_mac(keys, key, seq, hash).is_some_and(|it| it == code);
            // One that was dropped cannot be asked; what comes next is under another.
            let is_unknown = key > 0 && head_mac(keys, key, seq, hash).is_none();
            last == hash && (key == 0 || is_unknown || is_ours())
        }
    }
}

/// Head of the audit log: its last event and hash, as stored or as noted down elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// The last event.
    pub seq: u64,
    /// Its hash.
    pub hash: Vec<u8>,
}

/// Verifier of the hash chain: takes events one after the other, in order.
#[derive(Debug)]
pub struct AuditCheck<'a> {
    keys: &'a Keys,
    noted: Option<&'a AuditHead>,
    seq: u64,
    hash: Vec<u8>,
    hash_key: u32,
    keyed_from: Option<(u64, Timestamp)>,
    /// The end of what was cut off, and whether an event under a key tells of it.
    cut: Option<(u64, serde_json::Value, bool)>,
    fault: Option<AuditFault>,
}

impl<'a> AuditCheck<'a> {
    /// Begins; `noted` is an end of the log that somebody knows of from elsewhere.
    #[must_use]
    pub const fn new(keys: &'a Keys, noted: Option<&'a AuditHead>) -> Self {
        Self { keys, noted, seq: 0, hash: Vec::new(), hash_key: 0, keyed_from: None, cut: None, fault: None }
    }

    /// Takes the next event.
    pub fn take(&mut self, event: &AuditEvent) {
        if self.seq == 0 && event.seq > 1 && self.cut.is_none() {
            (self.seq, self.hash) = (event.seq - 1, event.prev_hash.clone());
            self.cut = Some((self.seq, cut_detail(self.seq, &self.hash), false));
        }
        let fault = || {
            if event.seq != self.seq + 1 || event.prev_hash != self.hash {
                return Some(AuditFault::Broken(event.seq));
            }
            // Keys follow each other, and none is followed by nothing.
            if event.hash_key < self.hash_key {
                return Some(AuditFault::Unkeyed(event.seq));
            }
            if event.action == TAMPERED_ACTION {
                return Some(AuditFault::Found(event.seq));
            }
            let Some(hash) = event.computed_hash(self.keys) else {
                // Before the first key that is here stand those that were dropped; what they prove is said.
                return self.keyed_from.map(|_| AuditFault::UnknownKey(event.seq));
            };
            if event.hash != hash {
                return Some(AuditFault::Changed(event.seq));
            }
            let is_noted = self.noted.is_some_and(|noted| noted.seq == event.seq && noted.hash != event.hash);
            is_noted.then_some(AuditFault::Noted(event.seq))
        };
        if self.fault.is_none() {
            self.fault = fault();
        }
        if let Some((_, detail, is_told)) = &mut self.cut {
            // One under a key that is not here proves nothing.
            *is_told |= event.action == CUT_ACTION
                && event.hash_key > 0
                && event.computed_hash(self.keys).is_some_and(|hash| event.hash == hash)
                && serde_json::from_str(&event.detail).ok().as_ref() == Some(detail);
        }
        if event.hash_key > 0 && self.keys.audit_mac(event.hash_key, &[]).is_some() {
            self.keyed_from.get_or_insert((event.seq, event.at));
        }
        (self.seq, self.hash_key) = (event.seq, event.hash_key);
        self.hash.clone_from(&event.hash);
    }

    /// Compares with what the head of the chain says, and with the code that it bears.
    #[must_use]
    pub fn finish(self, head: &AuditHead, code: &[u8]) -> AuditReport {
        let is_cut_untold = self.cut.as_ref().is_some_and(|(.., is_told)| !is_told);
        let cut = is_cut_untold || (head.seq, &head.hash) != (self.seq, &self.hash);
        let unkeyed = (self.seq > 0 && self.hash_key == 0).then_some(AuditFault::Unkeyed(self.seq));
        let is_proven = self.hash_key == 0
            || head_mac(self.keys, self.hash_key, head.seq, &head.hash).is_some_and(|it| it == code);
        let lacks_noted =
            self.noted.filter(|noted| noted.seq > self.seq).map(|noted| AuditFault::Noted(noted.seq));
        let fault = self
            .fault
            .or_else(|| cut.then_some(AuditFault::Cut))
            .or(unkeyed)
            .or_else(|| (!is_proven).then_some(AuditFault::Head));
        AuditReport {
            events: self.seq,
            head: self.hash,
            fault: fault.or(lacks_noted),
            keyed_from: self.keyed_from,
            cut_through: self.cut.map_or(0, |(through, ..)| through),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::derive(&push_domain::SecretBytes::new(vec![7; 32]))
    }

    fn a_chain(length: u64) -> Vec<AuditEvent> {
        chained(length, 1)
    }

    fn chained(length: u64, hash_key: u32) -> Vec<AuditEvent> {
        let mut chain: Vec<AuditEvent> = Vec::new();
        for seq in 1..=length {
            let prev_hash = chain.last().map(|event| event.hash.clone()).unwrap_or_default();
            let mut event = AuditEvent {
                seq,
                at: Timestamp::from_millis(seq),
                actor: "ada".into(),
                action: "tenant.create".into(),
                object: format!("ten_{seq}"),
                tenant: None,
                detail: "{}".into(),
                prev_hash,
                hash: Vec::new(),
                hash_key,
                rights: Vec::new(),
            };
            event.hash = event.computed_hash(&keys()).unwrap().to_vec();
            chain.push(event);
        }
        chain
    }

    fn fault(chain: &[AuditEvent], head: &AuditEvent) -> Option<AuditFault> {
        checked(chain, head, None)
    }

    fn checked(chain: &[AuditEvent], head: &AuditEvent, noted: Option<&AuditHead>) -> Option<AuditFault> {
        let keys = keys();
        let mut check = AuditCheck::new(&keys, noted);
        for event in chain {
            check.take(event);
        }
        let code = head_mac(&keys, 1, head.seq, &head.hash).unwrap();
        check.finish(&AuditHead { seq: head.seq, hash: head.hash.clone() }, &code).fault
    }

    #[test]
    fn a_chain_that_was_rewritten_without_the_key_is_found() {
        let (chain, unkeyed) = (a_chain(5), chained(5, 0));
        // All of it, with the hashes that anybody can make: the head bears no code for it.
        let keys = keys();
        let mut check = AuditCheck::new(&keys, None);
        for event in &unkeyed {
            check.take(event);
        }
        let head = AuditHead { seq: 5, hash: unkeyed[4].hash.clone() };
        assert_eq!(check.finish(&head, b"").fault, Some(AuditFault::Unkeyed(5)), "no log ends without a key");
        // The end of it: after events under a key there are none without.
        let mut forged = unkeyed[3].clone();
        forged.prev_hash.clone_from(&chain[2].hash);
        forged.hash = forged.computed_hash(&keys).unwrap().to_vec();
        assert_eq!(fault(&[&chain[..3], &[forged.clone()]].concat(), &forged), Some(AuditFault::Unkeyed(4)));
        // Cut back, with the head moved: it bears the code of another end.
        let mut check = AuditCheck::new(&keys, None);
        chain[..3].iter().for_each(|event| check.take(event));
        let moved = AuditHead { seq: 3, hash: chain[2].hash.clone() };
        let old_code = head_mac(&keys, 1, 5, &chain[4].hash).unwrap();
        assert_eq!(check.finish(&moved, &old_code).fault, Some(AuditFault::Head));
    }

    #[test]
    fn a_chain_of_before_goes_on_under_a_key() {
        let mut chain = chained(3, 0);
        let mut next = a_chain(4).remove(3);
        next.prev_hash.clone_from(&chain[2].hash);
        next.hash = next.computed_hash(&keys()).unwrap().to_vec();
        chain.push(next);
        assert_eq!(fault(&chain, &chain[3]), None);
    }

    #[test]
    fn an_end_that_was_noted_and_is_not_in_the_log_is_a_fault() {
        let chain = a_chain(5);
        let noted = |seq, hash: &[u8]| AuditHead { seq, hash: hash.to_vec() };
        assert_eq!(checked(&chain, &chain[4], Some(&noted(3, &chain[2].hash))), None);
        assert_eq!(checked(&chain, &chain[4], Some(&noted(3, b"other"))), Some(AuditFault::Noted(3)));
        assert_eq!(checked(&chain, &chain[4], Some(&noted(9, b"later"))), Some(AuditFault::Noted(9)));
    }

    #[test]
    fn a_chain_that_nobody_touched_is_whole() {
        let chain = a_chain(5);

        assert_eq!(fault(&chain, &chain[4]), None);
    }

    #[test]
    fn every_change_of_every_field_is_found() {
        let changes: [fn(&mut AuditEvent); 8] = [
            |event| event.at = Timestamp::from_millis(9),
            |event| event.actor.push('x'),
            |event| event.action.push('x'),
            |event| event.object.push('x'),
            |event| event.tenant = Some(TenantId::new()),
            |event| event.detail.push(' '),
            |event| event.prev_hash[0] ^= 1,
            |event| event.hash[0] ^= 1,
        ];
        for change in changes {
            let mut chain = a_chain(5);
            let head = chain[4].clone();
            change(&mut chain[2]);
            assert!(fault(&chain, &head).is_some());
        }
    }

    #[test]
    fn what_is_left_out_or_cut_off_is_found() {
        let chain = a_chain(5);
        let without = [&chain[..2], &chain[3..]].concat();

        assert_eq!(fault(&without, &chain[4]), Some(AuditFault::Broken(4)));
        assert_eq!(fault(&chain[..4], &chain[4]), Some(AuditFault::Cut));
        assert_eq!(fault(&[], &chain[4]), Some(AuditFault::Cut));
    }
}
