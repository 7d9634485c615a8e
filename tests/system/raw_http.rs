//! The raw HTTP and JSON cases: bodies and requests as no well-behaved client sends them.

use serde_json::json;

use crate::harness::{Deployment, IOS_TOKEN, ios};
use crate::http::{exchange, post};

const ROUTE: &str = "/api/v1/send_push";
const UNREADABLE: &str = "Failed to read message body: ";

/// A push whose body is `start`, then the usual fields.
fn with_fields(start: &str) -> String {
    format!(
        r#"{{{start},"server_id":"srv1","device_id":"{IOS_TOKEN}","platform":"apple_rn","type":"message"}}"#
    )
}

async fn error_of(body: &[u8]) -> String {
    let deployment = Deployment::start();
    let answer = deployment.post(ROUTE, body).await;
    assert_eq!(answer.status, 200);
    assert!(deployment.received().is_empty());
    answer.error()
}

/// Sends a body that is good, and returns what Apple got.
async fn sent(body: &[u8]) -> serde_json::Value {
    let deployment = Deployment::start();
    let answer = deployment.post(ROUTE, body).await;
    assert_eq!(answer.json(), json!({ "status": "OK" }));
    deployment.received()[0].body.clone()
}

#[tokio::test]
async fn h01_keep_an_empty_body() {
    assert_eq!(error_of(b"").await, format!("{UNREADABLE}EOF"));
}

#[tokio::test]
async fn h02_keep_a_cut_body() {
    assert_eq!(error_of(br#"{"server_id":"s""#).await, format!("{UNREADABLE}unexpected EOF"));
}

#[tokio::test]
async fn h03_keep_a_body_that_is_no_json() {
    assert!(error_of(b"hello").await.starts_with(UNREADABLE));
}

#[tokio::test]
async fn h04_keep_null() {
    assert_eq!(error_of(b"null").await, "Failed because of missing server Id");
}

#[tokio::test]
async fn h05_keep_an_array() {
    assert!(error_of(b"[]").await.starts_with(UNREADABLE));
}

#[tokio::test]
async fn h06_keep_a_string_and_a_number() {
    assert!(error_of(b"\"x\"").await.starts_with(UNREADABLE));
    assert!(error_of(b"1").await.starts_with(UNREADABLE));
}

#[tokio::test]
async fn h07_keep_a_number_where_a_string_belongs() {
    assert!(error_of(br#"{"server_id":1}"#).await.contains("field server_id has to be a string"));
}

#[tokio::test]
async fn h08_keep_a_string_where_a_number_belongs() {
    assert!(error_of(with_fields(r#""badge":"1""#).as_bytes()).await.contains("field badge"));
}

#[tokio::test]
async fn h09_keep_a_fraction() {
    assert!(error_of(with_fields(r#""badge":1.5"#).as_bytes()).await.contains("field badge"));
}

#[tokio::test]
async fn h10_keep_a_number_that_is_too_large() {
    assert!(
        error_of(with_fields(r#""badge":99999999999999999999"#).as_bytes()).await.contains("field badge")
    );
}

#[tokio::test]
async fn h11_keep_a_null_badge_is_zero() {
    assert_eq!(sent(with_fields(r#""badge":null"#).as_bytes()).await["aps"]["badge"], 0);
}

#[tokio::test]
async fn h12_keep_a_null_message_is_empty() {
    assert_eq!(sent(with_fields(r#""message":null"#).as_bytes()).await["aps"]["alert"], "");
}

#[tokio::test]
async fn h13_keep_a_string_where_a_flag_belongs() {
    assert!(
        error_of(with_fields(r#""is_crt_enabled":"true""#).as_bytes()).await.contains("field is_crt_enabled")
    );
}

#[tokio::test]
async fn h14_keep_keys_in_any_case() {
    let body =
        format!(r#"{{"Server_ID":"srv1","DEVICE_ID":"{IOS_TOKEN}","Platform":"apple_rn","TYPE":"message"}}"#);
    assert_eq!(sent(body.as_bytes()).await["server_id"], "srv1");
}

#[tokio::test]
async fn h15_keep_the_last_of_a_repeated_key() {
    assert_eq!(sent(with_fields(r#""server_id":"a","server_id":"b""#).as_bytes()).await["server_id"], "srv1");
}

#[tokio::test]
async fn h16_keep_bytes_after_the_value() {
    assert_eq!(sent(format!("{} trailing", ios(json!({}))).as_bytes()).await["type"], "message");
}

#[tokio::test]
async fn h17_keep_unknown_keys() {
    assert_eq!(sent(with_fields(r#""x":{"y":[{"z":1}]}"#).as_bytes()).await["type"], "message");
}

#[tokio::test]
async fn h18_keep_broken_utf8() {
    let body = with_fields(r#""message":"a?b""#).replace('?', "\u{1}").into_bytes();
    let body: Vec<u8> = body.into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    assert_eq!(sent(&body).await["aps"]["alert"], "a\u{FFFD}b");
}

#[tokio::test]
async fn h19_keep_a_lone_surrogate() {
    assert_eq!(sent(with_fields(r#""message":"a\ud800b""#).as_bytes()).await["aps"]["alert"], "a\u{FFFD}b");
}

#[tokio::test]
async fn h20_keep_any_content_type() {
    let deployment = Deployment::start();
    let body = ios(json!({})).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
        let head = format!("Host: x\r\nContent-Type: {kind}\r\nContent-Length: {}", body.len());
        let request = format!("POST {ROUTE} HTTP/1.1\r\n{head}\r\n\r\n{body}");
        assert_eq!(exchange(deployment.service.gateway, request.as_bytes()).await.json()["status"], "OK");
    }
}

#[tokio::test]
async fn h21_keep_a_compressed_body_is_not_decoded() {
    let deployment = Deployment::start();
    let file = deployment.directory.path().join("push.json");
    std::fs::write(&file, ios(json!({})).to_string()).unwrap();
    let packed = std::process::Command::new("gzip").arg("-c").arg(&file).output().unwrap().stdout;
    let head = format!("Host: x\r\nContent-Encoding: gzip\r\nContent-Length: {}", packed.len());
    let request = [format!("POST {ROUTE} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes(), &packed].concat();

    let answer = exchange(deployment.service.gateway, &request).await;

    assert!(answer.error().starts_with(UNREADABLE));
    assert!(deployment.received().is_empty());
}

#[tokio::test]
async fn h22_mend_a_body_of_ten_megabytes() {
    let deployment = Deployment::start();

    let head = format!("POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Length: 10485760\r\n\r\n{{");
    let answer = exchange(deployment.service.gateway, head.as_bytes()).await;

    assert_eq!(answer.status, 413);
    assert!(answer.error().starts_with("body_too_large: "));
}

#[tokio::test]
async fn h23_keep_a_chunked_body() {
    let deployment = Deployment::start();
    let body = ios(json!({})).to_string();
    let (first, second) = body.split_at(20);
    let request = format!(
        "POST {ROUTE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    assert_eq!(exchange(deployment.service.gateway, request.as_bytes()).await.json()["status"], "OK");
}

#[tokio::test]
async fn h24_keep_expect_100_continue() {
    let deployment = Deployment::start();
    let body = ios(json!({})).to_string();
    let head = format!(
        "POST {ROUTE} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(deployment.service.gateway).await.unwrap();

    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    assert_eq!(crate::http::read_answer(&mut stream).await.status, 100);
    tokio::io::AsyncWriteExt::write_all(&mut stream, body.as_bytes()).await.unwrap();

    assert_eq!(crate::http::read_answer(&mut stream).await.json()["status"], "OK");
}

#[tokio::test]
async fn h25_keep_another_method() {
    let deployment = Deployment::start();
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let request = format!("{method} {ROUTE} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = exchange(deployment.service.gateway, request.as_bytes()).await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: post") && answer.error().starts_with("bad_request: "));
    }
}

#[tokio::test]
async fn h26_keep_a_slash_at_the_end() {
    let deployment = Deployment::start();
    let answer = deployment.post("/api/v1/send_push/", ios(json!({})).to_string().as_bytes()).await;
    assert_eq!((answer.status, answer.text().as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn h27_mend_doubled_slashes() {
    let deployment = Deployment::start();
    let answer = deployment.post("//api//v1/send_push", ios(json!({})).to_string().as_bytes()).await;
    assert_eq!(answer.json()["status"], "OK");
}

#[tokio::test]
async fn h28_mend_head() {
    let deployment = Deployment::with("");
    for path in ["/", "/version", &format!("{}/version", deployment.prefix)] {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut stream = tokio::net::TcpStream::connect(deployment.service.gateway).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn h29_keep_version_also_under_a_licence() {
    let deployment = Deployment::with("");
    for path in ["/version".to_owned(), format!("{}/version", deployment.prefix)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = exchange(deployment.service.gateway, request.as_bytes()).await;
        let keys: Vec<_> = answer.json().as_object().unwrap().keys().cloned().collect();
        assert_eq!((answer.status, keys), (200, vec!["hash".to_owned(), "version".to_owned()]));
    }
}

#[tokio::test]
async fn h30_mend_a_token_that_would_change_the_url() {
    let deployment = Deployment::start();
    for junk in ["/", "?", "#", "..", "%2e", "/3/device/", "é"] {
        let answer = deployment.push(&ios(json!({ "device_id": format!("{IOS_TOKEN}{junk}") }))).await;
        assert!(answer.error().starts_with("bad_device_token: "), "{junk}");
    }
    assert!(deployment.received().is_empty());
}

#[tokio::test]
async fn h31_mend_a_token_with_a_space() {
    let deployment = Deployment::start();
    let answer = deployment.push(&ios(json!({ "device_id": format!("{IOS_TOKEN} a\u{1}") }))).await;
    assert!(answer.error().starts_with("bad_device_token: "));
    assert_eq!(deployment.simulator.stats().apns_requests, 0);
}

#[tokio::test]
async fn h32_mend_broken_credentials_are_not_a_missing_platform() {
    let deployment = Deployment::configured("[gateway]\naccess = \"open\"", |config| {
        config.replacen("apns.p8", "missing.p8", 1)
    });

    let broken = deployment.push(&ios(json!({}))).await;
    let other = deployment.push(&ios(json!({ "platform": "apple_rnbeta" }))).await;

    assert!(broken.error().starts_with("app_misconfigured: "));
    assert_eq!(other.json()["status"], "OK");
    deployment.service.until_logged("an app's credentials cannot be used").await;
    assert!(deployment.metrics().await.contains("app_credentials_usable{region=\"us\",app=\"ios\"} 0"));
}

#[tokio::test]
async fn h33_keep_a_depth_bomb() {
    let bomb = format!(r#""x":{}{}"#, "[".repeat(20_000), "]".repeat(20_000));
    assert!(error_of(with_fields(&bomb).as_bytes()).await.contains("nested more than 128 levels deep"));
}

#[tokio::test]
async fn every_answer_has_a_length_and_is_never_chunked() {
    let deployment = Deployment::start();
    for request in [
        post(ROUTE, ios(json!({})).to_string().as_bytes()),
        post(ROUTE, b"junk"),
        post("/api/v1/ack", b"{}"),
        post("/nowhere", b""),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    ] {
        let answer = exchange(deployment.service.gateway, &request).await;
        assert!(
            answer.head.contains("content-length:") && !answer.head.contains("transfer-encoding"),
            "{}",
            answer.head
        );
        assert!(!answer.head.contains("\nserver:"), "{}", answer.head);
    }
}
