//! System tests: pre-authentication limits of a running service.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Deployment, eventually, ios};
use crate::http::{exchange, post};

const ROUTE: &str = "/api/v1/send_push";

#[tokio::test]
async fn open_sign_ins_lock_no_operator_out_of_their_own_address() {
    let deployment = Deployment::start();
    let admin = deployment.service.admin;
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        let half = b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\ntoken=";
        stream.write_all(half).await.unwrap();
        open.push(stream);
    }

    let page = exchange(admin, b"GET /sign-in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;

    assert!(page.head.starts_with("http/1.1 200"), "{}", page.head);
    // And pushes and health are other ports.
    assert_eq!(deployment.push(&ios(json!({}))).await.json()["status"], "OK");
    assert!(deployment.metric("edge_displaced_total", "listener=\"admin\"").await >= 1.0);
}

#[tokio::test]
async fn anonymous_refusals_are_sampled_in_the_log_and_all_counted() {
    let deployment = Deployment::with("");
    for _ in 0..200 {
        let answer = exchange(deployment.service.gateway, &post(ROUTE, b"{}")).await;
        assert!(answer.error().starts_with("licence_missing"));
    }

    deployment.until_metric("gateway_refusals_total", "reason=\"licence_missing\"", 200.0).await;
    eventually("some are logged", || deployment.service.log().contains("push refused")).await;
    let lines = deployment.service.log().matches("push refused").count();
    assert!(lines <= 60, "{lines} of 200 lines: ten at once, and one a second");
    assert_eq!(deployment.push(&ios(json!({}))).await.json()["status"], "OK");
}

#[tokio::test]
async fn bodies_without_a_key_take_no_memory() {
    let deployment = Deployment::with("[gateway.limits]\nbody_timeout_ms = 60000");
    let resident = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", deployment.service.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    deployment.push(&ios(json!({}))).await;
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
        let head = format!("POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Length: 250000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 200_000]).await.unwrap();
        open.push(stream);
    }

    let grown = resident().saturating_sub(before);
    assert!(grown < 40_000, "{grown} kB for 60 MB of bodies");
    assert_eq!(deployment.push(&ios(json!({}))).await.json()["status"], "OK");
}
