//! The scripts against a model of them: the same random steps, with several workers that die and servers that come
//! back empty, have the same results.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::{Value, cmd};

use super::link::Link;
use super::rig::Server;
use super::script::Step;
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
    marks: HashMap<u64, String>,
    replies: BTreeMap<u64, String>,
}

impl Model {
    /// What `enqueue.lua` says; an entry gets its id from the server.
    fn enqueue(&mut self, queue: usize, job: u64, id: impl FnOnce() -> String) -> String {
        if self.queues[queue].len() >= CAPACITY {
            return self.marks.get(&job).cloned().unwrap_or("B".into());
        }
        if let Some(mark) = self.marks.get(&job) {
            return mark.clone();
        }
        self.marks.insert(job, "Q".into());
        self.queues[queue].push(Entry { id: id(), owner: None, deliveries: 0 });
        "A".into()
    }

    fn read(&mut self, queue: usize, worker: usize, count: usize) -> Vec<String> {
        let new = self.queues[queue].iter_mut().filter(|entry| entry.deliveries == 0).take(count);
        new.map(|entry| {
            (entry.owner, entry.deliveries) = (Some(worker), 1);
            entry.id.clone()
        })
        .collect()
    }

    fn finish(&mut self, queue: usize, id: &str, job: u64, verdict: &str) -> i64 {
        self.queues[queue].retain(|entry| entry.id != id);
        if self.marks.get(&job).is_some_and(|mark| mark.starts_with('R')) {
            return 0;
        }
        self.marks.insert(job, format!("R{verdict}"));
        self.replies.insert(job, verdict.to_owned());
        1
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
    link: Link,
    steps: [Step; 3],
}

const KEYS: [&str; QUEUES] = ["hpns:jobs:apns:call", "hpns:jobs:apns:other"];
const MARKS: [&str; 3] = ["hpns:d:0", "hpns:d:1", "hpns:d:2"];

/// The number of a job's mark among [`MARKS`], from 1.
fn mark_of(job: u64) -> u64 {
    job % 3 + 1
}

impl Real {
    fn new(server: &Server) -> Self {
        let steps = [Step::enqueue(), Step::finish(), Step::reap()];
        Self { link: Link::commands(server.lane("test")), steps }
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

    /// Hands over jobs, each for its queue, in one call.
    async fn enqueue(&mut self, jobs: &[(usize, u64)]) -> Vec<String> {
        let mut call = self.steps[0].call(1 + QUEUES + MARKS.len());
        call.arg("hpns:lane").arg(&KEYS).arg(&MARKS);
        // Long ahead of any server's time: the call is never late.
        call.arg(QUEUES).arg(CAPACITY).arg(60_000).arg("gw").arg(1_u64 << 50);
        for (queue, job) in jobs {
            call.arg(queue + 1).arg(mark_of(*job)).arg(job).arg("app").arg(10_000).arg("sealed");
        }
        let answers = value::list(self.steps[0].run(&call, &mut self.link).await.unwrap());
        answers.into_iter().skip(3).map(|answer| value::text(answer).unwrap()).collect()
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

    /// Settles jobs in one call: their queues, entries, numbers and verdicts.
    async fn finish(&mut self, jobs: &[(usize, String, u64, String)]) -> i64 {
        let mut call = self.steps[1].call(QUEUES + 1 + MARKS.len());
        call.arg(&KEYS).arg("hpns:r:gw").arg(&MARKS);
        call.arg(GROUP).arg(QUEUES).arg(1).arg(60_000).arg(1000);
        for (queue, id, job, verdict) in jobs {
            call.arg(queue + 1).arg(1).arg(mark_of(*job)).arg(id).arg(job).arg(verdict);
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

    /// What was told to the gateway, by job.
    async fn replies(&mut self) -> BTreeMap<u64, String> {
        let entries = self.ask(cmd("XRANGE").arg("hpns:r:gw").arg("-").arg("+")).await;
        let entries = value::list(entries).into_iter().filter_map(value::StreamEntry::read);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pairs = entries.flat_map(|entry| entry.fields);
        let fields: Vec<_> = pairs.collect();
        fields.chunks_exact(2).map(|pair| (text(&pair[0]).parse().unwrap(), text(&pair[1]))).collect()
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

/// Hands over some jobs at once, some of them twice, to the scripts and to the model.
async fn hand_over(
    real: &mut Real,
    model: &mut Model,
    random: &mut StdRng,
    known: &mut Vec<(usize, String, u64)>,
    place: &str,
) {
    let jobs: Vec<_> = (0..random.random_range(1..5))
        .map(|_| (random.random_range(0..QUEUES), random.random_range(0..40)))
        .collect();
    let answers = real.enqueue(&jobs).await;
    let mut ids = Vec::new();
    for queue in 0..QUEUES {
        let added = jobs.iter().zip(&answers).filter(|((of, _), it)| *of == queue && *it == "A");
        ids.push(real.newest(queue, added.count()).await);
    }
    for ((queue, job), answer) in jobs.into_iter().zip(answers) {
        let entry = || {
            let id = ids[queue].pop_front().unwrap();
            known.push((queue, id.clone(), job));
            id
        };
        assert_eq!(model.enqueue(queue, job, entry), answer, "{place}");
    }
}

async fn sequence(real: &mut Real, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut known: Vec<(usize, String, u64)> = Vec::new();
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
                let settled: Vec<_> = (0..random.random_range(1..4))
                    .map(|number| {
                        let (queue, id, job) = known[random.random_range(0..known.len())].clone();
                        (queue, id, job, format!("v{step}.{number}"))
                    })
                    .collect();
                let first = real.finish(&settled).await;
                let each = settled.iter().map(|(queue, id, job, it)| model.finish(*queue, id, *job, it));
                assert_eq!(each.sum::<i64>(), first, "{place}");
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
