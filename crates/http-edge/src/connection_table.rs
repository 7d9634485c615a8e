//! Connection table: counts connections by network, and evicts an idle one when no place is left.
//!
//! Places are counted by site, and for IPv6 by the larger networks that a site is part of: whoever has a /48 has 65,536
//! sites. When all places are taken, the holder with the most gives up one that is idle; so callers with few connections
//! always get in, whatever the others leave open.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Bound;

use tokio::time::Instant;

use crate::limits::Limit;

/// Most places of a holder that are looked at to find an idle one; the next time others are.
const MAX_EVICTION_SCAN: usize = 64;
/// Holders that are asked for a place, the largest first.
const MAX_EVICTION_CANDIDATES: usize = 8;
/// Those that were told to leave and have not yet.
const MAX_EVICTING: usize = 256;

/// Evictable connection.
pub(crate) trait Evictable {
    /// Since when it does nothing for anybody, if it does nothing.
    fn idle_since(&self) -> Option<Instant>;

    /// Asks it to leave at once.
    fn evict(&self);
}

/// A network: so many first bits of an address. IPv4 addresses stand as IPv6 ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Network {
    bits: u8,
    base: u128,
}

impl Network {
    /// The site of an address.
    pub(crate) fn site(address: IpAddr) -> Self {
        let (bits, address) = match address.to_canonical() {
            IpAddr::V4(address) => (128, address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => (64, address.to_bits()),
        };
        Self { bits, base: address & (u128::MAX << (128 - bits)) }
    }

    /// The networks that an address counts for, its site first.
    pub(crate) fn of(address: IpAddr) -> Vec<Self> {
        let of = |bits: u8, address: u128| Self { bits, base: address & (u128::MAX << (128 - bits)) };
        match address.to_canonical() {
            IpAddr::V4(address) => vec![of(128, address.to_ipv6_mapped().to_bits())],
            IpAddr::V6(address) => [64, 56, 48, 32].map(|bits| of(bits, address.to_bits())).to_vec(),
        }
    }

    /// The bytes that name it.
    pub(crate) fn bytes(self) -> Vec<u8> {
        [&[self.bits][..], &self.base.to_be_bytes()].concat()
    }

    /// What one of its places counts for when the largest holder is looked for: a network counts as one when it holds
    /// many times as much as any part of it.
    const fn weight(self) -> usize {
        match self.bits {
            56 => 4,
            48 => 2,
            32 => 1,
            _ => 8,
        }
    }
}

#[derive(Debug, Default)]
struct Holder {
    places: BTreeSet<u64>,
    /// Where the last look for an idle one ended.
    looked_until: u64,
}

/// Connection table, with a ranking of the networks by what they hold.
#[derive(Debug)]
pub(crate) struct ConnectionTable<S> {
    all: usize,
    per_site: usize,
    seats: HashMap<u64, (Vec<Network>, S)>,
    holders: HashMap<Network, Holder>,
    /// The holders by what they hold; of equals the narrower network comes last.
    ranking: BTreeSet<(usize, Network)>,
    evicting: HashSet<u64>,
    next: u64,
}

impl<S: Evictable> ConnectionTable<S> {
    pub(crate) fn new(all: usize, per_site: usize) -> Self {
        Self {
            all,
            per_site,
            seats: HashMap::new(),
            holders: HashMap::new(),
            ranking: BTreeSet::new(),
            evicting: HashSet::new(),
            next: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    fn share(&self, network: Network) -> usize {
        let share = match network.bits {
            56 => self.all / 8,
            48 => self.all / 4,
            32 => self.all / 2,
            _ => 0,
        };
        share.max(self.per_site)
    }

    /// Gives a place, and says how many others had to give theirs up for it.
    pub(crate) fn enter(&mut self, address: IpAddr, seat: S) -> Result<(u64, usize), Limit> {
        let networks = Network::of(address);
        let mut displaced = 0;
        for network in &networks {
            let held = self.holders.get(network).map_or(0, |holder| holder.places.len());
            if held >= self.share(*network) {
                self.evict_idle(*network).ok_or(Limit::Site)?;
                displaced += 1;
            }
        }
        if self.seats.len() >= self.all {
            // The largest may have nothing idle: the next ones are asked, a few.
            let largest: Vec<_> = self
                .ranking
                .iter()
                .rev()
                .take(MAX_EVICTION_CANDIDATES)
                .map(|(_, network)| *network)
                .collect();
            largest.into_iter().find_map(|holder| self.evict_idle(holder)).ok_or(Limit::Connections)?;
            displaced += 1;
        }
        let number = self.next;
        self.next += 1;
        for network in &networks {
            self.change(*network, |places| places.insert(number));
        }
        self.seats.insert(number, (networks, seat));
        Ok((number, displaced))
    }

    /// Takes a place back, if it was not given up before.
    pub(crate) fn exit(&mut self, number: u64) {
        self.evicting.remove(&number);
        self.take_away(number);
    }

    fn take_away(&mut self, number: u64) -> Option<S> {
        let (networks, seat) = self.seats.remove(&number)?;
        for network in networks {
            self.change(network, |places| places.remove(&number));
        }
        Some(seat)
    }

    fn change(&mut self, network: Network, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let holder = self.holders.entry(network).or_default();
        let before = holder.places.len();
        change(&mut holder.places);
        let after = holder.places.len();
        self.ranking.remove(&(before * network.weight(), network));
        if after == 0 {
            self.holders.remove(&network);
        } else {
            self.ranking.insert((after * network.weight(), network));
        }
    }

    /// Lets one of a holder's places be given up: of those that are looked at, the one that has been idle the longest.
    fn evict_idle(&mut self, network: Network) -> Option<()> {
        if self.evicting.len() >= MAX_EVICTING {
            return None;
        }
        let holder = self.holders.get_mut(&network)?;
        let after = holder.places.range((Bound::Excluded(holder.looked_until), Bound::Unbounded));
        let looked_at: Vec<u64> = after.chain(&holder.places).copied().take(MAX_EVICTION_SCAN).collect();
        holder.looked_until = *looked_at.last()?;
        let idle = looked_at.into_iter().filter_map(|number| {
            let (_, seat) = self.seats.get(&number)?;
            Some((seat.idle_since()?, number))
        });
        let (_, number) = idle.min()?;
        self.evicting.insert(number);
        self.take_away(number)?.evict();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    /// A connection of a test: idle since then, or busy; and whether it was asked to leave.
    #[derive(Debug, Clone)]
    struct Caller {
        idle: Rc<Cell<Option<Instant>>>,
        left: Rc<Cell<bool>>,
    }

    impl Caller {
        fn busy() -> Self {
            Self { idle: Rc::default(), left: Rc::default() }
        }

        fn idle() -> Self {
            let caller = Self::busy();
            caller.idle.set(Some(Instant::now()));
            caller
        }
    }

    impl Evictable for Caller {
        fn idle_since(&self) -> Option<Instant> {
            self.idle.get()
        }

        fn evict(&self) {
            self.left.set(true);
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_newcomer_from_a_small_site_gets_in_whatever_the_large_ones_hold_idle() {
        let mut table = ConnectionTable::new(10, 10);
        let large: Vec<_> = (0..10)
            .map(|_| {
                let caller = Caller::idle();
                table.enter(ip("192.0.2.1"), caller.clone()).unwrap();
                caller
            })
            .collect();

        for number in 1..=5 {
            let (_, displaced) = table.enter(ip("198.51.100.1"), Caller::idle()).unwrap();
            assert_eq!((displaced, large.iter().filter(|it| it.left.get()).count()), (1, number));
        }
        assert!(large[..5].iter().all(|it| it.left.get()), "the ones that were idle the longest");
    }

    #[test]
    fn nobody_who_is_being_served_gives_a_place_up() {
        let mut table = ConnectionTable::new(2, 2);
        let served = Caller::busy();
        table.enter(ip("192.0.2.1"), served.clone()).unwrap();
        table.enter(ip("192.0.2.1"), Caller::busy()).unwrap();

        assert_eq!(table.enter(ip("198.51.100.1"), Caller::idle()), Err(Limit::Connections));
        assert!(!served.left.get());
    }

    #[test]
    fn one_sixty_four_counts_as_one_and_a_larger_network_when_it_holds_many() {
        let mut table = ConnectionTable::new(1000, 100);
        for host in 0..100 {
            table.enter(ip(&format!("2001:db8::{host:x}")), Caller::busy()).unwrap();
        }
        assert_eq!(table.enter(ip("2001:db8::ffff"), Caller::busy()), Err(Limit::Site));
        assert!(table.enter(ip("2001:db8:1::1"), Caller::busy()).is_ok(), "another site");

        // One /48: as many sites as one likes, and a quarter of all places.
        let mut entered = 0;
        for site in 0..1000 {
            entered +=
                usize::from(table.enter(ip(&format!("2001:db8:2:{site:x}::1")), Caller::busy()).is_ok());
        }
        assert_eq!(entered, 250);
    }

    #[test]
    fn a_network_of_many_sites_gives_places_up_before_one_site_does() {
        let mut table = ConnectionTable::new(100, 50);
        let one = Caller::idle();
        for _ in 0..50 {
            table.enter(ip("192.0.2.1"), Caller::busy()).unwrap();
        }
        table.enter(ip("198.51.100.1"), one.clone()).unwrap();
        let many: Vec<_> = (0..49)
            .map(|site| {
                let caller = Caller::idle();
                table.enter(ip(&format!("2001:db8:{site:x}::1")), caller.clone()).unwrap();
                caller
            })
            .collect();
        // The largest holder by weight is the one address, and all of its places are busy; the next is the network.
        table.enter(ip("203.0.113.1"), Caller::idle()).unwrap();
        assert!(!one.left.get());
        assert_eq!(many.iter().filter(|it| it.left.get()).count(), 1);
    }

    proptest! {
        #[test]
        fn places_add_up_whatever_comes_and_goes(
            steps in proptest::collection::vec((0_u8..4, 0_u8..3, any::<bool>(), 0_usize..40), 1..200),
        ) {
            let (all, per_site) = (12, 5);
            let mut table = ConnectionTable::new(all, per_site);
            let mut inside: BTreeMap<u64, (u8, Caller)> = BTreeMap::new();
            for (kind, site, idle, which) in steps {
                if kind < 3 {
                    let caller = if idle { Caller::idle() } else { Caller::busy() };
                    let address = ip(&format!("2001:db8:{site}::{which:x}"));
                    if let Ok((number, _)) = table.enter(address, caller.clone()) {
                        inside.insert(number, (site, caller));
                    }
                } else if let Some(number) = inside.keys().nth(which).copied() {
                    table.exit(number);
                    inside.remove(&number);
                }
                let here = |site: Option<u8>| {
                    inside.values().filter(|(of, it)| !it.left.get() && site.is_none_or(|site| *of == site)).count()
                };
                prop_assert_eq!(table.len(), here(None));
                prop_assert!(here(None) <= all);
                prop_assert!((0..3).all(|site| here(Some(site)) <= per_site));
            }
            for number in inside.into_keys() {
                table.exit(number);
            }
            prop_assert!(table.len() == 0 && table.holders.is_empty() && table.ranking.is_empty());
            prop_assert!(table.evicting.is_empty());
        }
    }
}
