//! One lane's part of what the processes know of each other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use push_domain::AppId;
use redis::{FromRedisValue, Pipeline, RedisError, RedisResult, cmd};

use tokio::time::Instant;

use super::link::Link;
use super::script::Step;
use super::{Lane, value};
use crate::board::{EVIDENCE_LIFE, Lease, STATE_LIFE};

/// The way to one lane's notes. One question at a time.
///
/// After a lane did not answer, it is not asked again for a while: who waits for it would wait each time.
pub(crate) struct LaneBoard {
    link: Link,
    gcra: Step,
    silent_until: Option<Instant>,
}

/// For so long a lane that did not answer is left alone.
const SILENCE: Duration = Duration::from_secs(1);

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl LaneBoard {
    pub(crate) fn new(lane: Lane) -> Self {
        Self { link: Link::commands(lane), gcra: Step::gcra(), silent_until: None }
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

    fn heard<T>(&mut self, answer: RedisResult<T>) -> RedisResult<T> {
        self.silent_until = answer.as_ref().is_err().then(|| Instant::now() + SILENCE);
        answer
    }

    /// Writes a process's state, and its name where the others find it.
    pub(crate) async fn publish(&mut self, process: &str, state: &str) -> RedisResult<()> {
        self.listens()?;
        let published = self.try_publish(process, state).await;
        self.heard(published)
    }

    async fn try_publish(&mut self, process: &str, state: &str) -> RedisResult<()> {
        let keys = self.link.lane().keys.clone();
        let now = self.now_ms().await?;
        let gone = now.saturating_sub(millis(STATE_LIFE));
        let mut notes = Pipeline::new();
        notes.cmd("SET").arg(keys.state(process)).arg(state).arg("PX").arg(millis(STATE_LIFE)).ignore();
        notes.cmd("ZADD").arg(keys.processes()).arg(now).arg(process).ignore();
        notes.cmd("ZREMRANGEBYSCORE").arg(keys.processes()).arg("-inf").arg(gone).ignore();
        self.link.pipeline(&notes).await.map(drop)
    }

    /// Returns the states of all processes that live.
    pub(crate) async fn states(&mut self) -> RedisResult<Vec<String>> {
        self.listens()?;
        let states = self.try_states().await;
        self.heard(states)
    }

    async fn try_states(&mut self) -> RedisResult<Vec<String>> {
        let keys = self.link.lane().keys.clone();
        let mut all = cmd("ZRANGEBYSCORE");
        let names = self.link.query(all.arg(keys.processes()).arg("-inf").arg("+inf")).await?;
        let names: Vec<_> = value::list(names).into_iter().filter_map(value::text).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = cmd("MGET");
        for name in &names {
            read.arg(keys.state(name));
        }
        Ok(value::list(self.link.query(&read).await?).into_iter().filter_map(value::text).collect())
    }

    /// Writes what a process has seen of an app, and returns what all have, by process.
    pub(crate) async fn exchange(
        &mut self,
        app: &AppId,
        process: &str,
        evidence: &str,
    ) -> RedisResult<HashMap<String, String>> {
        self.listens()?;
        let key = self.link.lane().keys.guard(app);
        let mut notes = Pipeline::new();
        notes.cmd("HSET").arg(&key).arg(process).arg(evidence).ignore();
        notes.cmd("PEXPIRE").arg(&key).arg(millis(EVIDENCE_LIFE)).ignore();
        notes.cmd("HGETALL").arg(&key);
        let answers = self.link.pipeline(&notes).await;
        let answers = self.heard(answers)?;
        let all = answers.into_iter().next().unwrap_or(redis::Value::Nil);
        HashMap::from_redis_value(all).map_err(RedisError::from)
    }

    pub(crate) fn name(&self) -> &str {
        self.link.lane().name()
    }

    /// Counts what lies in the queues of each app: calls and others together.
    pub(crate) async fn depths(&mut self, apps: &[AppId]) -> RedisResult<BTreeMap<String, u64>> {
        self.listens()?;
        if apps.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys = self.link.lane().keys.clone();
        let mut questions = Pipeline::new();
        for app in apps {
            for is_call in [true, false] {
                questions.cmd("XLEN").arg(keys.queue(app, is_call));
            }
        }
        let answers = self.link.pipeline(&questions).await;
        let answers = self.heard(answers)?;
        let count = |value: &redis::Value| value::number(value).and_then(|it| u64::try_from(it).ok());
        let sum = |pair: &[redis::Value]| pair.iter().filter_map(count).sum();
        Ok(apps.iter().map(ToString::to_string).zip(answers.chunks(2).map(sum)).collect())
    }

    /// Forgets what some processes have seen of an app.
    pub(crate) async fn forget(&mut self, app: &AppId, processes: &[String]) -> RedisResult<()> {
        let key = self.link.lane().keys.guard(app);
        self.link.query(cmd("HDEL").arg(key).arg(processes)).await.map(drop)
    }

    /// Asks for turns of a rate.
    pub(crate) async fn lease(
        &mut self,
        credential: &str,
        per_second: u32,
        burst: u32,
        wanted: u32,
    ) -> RedisResult<Lease> {
        self.listens()?;
        let mut call = self.gcra.call(1);
        call.arg(self.link.lane().keys.rate(credential));
        call.arg(1_000_000.0 / f64::from(per_second.max(1))).arg(burst).arg(wanted);
        let answer = self.gcra.run(&call, &mut self.link).await;
        let answer = value::list(self.heard(answer)?);
        let number = |at: usize| answer.get(at).and_then(value::number).and_then(|it| u64::try_from(it).ok());
        let granted = number(0).and_then(|it| u32::try_from(it).ok()).unwrap_or_default();
        if granted > 0 {
            return Ok(Lease::Granted(granted));
        }
        Ok(Lease::Wait(Duration::from_micros(number(1).unwrap_or_default())))
    }

    /// The server's time.
    async fn now_ms(&mut self) -> RedisResult<u64> {
        let time = value::list(self.link.query(&cmd("TIME")).await?);
        let mut parts = time.into_iter().filter_map(|part| value::text(part)?.parse::<u64>().ok());
        let (seconds, micros) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Ok(seconds * 1000 + micros / 1000)
    }
}
