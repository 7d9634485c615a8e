//! System tests: Retry-After, provider quotas and outages, and what callers are told.

use provider_sim::{ProviderName, Script, ScriptedAnswer};
use serde_json::{Value, json};

use crate::harness::{ANDROID_TOKEN, Deployment, android, eventually};
use crate::load::{Load, Push, to_android, to_iphone};

const BOTH: [(ProviderName, Push); 2] = [(ProviderName::Apns, to_iphone), (ProviderName::Fcm, to_android)];

fn ok() -> Value {
    json!({ "status": "OK" })
}

fn says(status: u16, reason: &str) -> ScriptedAnswer {
    ScriptedAnswer { status, reason: Some(reason.into()), ..ScriptedAnswer::default() }
}

#[tokio::test]
async fn a_pause_that_a_provider_asks_for_is_never_cut_short_in_whatever_form_it_comes() {
    let deployment = Deployment::start();
    // Whether no pause is left: to Apple, whose documents know no such header, and to Google.
    let values = [
        ("0", true, true),
        ("-5", false, true),
        ("Sun, 06 Nov 1994 08:49:37 GMT", false, true),
        ("1", false, false),
        ("120", false, false),
        ("Fri, 31 Dec 2066 23:59:59 GMT", false, false),
        ("99999999999999999999", false, false),
        ("soon", false, false),
        ("", false, false),
    ];
    for (number, (value, apple, google)) in (0..).zip(values) {
        for ((provider, push), tried_again) in BOTH.into_iter().zip([apple, google]) {
            let token = push(number)["device_id"].as_str().unwrap().to_owned();
            let busy = ScriptedAnswer { retry_after: Some(value.into()), ..says(503, "UNAVAILABLE") };
            let answers = vec![busy].into();
            let before = deployment.received().len();
            deployment.simulator.script(Script {
                token,
                provider: Some(provider),
                answers,
                ..Script::default()
            });

            let answer = deployment.push(&push(number)).await.json();

            let sends = deployment.received().len() - before;
            assert_eq!(
                (answer == ok(), sends),
                (tried_again, 1 + usize::from(tried_again)),
                "{provider:?} {value:?}"
            );
        }
    }
    assert_eq!(deployment.simulator.stats().early_resends, 0);
}

#[tokio::test]
async fn a_device_that_gets_too_many_pushes_is_told_as_busy_and_no_other() {
    let deployment = Deployment::start();
    for (provider, push) in BOTH {
        deployment.simulator.adjust_profile(provider, |profile| profile.device_per_minute = 2);
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(deployment.push(&push(7)).await.json());
        }

        assert_eq!(answers[..2], [ok(), ok()]);
        assert!(answers[2]["error"].as_str().unwrap().starts_with("provider_busy: "), "{answers:?}");
        assert_eq!(deployment.push(&push(8)).await.json(), ok());
    }
}

#[tokio::test]
async fn a_project_over_its_quota_is_paused_as_a_whole_and_apple_is_not() {
    let deployment = Deployment::start();
    deployment.simulator.adjust_profile(ProviderName::Fcm, |profile| profile.quota_per_minute = 10);

    let mut sent = Vec::new();
    for number in 0..30 {
        sent.push(deployment.push(&to_android(number)).await.json());
    }

    assert!(sent[..10].iter().all(|answer| *answer == ok()));
    let busy = |answer: &Value| answer["error"].as_str().unwrap().starts_with("provider_busy: ");
    assert!(sent[10..].iter().all(busy), "{sent:?}");
    assert_eq!(deployment.simulator.stats().fcm_requests, 11, "nothing is sent during the pause");
    assert_eq!(deployment.push(&to_iphone(1)).await.json(), ok());
}

#[tokio::test]
async fn a_provider_out_of_order_is_told_at_once_and_tried_until_it_works() {
    let deployment = Deployment::start();
    let broken = Script {
        token: "*".into(),
        provider: Some(ProviderName::Apns),
        answers: vec![says(503, "ServiceUnavailable")].into(),
        repeat: true,
        ..Script::default()
    };
    deployment.simulator.script(broken.clone());
    for number in 0..100 {
        assert!(deployment.push(&to_iphone(number)).await.error().starts_with("provider_down: "));
    }
    let sent = deployment.simulator.stats().apns_requests;
    assert!(sent < 60, "{sent} of 100 pushes were sent to a broken provider");
    assert_eq!(deployment.push(&to_android(1)).await.json(), ok());

    deployment.simulator.script(Script { answers: vec![says(200, "")].into(), ..broken });

    let load = Load::start(&deployment, to_iphone, 1);
    eventually("a try succeeds", || deployment.simulator.stats().accepted > 10).await;
    load.stop().await;
    assert_eq!(deployment.push(&to_iphone(1000)).await.json(), ok());
}

#[tokio::test]
async fn a_message_to_google_is_tried_again_on_5xx_and_never_on_a_final_answer() {
    let deployment = Deployment::start();
    for (answers, status, sends) in [
        (vec![says(500, "INTERNAL"), says(503, "UNAVAILABLE")], "OK", 3),
        (vec![says(502, "")], "FAIL", 1),
        (vec![says(400, "INVALID_ARGUMENT")], "FAIL", 1),
        (vec![says(403, "IAM_PERMISSION_DENIED")], "FAIL", 1),
        (vec![says(404, "UNREGISTERED")], "REMOVE", 1),
    ] {
        let before = deployment.received().len();
        deployment.script(ANDROID_TOKEN, answers.clone());

        let answer = deployment.push(&android(json!({ "ack_id": format!("{answers:?}") }))).await.json();

        let sent = deployment.received().len() - before;
        assert_eq!((answer["status"].as_str().unwrap(), sent), (status, sends), "{answers:?}");
    }
    assert_eq!(deployment.simulator.stats().resends_after_refusal, 0);
}
