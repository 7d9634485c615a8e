//! System tests: tenant isolation in an app that others use too.

use provider_sim::{ProviderName, Script, ScriptedAnswer};
use serde_json::{Value, json};

use crate::harness::{Deployment, android, ios};

/// What a provider answers to tokens that begin like this.
fn answers(provider: ProviderName, token: &str, status: u16, reason: &str) -> Script {
    let answer = ScriptedAnswer { status, reason: Some(reason.into()), ..ScriptedAnswer::default() };
    Script {
        token: format!("{token}*"),
        provider: Some(provider),
        answers: vec![answer].into(),
        repeat: true,
        ..Script::default()
    }
}

/// A tenant pushes to so many tokens of a kind, as fast as it can; the other one's pushes arrive, and its dead devices
/// are told to be dead.
async fn is_not_noticed(
    deployment: &Deployment,
    attack: impl Fn(u64) -> Value,
    victim: impl Fn(u64) -> Value,
) {
    assert_eq!(deployment.push_of_other(&victim(0)).await.json(), json!({ "status": "OK" }));
    for number in 0..200 {
        deployment.push(&attack(number)).await;
        if number % 10 == 0 {
            let answer = deployment.push_of_other(&victim(number + 1)).await.json();
            assert_eq!(answer, json!({ "status": "OK" }), "after {number}");
        }
    }
}

fn iphone(head: &'static str) -> impl Fn(u64) -> Value {
    move |number| ios(json!({ "device_id": format!("{head}{number:060x}") }))
}

fn phone(head: &'static str) -> impl Fn(u64) -> Value {
    move |number| android(json!({ "device_id": format!("{head}-token-{number}") }))
}

#[tokio::test]
async fn random_tokens_and_those_of_another_app_stop_nobody_else() {
    let deployment = Deployment::configured("", |config| config);
    deployment.simulator.script(answers(ProviderName::Apns, "aaaa", 400, "BadDeviceToken"));
    deployment.simulator.script(answers(ProviderName::Apns, "ffff", 400, "DeviceTokenNotForTopic"));
    deployment.simulator.script(answers(ProviderName::Apns, "dddd", 400, "BadDeviceToken"));
    let attack = |number: u64| iphone(if number < 60 { "aaaa" } else { "ffff" })(number);

    is_not_noticed(&deployment, attack, iphone("0000")).await;

    // And the dead device of the tenant that was well is told so.
    assert_eq!(deployment.push_of_other(&iphone("dddd")(1)).await.json(), json!({ "status": "REMOVE" }));
    deployment.service.until_logged("a tenant is held").await;
    assert!(!deployment.service.log().contains("an app is held"));
}

#[tokio::test]
async fn tokens_of_another_firebase_project_stop_nobody_else() {
    let deployment = Deployment::configured("", |config| config);
    deployment.simulator.script(answers(ProviderName::Fcm, "ffff", 403, "SENDER_ID_MISMATCH"));

    is_not_noticed(&deployment, phone("ffff"), phone("good")).await;

    deployment.service.until_logged("a tenant is held").await;
}

#[tokio::test]
async fn calls_that_apple_does_not_take_stop_no_message() {
    let deployment = Deployment::configured("", |config| config);
    deployment.simulator.script(answers(ProviderName::Apns, "eeee", 400, "TopicDisallowed"));
    let calls = |number: u64| {
        let device = format!("eeee{number:060x}");
        ios(json!({ "device_id": device, "transport": "voip", "sub_type": "calls" }))
    };

    is_not_noticed(&deployment, calls, iphone("0000")).await;

    // The attacker's own messages go, too.
    assert_eq!(deployment.push(&iphone("0000")(7)).await.json(), json!({ "status": "OK" }));
}

/// `make attack` in its short form, on the build of the tests: who gains what, and what a tenant is answered beside it.
#[test]
fn nobody_gains_more_than_is_written_down() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_attack")).arg("--short").output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}
