//! System tests: delivery receipts.

use provider_sim::ScriptedAnswer;
use serde_json::json;

use crate::harness::{Deployment, IOS_TOKEN, android, ios};

const ROUTE: &str = "/api/v1/ack";

async fn answer_to(body: &str) -> serde_json::Value {
    let deployment = Deployment::start();
    let answer = deployment.post(ROUTE, body.as_bytes()).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

fn fail(text: &str) -> serde_json::Value {
    json!({ "status": "FAIL", "error": text })
}

#[tokio::test]
async fn k01_keep_a_receipt_is_counted() {
    let deployment = Deployment::start();
    let ack = r#"{"id":"a","platform":"ios","type":"message","received_at":1}"#;

    assert_eq!(deployment.post(ROUTE, ack.as_bytes()).await.json(), json!({ "status": "OK" }));

    let labels = r#"platform="ios",type="message",transport="""#;
    assert_eq!(deployment.metric("service_delivered_total", labels).await, 1.0);
}

#[tokio::test]
async fn k02_keep_no_id() {
    assert_eq!(
        answer_to(r#"{"platform":"ios","type":"message"}"#).await,
        fail("Failed because of missing ack Id")
    );
}

#[tokio::test]
async fn k03_keep_no_platform() {
    assert_eq!(
        answer_to(r#"{"id":"a","type":"message"}"#).await,
        fail("Failed because of missing ack platform")
    );
}

#[tokio::test]
async fn k04_keep_no_type() {
    assert_eq!(answer_to(r#"{"id":"a","platform":"ios"}"#).await, fail("Failed because of missing ack type"));
}

#[tokio::test]
async fn k05_keep_a_string_where_a_number_belongs() {
    let answer = answer_to(r#"{"received_at":"x","id":"a","platform":"ios","type":"message"}"#).await;
    let text = answer["error"].as_str().unwrap();
    assert!(
        text.starts_with("Failed to read ack body: field received_at has to be a whole number"),
        "{text}"
    );
}

#[tokio::test]
async fn k06_keep_an_unknown_id() {
    assert_eq!(
        answer_to(r#"{"id":"never-sent","platform":"android","type":"clear"}"#).await,
        json!({ "status": "OK" })
    );
}

#[tokio::test]
async fn k07_mend_the_same_id_twice_counts_once() {
    let deployment = Deployment::start();
    for id in ["a", "a", "b", "a"] {
        let ack = json!({ "id": id, "platform": "canary-platform", "type": "message" }).to_string();
        assert_eq!(deployment.post(ROUTE, ack.as_bytes()).await.json(), json!({ "status": "OK" }));
    }

    assert_eq!(deployment.metric("service_delivered_total", "platform=\"other\"").await, 2.0);
    assert!(!deployment.metrics().await.contains("canary-platform"));
}

#[tokio::test]
async fn k08_keep_an_empty_body_and_null() {
    assert_eq!(answer_to("").await, fail("Failed to read ack body: EOF"));
    assert_eq!(answer_to("null").await, fail("Failed because of missing ack Id"));
}

#[tokio::test]
async fn every_push_is_counted_under_the_peers_names() {
    let deployment = Deployment::start();
    deployment.script(
        IOS_TOKEN,
        vec![ScriptedAnswer {
            status: 410,
            reason: Some("Unregistered".into()),
            ..ScriptedAnswer::default()
        }],
    );
    for push in [
        ios(json!({ "ack_id": "a" })),
        ios(json!({ "ack_id": "b" })),
        ios(json!({ "transport": "voip", "type": "clear" })),
        android(json!({ "type": "canary-type" })),
        ios(json!({ "platform": "junk" })),
        ios(json!({ "category": "x".repeat(5000) })),
    ] {
        deployment.push(&push).await;
    }

    for (name, labels, value) in [
        ("service_notifications_total", r#"platform="apple",type="message",transport="""#, 2.0),
        ("service_notifications_total", r#"platform="apple",type="clear",transport="voip""#, 1.0),
        ("service_notifications_total", r#"platform="android",type="other""#, 1.0),
        ("service_notifications_by_app_version_total", r#"platform="apple_rn",app_version="2""#, 3.0),
        ("service_success_total", r#"platform="apple""#, 2.0),
        ("service_success_with_ack_total", r#"platform="apple",type="message""#, 1.0),
        ("service_failure_total", r#"platform="apple",type="message""#, 1.0),
        ("service_failure_with_reason_total", r#"reason="Unregistered""#, 1.0),
        ("service_removal_total", r#"platform="apple",transport="",reason="Unregistered""#, 1.0),
        ("service_bad_request_total", "", 1.0),
        ("service_request_duration_seconds_count", "", 6.0),
        ("service_apns_request_duration_seconds_count", "", 3.0),
        ("service_fcm_request_duration_seconds_count", "", 1.0),
        ("service_notification_duration_seconds_count", r#"platform="apple""#, 3.0),
        ("gateway_refusals_total", r#"reason="payload_too_large""#, 1.0),
    ] {
        assert_eq!(deployment.metric(name, labels).await, value, "{name} {labels}");
    }
}
