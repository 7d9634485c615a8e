//! Bursts and broken providers.

use std::collections::HashSet;
use std::sync::Arc;

use provider_sim::{Settings, Simulator};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Deployment, android, eventually, ios};
use crate::http::{exchange, post};

/// Sends pushes to different devices, all at once.
async fn at_once(deployment: &Deployment, pushes: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut answers = JoinSet::new();
    for push in pushes {
        let (gateway, prefix) = (deployment.service.gateway, deployment.prefix.clone());
        answers.spawn(async move {
            let request = post(&format!("{prefix}/api/v1/send_push"), push.to_string().as_bytes());
            exchange(gateway, &request).await.json()
        });
    }
    answers.join_all().await
}

fn to_iphones(count: u32) -> impl Iterator<Item = Value> {
    (0..count).map(|number| ios(json!({ "device_id": format!("{number:064x}") })))
}

/// Starts a simulator on the ports of one that has stopped, as soon as nothing else uses them.
async fn restarted(settings: Settings) -> Simulator {
    let mut started = None;
    eventually("the ports are free", || {
        started = Simulator::start(settings.clone()).ok();
        started.is_some()
    })
    .await;
    started.unwrap()
}

#[tokio::test]
async fn a_cold_burst_of_500_pushes_is_accepted_whole() {
    let deployment = Deployment::start();

    let answers = at_once(&deployment, to_iphones(500)).await;

    assert!(answers.iter().all(|answer| *answer == json!({ "status": "OK" })), "{answers:?}");
    let received = deployment.received();
    let tokens: HashSet<_> = received.iter().map(|one| one.token.clone()).collect();
    assert_eq!((received.len(), tokens.len()), (500, 500));
    assert_eq!(deployment.simulator.stats().provider_tokens, deployment.simulator.stats().apns_connections);
}

#[tokio::test]
async fn a_cold_burst_to_android_asks_for_one_access_token() {
    let deployment = Deployment::start();

    let pushes = (0..300).map(|number| android(json!({ "device_id": format!("token:{number}") })));
    let answers = at_once(&deployment, pushes).await;

    assert!(answers.iter().all(|answer| *answer == json!({ "status": "OK" })), "{answers:?}");
    assert_eq!(deployment.simulator.stats().token_requests, 1);
}

#[tokio::test]
async fn a_provider_that_restarts_under_load_costs_no_push_its_true_answer() {
    let mut deployment = Deployment::start();
    at_once(&deployment, to_iphones(10)).await;
    let settings = Settings {
        apns: deployment.simulator.apns(),
        fcm: deployment.simulator.fcm(),
        ..Settings::on_free_ports(&deployment.directory.path().join("simulator"))
    };
    let gateway = deployment.service.gateway;
    let stop = Arc::new(tokio::sync::Notify::new());
    let mut load = JoinSet::new();
    for sender in 0..8 {
        let stop = Arc::clone(&stop);
        load.spawn(async move {
            let mut answers = Vec::new();
            let stopped = stop.notified();
            tokio::pin!(stopped);
            for number in 0_u32.. {
                let push = ios(json!({ "device_id": format!("{:064x}", sender * 1_000_000 + number) }));
                let request = post("/api/v1/send_push", push.to_string().as_bytes());
                tokio::select! {
                    biased;
                    () = &mut stopped => break,
                    answer = exchange(gateway, &request) => answers.push(answer.json()),
                }
            }
            answers
        });
    }
    eventually("load is accepted", || deployment.simulator.stats().accepted >= 100).await;

    let old = std::mem::replace(
        &mut deployment.simulator,
        Simulator::start(Settings::on_free_ports(&deployment.directory.path().join("other"))).unwrap(),
    );
    let accepted_before = old.stop().await.accepted;
    deployment.simulator = restarted(settings).await;
    eventually("load is accepted", || deployment.simulator.stats().accepted >= 100).await;
    stop.notify_waiters();
    let answers: Vec<_> = load.join_all().await.into_iter().flatten().collect();

    let ok = answers.iter().filter(|answer| answer["status"] == "OK").count() as u64;
    let failed: Vec<_> = answers.iter().filter(|answer| answer["status"] == "FAIL").collect();
    assert_eq!(ok, (answers.len() - failed.len()) as u64);
    assert!(
        failed.iter().all(|answer| answer["error"].as_str().unwrap().starts_with("provider_down: ")),
        "{failed:?}"
    );
    let accepted = accepted_before + deployment.simulator.stats().accepted;
    assert!(ok <= accepted, "{ok} answered OK, {accepted} accepted");
    let last = at_once(&deployment, to_iphones(20)).await;
    assert!(last.iter().all(|answer| answer["status"] == "OK"), "{last:?}");
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_quickly_and_does_not_hold_the_other() {
    let mut deployment = Deployment::start();
    let replacement =
        Simulator::start(Settings::on_free_ports(&deployment.directory.path().join("other"))).unwrap();
    let fcm = deployment.simulator.fcm();
    let old = std::mem::replace(&mut deployment.simulator, replacement);
    old.stop().await;
    let only_google =
        Settings { fcm, ..Settings::on_free_ports(&deployment.directory.path().join("simulator")) };
    deployment.simulator = restarted(only_google).await;

    let answer = deployment.push(&ios(json!({}))).await;

    assert!(answer.error().starts_with("provider_down: "));
    assert_eq!(deployment.push(&android(json!({}))).await.json(), json!({ "status": "OK" }));
}
