//! Tests of the simulated APNs: what a connection is bound to.

use jsonwebtoken::{EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::json;

use super::*;
use crate::fault::FaultProfile;

const MINUTE_MS: u64 = 60_000;

struct Apple {
    apns: Arc<Apns>,
    key: EncodingKey,
}

fn apple() -> Apple {
    let key = KeyPair::generate().unwrap();
    let clock = Arc::<VirtualClock>::default();
    let apns = Apns {
        topics: Mutex::new(Arc::new(vec!["com.a".into()])),
        key: key.der_bytes().to_vec(),
        record: Arc::new(Record::new(Arc::clone(&clock))),
        scripts: Arc::default(),
        controller: Arc::new(FaultController::new(FaultProfile::apple())),
        clock,
        devices: RateWindows::default(),
        accept_all: false,
        delay: Duration::ZERO,
    };
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    Apple { apns: Arc::new(apns), key }
}

impl Apple {
    fn token(&self, team: &str, key_id: &str) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key_id.into());
        let claims = json!({ "iss": team, "iat": self.apns.clock.seconds() });
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    fn connection(&self) -> ApnsConnection {
        ApnsConnection::new(Arc::clone(&self.apns), None)
    }
}

/// Pushes, and returns the reason of a refusal.
fn push(connection: &mut ApnsConnection, token: &str, topic: &str) -> Option<&'static str> {
    let headers = [("authorization", format!("bearer {token}")), ("apns-topic", topic.to_owned())];
    let request = Request {
        connection: 1,
        stream: 1,
        method: "POST".into(),
        path: format!("/3/device/{}", "ab".repeat(32)),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        body: Bytes::from_static(b"{}"),
    };
    connection.check(&request).err().map(|(_, reason)| reason)
}

#[tokio::test]
async fn a_connection_takes_a_new_token_every_twenty_minutes_and_another_connection_at_once() {
    let apple = apple();
    let [team, key] = [APNS_TEAMS[0], APNS_KEYS[0]];
    let (first, mut connection) = (apple.token(team, key), apple.connection());
    assert_eq!(push(&mut connection, &first, "com.a"), None);

    apple.apns.clock.advance(19 * MINUTE_MS);
    let second = apple.token(team, key);
    assert_eq!(push(&mut connection, &second, "com.a"), Some("TooManyProviderTokenUpdates"));
    assert_eq!(push(&mut connection, &first, "com.a"), None);
    assert_eq!(push(&mut apple.connection(), &second, "com.a"), None);
    apple.apns.clock.advance(2 * MINUTE_MS);
    assert_eq!(push(&mut connection, &second, "com.a"), None);
}

#[tokio::test]
async fn an_expired_token_wedges_its_connection_for_good() {
    let apple = apple();
    let (old, mut connection) = (apple.token(APNS_TEAMS[0], APNS_KEYS[0]), apple.connection());
    assert_eq!(push(&mut connection, &old, "com.a"), None);

    apple.apns.clock.advance(61 * MINUTE_MS);
    let new = apple.token(APNS_TEAMS[0], APNS_KEYS[0]);

    assert_eq!(push(&mut connection, &old, "com.a"), Some("ExpiredProviderToken"));
    assert_eq!(push(&mut connection, &new, "com.a"), Some("ExpiredProviderToken"));
    assert_eq!(push(&mut apple.connection(), &new, "com.a"), None);
}

#[tokio::test]
async fn a_connection_is_bound_to_the_team_the_key_and_the_bundle_ids_of_its_first_push() {
    let apple = apple();
    let mut connection = apple.connection();
    assert_eq!(push(&mut connection, &apple.token(APNS_TEAMS[0], APNS_KEYS[0]), "com.a"), None);
    apple.apns.add_topic("com.late".into());
    apple.apns.clock.advance(30 * MINUTE_MS);

    let (other_team, other_key) =
        (apple.token(APNS_TEAMS[1], APNS_KEYS[0]), apple.token(APNS_TEAMS[0], APNS_KEYS[1]));
    assert_eq!(push(&mut connection, &other_team, "com.a"), Some("InvalidProviderToken"));
    assert_eq!(push(&mut connection, &other_key, "com.a"), Some("UnrelatedKeyIdInToken"));
    let same = apple.token(APNS_TEAMS[0], APNS_KEYS[0]);
    assert_eq!(push(&mut connection, &same, "com.late"), Some("InvalidProviderToken"));
    assert_eq!(push(&mut apple.connection(), &same, "com.late"), None);
}
