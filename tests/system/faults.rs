//! System tests: bursts and broken providers.

use std::collections::HashSet;

use provider_sim::{AcceptMode, Fault, ProviderName};
use serde_json::Value;

use crate::harness::{Deployment, eventually};
use crate::load::{Load, Push, at_once, to_android, to_iphone};

#[tokio::test]
async fn a_cold_burst_of_500_pushes_is_accepted_whole() {
    let deployment = Deployment::start();

    let answers = at_once(&deployment, (0..500).map(to_iphone)).await;

    answers.assert_all_ok();
    let received = deployment.received();
    let tokens: HashSet<_> = received.iter().map(|one| one.token.clone()).collect();
    assert_eq!((received.len(), tokens.len()), (500, 500));
    let stats = deployment.simulator.stats();
    assert!(stats.provider_tokens <= stats.apns_connections, "one token a connection: {stats:?}");
}

#[tokio::test]
async fn a_thousand_cold_senders_to_android_ask_for_one_access_token() {
    let deployment = Deployment::start();

    let answers = at_once(&deployment, (0..1000).map(to_android)).await;

    answers.assert_all_ok();
    assert_eq!(deployment.simulator.stats().token_requests, 1);
}

#[tokio::test]
async fn a_provider_that_goes_away_and_comes_back_under_load_costs_no_push_its_true_answer() {
    for (provider, push) in [(ProviderName::Apns, to_iphone as Push), (ProviderName::Fcm, to_android)] {
        let deployment = Deployment::start();
        let load = Load::start(&deployment, push, 8);
        eventually("load is answered", || load.answered() >= 100).await;

        deployment.simulator.adjust_profile(provider, |profile| profile.door = AcceptMode::Shut);
        deployment.simulator.inject_fault(provider, Fault::Close);
        let before = load.answered();
        eventually("load is answered", || load.answered() >= before + 50).await;
        deployment.simulator.adjust_profile(provider, |profile| profile.door = AcceptMode::Open);
        let before = deployment.simulator.stats().accepted;
        eventually("load is accepted", || deployment.simulator.stats().accepted >= before + 100).await;
        let answers = load.stop().await;

        let failed = answers.others();
        let down = |answer: &&Value| answer["error"].as_str().unwrap().starts_with("provider_down: ");
        assert!(failed.iter().all(down) && failed.len() >= 40, "{provider:?} {failed:?}");
        let stats = deployment.simulator.stats();
        assert!(
            answers.ok() <= stats.accepted - stats.duplicates,
            "{provider:?}: {} OK, {stats:?}",
            answers.ok()
        );
        at_once(&deployment, (5_000_000..5_000_020).map(push)).await.assert_all_ok();
    }
}

#[tokio::test]
async fn a_provider_that_is_down_does_not_hold_the_other() {
    let deployment = Deployment::start();
    deployment.simulator.adjust_profile(ProviderName::Apns, |profile| profile.door = AcceptMode::Dark);
    let load = Load::start(&deployment, to_iphone, 16);
    eventually("Apple is tried", || deployment.simulator.stats().apns_requests == 0).await;

    at_once(&deployment, (0..200).map(to_android)).await.assert_all_ok();

    assert_eq!(load.stop().await.ok(), 0);
}
