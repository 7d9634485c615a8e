//! Receipts.

use serde_json::json;

use crate::harness::Deployment;

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
