//! What the simulator was told to answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::http2::{Fate, Reply};

/// The key of Google's token endpoint.
pub(crate) const OAUTH: &str = "oauth";

/// What happens instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The request is never answered.
    Hang,
    /// Its stream is reset after it was read.
    Reset,
    /// Its stream is refused: not processed.
    Refuse,
    /// The connection is closed.
    Close,
    /// The connection is given up with GOAWAY.
    GoAway,
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
}

/// What to answer for one device token; `*` stands for all, `oauth` for Google's token endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The device token.
    pub token: String,
    /// The answers, in order; then the token is answered as usual.
    pub answers: VecDeque<ScriptedAnswer>,
    /// Whether the last answer is given for ever.
    #[serde(default)]
    pub repeat: bool,
}

/// All scripts.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    any: AtomicBool,
    by_token: Mutex<HashMap<String, Script>>,
}

impl Scripts {
    pub(crate) fn set(&self, script: Script) {
        if let Ok(mut scripts) = self.by_token.lock() {
            self.any.store(true, Ordering::Release);
            scripts.insert(script.token.clone(), script);
        }
    }

    pub(crate) fn clear(&self) {
        if let Ok(mut scripts) = self.by_token.lock() {
            self.any.store(false, Ordering::Release);
            scripts.clear();
        }
    }

    /// Takes the next scripted answer for a token.
    pub(crate) fn next(&self, token: &str) -> Option<ScriptedAnswer> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut scripts = self.by_token.lock().ok()?;
        // `*` stands for devices; the token endpoint has a script of its own or none.
        let key = if scripts.contains_key(token) || token == OAUTH { token } else { "*" };
        let script = scripts.get_mut(key)?;
        if script.repeat && script.answers.len() == 1 {
            return script.answers.front().cloned();
        }
        let answer = script.answers.pop_front();
        if script.answers.is_empty() {
            scripts.remove(key);
        }
        answer
    }
}

impl ScriptedAnswer {
    /// Makes the reply; `body` gives the one that fits status and reason.
    pub(crate) fn reply(&self, usual: impl FnOnce() -> Reply, body: impl FnOnce(&Self) -> String) -> Reply {
        let mut reply = if self.status == 0 {
            usual()
        } else {
            let text = self.body.clone().unwrap_or_else(|| body(self));
            Reply { status: self.status, body: Bytes::from(text), ..Reply::default() }
        };
        if let Some(value) = &self.retry_after {
            reply.headers.push(("retry-after", value.clone()));
        }
        reply.delay = Duration::from_millis(self.delay_ms);
        reply.fate = match self.action {
            None => Fate::Answer,
            Some(Action::Hang) => Fate::Hang,
            Some(Action::Reset) => Fate::Reset,
            Some(Action::Refuse) => Fate::Refuse,
            Some(Action::Close) => Fate::Close,
            Some(Action::GoAway) => Fate::GoAway,
        };
        reply
    }
}
