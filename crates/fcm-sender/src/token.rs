//! OAuth access token of one project: fetched by a single flight, renewed in the background.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use push_domain::{Backoff, Clock, Gcra};
use rand::RngExt;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::account::ServiceAccount;
use crate::settings::Settings;
use crate::shards::{ClientError, client, tls_config};

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a token that Google has taken may be given up because it refuses it, in seconds: once in ten, three at once.
const INVALIDATE_RATE: Gcra = Gcra::with_burst(10, 3);
/// The pauses after an account is refused, and while nobody answers.
const REFUSED: Backoff = Backoff { first: Duration::from_secs(30), longest: Duration::from_mins(1) };
const UNAVAILABLE: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(2) };
/// A token is not used in its last 30 s, and replaced some 5 minutes before its end.
const LAST_USE: Duration = Duration::from_secs(30);
const REFRESH_AHEAD: Duration = Duration::from_mins(5);
const RETRY_REFRESH: Duration = Duration::from_secs(10);
/// A token that is refused so soon after it was granted will not be better the next time.
const FRESH: Duration = Duration::from_secs(30);
const MIN_LIFETIME: Duration = Duration::from_mins(1);
const MAX_LIFETIME: Duration = Duration::from_hours(24);
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Error of the token source: why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// Google refuses our account: only an operator can mend that.
    Refused,
    /// Google cannot be reached or is broken.
    Unavailable,
}

/// Access token with its generation number.
#[derive(Clone)]
pub(crate) struct AccessToken {
    pub(crate) header: HeaderValue,
    pub(crate) generation: u64,
    /// Whether Google has taken a push under it.
    proven: Arc<AtomicBool>,
    granted_at: Instant,
    /// For how long the machine had been suspended by then: the other moments do not know of that.
    slept: Duration,
    refresh_at: Instant,
    last_use: Instant,
}

impl AccessToken {
    /// Notes that Google took a push under it.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether it may be used, when the machine has been suspended for `slept` in all.
    fn is_good(&self, now: Instant, slept: Duration) -> bool {
        now + slept.saturating_sub(self.slept) < self.last_use
    }

    /// New and never accepted: another one would be refused too.
    fn is_hopeless(&self) -> bool {
        !self.proven.load(Ordering::Relaxed) && self.granted_at.elapsed() < FRESH
    }
}

/// Remembers a failure, so that a broken account costs Google one request now and then.
#[derive(Clone, Copy)]
struct Failure {
    what: NoToken,
    until: Instant,
    in_a_row: u32,
}

#[derive(Default)]
struct RefreshState {
    generation: u64,
    failure: Option<Failure>,
    /// The theoretical arrival time of the next token that is given up, in seconds after the source was made.
    give_up_at: u64,
}

/// The token source of one project, for all senders and threads of a process. Cheap to clone; all
/// clones are one source.
#[derive(Clone)]
pub struct TokenSource {
    shared: Arc<Shared>,
}

struct Shared {
    app: String,
    account: ServiceAccount,
    url: String,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    current: ArcSwapOption<AccessToken>,
    made: Instant,
    memory: Mutex<RefreshState>,
    flight: Arc<tokio::sync::Mutex<()>>,
}

impl TokenSource {
    /// Makes a source that asks at the settings' token endpoint; the first use asks.
    pub fn new(
        settings: &Settings,
        account: ServiceAccount,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Result<Self, ClientError> {
        let (app, url) = (settings.name.clone(), settings.token_url.clone());
        let client = client(
            tls_config(Arc::clone(&settings.roots))?,
            settings.token_proxy.as_ref(),
            settings.ping_interval,
        )?;
        let (current, memory) = (ArcSwapOption::empty(), Mutex::default());
        let (made, flight) = (Instant::now(), Arc::default());
        let shared = Shared { app, account, url, client, clock, tasks, current, made, memory, flight };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) fn project(&self) -> &str {
        self.shared.account.project()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// Returns a token. However many callers ask at once, one request goes to Google; while the
    /// current token is good nobody waits for it.
    ///
    /// Cancel safe: a request under way goes on for the others.
    pub(crate) async fn token(&self) -> Result<AccessToken, NoToken> {
        let now = Instant::now();
        if let Some(token) = self.usable(now) {
            if now >= token.refresh_at
                && self.shared.failure(now).is_none()
                && let Ok(flight) = Arc::clone(&self.shared.flight).try_lock_owned()
                && self.shared.postpone_refresh(&token, now)
            {
                let source = self.clone();
                self.shared.tasks.spawn(async move {
                    let _ = source.fetch().await;
                    drop(flight);
                });
            }
            return Ok(token);
        }
        let flight = Arc::clone(&self.shared.flight).lock_owned().await;
        if let Some(token) = self.usable(Instant::now()) {
            return Ok(token);
        }
        if let Some(what) = self.shared.failure(Instant::now()) {
            return Err(what);
        }
        let source = self.clone();
        // The task keeps the lock: a caller that leaves must not let a second request out beside the first.
        let fetch = self.shared.tasks.spawn(async move {
            let fetched = source.fetch().await;
            drop(flight);
            fetched
        });
        fetch.await.unwrap_or(Err(NoToken::Unavailable))
    }

    /// Gives up the token of `generation`, and says whether the push may be tried once more: not when Google refuses
    /// one that it granted a moment ago and never took. Later generations stay, so that many 401s at once cost one
    /// refresh.
    pub(crate) fn invalidate(&self, generation: u64) -> bool {
        let current = self.shared.current.load();
        match current.as_ref().filter(|token| token.generation == generation) {
            Some(token) if token.is_hopeless() => false,
            // Refused for a part of the requests, a token is good all the same: another one would be as well.
            Some(_) if !self.shared.may_invalidate() => true,
            Some(_) => {
                self.shared.current.compare_and_swap(&*current, None);
                true
            }
            None => true,
        }
    }

    fn usable(&self, now: Instant) -> Option<AccessToken> {
        let slept = self.shared.clock.slept();
        self.shared.current.load().as_deref().filter(|token| token.is_good(now, slept)).cloned()
    }

    async fn fetch(&self) -> Result<AccessToken, NoToken> {
        let shared = &self.shared;
        // Google counts the lifetime from a later moment: counted from here,
        // the token ends early, never late.
        let (asked_at, slept) = (Instant::now(), shared.clock.slept());
        match tokio::time::timeout(FETCH_TIMEOUT, shared.ask()).await.unwrap_or(Err(NoToken::Unavailable)) {
            Ok((header, lifetime)) => {
                let mut memory = shared.memory();
                memory.generation += 1;
                memory.failure = None;
                let ahead =
                    REFRESH_AHEAD.min(lifetime / 2) + Duration::from_secs(rand::rng().random_range(0..30));
                let token = AccessToken {
                    header,
                    generation: memory.generation,
                    proven: Arc::default(),
                    granted_at: asked_at,
                    slept,
                    refresh_at: asked_at + lifetime.saturating_sub(ahead),
                    last_use: asked_at + lifetime.saturating_sub(LAST_USE.min(lifetime / 2)),
                };
                shared.current.store(Some(Arc::new(token.clone())));
                drop(memory);
                metrics::counter!("fcm_token_requests_total", "app" => shared.app.clone(), "result" => "ok")
                    .increment(1);
                Ok(token)
            }
            Err(what) => {
                shared.remember(what);
                Err(what)
            }
        }
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, RefreshState> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether one more token may be given up.
    fn may_invalidate(&self) -> bool {
        let mut memory = self.memory();
        let taken = INVALIDATE_RATE.take(memory.give_up_at, self.made.elapsed().as_secs());
        memory.give_up_at = taken.unwrap_or(memory.give_up_at);
        taken.is_some()
    }

    /// Lets the old token serve for a while before a failed refresh is tried again.
    /// Says whether it is still the current one.
    fn postpone_refresh(&self, token: &AccessToken, now: Instant) -> bool {
        let current = self.current.load();
        if current.as_ref().is_none_or(|current| current.generation != token.generation) {
            return false;
        }
        let later = AccessToken { refresh_at: now + RETRY_REFRESH, ..token.clone() };
        self.current.compare_and_swap(&*current, Some(Arc::new(later)));
        true
    }

    /// Why nobody asks at the moment.
    fn failure(&self, now: Instant) -> Option<NoToken> {
        self.memory().failure.filter(|failure| failure.until > now).map(|failure| failure.what)
    }

    fn remember(&self, what: NoToken) {
        let (backoff, result) = match what {
            NoToken::Refused => (REFUSED, "refused"),
            NoToken::Unavailable => (UNAVAILABLE, "unavailable"),
        };
        let mut memory = self.memory();
        let same = memory.failure.filter(|last| last.what == what);
        let in_a_row = same.map_or(0, |last| last.in_a_row).saturating_add(1);
        memory.failure = Some(Failure { what, until: Instant::now() + backoff.after(in_a_row), in_a_row });
        drop(memory);
        metrics::counter!("fcm_token_requests_total", "app" => self.app.clone(), "result" => result)
            .increment(1);
        match what {
            NoToken::Refused => {
                error!(app = self.app, "Google refuses the service account: no push of this app can succeed");
            }
            NoToken::Unavailable => warn!(app = self.app, "Google's token endpoint does not answer"),
        }
    }

    /// One request to the token endpoint. Only 4xx answers other than 408 and 429 are final.
    async fn ask(&self) -> Result<(HeaderValue, Duration), NoToken> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            #[serde(default = "an_hour")]
            expires_in: u64,
        }
        const fn an_hour() -> u64 {
            3600
        }
        let assertion = self.account.assertion(&self.url, self.clock.now()).map_err(|_| NoToken::Refused)?;
        let form =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        let mut answer = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .map_err(|_| NoToken::Unavailable)?;
        let status = answer.status().as_u16();
        if (400..500).contains(&status) && status != 408 && status != 429 {
            return Err(NoToken::Refused);
        }
        if status != 200 {
            return Err(NoToken::Unavailable);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| NoToken::Unavailable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(NoToken::Unavailable);
            }
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| NoToken::Unavailable)?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", granted.access_token))
            .map_err(|_| NoToken::Unavailable)?;
        header.set_sensitive(true);
        Ok((header, Duration::from_secs(granted.expires_in).clamp(MIN_LIFETIME, MAX_LIFETIME)))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("app", &self.shared.app).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_in_time_also_while_the_machine_is_suspended() {
        let (now, slept) = (Instant::now(), Duration::from_mins(7));
        let token = AccessToken {
            header: HeaderValue::from_static("Bearer"),
            generation: 1,
            proven: Arc::default(),
            granted_at: now,
            slept,
            refresh_at: now + Duration::from_mins(50),
            last_use: now + Duration::from_mins(59),
        };

        assert!(token.is_good(now + Duration::from_mins(58), slept));
        assert!(!token.is_good(now + Duration::from_hours(1), slept));
        // The steady clock has seen a minute only.
        assert!(!token.is_good(now + Duration::from_mins(1), slept + Duration::from_hours(1)));
    }
}
