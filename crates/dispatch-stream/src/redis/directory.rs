//! Peer directory on one lane: reads and writes authenticated process states and evidence.
//!
//! What is read is believed only with a code that says who said it, and in time: each word bears the lane's own time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use prost::Message;
use redis::{Pipeline, RedisError, RedisResult, Value, cmd};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};

use super::keys::QUEUES;
use super::lane_connection::LaneConnection;
use super::script::LuaScript;
use super::{Lane, note_unauthenticated, value};
use crate::evidence::{Evidence, Statement};
use crate::message_auth::BoardKeys;
use crate::peer_state::{Lease, STATE_TTL};

/// Client of one lane's part of the peer directory. One request at a time.
///
/// After a lane did not answer, it is not asked again for a while: who waits for it would wait each time.
pub(crate) struct LaneDirectory {
    link: LaneConnection,
    words: BoardKeys,
    process: String,
    guard: LuaScript,
    /// What the lane's clock showed, and when.
    clock: Option<(Instant, u64)>,
    /// What this process says of which subject.
    own: HashMap<String, Statement>,
    silent_until: Option<Instant>,
}

/// For so long a lane that did not answer is left alone.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a rate's lane may take to answer: pushes wait for it.
const LEASE: Duration = Duration::from_millis(100);
/// For so long after somebody looked, details are told.
const WATCHED: Duration = Duration::from_secs(70);
/// How long what is said of a subject is kept after the last word: longer than it counts.
const EVIDENCE_TTL: Duration = Duration::from_mins(65);
/// Most processes that are listened to about one subject.
const MOST_WITNESSES: usize = 1000;
/// Most processes whose states are read.
const MOST_PROCESSES: usize = 10_000;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reply to a publication: the summary, and whether an operator wants details.
pub(crate) struct Heard {
    pub(crate) summary: Option<String>,
    pub(crate) is_watched: bool,
}

impl LaneDirectory {
    pub(crate) fn new(lane: Lane, process: &str, words: BoardKeys) -> Self {
        Self {
            link: LaneConnection::commands(lane),
            words,
            process: process.to_owned(),
            guard: LuaScript::guard(),
            clock: None,
            own: HashMap::new(),
            silent_until: None,
        }
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

    /// Asks, and hears what the lane's clock shows.
    async fn ask(&mut self, mut questions: Pipeline) -> RedisResult<Vec<Value>> {
        self.listens()?;
        questions.add_command(cmd("TIME"));
        let answers = self.link.pipeline(&questions).await;
        self.silent_until = answers.as_ref().is_err().then(|| Instant::now() + SILENCE);
        let mut answers = answers?;
        let time = answers.pop().map(value::list).unwrap_or_default().into_iter().filter_map(value::text);
        let time: Vec<u64> = time.filter_map(|part| part.parse().ok()).collect();
        self.clock = match time[..] {
            [seconds, micros] => Some((Instant::now(), seconds * 1000 + micros / 1000)),
            _ => None,
        };
        Ok(answers)
    }

    /// Returns what the lane's clock shows now.
    async fn now(&mut self) -> RedisResult<u64> {
        if self.clock.is_none() {
            self.ask(Pipeline::new()).await?;
        }
        let (heard, shown) = self.clock.unwrap_or((Instant::now(), 0));
        Ok(shown + millis(heard.elapsed()))
    }

    /// What is written under a name: with the lane's time, and a code.
    fn said(&self, name: &str, now: u64, text: &str) -> Vec<u8> {
        self.words.sign(name, &[&now.to_be_bytes()[..], text.as_bytes()].concat())
    }

    /// What was written under a name, by one of us and not long ago.
    fn heard(&self, name: &str, ttl: Duration, said: Option<Value>) -> Option<String> {
        let said = value::bytes(said?)?;
        let (_, now) = self.clock?;
        let Some(what) = self.words.verify(name, &said) else {
            note_unauthenticated("state", &"no process with the key ring has said it");
            return None;
        };
        let (at, text) = what.split_first_chunk()?;
        let is_fresh = u64::from_be_bytes(*at).abs_diff(now) <= millis(ttl);
        is_fresh.then(|| String::from_utf8(text.to_vec()).ok())?
    }

    /// Writes the process's state, and its name where the others find it; reads what all are together.
    pub(crate) async fn publish(&mut self, state: &str) -> RedisResult<Heard> {
        let (keys, now) = (self.link.lane().keys.clone(), self.now().await?);
        let (key, process) = (keys.state(&self.process), &self.process);
        let mut notes = Pipeline::new();
        let said = self.said(&key, now, state);
        notes.cmd("SET").arg(key).arg(said).arg("PX").arg(millis(STATE_TTL)).ignore();
        notes.cmd("SADD").arg(keys.processes()).arg(process).ignore();
        notes.cmd("GET").arg(keys.summary());
        notes.cmd("GET").arg(keys.watched());
        let mut answers = self.ask(notes).await?.into_iter();
        let mut heard = |name: &str, ttl| {
            let said = answers.next().filter(|it| *it != Value::Nil);
            self.heard(name, ttl, said)
        };
        let summary = heard(&keys.summary(), STATE_TTL);
        Ok(Heard { summary, is_watched: heard(&keys.watched(), WATCHED).is_some() })
    }

    /// Writes what all processes are together.
    pub(crate) async fn sum_up(&mut self, summary: &str) -> RedisResult<()> {
        self.write(&self.link.lane().keys.summary(), summary, STATE_TTL).await
    }

    /// Asks the processes for details.
    pub(crate) async fn watch(&mut self) -> RedisResult<()> {
        self.write(&self.link.lane().keys.watched(), "", WATCHED).await
    }

    async fn write(&mut self, key: &str, text: &str, ttl: Duration) -> RedisResult<()> {
        let now = self.now().await?;
        let mut notes = Pipeline::new();
        notes.cmd("SET").arg(key).arg(self.said(key, now, text)).arg("PX").arg(millis(ttl)).ignore();
        self.ask(notes).await.map(drop)
    }

    /// Returns the states of all processes that live, and forgets the names of the others.
    pub(crate) async fn states(&mut self) -> RedisResult<Vec<String>> {
        let keys = self.link.lane().keys.clone();
        let mut question = Pipeline::new();
        question.cmd("SMEMBERS").arg(keys.processes());
        let names = self.ask(question).await?.into_iter().next().map(value::list).unwrap_or_default();
        let names: Vec<_> = names.into_iter().filter_map(value::text).take(MOST_PROCESSES).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = Pipeline::new();
        let question = read.cmd("MGET");
        for name in &names {
            question.arg(keys.state(name));
        }
        let states = self.ask(read).await?.into_iter().next().map(value::list).unwrap_or_default();
        let (mut told, mut gone) = (Vec::new(), Vec::new());
        for (name, state) in names.iter().zip(states) {
            if state == Value::Nil {
                gone.push(name);
            } else {
                told.extend(self.heard(&keys.state(name), STATE_TTL, Some(state)));
            }
        }
        if !gone.is_empty() {
            let mut forget = Pipeline::new();
            forget.cmd("SREM").arg(keys.processes()).arg(gone).ignore();
            // Who may only read leaves that to others.
            let _ = self.ask(forget).await;
            self.silent_until = None;
        }
        Ok(told)
    }

    /// Adds what this process has seen of some subjects, and returns what all have.
    pub(crate) async fn exchange(&mut self, news: &[&(String, Evidence)]) -> RedisResult<Vec<Evidence>> {
        self.listens()?;
        let (keys, now) = (self.link.lane().keys.clone(), self.now().await?);
        let mut call = self.guard.call(news.len());
        for (subject, _) in news {
            call.arg(keys.guard(subject));
        }
        call.arg(&self.process).arg(millis(EVIDENCE_TTL)).arg(MOST_WITNESSES);
        for (subject, seen) in news {
            let own = self.own.entry(subject.clone()).or_default();
            own.add(seen, now);
            call.arg(self.words.sign(&evidence_name(subject, &self.process), &own.encode_to_vec()));
        }
        self.own.retain(|_, statement| !statement.is_over(now));
        let answers = self.guard.run(&call, &mut self.link).await;
        self.silent_until = answers.as_ref().is_err().then(|| Instant::now() + SILENCE);
        let mut answers = value::list(answers?).into_iter();
        let shown = answers.next().and_then(value::text).and_then(|text| text.parse().ok());
        let now = shown.unwrap_or(now);
        self.clock = Some((Instant::now(), now));
        let mut over = Pipeline::new();
        let sums: Vec<_> = news
            .iter()
            .zip(answers)
            .map(|((subject, _), said)| {
                let (statements, gone) = self.statements(subject, said, now);
                if !gone.is_empty() {
                    over.cmd("HDEL").arg(keys.guard(subject)).arg(gone).ignore();
                }
                Evidence::of(statements.iter(), now)
            })
            .collect();
        if over.cmd_iter().next().is_some() {
            let _ = self.ask(over).await;
        }
        Ok(sums)
    }

    /// What processes say of a subject, and the names of those that say nothing more, or that nobody believes.
    fn statements(&self, subject: &str, said: Value, now: u64) -> (Vec<Statement>, Vec<String>) {
        let mut fields = value::list(said).into_iter();
        let (mut all, mut gone) = (Vec::new(), Vec::new());
        while let (Some(name), Some(said)) = (fields.next(), fields.next()) {
            let (Some(name), Some(said)) = (value::text(name), value::bytes(said)) else { continue };
            let Some(what) = self.words.verify(&evidence_name(subject, &name), &said) else {
                note_unauthenticated("evidence", &"no process with the key ring has said it");
                gone.push(name);
                continue;
            };
            match Statement::decode(what) {
                Ok(statement) if !statement.is_over(now) || name == self.process => all.push(statement),
                _ => gone.push(name),
            }
        }
        (all, gone)
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
        let answers = self.ask(questions).await?;
        let count = |value: &Value| value::number(value).and_then(|it| u64::try_from(it).ok());
        let names = keys.queues();
        let short =
            names.iter().map(|name| name.split_once(":jobs:").map_or(&**name, |(_, it)| it).to_owned());
        Ok(short.zip(answers.iter().map(|it| count(it).unwrap_or_default())).collect())
    }
}

/// Under which name a process says something of a subject.
fn evidence_name(subject: &str, process: &str) -> String {
    format!("guard {} {subject} {process}", subject.len())
}

/// Client of the shared rate limits that one lane keeps.
pub(crate) struct LaneRates {
    lane: AsyncMutex<Rates>,
}

struct Rates {
    link: LaneConnection,
    gcra: LuaScript,
    silent_until: Option<Instant>,
}

impl LaneRates {
    pub(crate) fn new(lane: Lane) -> Self {
        let rates =
            Rates { link: LaneConnection::commands(lane), gcra: LuaScript::gcra(), silent_until: None };
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
