//! Who may push, and who is told what.

use http::HeaderMap;
use http_edge::Peer;
use push_domain::{ManualClock, SecretBytes, Timestamp};
use tenant_registry::{
    AuditContext, InvalidKey, LicenceAdmin, LicenceDraft, Plan, RegistryError, SqliteRegistry, TenantAdmin,
    TenantDraft, TenantReader,
};

use super::licences::newer;
use super::*;
use crate::{Regions, TestTier};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Fixture {
    authenticator: Authenticator,
    registry: SqliteRegistry,
    clock: Arc<ManualClock>,
    _directory: tempfile::TempDir,
}

async fn fixture(access: Access) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
    let clock = Arc::new(ManualClock::starting_at(NOW));
    let registry = SqliteRegistry::open(&directory.path().join("r.db"), keys.clone()).await.unwrap();
    let authenticator = Authenticator::new(AdmissionConfig::new(access, "us"), keys, clock.clone());
    Fixture { authenticator, registry, clock, _directory: directory }
}

impl Fixture {
    async fn a_key(&self, regions: &[&str], burst: u32) -> LicenceKey {
        let audit = AuditContext::new("test", NOW);
        let tenant = self
            .registry
            .create_tenant(&TenantDraft::named(&uuid::Uuid::new_v4().to_string()), audit)
            .await
            .unwrap();
        let draft = LicenceDraft {
            regions: regions.iter().map(ToString::to_string).collect(),
            rate_per_second: 1,
            burst,
            in_flight: 2,
            expires_at: Some(NOW.plus(Duration::from_mins(1))),
            grace_days: 1,
            ..LicenceDraft::new(tenant.id, Plan::Professional, "us", NOW)
        };
        let licence = self.registry.create_licence(draft, audit).await.unwrap();
        self.registry.accept_terms(licence.id, "1", "ada", audit).await.unwrap();
        let issued = self.registry.issue_key(licence.id, "us", Duration::ZERO, audit).await.unwrap();
        self.authenticator.refresh(self.registry.snapshot().await.unwrap());
        issued.key
    }

    fn caller(&self, key: Option<&Result<LicenceKey, InvalidKey>>) -> Result<Caller, FailReason> {
        self.authenticator.identify(&RequestOrigin {
            key,
            peer: None,
            headers: &HeaderMap::new(),
            is_global: false,
        })
    }

    fn caller_from(&self, address: &str, is_tls: bool, key: &LicenceKey) -> Result<Caller, FailReason> {
        let peer = Some(Peer { address: address.parse().unwrap(), is_tls });
        self.authenticator.identify(&RequestOrigin {
            key: Some(&Ok(key.clone())),
            peer,
            headers: &HeaderMap::new(),
            is_global: false,
        })
    }

    async fn refusal(&self, key: &LicenceKey) -> Option<FailReason> {
        match self.caller(Some(&Ok(key.clone()))) {
            Ok(caller) => caller.take_rate().await.err(),
            Err(reason) => Some(reason),
        }
    }
}

#[tokio::test]
async fn a_registry_that_went_back_takes_nothing_back() {
    let place = fixture(Access::Licensed).await;
    let (empty, key) = (place.registry.snapshot().await.unwrap(), place.a_key(&["us"], 10).await);
    let known = place.registry.revision().await.unwrap();

    assert!(matches!(newer(empty, known), Err(RegistryError::RevisionRegressed)));
    place.authenticator.load(&place.registry).await.unwrap();
    assert_eq!(place.refusal(&key).await, None);
}

#[tokio::test]
async fn an_open_gate_asks_for_nothing() {
    let place = fixture(Access::Open).await;

    assert!(place.authenticator.is_ready());
    assert!(place.caller(None).is_ok());
}

#[tokio::test]
async fn a_licensed_gate_says_what_is_wrong() {
    let place = fixture(Access::Licensed).await;
    let unknown = LicenceKey::generate("us");
    assert_eq!(place.refusal(&unknown).await, Some(FailReason::Unavailable));
    let key = place.a_key(&["us"], 10).await;

    assert_eq!(place.caller(None).unwrap_err(), FailReason::LicenceMissing);
    assert_eq!(place.caller(Some(&Err(InvalidKey))).unwrap_err(), FailReason::LicenceUnknown);
    assert_eq!(place.refusal(&unknown).await, Some(FailReason::LicenceUnknown));
    assert_eq!(place.refusal(&key).await, None);
    place.clock.advance(Duration::from_mins(1));
    assert_eq!(place.refusal(&key).await, None, "in its grace");
    assert!(place.caller(Some(&Ok(key.clone()))).unwrap().grace.is_some());
    place.clock.advance(Duration::from_hours(24));
    assert_eq!(place.refusal(&key).await, Some(FailReason::LicenceExpired));
}

#[tokio::test]
async fn a_key_in_the_clear_is_refused_unless_a_trusted_proxy_brings_it() {
    let place = fixture(Access::Licensed).await;
    let key = place.a_key(&["us"], 10).await;

    for (address, is_tls, refused) in
        [("192.0.2.1", false, true), ("192.0.2.1", true, false), ("127.0.0.1", false, false)]
    {
        let refusal = place.caller_from(address, is_tls, &key).err();
        assert_eq!(refusal, refused.then_some(FailReason::LicenceNeedsTls), "{address}");
    }
}

#[tokio::test]
async fn wrong_keys_are_limited_by_their_source_and_right_ones_are_not() {
    let place = fixture(Access::Licensed).await;
    let key = place.a_key(&["us"], 1000).await;
    tokio::time::pause();

    let wrong = |address| place.caller_from(address, true, &LicenceKey::generate("us")).unwrap_err();
    let told = (0..40).filter(|_| wrong("192.0.2.1") == FailReason::LicenceUnknown).count();

    assert_eq!(told, 20);
    assert_eq!(wrong("192.0.2.1"), FailReason::RateLimited);
    assert_eq!(wrong("192.0.2.2"), FailReason::LicenceUnknown);
    assert!(place.caller_from("192.0.2.1", true, &key).is_ok());
}

#[tokio::test]
async fn no_more_pushes_are_under_way_than_a_licence_allows() {
    let place = fixture(Access::Licensed).await;
    let key = place.a_key(&["us"], 10).await;
    let caller = || place.caller(Some(&Ok(key.clone()))).unwrap();

    let first = caller().enter().unwrap();
    let _second = caller().enter().unwrap();
    place.authenticator.refresh(place.registry.snapshot().await.unwrap());
    assert_eq!(caller().enter().unwrap_err(), FailReason::RateLimited);

    drop(first);
    assert!(caller().enter().is_ok());
}

#[tokio::test]
async fn a_source_without_a_licence_has_a_rate_of_its_own_where_there_is_a_test_tier() {
    let mut place = fixture(Access::Licensed).await;
    let test_tier = Some(TestTier { enabled: true, rate_per_second: 1, burst: 3 });
    let admission = AdmissionConfig { test_tier, ..AdmissionConfig::new(Access::Licensed, "us") };
    let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
    place.authenticator = Authenticator::new(admission, keys, place.clock.clone());
    tokio::time::pause();
    let push = |address: &str, server: &str| {
        let peer = Some(Peer { address: address.parse().unwrap(), is_tls: false });
        let origin = RequestOrigin { key: None, peer, headers: &HeaderMap::new(), is_global: false };
        place.authenticator.check(&place.authenticator.identify(&origin).unwrap(), server)
    };

    let sent = (0..9).filter(|number| push("192.0.2.1", &format!("server{number}")).is_ok()).count();

    assert_eq!(sent, 3, "a new server id helps nobody");
    assert!(push("192.0.2.2", "server0").is_ok());
    assert!(push("2001:db8::1", "a").is_ok() && push("2001:db8::2", "a").is_ok());
    assert!(push("2001:db8::3", "b").is_ok() && push("2001:db8::4", "c").is_err(), "one site");
}

#[tokio::test]
async fn the_first_use_of_a_day_is_noted() {
    let place = fixture(Access::Licensed).await;
    let key = place.a_key(&["us"], 10).await;
    assert_eq!(place.refusal(&key).await, None);
    assert_eq!(place.refusal(&key).await, None);
    place.authenticator.refresh(place.registry.snapshot().await.unwrap());
    assert_eq!(place.refusal(&key).await, None);

    assert!(place.authenticator.used().iter().map(|it| &*it.kid).eq([key.kid()]));
    place.authenticator.note_use(&place.registry).await;

    assert!(place.authenticator.used().is_empty());
    let licence = place.registry.licence_of_key(key.kid()).await.unwrap().unwrap();
    let keys = place.registry.keys_of(licence).await.unwrap();
    assert_eq!(keys[0].last_used_day, Some(NOW.day()));
}

#[tokio::test]
async fn a_licence_of_another_region_is_told_so() {
    let place = fixture(Access::Licensed).await;
    let key = place.a_key(&["de"], 10).await;

    assert_eq!(place.refusal(&key).await, Some(FailReason::WrongRegion));
}

#[tokio::test]
async fn a_rate_is_kept_when_the_licences_are_read_again() {
    let place = fixture(Access::Licensed).await;
    let key = place.a_key(&["us"], 2).await;

    assert_eq!(place.refusal(&key).await, None);
    assert_eq!(place.refusal(&key).await, None);
    place.authenticator.refresh(place.registry.snapshot().await.unwrap());

    assert_eq!(place.refusal(&key).await, Some(FailReason::RateLimited));
}

#[tokio::test]
async fn while_the_registry_is_silent_known_keys_hold_for_a_day_and_unknown_ones_may_be_new() {
    let place = fixture(Access::Licensed).await;
    let key = place.a_key(&["us"], 10).await;
    let unknown = LicenceKey::generate("us");
    place.authenticator.load(&place.registry).await.unwrap();
    tokio::time::pause();

    tokio::time::advance(Duration::from_secs(16)).await;
    assert_eq!(place.refusal(&unknown).await, Some(FailReason::Unavailable));
    assert_eq!(place.refusal(&key).await, None);

    tokio::time::advance(Duration::from_hours(24)).await;
    assert_eq!(place.refusal(&key).await, Some(FailReason::Unavailable));
}

#[tokio::test]
async fn gateways_share_a_rate() {
    let place = fixture(Access::Licensed).await;
    place.authenticator.share_among(2);
    let key = place.a_key(&["us"], 4).await;

    let answers = [place.refusal(&key).await, place.refusal(&key).await, place.refusal(&key).await];

    assert_eq!(answers, [None, None, Some(FailReason::RateLimited)]);
}

#[tokio::test]
async fn a_key_of_another_region_is_told_its_url_also_where_nobody_knows_it() {
    let mut place = fixture(Access::Licensed).await;
    let everywhere = place.a_key(&["de", "us"], 10).await;
    let (here, there) = (place.a_key(&["us"], 10).await, place.a_key(&["de"], 10).await);
    let url = |region: &str| (region.to_owned(), format!("https://push.{region}.example.com"));
    let admission = AdmissionConfig {
        regions: Regions {
            urls: ["us", "de"].map(url).into(),
            ..Regions { own: "us".into(), ..Regions::default() }
        },
        ..AdmissionConfig::new(Access::Licensed, "us")
    };
    let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
    place.authenticator = Authenticator::new(admission, keys, place.clock.clone());
    place.authenticator.refresh(place.registry.snapshot().await.unwrap());
    let told = |key: &LicenceKey, is_global| {
        let origin =
            RequestOrigin { key: Some(&Ok(key.clone())), peer: None, headers: &HeaderMap::new(), is_global };
        place
            .authenticator
            .admit(&origin)
            .err()
            .map(|refusal| (refusal.reason, refusal.text.unwrap_or_default()))
    };

    for key in [&LicenceKey::generate("de"), &there] {
        let (reason, text) = told(key, false).unwrap();
        assert_eq!(reason, FailReason::WrongRegion);
        assert!(text.contains("https://push.de.example.com"), "{text}");
    }
    // Of a region that there is none of, nothing is said: it is a wrong key.
    assert_eq!(told(&LicenceKey::generate("jp"), false).unwrap().0, FailReason::LicenceUnknown);
    // A name that stands for no region serves those who may be served anywhere.
    assert_eq!((told(&everywhere, true), told(&here, false)), (None, None));
    let (reason, text) = told(&here, true).unwrap();
    assert_eq!(reason, FailReason::WrongRegion);
    assert!(text.contains("https://push.us.example.com"), "{text}");
}
