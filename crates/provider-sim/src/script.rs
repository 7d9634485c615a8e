//! Scripted answers by device token, in place of what the checks would say.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::fault::ProviderName;
use crate::http2::{Reply, ReplyAction};

/// The key of Google's token endpoint.
pub(crate) const OAUTH: &str = "oauth";

/// What happens instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The request is never answered.
    Hang,
    /// It is answered with half of the body, then reset.
    Half,
    /// Its stream is reset after it was read.
    Reset,
    /// Its stream is refused: not processed.
    Refuse,
    /// The connection is closed.
    Close,
    /// The connection is given up with GOAWAY.
    GoAway,
    /// The connection is given up with a GOAWAY that does not cover the request: not processed.
    GoAwayUnprocessed,
    /// The connection stays open and is never answered again.
    BlackHole,
    /// The connection stays open and is never read again.
    Freeze,
}

/// One scripted answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptedAnswer {
    /// HTTP status; 0 stands for what the checks would say.
    pub status: u16,
    /// Apple's reason, or Google's error code.
    pub reason: Option<String>,
    /// Apple's 410 timestamp, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// `Retry-After`, as it is to stand in the header.
    pub retry_after: Option<String>,
    /// A body in place of the one that fits the reason.
    pub body: Option<String>,
    /// How long the answer waits.
    pub delay_ms: u64,
    /// What happens instead of an answer.
    pub action: Option<Action>,
    /// The push counts as delivered, whatever is answered.
    pub delivered: bool,
}

/// Script: the answers for some device tokens, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// A device token, the beginning of some with `*` behind it, `*` for all, or `oauth` for Google's
    /// token endpoint. A script for one token comes before those for many; later scripts before earlier.
    pub token: String,
    /// Only pushes to this provider.
    #[serde(default)]
    pub provider: Option<ProviderName>,
    /// The answers, in order; then the tokens are answered as usual.
    pub answers: VecDeque<ScriptedAnswer>,
    /// Whether the last answer is given for ever.
    #[serde(default)]
    pub repeat: bool,
    /// Only so many of a hundred requests, by chance; 0 stands for all.
    #[serde(default)]
    pub percent: u8,
    /// Only for so long; 0 stands for ever.
    #[serde(default)]
    pub for_ms: u64,
}

impl Script {
    fn is_for(&self, provider: ProviderName, token: &str) -> bool {
        if self.provider.is_some_and(|only| only != provider) {
            return false;
        }
        match self.token.strip_suffix('*') {
            // Patterns stand for devices; the token endpoint has a script of its own or none.
            Some(beginning) => token != OAUTH && token.starts_with(beginning),
            None => self.token == token,
        }
    }
}

/// All scripts.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    any: AtomicBool,
    running: Mutex<Vec<(Script, Option<Instant>)>>,
}

impl Scripts {
    /// Adds a script in place of the one for the same tokens.
    pub(crate) fn set(&self, script: Script) {
        let end = (script.for_ms > 0).then(|| Instant::now() + Duration::from_millis(script.for_ms));
        if let Ok(mut running) = self.running.lock() {
            self.any.store(true, Ordering::Release);
            running.retain(|(old, _)| (&old.token, old.provider) != (&script.token, script.provider));
            let exact = !script.token.ends_with('*');
            let place = if exact {
                0
            } else {
                running.iter().take_while(|(old, _)| !old.token.ends_with('*')).count()
            };
            running.insert(place, (script, end));
        }
    }

    pub(crate) fn clear(&self) {
        if let Ok(mut running) = self.running.lock() {
            self.any.store(false, Ordering::Release);
            running.clear();
        }
    }

    /// Takes the next scripted answer for a token.
    pub(crate) fn next(&self, provider: ProviderName, token: &str) -> Option<ScriptedAnswer> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut running = self.running.lock().ok()?;
        let now = Instant::now();
        running.retain(|(_, end)| end.is_none_or(|end| now < end));
        let at = running.iter().position(|(script, _)| script.is_for(provider, token))?;
        let (script, _) = running.get_mut(at)?;
        if script.percent > 0 && rand::rng().random_range(0..100) >= script.percent {
            return None;
        }
        if script.repeat && script.answers.len() == 1 {
            return script.answers.front().cloned();
        }
        let answer = script.answers.pop_front();
        if script.answers.is_empty() {
            running.remove(at);
        }
        answer
    }
}

impl ScriptedAnswer {
    /// Makes the reply; `body` gives the one that fits status and reason.
    pub(crate) fn reply(&self, usual: impl FnOnce() -> Reply, body: impl FnOnce() -> String) -> Reply {
        let mut reply = if self.status == 0 {
            usual()
        } else {
            let text = self.body.clone().unwrap_or_else(body);
            Reply { status: self.status, body: Bytes::from(text), ..Reply::default() }
        };
        if let Some(value) = &self.retry_after {
            reply.headers.push(("retry-after", value.clone()));
        }
        reply.delivered = self.delivered.then_some(true).or(reply.delivered);
        reply.delay = Duration::from_millis(self.delay_ms);
        reply.action = match self.action {
            None => ReplyAction::Answer,
            Some(Action::Hang) => ReplyAction::Hang,
            Some(Action::Half) => ReplyAction::Half,
            Some(Action::Reset) => ReplyAction::Reset,
            Some(Action::Refuse) => ReplyAction::Refuse,
            Some(Action::Close) => ReplyAction::Close,
            Some(Action::GoAway) => ReplyAction::GoAway,
            Some(Action::GoAwayUnprocessed) => ReplyAction::GoAwayUnprocessed,
            Some(Action::BlackHole) => ReplyAction::BlackHole,
            Some(Action::Freeze) => ReplyAction::Freeze,
        };
        reply
    }
}
