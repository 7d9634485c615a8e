//! Bursts and broken providers.

use provider_sim::{Settings, Simulator};
use serde_json::{Value, json};
use std::collections::HashSet;

use crate::harness::{Deployment, android, eventually, ios};
use crate::load::{Load, at_once, to_android, to_iphone};

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

    let answers = at_once(&deployment, (0..500).map(to_iphone)).await;

    answers.assert_all_ok();
    let received = deployment.received();
    let tokens: HashSet<_> = received.iter().map(|one| one.token.clone()).collect();
    assert_eq!((received.len(), tokens.len()), (500, 500));
    assert_eq!(deployment.simulator.stats().provider_tokens, deployment.simulator.stats().apns_connections);
}

#[tokio::test]
async fn a_thousand_cold_senders_to_android_ask_for_one_access_token() {
    let deployment = Deployment::start();

    let answers = at_once(&deployment, (0..1000).map(to_android)).await;

    answers.assert_all_ok();
    assert_eq!(deployment.simulator.stats().token_requests, 1);
}

#[tokio::test]
async fn a_provider_that_restarts_under_load_costs_no_push_its_true_answer() {
    let mut deployment = Deployment::start();
    at_once(&deployment, (0..10).map(to_iphone)).await.assert_all_ok();
    let settings = Settings {
        apns: deployment.simulator.apns(),
        fcm: deployment.simulator.fcm(),
        ..Settings::on_free_ports(&deployment.directory.path().join("simulator"))
    };
    let load = Load::start(&deployment, to_iphone, 8);
    eventually("load is accepted", || deployment.simulator.stats().accepted >= 100).await;

    let old = std::mem::replace(
        &mut deployment.simulator,
        Simulator::start(Settings::on_free_ports(&deployment.directory.path().join("other"))).unwrap(),
    );
    let accepted_before = old.stop().await.accepted;
    deployment.simulator = restarted(settings).await;
    eventually("load is accepted", || deployment.simulator.stats().accepted >= 100).await;
    let answers = load.stop().await;

    let (ok, failed) = (answers.ok(), answers.others());
    let down = |answer: &&Value| answer["error"].as_str().unwrap().starts_with("provider_down: ");
    assert!(failed.iter().all(down), "{failed:?}");
    let accepted = accepted_before + deployment.simulator.stats().accepted;
    assert!(ok <= accepted, "{ok} answered OK, {accepted} accepted");
    at_once(&deployment, (0..20).map(to_iphone)).await.assert_all_ok();
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
