//! Model-based tests of the Lua scripts: the same random steps, with workers that die and servers that come
//! back empty, have the same results.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::{Value, cmd};

use super::lane_connection::LaneConnection;
use super::rig::Server;
use super::script::LuaScript;
use super::{GROUP, value};

const SEQUENCES: u64 = 500;
const STEPS: usize = 200;
const CAPACITY: usize = 6;
const QUEUES: usize = 2;
const WORKERS: [&str; 3] = ["w0", "w1", "w2"];
const ROOM: usize = 3;
const POISON: u32 = 4;

/// What was taken over, what was given up, and the suspect.
type Reaped = (Vec<String>, Vec<String>, Option<String>);

/// One entry, as the model has it.
#[derive(Debug, Clone)]
struct Entry {
    id: String,
    owner: Option<usize>,
    deliveries: u32,
}

#[derive(Debug, Default)]
struct Model {
    queues: [Vec<Entry>; QUEUES],
    /// The last call, the last one with jobs, and how many of these each queue took.
    book: Option<(u64, u64, String)>,
    replies: Vec<String>,
}

impl Model {
    /// What `enqueue.lua` says of its book, and of a call with jobs for all queues.
    fn enqueue(&mut self, number: u64, jobs: [usize; QUEUES]) -> [String; 4] {
        let (last, with_jobs, before) = self
            .book
            .clone()
            .map_or_else(Default::default, |(last, jobs, taken)| (last.to_string(), jobs.to_string(), taken));
        if self.book.as_ref().is_some_and(|(last, ..)| *last >= number) {
            return [last, with_jobs, before, "old".into()];
        }
        let taken: Vec<_> =
            self.queues.iter().zip(jobs).map(|(queue, jobs)| jobs.min(CAPACITY - queue.len())).collect();
        let text = taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        self.book = Some((number, number, text.clone()));
        [last, with_jobs, before, text]
    }

    /// Adds entries, which get their ids from the server.
    fn add(&mut self, queue: usize, ids: impl IntoIterator<Item = String>) {
        self.queues[queue].extend(ids.into_iter().map(|id| Entry { id, owner: None, deliveries: 0 }));
    }

    fn read(&mut self, queue: usize, worker: usize, count: usize) -> Vec<String> {
        let new = self.queues[queue].iter_mut().filter(|entry| entry.deliveries == 0).take(count);
        new.map(|entry| {
            (entry.owner, entry.deliveries) = (Some(worker), 1);
            entry.id.clone()
        })
        .collect()
    }

    fn finish(&mut self, queue: usize, id: &str) -> i64 {
        let before = self.queues[queue].len();
        self.queues[queue].retain(|entry| entry.id != id);
        i64::try_from(before - self.queues[queue].len()).unwrap()
    }

    /// What `reap.lua` takes of one dead worker and gives up, and the suspect.
    fn reap(&mut self, me: usize, dead: usize, mut suspects: usize) -> Reaped {
        let (mut taken, mut poison, mut suspect, mut room) = (Vec::new(), Vec::new(), None, ROOM);
        for queue in &mut self.queues {
            for entry in queue.iter_mut().filter(|entry| entry.owner == Some(dead)) {
                if entry.deliveries >= POISON {
                    poison.push(entry.id.clone());
                } else if room > 0 && (entry.deliveries < 2 || suspects > 0) {
                    room -= 1;
                    taken.push(entry.id.clone());
                    if entry.deliveries >= 2 {
                        suspects -= 1;
                        suspect = Some(entry.id.clone());
                    }
                } else {
                    continue;
                }
                (entry.owner, entry.deliveries) = (Some(me), entry.deliveries + 1);
            }
        }
        (taken, poison, suspect)
    }
}

/// The scripts on a server, called as the model is.
struct Real {
    link: LaneConnection,
    steps: [LuaScript; 3],
}

const KEYS: [&str; QUEUES] = ["hpns:jobs:apns:call", "hpns:jobs:apns:other"];
impl Real {
    fn new(server: &Server) -> Self {
        let steps = [LuaScript::enqueue(), LuaScript::finish(), LuaScript::reap()];
        Self { link: LaneConnection::commands(server.lane("test")), steps }
    }

    async fn ask(&mut self, command: &redis::Cmd) -> Value {
        self.link.query(command).await.unwrap()
    }

    async fn empty(&mut self) {
        self.ask(&cmd("FLUSHALL")).await;
        for key in KEYS {
            self.ask(cmd("XGROUP").arg("CREATE").arg(key).arg(GROUP).arg(0).arg("MKSTREAM")).await;
        }
    }

    /// Hands over so many jobs for each queue, in one call.
    async fn enqueue(&mut self, number: u64, jobs: [usize; QUEUES]) -> [String; 4] {
        let mut call = self.steps[0].call(2 + QUEUES);
        call.arg("hpns:lane").arg("hpns:g:gw").arg(&KEYS);
        // Long ahead of any server's time: the call is never late.
        call.arg(number).arg(1_u64 << 50).arg(CAPACITY).arg(60_000).arg(&jobs);
        for _ in 0..jobs.iter().sum() {
            call.arg("parcel");
        }
        let answers = value::list(self.steps[0].run(&call, &mut self.link).await.unwrap());
        let answers: Vec<_> =
            answers.into_iter().skip(3).map(|answer| value::text(answer).unwrap()).collect();
        answers.try_into().unwrap()
    }

    /// The ids of the newest entries, the oldest of them first.
    async fn newest(&mut self, queue: usize, count: usize) -> VecDeque<String> {
        if count == 0 {
            return VecDeque::new();
        }
        let newest = cmd("XREVRANGE").arg(KEYS[queue]).arg("+").arg("-").arg("COUNT").arg(count).to_owned();
        let entries = value::list(self.ask(&newest).await).into_iter().rev();
        entries.map(|entry| value::StreamEntry::read(entry).unwrap().id).collect()
    }

    async fn read(&mut self, queue: usize, worker: usize, count: usize) -> Vec<String> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(WORKERS[worker]).arg("COUNT").arg(count);
        let streams = value::streams(self.ask(read.arg("STREAMS").arg(KEYS[queue]).arg(">")).await);
        streams.into_iter().flat_map(|(_, entries)| entries).map(|entry| entry.id).collect()
    }

    /// Settles entries of the queues in one call.
    async fn finish(&mut self, entries: &[Vec<String>; QUEUES], told: &str) -> i64 {
        let used: Vec<_> = (0..QUEUES).filter(|queue| !entries[*queue].is_empty()).collect();
        let mut call = self.steps[1].call(used.len() + 1);
        for queue in &used {
            call.arg(KEYS[*queue]);
        }
        call.arg("hpns:r:gw").arg(GROUP).arg(used.len()).arg(60_000).arg(1000);
        for queue in &used {
            call.arg(entries[*queue].len());
        }
        call.arg(told);
        for queue in &used {
            call.arg(&entries[*queue]);
        }
        value::number(&self.steps[1].run(&call, &mut self.link).await.unwrap()).unwrap()
    }

    async fn reap(&mut self, me: usize, dead: usize, suspects: usize) -> Reaped {
        self.ask(cmd("SADD").arg("hpns:dead").arg(WORKERS[dead])).await;
        let mut call = self.steps[2].call(2 + QUEUES);
        call.arg("hpns:beats").arg("hpns:dead").arg(&KEYS).arg(GROUP).arg(WORKERS[me]).arg(WORKERS[dead]);
        call.arg(POISON).arg(suspects).arg(ROOM).arg(0);
        let mut parts = value::list(self.steps[2].run(&call, &mut self.link).await.unwrap()).into_iter();
        let mut ids = || -> Vec<String> {
            let pairs = value::list(parts.next().unwrap());
            let entry = |pair| value::StreamEntry::read(value::list(pair).remove(1)).unwrap().id;
            pairs.into_iter().map(entry).collect()
        };
        (ids(), ids(), parts.next().and_then(value::text))
    }

    /// What was told to the gateway.
    async fn replies(&mut self) -> Vec<String> {
        let entries = self.ask(cmd("XRANGE").arg("hpns:r:gw").arg("-").arg("+")).await;
        let entries = value::list(entries).into_iter().filter_map(value::StreamEntry::read);
        entries.map(|mut entry| String::from_utf8(entry.take(b"v").unwrap().to_vec()).unwrap()).collect()
    }
}

#[tokio::test]
async fn the_scripts_do_what_the_model_does() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let mut real = Real::new(&server);
    for seed in 0..SEQUENCES {
        real.empty().await;
        sequence(&mut real, seed).await;
    }
}

/// Makes a call, new or old, on the scripts and on the model.
async fn hand_over(
    real: &mut Real,
    model: &mut Model,
    random: &mut StdRng,
    known: &mut Vec<(usize, String)>,
    place: &str,
) {
    let last = model.book.as_ref().map_or(0, |(last, ..)| *last);
    let number = if random.random_bool(0.2) { random.random_range(0..=last) } else { last + 1 };
    let jobs = std::array::from_fn(|_| random.random_range(0..4));
    let answer = real.enqueue(number, jobs).await;
    assert_eq!(model.enqueue(number, jobs), answer, "{place}");
    for (queue, taken) in answer[3].split(' ').map(|count| count.parse().unwrap_or(0)).enumerate() {
        let ids = real.newest(queue, taken).await;
        known.extend(ids.iter().map(|id| (queue, id.clone())));
        model.add(queue, ids);
    }
}

async fn sequence(real: &mut Real, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut known: Vec<(usize, String)> = Vec::new();
    for step in 0..STEPS {
        let place = format!("seed {seed}, step {step}");
        let (queue, worker) = (random.random_range(0..QUEUES), random.random_range(0..WORKERS.len()));
        match random.random_range(0..100) {
            0..30 => hand_over(real, &mut model, &mut random, &mut known, &place).await,
            30..50 => {
                let count = random.random_range(1..4);
                let got = real.read(queue, worker, count).await;
                assert_eq!(model.read(queue, worker, count), got, "{place}");
            }
            50..75 if !known.is_empty() => {
                let mut settled: [Vec<String>; QUEUES] = Default::default();
                let mut still_there = 0;
                for _ in 0..random.random_range(1..4) {
                    let (queue, id) = known[random.random_range(0..known.len())].clone();
                    still_there += model.finish(queue, &id);
                    settled[queue].push(id);
                }
                model.replies.push(place.clone());
                assert_eq!(real.finish(&settled, &place).await, still_there, "{place}");
            }
            75..90 => {
                let suspects = random.random_range(0..2);
                let dead = (worker + random.random_range(1..WORKERS.len())) % WORKERS.len();
                let reaped = real.reap(worker, dead, suspects).await;
                assert_eq!(model.reap(worker, dead, suspects), reaped, "{place}");
            }
            99 => {
                assert_eq!(model.replies, real.replies().await, "{place}");
                real.empty().await;
                model = Model::default();
            }
            _ => {}
        }
    }
    assert_eq!(model.replies, real.replies().await, "seed {seed}");
    for (number, queue) in model.queues.iter().enumerate() {
        let length = real.ask(cmd("XLEN").arg(KEYS[number])).await;
        assert_eq!(value::number(&length), i64::try_from(queue.len()).ok(), "seed {seed}");
    }
}
