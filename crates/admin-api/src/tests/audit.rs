//! What stands in the audit log, what it cannot hold, and how much of it one caller may write.

use http::StatusCode;
use serde_json::json;
use tenant_registry::{OperatorAdmin, Role};

use super::{Fixture, fixture};
use crate::audit_watch::PublishedAuditHead;

async fn actions(place: &Fixture, action: &str) -> Vec<String> {
    let events = place.registry.audit(None, u64::MAX, 10_000).await.unwrap();
    events.into_iter().filter(|event| event.action == action).map(|event| event.detail).collect()
}

#[tokio::test]
async fn a_token_that_only_reads_writes_thirty_events_and_then_one_a_second() {
    let place = fixture().await;
    let token = place.token(Role::Viewer, None).await;
    let mut refused = 0;
    for _ in 0..200 {
        let answer = place.ask("POST", "/sign-in", &[], &format!("token={token}")).await;
        refused += usize::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }

    let written = actions(&place, "console.sign_in").await.len();
    assert!((30..45).contains(&written), "{written}");
    assert_eq!(written + refused, 200, "what is not noted is not done");
}

#[tokio::test]
async fn every_look_up_stands_in_the_log_without_the_token() {
    let place = fixture().await;
    let (tenant, _) = place.tenant("acme").await;
    let bearer = place.bearer(Role::Support, None).await;
    let body = json!({ "app": "android", "token": "canary-token" }).to_string();
    let answer = place.ask_as(&bearer, "POST", &format!("/v1/tenants/{tenant}/devices/lookup"), &body).await;

    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(actions(&place, "device.look_up").await, [r#"{"app":"android","found":false}"#]);
}

#[tokio::test]
async fn failed_sign_ins_are_told_in_sum_however_many_they_are() {
    let place = fixture().await;
    for number in 0..300 {
        place.ask("POST", "/sign-in", &[], &format!("token=hpns_admin_{number}")).await;
    }
    place.admin.note_failures().await;
    place.admin.note_failures().await;

    assert_eq!(actions(&place, "sign_in.failed").await, [r#"{"failures":300,"sources":1}"#]);
}

#[tokio::test]
async fn a_check_names_what_it_cannot_know_and_finds_an_end_that_was_noted() {
    let place = fixture().await;
    place.tenant("acme").await;
    let bearer = place.bearer(Role::Auditor, None).await;
    let check = async |query: &str| {
        place.ask_as(&bearer, "GET", &format!("/v1/audit/verification{query}"), "").await.json()
    };
    let report = check("").await;
    assert!(report["intact"] == true && report["keyed_from"] == 1, "{report}");
    assert_eq!(report["cannot_know"].as_array().unwrap().len(), 2, "{report}");

    let noted = format!("?seq={}&head={}", report["events"], report["head"].as_str().unwrap());
    let good = check(&noted).await;
    assert!(good["intact"] == true && good["cannot_know"].as_array().unwrap().len() == 1, "{good}");
    let bad = check(&noted.replace("head=", "head=00")).await;
    assert!(bad["intact"] == false && bad["fault"].as_str().unwrap().contains("noted"), "{bad}");
    let half = place.ask_as(&bearer, "GET", "/v1/audit/verification?seq=1", "").await;
    assert_eq!(half.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_session_that_was_signed_out_opens_nothing_wherever_its_cookie_is() {
    let place = fixture().await;
    let token = place.token(Role::Viewer, None).await;
    let answer = place.ask("POST", "/sign-in", &[], &format!("token={token}")).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let page = async || place.ask("GET", "/apps", &[("cookie", &cookie)], "").await;
    let shown = page().await;
    assert_eq!(shown.status, StatusCode::OK);
    let key = shown.text.split("name=\"form_key\" value=\"").nth(1).unwrap().split('"').next().unwrap();

    let out = place.ask("POST", "/sign-out", &[("cookie", &cookie)], &format!("form_key={key}")).await;

    assert_eq!(out.status, StatusCode::SEE_OTHER);
    assert_eq!(page().await.status, StatusCode::SEE_OTHER);
    assert_eq!(actions(&place, "console.sign_out").await.len(), 1);
}

#[tokio::test]
async fn the_end_of_the_log_is_told_and_looked_for_again() {
    let place = fixture().await;
    place.tenant("acme").await;
    let mut told = PublishedAuditHead::default();
    place.admin.publish_audit_head(&mut told).await;
    let first = told.seq().unwrap();
    place.tenant("globex").await;
    place.admin.publish_audit_head(&mut told).await;
    assert_eq!(told.seq(), Some(first), "once an hour");
    told.make_old();

    place.admin.publish_audit_head(&mut told).await;

    assert!(told.seq() > Some(first) && !told.was_lost());
}
