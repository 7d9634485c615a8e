//! Simulation test: very many gateways before one stream and a fixed number of workers' places, with the real
//! windows, one tenant that pushes as fast as it may through all of them, and two hundred quiet ones.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::window::{CongestionWindow, Share};

const TIME: Duration = Duration::from_secs(30);
/// What comes before says how the windows find their places, not how they keep them.
const SETTLING: Duration = Duration::from_secs(15);

/// What the workers can do, and what quiet tenants ask of them.
#[derive(Debug, Clone, Copy)]
struct Scene {
    gateways: usize,
    /// How many pushes the busy tenant has open at each gateway, at most.
    busy: usize,
    slots: usize,
    service: Duration,
    quiet_per_second: f64,
    /// Whether gateways know their share of the workers' places.
    is_told: bool,
}

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
    scene: Scene,
    start: Instant,
    dice: StdRng,
    windows: Vec<CongestionWindow>,
    under_way: Vec<usize>,
    quiet: Vec<VecDeque<Duration>>,
    busy_under_way: Vec<usize>,
    stream: VecDeque<Push>,
    places: Vec<Option<Push>>,
    free: Vec<usize>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    times: Vec<Duration>,
}

impl World {
    fn new(scene: Scene) -> Self {
        let Scene { gateways, slots, .. } = scene;
        let (start, share) = (Instant::now(), Share::default());
        if scene.is_told {
            share.set(u32::try_from(slots / gateways).unwrap());
        }
        Self {
            scene,
            start,
            dice: StdRng::seed_from_u64(gateways as u64),
            windows: (0..gateways).map(|_| CongestionWindow::new(start, share.clone())).collect(),
            under_way: vec![0; gateways],
            quiet: vec![VecDeque::new(); gateways],
            busy_under_way: vec![0; gateways],
            stream: VecDeque::new(),
            places: vec![None; slots],
            free: (0..slots).collect(),
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
                None if self.busy_under_way[gateway] < self.scene.busy => (false, now),
                None => break,
            };
            self.busy_under_way[gateway] += usize::from(!is_quiet);
            self.under_way[gateway] += 1;
            self.stream.push_back(Push { gateway, is_quiet, came, handed_over: now, began: now });
        }
        if self.under_way[gateway] >= self.windows[gateway].size() && self.scene.busy > 0 {
            self.windows[gateway].full();
        }
        while !self.free.is_empty()
            && let Some(push) = self.stream.pop_front()
        {
            let place = self.free.pop().unwrap();
            self.places[place] = Some(Push { began: now, ..push });
            let took = self.scene.service.mul_f64(self.dice.random_range(0.6..1.4));
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
                    let mean = 1.0 / self.scene.quiet_per_second;
                    let next = -mean * self.dice.random_range(f64::EPSILON..1.0).ln();
                    self.at(now + Duration::from_secs_f64(next), Event::QuietPush);
                }
                Event::Done(place) => {
                    let push = self.places[place].take().unwrap();
                    self.free.push(place);
                    let under_way = self.under_way[push.gateway];
                    self.under_way[push.gateway] -= 1;
                    self.busy_under_way[push.gateway] -= usize::from(!push.is_quiet);
                    let (took, queue_delay) =
                        (now.abs_diff(push.handed_over), push.began.abs_diff(push.handed_over));
                    self.windows[push.gateway].took(took, queue_delay, under_way, self.start + now);
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

/// A busy tenant without an end of what it has open, and one with three thousand pushes, which fill no window where many
/// share them.
fn is_hardly_noticed(calm: Scene, gateways: &[usize]) {
    let alone = World::new(calm).run();
    for (gateways, busy) in gateways.iter().flat_map(|it| [(*it, usize::MAX), (*it, 3000 / *it)]) {
        let scene = Scene { gateways, busy, ..calm };
        let (middle, tail) = World::new(scene).run();
        let place = format!("{scene:?}: {middle:?} and {tail:?}, alone {alone:?}");
        assert!(middle <= alone.0 * 2, "{place}");
        assert!(tail <= alone.1 + Duration::from_millis(100), "{place}");
    }
}

#[test]
fn a_busy_tenant_is_hardly_noticed_by_quiet_ones_however_many_gateways_there_are() {
    let service = Duration::from_millis(80);
    for is_told in [false, true] {
        let calm = Scene { gateways: 16, busy: 0, slots: 1000, service, quiet_per_second: 400.0, is_told };
        is_hardly_noticed(calm, &[1, 4, 16, 64, 128]);
    }
}

#[test]
fn a_busy_tenant_is_hardly_noticed_where_workers_have_little_room() {
    let service = Duration::from_millis(500);
    let calm = Scene { gateways: 20, busy: 0, slots: 256, service, quiet_per_second: 200.0, is_told: true };
    is_hardly_noticed(calm, &[4, 8]);
    // With a dozen places each gateway has too few for its quiet tenants' chance meetings; half of them notice little.
    let alone = World::new(calm).run();
    let beside = World::new(Scene { busy: usize::MAX, ..calm }).run();
    assert!(beside.0 <= alone.0 * 5 / 4 && beside.1 <= alone.1 * 3 / 2, "{alone:?} {beside:?}");
}
