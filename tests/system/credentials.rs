//! Credentials that change, are refused, or are of another kind; and apps that are set up wrongly.

use provider_sim::{Fault, Latency, ProviderName, Script, ScriptedAnswer};
use serde_json::{Value, json};

use crate::harness::{Deployment, Service, android, eventually, ios, put};
use crate::load::{Load, Push, at_once, to_android, to_iphone};

const OFTEN: &str = "[gateway]\naccess = \"open\"\n[credentials]\npoll_ms = 20";

fn ok() -> Value {
    json!({ "status": "OK" })
}

fn refuses(provider: ProviderName, status: u16, reason: &str) -> Script {
    let answer = ScriptedAnswer { status, reason: Some(reason.into()), ..ScriptedAnswer::default() };
    Script {
        token: "*".into(),
        provider: Some(provider),
        answers: vec![answer].into(),
        repeat: true,
        ..Script::default()
    }
}

/// Ends a script: everything is answered as usual again.
fn usual(provider: ProviderName) -> Script {
    refuses(provider, 0, "")
}

#[tokio::test]
async fn new_credential_files_are_used_under_load_and_no_push_is_lost() {
    for (file, push) in
        [("apns.p8", to_iphone as Push), ("service-account.json", to_android as fn(u64) -> Value)]
    {
        let deployment = Deployment::with(OFTEN);
        let path = deployment.directory.path().join("simulator").join(file);
        let load = Load::start(&deployment, push, 8);
        for round in 1..=5 {
            let before = load.answered();
            eventually("load is answered", || load.answered() >= before + 50).await;
            // The same key, written differently.
            put(&path, &(std::fs::read_to_string(&path).unwrap() + "\n"));
            let renewed = || deployment.service.log().matches("an app has new credentials").count();
            let apps = if file == "apns.p8" { 2 } else { 1 };
            eventually("the credentials are renewed", || renewed() == round * apps).await;
        }
        let before = load.answered();
        eventually("load is answered", || load.answered() >= before + 50).await;

        let answers = load.stop().await;

        answers.assert_all_ok();
        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok(), 0), "{file}");
    }
}

#[tokio::test]
async fn broken_credential_files_change_nothing_and_are_told() {
    let deployment = Deployment::with(OFTEN);
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());

    put(&deployment.simulator.apns_key_file(), "canary");

    deployment.service.until_logged("the old ones stay in use").await;
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
    assert!(!deployment.service.log().contains("canary"));
    deployment.until_metric("app_credential_reload_failures_total", "ios", 2.0).await;
}

#[tokio::test]
async fn an_app_without_usable_credentials_starts_to_work_when_it_gets_some() {
    let deployment = Deployment::configured(OFTEN, |config| config.replace("apns.p8", "later.p8"));
    assert!(deployment.push(&ios(json!({}))).await.error().starts_with("app_misconfigured: "));
    assert_eq!(deployment.push(&android(json!({}))).await.json(), ok());

    std::fs::copy(
        deployment.simulator.apns_key_file(),
        deployment.directory.path().join("simulator/later.p8"),
    )
    .unwrap();

    deployment.service.until_logged("an app has new credentials").await;
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
}

async fn is_held_and_released(provider: ProviderName, code: u16, reason: &str, push: Push) {
    let deployment = Deployment::start();
    deployment.simulator.script(refuses(provider, code, reason));
    for number in 0..50 {
        assert!(deployment.push(&push(number)).await.error().starts_with("app_misconfigured: "));
    }
    let stats = deployment.simulator.stats();
    assert!(stats.apns_requests + stats.fcm_requests <= 8, "{reason}: {stats:?}");
    deployment.service.until_logged("an app is held").await;
    assert!(deployment.metric("app_misconfigured_total", "").await >= 50.0);

    deployment.simulator.script(usual(provider));

    let load = Load::start(&deployment, push, 1);
    eventually("a probe is taken", || deployment.simulator.stats().accepted > 0).await;
    load.stop().await;
    assert_eq!(deployment.push(&push(1000)).await.json(), ok(), "{reason}");
    deployment.service.until_logged("an app is released").await;
}

#[tokio::test]
async fn an_app_whose_key_apple_refuses_is_held_and_released_by_a_good_probe() {
    is_held_and_released(ProviderName::Apns, 403, "InvalidProviderToken", to_iphone).await;
}

#[tokio::test]
async fn an_app_whose_topic_apple_refuses_is_held_and_released_by_a_good_probe() {
    is_held_and_released(ProviderName::Apns, 400, "TopicDisallowed", to_iphone).await;
}

#[tokio::test]
async fn an_app_whose_account_may_not_send_is_held_and_released_by_a_good_probe() {
    is_held_and_released(ProviderName::Fcm, 403, "IAM_PERMISSION_DENIED", to_android).await;
}

#[tokio::test]
async fn a_revoked_service_account_costs_one_token_request() {
    let deployment = Deployment::start();
    let refused =
        ScriptedAnswer { status: 400, reason: Some("invalid_grant".into()), ..ScriptedAnswer::default() };
    deployment.simulator.script(Script {
        token: "oauth".into(),
        answers: vec![refused].into(),
        repeat: true,
        ..Script::default()
    });

    let answers = at_once(&deployment, (0..1000).map(to_android)).await;

    assert_eq!(answers.ok(), 0);
    assert_eq!(deployment.simulator.stats().token_requests, 1);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_in_passing_delays_pushes_and_costs_none_after() {
    let body =
        |text: &str| ScriptedAnswer { status: 200, body: Some(text.into()), ..ScriptedAnswer::default() };
    let status = |status| ScriptedAnswer { status, ..ScriptedAnswer::default() };
    let action = |action| ScriptedAnswer { action: Some(action), ..ScriptedAnswer::default() };
    for answer in [
        status(500),
        status(503),
        status(429),
        body("<html>"),
        body("{}"),
        action(provider_sim::Action::Reset),
        action(provider_sim::Action::Close),
    ] {
        let deployment = Deployment::start();
        deployment.script("oauth", vec![answer.clone()]);
        let first = deployment.push(&to_android(0)).await.json();
        let load = Load::start(&deployment, to_android, 1);
        eventually("tokens are granted", || deployment.simulator.stats().accepted > 0).await;
        load.stop().await;

        assert_eq!(deployment.push(&to_android(1_000_000)).await.json(), ok(), "{answer:?} {first}");
        let requests = deployment.simulator.stats().token_requests;
        assert!(requests <= 3, "{requests} token requests after {answer:?}");
    }
}

#[tokio::test]
async fn access_tokens_that_are_revoked_cost_no_push() {
    let deployment = Deployment::start();
    let load = Load::start(&deployment, to_android, 8);
    for _ in 0..3 {
        let before = load.answered();
        eventually("load is answered", || load.answered() >= before + 50).await;
        deployment.simulator.revoke_access_tokens();
    }
    let before = load.answered();
    eventually("load is answered", || load.answered() >= before + 50).await;

    load.stop().await.assert_all_ok();
    assert_eq!(deployment.simulator.stats().token_requests, 4);
}

#[tokio::test]
async fn an_access_token_that_google_takes_for_expired_is_renewed_at_the_cost_of_no_push() {
    let deployment = Deployment::start();
    deployment.simulator.adjust_profile(ProviderName::Fcm, |profile| profile.token_life_seconds = 600);
    let load = Load::start(&deployment, to_android, 4);
    eventually("load is answered", || load.answered() >= 50).await;
    // Ours still takes the token for good; Google does not.
    deployment.simulator.advance_clock(std::time::Duration::from_secs(601));
    let before = load.answered();
    eventually("load is answered", || load.answered() >= before + 50).await;

    load.stop().await.assert_all_ok();
    assert_eq!(deployment.simulator.stats().token_requests, 2);
}

#[tokio::test]
async fn a_wrong_environment_removes_no_device_until_it_is_mended() {
    let deployment = Deployment::with(OFTEN);
    deployment.simulator.script(refuses(ProviderName::Apns, 400, "BadDeviceToken"));
    let mut answers = Vec::new();
    for number in 0..200 {
        answers.push(deployment.push(&to_iphone(number)).await.json());
    }
    assert!(answers.iter().all(|answer| answer["status"] == "FAIL"));
    deployment.service.until_logged("MassRemoval").await;
    deployment.until_metric("app_tenants_guarded", "ios\"", 1.0).await;

    // Mended: the right key is put in place, and a device is really dead.
    let path = deployment.simulator.apns_key_file();
    put(&path, &(std::fs::read_to_string(&path).unwrap() + "\n"));
    deployment.service.until_logged("an app has new credentials").await;
    deployment.simulator.script(usual(ProviderName::Apns));
    assert_eq!(deployment.push(&to_iphone(1000)).await.json(), ok());
    deployment.script(
        &format!("{:064x}", 1001),
        vec![ScriptedAnswer {
            status: 400,
            reason: Some("BadDeviceToken".into()),
            ..ScriptedAnswer::default()
        }],
    );
    assert_eq!(deployment.push(&to_iphone(1001)).await.json(), json!({ "status": "REMOVE" }));
}

#[tokio::test]
async fn a_wrong_topic_or_project_removes_no_device_at_all_and_holds_who_pushes() {
    for (provider, status, reason, push) in [
        (ProviderName::Apns, 400, "DeviceTokenNotForTopic", to_iphone as Push),
        (ProviderName::Fcm, 403, "SENDER_ID_MISMATCH", to_android),
    ] {
        let deployment = Deployment::start();
        deployment.simulator.script(refuses(provider, status, reason));

        let mut held = 0;
        for number in 0..150 {
            let error = deployment.push(&push(number)).await.error().clone();
            held += usize::from(error.starts_with("tokens_doubted: "));
            let is_told = error.starts_with("app_misconfigured: ") || error.starts_with("tokens_doubted: ");
            assert!(is_told, "{reason}: {error}");
        }
        assert!(held > 0, "{reason}: once it is held, it is told whose tokens they are");

        let stats = deployment.simulator.stats();
        assert!(stats.apns_requests + stats.fcm_requests < 120, "{reason}: {stats:?}");
        deployment.service.until_logged("a tenant is held").await;
    }
}

#[tokio::test]
async fn a_tenant_whose_tokens_are_bad_travels_over_connections_of_its_own() {
    let deployment = Deployment::configured("[server]\nthreads = 1", |config| config);
    let mut junk = refuses(ProviderName::Apns, 400, "BadDeviceToken");
    junk.token = "ffff*".into();
    deployment.simulator.script(junk);
    let push = |number: u64| {
        let bad = number.is_multiple_of(3);
        ios(json!({ "device_id": format!("{}{number:060x}", if bad { "ffff" } else { "0000" }) }))
    };
    for number in 0..60 {
        deployment.push(&push(number)).await;
    }
    let connections = |from: usize| -> Vec<_> {
        deployment.received()[from..].iter().map(|received| received.connection).collect()
    };
    let shared = connections(0)[0];

    assert_eq!(deployment.push(&push(61)).await.json(), ok());
    let good = ios(json!({ "device_id": "ab".repeat(32) }));
    assert_eq!(deployment.push_of_other(&good).await.json(), ok());

    let last = connections(deployment.received().len() - 2);
    assert_ne!(last[0], shared, "the tenant's pushes have left the shared connection");
    assert_eq!(last[1], shared, "the other tenant's have not");
    deployment.until_metric("app_tenants_isolated", "ios\"", 1.0).await;
}

#[tokio::test]
async fn an_isolated_tenant_whose_pushes_pile_up_is_told_so_and_keeps_no_places() {
    let deployment = Deployment::configured("[server]\nthreads = 1", |config| config);
    let mut junk = refuses(ProviderName::Apns, 400, "BadDeviceToken");
    junk.token = "ffff*".into();
    deployment.simulator.script(junk);
    for number in 0..60 {
        let head = if number % 3 == 0 { "ffff" } else { "0000" };
        deployment.push(&ios(json!({ "device_id": format!("{head}{number:060x}") }))).await;
    }
    deployment.until_metric("app_tenants_isolated", "ios\"", 1.0).await;
    deployment.simulator.adjust_profile(ProviderName::Apns, |profile| {
        profile.streams = 1;
        profile.latency = Some(Latency { p50_ms: 500.0, p95_ms: 500.0 });
    });
    deployment.simulator.inject_fault(ProviderName::Apns, Fault::GoAway);

    let pushes = (0..400).map(|number| ios(json!({ "device_id": format!("0000{:060x}", 1000 + number) })));
    let answers = at_once(&deployment, pushes).await;

    // A hundred may wait, and eight connections carry some meanwhile.
    let told = |it: &&Value| it["error"].as_str().unwrap_or_default().starts_with("provider_busy: ");
    let refused = answers.others().into_iter().filter(told).count();
    assert!((200..=300).contains(&refused), "{refused} {:?}", answers.others().first());
}

#[tokio::test]
async fn a_certificate_that_is_not_for_calls_is_told_at_the_start() {
    // Of this name the certificate has the topic, and not the one for its calls.
    let deployment = Deployment::configured("[gateway]\naccess = \"open\"", |config| {
        with_certificate(&config).replacen("topic = \"com.example.mm\"", "topic = \"com.example.mm.voip\"", 1)
    });

    deployment.service.until_logged("Apple will refuse the app's calls").await;
}

/// The app `ios` with a certificate in place of its key.
fn with_certificate(config: &str) -> String {
    let ios = config.split("[apps.").find(|app| app.starts_with("ios]")).unwrap();
    let without: Vec<_> =
        ios.lines().filter(|line| !line.starts_with("team_id") && !line.starts_with("key_id")).collect();
    let with =
        without.join("\n").replace("key_file", "certificate_file").replace("apns.p8", "apns-certificate.pem");
    config.replace(ios, &format!("{with}\n"))
}

#[tokio::test]
async fn a_certificate_stands_in_for_a_key() {
    let deployment =
        Deployment::configured("[gateway]\naccess = \"open\"", |config| with_certificate(&config));

    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
    assert_eq!(deployment.push(&ios(json!({ "transport": "voip", "sub_type": "calls" }))).await.json(), ok());

    assert!(deployment.received().iter().all(|received| !received.headers.contains_key("authorization")));
    let days = deployment.metric("app_credential_days_left", "ios\"").await;
    assert!(days > 1000.0, "{days}");
}

#[tokio::test]
async fn a_success_is_remembered_when_the_service_is_started_again() {
    let mut deployment = Deployment::start();
    assert_eq!(deployment.push(&to_iphone(1)).await.json(), ok());
    deployment.service.terminate();
    deployment.service.child.wait().unwrap();
    deployment.service = Service::start(&deployment.config);

    deployment.simulator.script(refuses(ProviderName::Apns, 400, "BadDeviceToken"));

    assert_eq!(deployment.push(&to_iphone(2)).await.json(), json!({ "status": "REMOVE" }));
}

#[tokio::test]
async fn a_google_that_refuses_a_part_of_all_requests_is_not_asked_for_ever_more_tokens() {
    let deployment = Deployment::start();
    assert_eq!(deployment.push(&to_android(0)).await.json(), ok());
    let mut refuses = refuses(ProviderName::Fcm, 401, "UNAUTHENTICATED");
    refuses.percent = 30;
    deployment.simulator.script(refuses);

    for number in 1..100 {
        deployment.push(&to_android(number)).await;
    }

    let requests = deployment.simulator.stats().token_requests;
    assert!((2..=5).contains(&requests), "{requests}");
}
