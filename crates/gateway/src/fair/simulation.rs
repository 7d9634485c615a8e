//! Very many gateways in front of one stream and a fixed number of workers' places, in simulated time: the real
//! windows, one tenant that pushes as fast as it may through all of them, and two hundred quiet ones.

#![expect(clippy::cast_precision_loss, reason = "some thousands")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::window::Window;

const SLOTS: usize = 1000;
const SERVICE: Duration = Duration::from_millis(80);
const QUIET_TENANTS: u64 = 200;
const QUIET_PER_SECOND: f64 = 2.0;
const TIME: Duration = Duration::from_secs(30);
/// What comes before says how the windows find their places, not how they keep them.
const SETTLING: Duration = Duration::from_secs(15);

/// A push of a gateway.
#[derive(Debug, Clone, Copy)]
struct Push {
    gateway: usize,
    is_quiet: bool,
    came: Duration,
    handed_over: Duration,
    began: Duration,
}

/// What happens next, and when, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    QuietPush,
    Done(usize),
}

struct World {
    start: Instant,
    dice: StdRng,
    windows: Vec<Window>,
    under_way: Vec<usize>,
    quiet: Vec<VecDeque<Duration>>,
    /// How many pushes the busy tenant has open at each gateway, at most.
    busy: usize,
    busy_under_way: Vec<usize>,
    stream: VecDeque<Push>,
    places: Vec<Option<Push>>,
    free: Vec<usize>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    times: Vec<Duration>,
}

impl World {
    fn new(gateways: usize, busy: usize) -> Self {
        let start = Instant::now();
        Self {
            start,
            dice: StdRng::seed_from_u64(gateways as u64),
            windows: (0..gateways).map(|_| Window::new(start)).collect(),
            under_way: vec![0; gateways],
            quiet: vec![VecDeque::new(); gateways],
            busy,
            busy_under_way: vec![0; gateways],
            stream: VecDeque::new(),
            places: vec![None; SLOTS],
            free: (0..SLOTS).collect(),
            events: BinaryHeap::new(),
            times: Vec::new(),
        }
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.events.push(Reverse((u64::try_from(time.as_micros()).unwrap(), event)));
    }

    /// Hands over what a gateway has, quiet tenants' pushes in their turn, which comes at once.
    fn fill(&mut self, gateway: usize, now: Duration) {
        while self.under_way[gateway] < self.windows[gateway].size() {
            let (is_quiet, came) = match self.quiet[gateway].pop_front() {
                Some(came) => (true, came),
                None if self.busy_under_way[gateway] < self.busy => (false, now),
                None => break,
            };
            self.busy_under_way[gateway] += usize::from(!is_quiet);
            self.under_way[gateway] += 1;
            self.stream.push_back(Push { gateway, is_quiet, came, handed_over: now, began: now });
        }
        if self.under_way[gateway] >= self.windows[gateway].size() && self.busy > 0 {
            self.windows[gateway].full();
        }
        while !self.free.is_empty()
            && let Some(push) = self.stream.pop_front()
        {
            let place = self.free.pop().unwrap();
            self.places[place] = Some(Push { began: now, ..push });
            let took = SERVICE.mul_f64(self.dice.random_range(0.6..1.4));
            self.at(now + took, Event::Done(place));
        }
    }

    fn run(mut self) -> (Duration, Duration) {
        for gateway in 0..self.windows.len() {
            self.fill(gateway, Duration::ZERO);
        }
        self.at(Duration::ZERO, Event::QuietPush);
        while let Some(Reverse((micros, event))) = self.events.pop() {
            let now = Duration::from_micros(micros);
            if now > TIME {
                break;
            }
            match event {
                Event::QuietPush => {
                    let gateway = self.dice.random_range(0..self.windows.len());
                    self.quiet[gateway].push_back(now);
                    self.fill(gateway, now);
                    let mean = 1.0 / (QUIET_TENANTS as f64 * QUIET_PER_SECOND);
                    let next = -mean * self.dice.random_range(f64::EPSILON..1.0).ln();
                    self.at(now + Duration::from_secs_f64(next), Event::QuietPush);
                }
                Event::Done(place) => {
                    let push = self.places[place].take().unwrap();
                    self.free.push(place);
                    let under_way = self.under_way[push.gateway];
                    self.under_way[push.gateway] -= 1;
                    self.busy_under_way[push.gateway] -= usize::from(!push.is_quiet);
                    let (took, lying) =
                        (now.abs_diff(push.handed_over), push.began.abs_diff(push.handed_over));
                    self.windows[push.gateway].took(took, lying, under_way, self.start + now);
                    if push.is_quiet && now > SETTLING {
                        self.times.push(now.abs_diff(push.came));
                    }
                    self.fill(push.gateway, now);
                }
            }
        }
        self.times.sort();
        let at = |share: usize| self.times[self.times.len() * share / 100];
        (at(50), at(99))
    }
}

#[test]
fn a_busy_tenant_is_hardly_noticed_by_quiet_ones_however_many_gateways_there_are() {
    let alone = World::new(16, 0).run();
    // Without an end of what it has open, and with three thousand pushes, which fill no window where many share them.
    for (gateways, busy) in [1, 4, 16, 64, 128].into_iter().flat_map(|it| [(it, usize::MAX), (it, 3000 / it)])
    {
        let (middle, tail) = World::new(gateways, busy).run();
        let place =
            format!("{gateways} gateways, {busy} open at each: {middle:?} and {tail:?}, alone {alone:?}");
        assert!(middle <= alone.0 * 2, "{place}");
        assert!(tail <= alone.1 + Duration::from_millis(100), "{place}");
    }
}
