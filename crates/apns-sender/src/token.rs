//! The provider token: an ES256 JWT that proves the team to Apple.
//!
//! Apple refuses a token older than an hour and answers `TooManyProviderTokenUpdates` when a
//! connection sees a new one more often than every 20 minutes ("Establishing a token-based
//! connection to APNs"). One [`ProviderToken`] may serve any number of connections and threads.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use push_domain::{Clock, SecretBytes, Timestamp};
use rand::RngExt;
use serde::Serialize;
use tokio::time::Instant;

const MIN_AGE: Duration = Duration::from_mins(20);
const REFRESH_AFTER: std::ops::Range<u64> = 40 * 60..50 * 60;

/// Credentials that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentials {
    /// Not a PKCS#8 PEM file with a P-256 key, as Apple hands out.
    #[error("the key file is not a PEM file with a P-256 private key (.p8)")]
    Key,
    /// Key ids have ten characters.
    #[error("`key_id` has to be 10 characters of A-Z and 0-9")]
    KeyId,
    /// Team ids have ten characters.
    #[error("`team_id` has to be 10 characters of A-Z and 0-9")]
    TeamId,
    /// No X.509 certificate in PEM.
    #[error("the certificate file is not a PEM file with an X.509 certificate")]
    Certificate,
    /// No private key in PEM that belongs to a certificate.
    #[error("the certificate's key is not a private key in PEM (for PKCS#12, see docs/SELF-HOSTING.md)")]
    CertificateKey,
}

/// A signing key of one team.
#[derive(Clone)]
pub struct TokenKey {
    header: Header,
    team_id: String,
    key: EncodingKey,
}

impl TokenKey {
    /// Reads the `.p8` file that Apple hands out, and checks both ids.
    pub fn new(team_id: &str, key_id: &str, p8: &SecretBytes) -> Result<Self, InvalidCredentials> {
        let well_formed =
            |id: &str| id.len() == 10 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if !well_formed(team_id) {
            return Err(InvalidCredentials::TeamId);
        }
        if !well_formed(key_id) {
            return Err(InvalidCredentials::KeyId);
        }
        let key = EncodingKey::from_ec_pem(p8.expose()).map_err(|_| InvalidCredentials::Key)?;
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(key_id.to_owned());
        let token_key = Self { header, team_id: team_id.to_owned(), key };
        token_key.sign(0)?;
        Ok(token_key)
    }

    fn sign(&self, issued_at_seconds: u64) -> Result<HeaderValue, InvalidCredentials> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            iat: u64,
        }
        let claims = Claims { iss: &self.team_id, iat: issued_at_seconds };
        let jwt =
            jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|_| InvalidCredentials::Key)?;
        let mut value =
            HeaderValue::try_from(format!("bearer {jwt}")).map_err(|_| InvalidCredentials::Key)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("team_id", &self.team_id).finish_non_exhaustive()
    }
}

struct SignedToken {
    header: HeaderValue,
    issued_at: Timestamp,
    at: Instant,
    /// For how long the machine had been suspended by then: `at` does not know of that.
    slept: Duration,
    refresh_after: Duration,
}

/// The current provider token of one key, minted by need.
pub struct ProviderToken {
    key: TokenKey,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<SignedToken>,
    minting: Mutex<()>,
}

impl ProviderToken {
    /// Makes a source without a token; the first use mints one.
    #[must_use]
    pub fn new(key: TokenKey, clock: Arc<dyn Clock>) -> Self {
        Self { key, clock, current: ArcSwapOption::empty(), minting: Mutex::new(()) }
    }

    /// Returns the `authorization` header, a new one when the current is 40 to 50 minutes old.
    ///
    /// However many callers ask at once, one of them signs.
    pub fn header(&self) -> Result<HeaderValue, InvalidCredentials> {
        self.fresh(|current| current.age_by_any_clock(&*self.clock) < current.refresh_after)
    }

    /// Returns a new header after Apple called the current one expired, but never within 20 minutes
    /// of minting: then our clock is wrong, and a new token would be refused too.
    pub fn renewed(&self) -> Result<HeaderValue, InvalidCredentials> {
        self.fresh(|current| current.age(&*self.clock) < MIN_AGE)
    }

    fn fresh(&self, good: impl Fn(&SignedToken) -> bool) -> Result<HeaderValue, InvalidCredentials> {
        if let Some(current) = self.current.load().as_deref().filter(|current| good(current)) {
            return Ok(current.header.clone());
        }
        let _one_signs = self.minting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = self.current.load().as_deref()
            // A wall clock that jumps makes a token look old; Apple refuses
            // another one within 20 minutes all the same.
            && (good(current) || current.age(&*self.clock) < MIN_AGE)
        {
            return Ok(current.header.clone());
        }
        let issued_at = self.clock.now();
        let header = self.key.sign(issued_at.seconds())?;
        let refresh_after = Duration::from_secs(rand::rng().random_range(REFRESH_AFTER));
        let (at, slept) = (Instant::now(), self.clock.slept());
        let minted = SignedToken { header: header.clone(), issued_at, at, slept, refresh_after };
        self.current.store(Some(Arc::new(minted)));
        Ok(header)
    }
}

impl SignedToken {
    /// The age by the steady clock, and what the machine slept.
    fn age(&self, clock: &dyn Clock) -> Duration {
        self.at.elapsed() + clock.slept().saturating_sub(self.slept)
    }

    /// The age by wall clock or by steady clock, whichever is greater: Apple compares `iat` with its
    /// own wall clock, and ours may jump.
    fn age_by_any_clock(&self, clock: &dyn Clock) -> Duration {
        clock.now().since(self.issued_at).max(self.age(clock))
    }
}

impl fmt::Debug for ProviderToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderToken").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use push_domain::ManualClock;

    use super::*;

    /// A throw-away P-256 key, made for these tests alone.
    pub(crate) const TEST_P8: &str = include_str!("../tests/throw-away.p8");

    fn a_token(clock: &Arc<ManualClock>) -> Arc<ProviderToken> {
        let key = TokenKey::new("TEAM123456", "KEY1234567", &SecretBytes::new(TEST_P8.into())).unwrap();
        Arc::new(ProviderToken::new(key, clock.clone()))
    }

    fn a_clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::starting_at(Timestamp::from_millis(1_800_000_000_000)))
    }

    async fn pass(clock: &ManualClock, time: Duration) {
        clock.advance(time);
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_lives_40_to_50_minutes() {
        let clock = a_clock();
        let token = a_token(&clock);
        let first = token.header().unwrap();

        pass(&clock, Duration::from_mins(40)).await;
        assert_eq!(token.header().unwrap(), first);
        pass(&clock, Duration::from_mins(10)).await;
        assert_ne!(token.header().unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_never_renewed_within_20_minutes() {
        let clock = a_clock();
        let token = a_token(&clock);
        let first = token.header().unwrap();

        pass(&clock, Duration::from_secs(20 * 60 - 1)).await;
        assert_eq!(token.renewed().unwrap(), first);
        pass(&clock, Duration::from_secs(1)).await;
        assert_ne!(token.renewed().unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_jumps_does_not_mint_within_20_minutes() {
        let clock = a_clock();
        let token = a_token(&clock);
        let first = token.header().unwrap();

        clock.advance(Duration::from_hours(10));

        assert_eq!(token.header().unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_makes_a_new_token_when_it_wakes() {
        let clock = a_clock();
        let token = a_token(&clock);
        let first = token.header().unwrap();

        clock.suspend(Duration::from_hours(1));

        assert_ne!(token.header().unwrap(), first);
    }

    #[test]
    fn many_callers_at_once_get_one_token() {
        let token = a_token(&a_clock());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _time = runtime.enter();

        let headers: Vec<_> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..16)
                .map(|_| {
                    let (token, handle) = (token.clone(), runtime.handle().clone());
                    scope.spawn(move || {
                        let _time = handle.enter();
                        token.header().unwrap()
                    })
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });

        assert!(headers.iter().all(|header| *header == headers[0]));
    }

    #[test]
    fn wrong_credentials_are_named() {
        let p8 = SecretBytes::new(TEST_P8.into());
        let junk = SecretBytes::new(b"junk".to_vec());

        assert_eq!(TokenKey::new("short", "KEY1234567", &p8).unwrap_err(), InvalidCredentials::TeamId);
        assert_eq!(TokenKey::new("TEAM123456", "key1234567", &p8).unwrap_err(), InvalidCredentials::KeyId);
        assert_eq!(TokenKey::new("TEAM123456", "KEY1234567", &junk).unwrap_err(), InvalidCredentials::Key);
    }

    #[test]
    fn the_token_does_not_show_in_debug_output() {
        let token = a_token(&a_clock());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _time = runtime.enter();
        let header = token.header().unwrap();

        assert_eq!(format!("{header:?}"), "Sensitive");
        assert!(!format!("{token:?}").contains("bearer"));
    }
}
