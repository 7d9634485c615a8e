//! Bad input and bad clients: a clear answer in each case, no panic, no 5xx, nothing sent.

use std::process::Command;

use provider_sim::ScriptedAnswer;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Deployment, IOS_TOKEN, eventually, ios};
use crate::http::{exchange, post, read_answer};

const ROUTE: &str = "/api/v1/send_push";

/// The service is well: it answers, nothing has panicked, nothing reached a provider but this.
async fn is_well(deployment: &Deployment) {
    let before = deployment.received().len();
    assert_eq!(before, 0);
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), json!({ "status": "OK" }));
    assert!(!deployment.service.log().contains("panicked"), "{}", deployment.service.log());
}

#[tokio::test]
async fn garbage_is_answered_or_closed_and_never_with_a_5xx() {
    let deployment = Deployment::start();
    let long = "x".repeat(100_000);
    let many = "a: b\r\n".repeat(500);
    for request in [
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "hello there\r\n\r\n",
        "POST /api/v1/send_push HTTP/9.9\r\n\r\n",
        "POST /api/v1/send_push HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /api/v1/send_push HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /api/v1/send_push HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, identity\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
        &format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        &format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
    ] {
        let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"),
            "{request:.60}: {answer}"
        );
    }
    is_well(&deployment).await;
}

#[tokio::test]
async fn a_body_of_a_megabyte_is_refused_before_it_is_read() {
    let deployment = Deployment::start();
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();

    stream.write_all(&post(ROUTE, &vec![b' '; 1 << 20])[..1000]).await.unwrap();

    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.status, 413);
    assert!(answer.error().starts_with("body_too_large: "));
    is_well(&deployment).await;
}

#[tokio::test]
async fn a_chunked_body_of_a_megabyte_is_refused() {
    let deployment = Deployment::start();
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
    let head = format!("POST {ROUTE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..16 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }

    assert_eq!(read_answer(&mut stream).await.status, 413);
    is_well(&deployment).await;
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let deployment =
        Deployment::with("[gateway]\naccess = \"open\"\n[gateway.limits]\nbody_timeout_ms = 100");
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();

    stream.write_all(&post(ROUTE, ios(json!({})).to_string().as_bytes())[..150]).await.unwrap();

    assert!(read_answer(&mut stream).await.error().contains("took too long"));
    is_well(&deployment).await;
}

#[tokio::test]
async fn a_header_that_comes_too_slowly_ends_its_connection() {
    let deployment =
        Deployment::with("[gateway]\naccess = \"open\"\n[gateway.limits]\nheader_timeout_ms = 500");
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();

    stream.write_all(b"POST /api/v1/send").await.unwrap();

    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    is_well(&deployment).await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_its_push_or_its_count() {
    let deployment = Deployment::start();
    let slow = ScriptedAnswer { delay_ms: 200, status: 503, ..ScriptedAnswer::default() };
    deployment.script(IOS_TOKEN, vec![slow]);
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
    stream.write_all(&post(ROUTE, ios(json!({})).to_string().as_bytes())).await.unwrap();
    eventually("the push reaches the provider", || deployment.simulator.stats().apns_requests > 0).await;

    stream.set_zero_linger().unwrap();
    drop(stream);

    eventually("the retry is accepted", || deployment.simulator.stats().accepted == 1).await;
    deployment.service.until_logged("push answered").await;
    assert_eq!(deployment.metric("service_success_total", "platform=\"apple\"").await, 1.0);
}

#[tokio::test]
async fn hostile_fields_get_a_clear_answer() {
    let deployment = Deployment::start();
    for (push, text) in [
        (ios(json!({ "platform": "\u{0}".repeat(1000) })), "missing platform property"),
        (ios(json!({ "server_id": "" })), "missing server Id"),
        (ios(json!({ "device_id": "" })), "missing device Id"),
        (ios(json!({ "device_id": "ab".repeat(101) })), "bad_device_token: "),
        (ios(json!({ "device_id": "../../../etc/passwd?x=1#y" })), "bad_device_token: "),
        (ios(json!({ "platform": "android_rn", "device_id": "a/b" })), "bad_device_token: "),
        (ios(json!({ "platform": "android_rn", "device_id": "a".repeat(4097) })), "bad_device_token: "),
        (ios(json!({ "override_icon_url": "x".repeat(100_000) })), "payload_too_large: "),
    ] {
        let answer = deployment.push(&push).await;
        assert_eq!(answer.status, 200);
        assert!(answer.error().contains(text), "{text}: {}", answer.error());
        assert!(answer.body.len() < 400, "little is repeated: {}", answer.text());
    }
    is_well(&deployment).await;
}

#[tokio::test]
async fn a_licensed_service_says_what_is_wrong_with_a_key() {
    let deployment = Deployment::with("");
    let body = ios(json!({})).to_string();
    let unknown = "hpns_us_AAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000";
    for (prefix, code) in [
        ("", "licence_missing"),
        ("/t/junk", "licence_unknown"),
        (&format!("/t/{unknown}"), "licence_unknown"),
    ] {
        let answer =
            exchange(deployment.service.gateway, &post(&format!("{prefix}{ROUTE}"), body.as_bytes())).await;
        assert_eq!(answer.status, 200);
        assert!(answer.error().starts_with(&format!("{code}: ")), "{}", answer.error());
        assert!(!answer.text().contains("AAAA"));
    }
    is_well(&deployment).await;
}

#[tokio::test]
async fn a_tenant_over_its_rate_is_told_so_and_its_acks_have_a_rate_of_their_own() {
    let slow = Deployment::rated(1);

    let mut answers = Vec::new();
    for _ in 0..3 {
        let ack = slow.post("/api/v1/ack", br#"{"id":"a","platform":"ios","type":"message"}"#).await;
        assert_eq!(ack.json(), json!({ "status": "OK" }));
        answers.push(slow.post(ROUTE, br#"{"server_id":"s"}"#).await.error());
    }

    // A rate of 1 a second has a burst of 2.
    assert!(answers[..2].iter().all(|answer| answer.contains("missing device Id")), "{answers:?}");
    assert!(answers[2].starts_with("rate_limited: "), "{answers:?}");
    // Receipts: twice as many.
    let mut acks = Vec::new();
    for number in 0..8 {
        let body = format!(r#"{{"id":"{number}","platform":"ios","type":"message"}}"#);
        acks.push(slow.post("/api/v1/ack", body.as_bytes()).await.text());
    }
    assert!(acks.iter().any(|answer| answer.contains("rate_limited: ")), "{acks:?}");
    slow.service.until_logged("rate_limited").await;
    let log = slow.service.log();
    let refused = log.lines().find(|line| line.contains("rate_limited")).unwrap();
    assert!(refused.contains("\"tenant\":\"ten_"), "{refused}");
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_for_the_next_push() {
    let deployment = Deployment::with("");
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
    let body = ios(json!({ "message": "x".repeat(60_000) })).to_string();

    for (prefix, start) in [("", "licence_missing: "), ("/t/junk", "licence_unknown: ")] {
        stream.write_all(&post(&format!("{prefix}{ROUTE}"), body.as_bytes())).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.error().starts_with(start));
        assert!(answer.head.contains("x-request-id: job_"));
    }
    stream.write_all(&post(&format!("{}{ROUTE}", deployment.prefix), body.as_bytes())).await.unwrap();

    assert_eq!(read_answer(&mut stream).await.json(), json!({ "status": "OK" }));
    let refused = || deployment.service.log().matches("push refused").count();
    eventually("both refusals are logged", || refused() == 2).await;
}

#[tokio::test]
async fn a_key_in_the_url_s_password_is_as_good_as_one_in_its_path() {
    let deployment = Deployment::with("");
    let key = deployment.prefix.trim_start_matches("/t/");
    let body = ios(json!({})).to_string();
    let encoded =
        Command::new("sh").args(["-c", &format!("printf 'push:{key}' | base64 -w0")]).output().unwrap();
    let head = format!(
        "Host: x\r\nAuthorization: Basic {}\r\nContent-Length: {}",
        String::from_utf8(encoded.stdout).unwrap(),
        body.len()
    );

    let answer = exchange(
        deployment.service.gateway,
        format!("POST {ROUTE} HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes(),
    )
    .await;

    assert_eq!(answer.json(), json!({ "status": "OK" }));
}
