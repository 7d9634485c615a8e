//! What is done for the registry once an hour.

use push_domain::{Clock, Timestamp};
use sqlx::Connection;
use tenant_registry::{AuditContext, OperatorAdmin, Role};

use super::{Fixture, fixture};

async fn kinds(place: &Fixture) -> Vec<String> {
    let bearer = place.bearer(Role::Viewer, None).await;
    let alerts = place.ask("GET", "/v1/alerts", &[("authorization", &bearer)], "").await.json();
    let alerts = alerts.as_array().or(alerts["items"].as_array()).unwrap();
    alerts.iter().map(|alert| alert["kind"].as_str().unwrap().to_owned()).collect()
}

async fn tamper(place: &Fixture, statement: &'static str) {
    let file = format!("sqlite:{}", place.directory.path().join("r.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_was_changed_from_outside_is_an_alert_until_it_is_put_right() {
    let place = fixture().await;
    let (_, licence) = place.tenant("acme").await;
    place.admin.watch.check_rights(&*place.registry).await;
    assert!(!kinds(&place).await.contains(&"rights_changed".to_owned()));

    tamper(&place, "UPDATE licence SET burst = 1000000").await;
    place.admin.watch.check_rights(&*place.registry).await;
    assert!(kinds(&place).await.contains(&"rights_changed".to_owned()));
    // Nobody goes on from there by mistake.
    let bearer = place.bearer(Role::Operator, None).await;
    let path = format!("/v1/licences/{licence}/terms");
    let body = r#"{"version":"1","accepted_by":"ada"}"#;
    let refused = place.ask("PUT", &path, &[("authorization", &bearer)], body).await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (409, Some("rights_changed")));

    tamper(&place, "UPDATE licence SET burst = 200").await;
    place.admin.watch.check_rights(&*place.registry).await;
    assert!(!kinds(&place).await.contains(&"rights_changed".to_owned()));
}

#[tokio::test]
async fn audit_events_are_kept_for_their_days() {
    let place = fixture().await;
    let long_ago = Timestamp::from_millis(place.clock.now().millis() - 401 * 86_400_000);
    for (at, object) in [(long_ago, "old"), (place.clock.now(), "new")] {
        place
            .registry
            .note("test", object, None, serde_json::json!({}), AuditContext::new("test", at))
            .await
            .unwrap();
    }

    place
        .admin
        .watch
        .maintain(&*place.registry, &*place.registry, place.admin.config.audit_days, place.admin.now())
        .await;
    place
        .admin
        .watch
        .maintain(&*place.registry, &*place.registry, place.admin.config.audit_days, place.admin.now())
        .await;

    let events = place.registry.audit(None, u64::MAX, 10).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (&*event.action, &*event.object)).collect();
    assert_eq!(told, [("audit.cut", "audit"), ("test", "new")]);
    assert_eq!(place.registry.verify_audit(None).await.unwrap().fault, None);
}
