//! Deduplication of delivery receipts: each counts once, however often it comes.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Mutex, PoisonError};

use push_domain::TenantId;

/// Receipts that are remembered, in so many parts.
const REMEMBERED: usize = 65_536;
const PARTS: usize = 16;

/// Deduplication set of recent receipts, by tenant: when full, the largest tenant forgets its oldest, so that
/// nobody's receipts make another's be counted twice.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    parts: [Mutex<Part>; PARTS],
}

#[derive(Debug, Default)]
struct Part {
    tenants: HashMap<TenantId, Known>,
    /// The tenants by how many are known of them.
    sizes: BTreeSet<(usize, TenantId)>,
    all: usize,
}

#[derive(Debug, Default)]
struct Known {
    order: VecDeque<u64>,
    hashes: HashSet<u64>,
}

impl Receipts {
    /// Notes a receipt, and says whether it is the first of its id.
    pub(crate) fn is_new(&self, tenant: TenantId, id: &str) -> bool {
        // Who has no licence may be any number of tenants.
        let tenant = if tenant.is_unlicensed() { TenantId::unlicensed(0) } else { tenant };
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let place = usize::try_from(hasher.hash_one(tenant) % PARTS as u64).unwrap_or_default();
        let mut part = self.parts[place].lock().unwrap_or_else(PoisonError::into_inner);
        part.note(tenant, hasher.hash_one(id))
    }
}

impl Part {
    fn note(&mut self, tenant: TenantId, hash: u64) -> bool {
        let known = self.tenants.entry(tenant).or_default();
        if !known.hashes.insert(hash) {
            return false;
        }
        known.order.push_back(hash);
        let size = known.order.len();
        self.sizes.remove(&(size - 1, tenant));
        self.sizes.insert((size, tenant));
        self.all += 1;
        if self.all > REMEMBERED / PARTS {
            self.forget_one();
        }
        true
    }

    fn forget_one(&mut self) {
        let Some((size, tenant)) = self.sizes.pop_last() else { return };
        let Some(known) = self.tenants.get_mut(&tenant) else { return };
        if let Some(oldest) = known.order.pop_front() {
            known.hashes.remove(&oldest);
            self.all -= 1;
        }
        if size > 1 {
            self.sizes.insert((size - 1, tenant));
        } else {
            self.tenants.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_counts_once_for_each_tenant() {
        let (receipts, one, other) = (Receipts::default(), TenantId::new(), TenantId::new());
        assert!(receipts.is_new(one, "a") && receipts.is_new(one, "b") && receipts.is_new(other, "a"));
        assert!(!receipts.is_new(one, "a") && !receipts.is_new(other, "a"));
    }

    #[test]
    fn a_tenant_that_floods_receipts_makes_no_other_forget() {
        let (receipts, flood) = (Receipts::default(), TenantId::new());
        let quiet: Vec<_> = (0..100).map(|_| TenantId::new()).collect();
        for tenant in &quiet {
            assert!((0..20).all(|id| receipts.is_new(*tenant, &id.to_string())));
        }
        for id in 0..2 * REMEMBERED {
            receipts.is_new(flood, &id.to_string());
            receipts.is_new(TenantId::unlicensed(id as u64 + 1), &id.to_string());
        }

        for tenant in &quiet {
            assert!((0..20).all(|id| !receipts.is_new(*tenant, &id.to_string())));
        }
        let all: usize = receipts.parts.iter().map(|part| part.lock().unwrap().all).sum();
        assert!(all <= REMEMBERED, "{all}");
    }
}
