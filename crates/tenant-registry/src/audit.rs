//! The audit log: a chain of events, each of which holds the hash of the one before.

use aws_lc_rs::digest::{Context, SHA256};
use push_domain::{TenantId, Timestamp};

/// Something that somebody did.
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
}

impl AuditEvent {
    /// Hashes everything but the hash itself, each field with its length before it (SHA-256).
    #[must_use]
    pub fn computed_hash(&self) -> [u8; 32] {
        let mut digest = Context::new(&SHA256);
        let mut field = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        field(b"hpns audit v1");
        field(&self.seq.to_be_bytes());
        field(&self.at.millis().to_be_bytes());
        field(self.actor.as_bytes());
        field(self.action.as_bytes());
        field(self.object.as_bytes());
        field(self.tenant.map(|tenant| *tenant.uuid().as_bytes()).as_ref().map_or(&[], |it| &it[..]));
        field(self.detail.as_bytes());
        field(&self.prev_hash);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.finish().as_ref());
        hash
    }
}

/// What a check of the whole chain shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// How many events there are.
    pub events: u64,
    /// The hash of the last one: whoever noted it down earlier can find it in the chain.
    pub head: Vec<u8>,
    /// What is wrong, and where first.
    pub fault: Option<AuditFault>,
}

/// Where a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFault {
    /// An event was changed.
    Changed(u64),
    /// An event is missing, or was put in, before this one.
    Broken(u64),
    /// The last events are missing.
    Cut,
}

/// Checks events one after the other, in order.
#[derive(Debug, Default)]
pub struct AuditCheck {
    seq: u64,
    hash: Vec<u8>,
    fault: Option<AuditFault>,
}

impl AuditCheck {
    /// Takes the next event.
    pub fn take(&mut self, event: &AuditEvent) {
        if self.fault.is_none() {
            if event.seq != self.seq + 1 || event.prev_hash != self.hash {
                self.fault = Some(AuditFault::Broken(event.seq));
            } else if event.hash != event.computed_hash() {
                self.fault = Some(AuditFault::Changed(event.seq));
            }
        }
        self.seq = event.seq;
        self.hash.clone_from(&event.hash);
    }

    /// Compares with what the head of the chain says.
    #[must_use]
    pub fn finish(self, seq: u64, hash: &[u8]) -> AuditReport {
        let cut = (seq, hash) != (self.seq, &*self.hash);
        let fault = self.fault.or_else(|| cut.then_some(AuditFault::Cut));
        AuditReport { events: self.seq, head: self.hash, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_chain(length: u64) -> Vec<AuditEvent> {
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
            };
            event.hash = event.computed_hash().to_vec();
            chain.push(event);
        }
        chain
    }

    fn fault(chain: &[AuditEvent], head: &AuditEvent) -> Option<AuditFault> {
        let mut check = AuditCheck::default();
        for event in chain {
            check.take(event);
        }
        check.finish(head.seq, &head.hash).fault
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
