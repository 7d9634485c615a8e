//! Deficit round robin over the tenants that wait.

use std::collections::{HashMap, VecDeque};

use push_domain::TenantId;

/// Deficit-round-robin queue, by tenant. Generic over what waits, so that its laws need no callers.
#[derive(Debug)]
pub(super) struct DeficitRoundRobin<T> {
    /// Tenants with something waiting; the first one is served next.
    ring: VecDeque<TenantId>,
    queues: HashMap<TenantId, Queue<T>>,
    waiting: usize,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<T>,
    /// How many of the tenant's turns are left of this round.
    deficit: u32,
    weight: u32,
}

impl<T> Default for DeficitRoundRobin<T> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), queues: HashMap::new(), waiting: 0 }
    }
}

impl<T> DeficitRoundRobin<T> {
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn tenants(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn len_of(&self, tenant: TenantId) -> usize {
        self.queues.get(&tenant).map_or(0, |queue| queue.waiting.len())
    }

    /// Looks at what waits first of each tenant.
    pub(super) fn firsts(&self) -> impl Iterator<Item = &T> {
        self.queues.values().filter_map(|queue| queue.waiting.front())
    }

    /// Lets something wait, behind what the tenant has waiting already.
    pub(super) fn push(&mut self, tenant: TenantId, weight: u32, item: T) {
        let queue = self.queues.entry(tenant).or_insert_with(|| {
            self.ring.push_back(tenant);
            Queue { waiting: VecDeque::new(), deficit: 0, weight: 1 }
        });
        queue.weight = weight.max(1);
        queue.waiting.push_back(item);
        self.waiting += 1;
    }

    /// Returns whose turn it is and what goes: of the first tenant that `may` go.
    pub(super) fn pop(&mut self, may: impl Fn(TenantId) -> bool) -> Option<(TenantId, T)> {
        // Those before have to sit this one out; they keep their order.
        let chosen = self.ring.iter().position(|tenant| may(*tenant))?;
        let tenant = *self.ring.get(chosen)?;
        let queue = self.queues.get_mut(&tenant)?;
        if queue.deficit == 0 {
            queue.deficit = queue.weight;
        }
        queue.deficit -= 1;
        let item = queue.waiting.pop_front()?;
        self.waiting -= 1;
        if queue.waiting.is_empty() {
            self.queues.remove(&tenant);
            self.ring.remove(chosen);
        } else if queue.deficit == 0 {
            self.ring.remove(chosen);
            self.ring.push_back(tenant);
        }
        Some((tenant, item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u8) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number.into()))
    }

    #[test]
    fn tenants_take_turns_whatever_each_has_waiting() {
        let mut turns = DeficitRoundRobin::default();
        for number in 0..100 {
            turns.push(tenant(1), 1, number);
        }
        turns.push(tenant(2), 1, 200);
        turns.push(tenant(3), 1, 300);

        let order: Vec<_> =
            std::iter::from_fn(|| turns.pop(|_| true)).map(|(_, item)| item).take(5).collect();

        assert_eq!(order, [0, 200, 300, 1, 2]);
    }

    #[test]
    fn a_weight_is_so_many_turns_a_round() {
        let mut turns = DeficitRoundRobin::default();
        for _ in 0..100 {
            turns.push(tenant(1), 3, ());
            turns.push(tenant(2), 1, ());
        }

        let first = (0..40).filter(|_| turns.pop(|_| true).unwrap().0 == tenant(1)).count();

        assert_eq!(first, 30);
    }

    #[test]
    fn a_tenant_that_may_not_go_is_passed_over() {
        let mut turns = DeficitRoundRobin::default();
        turns.push(tenant(1), 1, ());
        turns.push(tenant(2), 1, ());

        let not_first = |tenant| tenant != self::tenant(1);
        assert_eq!(turns.pop(not_first).unwrap().0, tenant(2));
        assert!(turns.pop(not_first).is_none());
        assert_eq!(turns.pop(|_| true).unwrap().0, tenant(1));
    }

    proptest! {
        #[test]
        fn everything_goes_once_and_in_its_tenants_order(pushes: Vec<(u8, u8)>) {
            let mut turns = DeficitRoundRobin::default();
            for (number, (who, weight)) in pushes.iter().enumerate() {
                turns.push(tenant(who % 5), u32::from(*weight % 4), number);
            }
            let mut out: Vec<_> = std::iter::from_fn(|| turns.pop(|_| true)).collect();
            prop_assert_eq!((turns.len(), turns.tenants()), (0, 0));
            out.sort_by_key(|(tenant, _)| *tenant);
            prop_assert!(out.is_sorted_by_key(|(tenant, number)| (*tenant, *number)));
            prop_assert_eq!(out.len(), pushes.len());
        }
    }
}
