//! System tests: graceful shutdown.

use std::time::Duration;

use provider_sim::ScriptedAnswer;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Deployment, IOS_TOKEN, eventually, ios, run};
use crate::http::{post, read_answer};

#[tokio::test]
async fn a_push_under_way_is_answered_before_the_process_ends_well() {
    let mut deployment = Deployment::start();
    let slow = ScriptedAnswer { delay_ms: 500, ..ScriptedAnswer::default() };
    deployment.script(IOS_TOKEN, vec![slow]);
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
    stream.write_all(&post("/api/v1/send_push", ios(json!({})).to_string().as_bytes())).await.unwrap();
    eventually("the push reaches the provider", || deployment.simulator.stats().apns_requests > 0).await;

    deployment.service.terminate();

    assert_eq!(read_answer(&mut stream).await.json(), json!({ "status": "OK" }));
    assert!(deployment.service.child.wait().unwrap().success());
    assert!(TcpStream::connect(deployment.service.gateway).await.is_err());
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let deployment = Deployment::start();

    deployment.service.signal(rustix::process::Signal::HUP);

    deployment.service.until_logged("SIGHUP changes nothing").await;
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), json!({ "status": "OK" }));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_hard() {
    let mut deployment = Deployment::start();
    let hangs = ScriptedAnswer { action: Some(provider_sim::Action::Hang), ..ScriptedAnswer::default() };
    deployment.script(IOS_TOKEN, vec![hangs]);
    let mut stream = TcpStream::connect(deployment.service.gateway).await.unwrap();
    stream.write_all(&post("/api/v1/send_push", ios(json!({})).to_string().as_bytes())).await.unwrap();
    eventually("the push reaches the provider", || deployment.simulator.stats().apns_requests > 0).await;

    deployment.service.terminate();
    deployment.service.until_logged("asked to stop").await;
    let began = tokio::time::Instant::now();
    deployment.service.terminate();

    assert!(!deployment.service.child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(3), "it did not wait for the push");
}

#[tokio::test]
async fn a_registry_refuses_another_key_file() {
    let mut deployment = Deployment::start();
    deployment.service.terminate();
    assert!(deployment.service.child.wait().unwrap().success());
    std::fs::write(deployment.directory.path().join("hpns.key"), "ab".repeat(32)).unwrap();

    let output = run(&["all", "--config", deployment.config.to_str().unwrap()]);

    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("the key file does not belong to this registry"), "{message}");
}
