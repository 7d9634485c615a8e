//! One lane's part of what the processes know of each other.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Pipeline, RedisError, RedisResult, Value};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};

use super::keys::QUEUES;
use super::link::Link;
use super::script::Step;
use super::{Lane, value};
use crate::board::{Evidence, Lease, STATE_LIFE};

/// The way to one lane's notes. One question at a time.
///
/// After a lane did not answer, it is not asked again for a while: who waits for it would wait each time.
pub(crate) struct LaneBoard {
    link: Link,
    guard: Step,
    silent_until: Option<Instant>,
}

/// For so long a lane that did not answer is left alone.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a rate's lane may take to answer: pushes wait for it.
const LEASE: Duration = Duration::from_millis(100);
/// For so long after somebody looked, details are told.
const WATCHED: Duration = Duration::from_secs(70);
/// Evidence is counted by half minutes, and ten of them count.
pub(super) const BUCKET: Duration = Duration::from_secs(30);
const BUCKETS: usize = 10;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a process hears while it tells of itself.
pub(crate) struct Heard {
    pub(crate) summary: Option<String>,
    pub(crate) is_watched: bool,
}

impl LaneBoard {
    pub(crate) fn new(lane: Lane) -> Self {
        Self { link: Link::commands(lane), guard: Step::guard(), silent_until: None }
    }

    /// Fails at once while the lane is known to be silent.
    fn listens(&self) -> RedisResult<()> {
        match self.silent_until {
            Some(until) if Instant::now() < until => {
                Err(RedisError::from((redis::ErrorKind::Io, "the lane did not answer a moment ago")))
            }
            _ => Ok(()),
        }
    }

    async fn ask(&mut self, questions: &Pipeline) -> RedisResult<Vec<Value>> {
        self.listens()?;
        let answers = self.link.pipeline(questions).await;
        self.silent_until = answers.as_ref().is_err().then(|| Instant::now() + SILENCE);
        answers
    }

    /// Writes a process's state, and its name where the others find it; reads what all are together.
    pub(crate) async fn publish(&mut self, process: &str, state: &str) -> RedisResult<Heard> {
        let keys = self.link.lane().keys.clone();
        let mut notes = Pipeline::new();
        notes.cmd("SET").arg(keys.state(process)).arg(state).arg("PX").arg(millis(STATE_LIFE)).ignore();
        notes.cmd("SADD").arg(keys.processes()).arg(process).ignore();
        notes.cmd("GET").arg(keys.summary());
        notes.cmd("GET").arg(keys.watched());
        let mut answers = self.ask(&notes).await?.into_iter();
        let summary = answers.next().and_then(value::text);
        Ok(Heard { summary, is_watched: answers.next().and_then(value::text).is_some() })
    }

    /// Writes what all processes are together.
    pub(crate) async fn sum_up(&mut self, summary: &str) -> RedisResult<()> {
        let key = self.link.lane().keys.summary();
        let mut notes = Pipeline::new();
        notes.cmd("SET").arg(key).arg(summary).arg("PX").arg(millis(STATE_LIFE)).ignore();
        self.ask(&notes).await.map(drop)
    }

    /// Asks the processes for details.
    pub(crate) async fn watch(&mut self) -> RedisResult<()> {
        let key = self.link.lane().keys.watched();
        let mut notes = Pipeline::new();
        notes.cmd("SET").arg(key).arg(1).arg("PX").arg(millis(WATCHED)).ignore();
        self.ask(&notes).await.map(drop)
    }

    /// Returns the states of all processes that live, and forgets the names of the others.
    pub(crate) async fn states(&mut self) -> RedisResult<Vec<String>> {
        let keys = self.link.lane().keys.clone();
        let mut question = Pipeline::new();
        question.cmd("SMEMBERS").arg(keys.processes());
        let names = self.ask(&question).await?.into_iter().next().map(value::list).unwrap_or_default();
        let names: Vec<_> = names.into_iter().filter_map(value::text).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = Pipeline::new();
        let question = read.cmd("MGET");
        for name in &names {
            question.arg(keys.state(name));
        }
        let states = self.ask(&read).await?.into_iter().next().map(value::list).unwrap_or_default();
        let states: Vec<_> = states.into_iter().map(value::text).collect();
        let gone = names.iter().zip(&states).filter(|(_, state)| state.is_none()).map(|(name, _)| name);
        let gone: Vec<_> = gone.collect();
        if !gone.is_empty() {
            let mut forget = Pipeline::new();
            forget.cmd("SREM").arg(keys.processes()).arg(gone).ignore();
            // Who may only read leaves that to others.
            let _ = self.ask(&forget).await;
            self.silent_until = None;
        }
        Ok(states.into_iter().flatten().collect())
    }

    /// Adds what a process has seen of some apps, and returns what all have.
    pub(crate) async fn exchange(&mut self, news: &[&(String, Evidence)]) -> RedisResult<Vec<Evidence>> {
        self.listens()?;
        let keys = self.link.lane().keys.clone();
        let mut call = self.guard.call(news.len());
        for (app, _) in news {
            call.arg(keys.guard(app));
        }
        call.arg(millis(BUCKET)).arg(BUCKETS);
        for (_, seen) in news {
            let ago = seen.accepted_ago.map_or(-1, |ago| i64::try_from(ago.as_millis()).unwrap_or(i64::MAX));
            call.arg(seen.dead).arg(seen.accepted).arg(ago).arg(millis(seen.paused));
        }
        let answers = self.guard.run(&call, &mut self.link).await;
        self.silent_until = answers.as_ref().is_err().then(|| Instant::now() + SILENCE);
        Ok(value::list(answers?).into_iter().map(evidence).collect())
    }

    pub(crate) fn name(&self) -> &str {
        self.link.lane().name()
    }

    /// Counts what lies in each queue.
    pub(crate) async fn depths(&mut self) -> RedisResult<BTreeMap<String, u64>> {
        let keys = self.link.lane().keys.clone();
        let mut questions = Pipeline::new();
        for number in 0..QUEUES {
            questions.cmd("XLEN").arg(keys.queue(number));
        }
        let answers = self.ask(&questions).await?;
        let count = |value: &Value| value::number(value).and_then(|it| u64::try_from(it).ok());
        let names = keys.queues();
        let short =
            names.iter().map(|name| name.split_once(":jobs:").map_or(&**name, |(_, it)| it).to_owned());
        Ok(short.zip(answers.iter().map(|it| count(it).unwrap_or_default())).collect())
    }
}

fn evidence(answer: Value) -> Evidence {
    let numbers: Vec<_> = value::list(answer).iter().filter_map(value::number).collect();
    let at = |place: usize| numbers.get(place).copied().unwrap_or_default();
    let count = |place| u64::try_from(at(place)).unwrap_or_default();
    Evidence {
        dead: count(0),
        accepted: count(1),
        accepted_ago: u64::try_from(at(2)).ok().filter(|_| numbers.len() > 2).map(Duration::from_millis),
        paused: Duration::from_millis(count(3)),
    }
}

/// The way to the rates that one lane keeps.
pub(crate) struct LaneRates {
    lane: AsyncMutex<Rates>,
}

struct Rates {
    link: Link,
    gcra: Step,
    silent_until: Option<Instant>,
}

impl LaneRates {
    pub(crate) fn new(lane: Lane) -> Self {
        let rates = Rates { link: Link::commands(lane), gcra: Step::gcra(), silent_until: None };
        Self { lane: AsyncMutex::new(rates) }
    }

    /// Asks for turns of a rate; `None` if the lane does not answer soon.
    pub(crate) async fn lease(&self, rate: &str, per_second: f64, burst: u32, wanted: u32) -> Option<Lease> {
        let asked = timeout(LEASE, async {
            let mut lane = self.lane.lock().await;
            if lane.silent_until.is_some_and(|until| Instant::now() < until) {
                return None;
            }
            // Until it has answered; also if it does not, and this future is dropped.
            lane.silent_until = Some(Instant::now() + SILENCE);
            let Rates { link, gcra, .. } = &mut *lane;
            let mut call = gcra.call(1);
            call.arg(link.lane().keys.rate(rate));
            call.arg(1_000_000.0 / per_second.max(0.001)).arg(burst).arg(wanted);
            let answer = value::list(gcra.run(&call, link).await.ok()?);
            lane.silent_until = None;
            Some(answer)
        });
        let answer = asked.await.ok().flatten()?;
        let number = |at: usize| answer.get(at).and_then(value::number).and_then(|it| u64::try_from(it).ok());
        let granted = number(0).and_then(|it| u32::try_from(it).ok()).unwrap_or_default();
        if granted > 0 {
            return Some(Lease::Granted(granted));
        }
        Some(Lease::Wait(Duration::from_micros(number(1).unwrap_or_default())))
    }
}
