//! System tests: provider responses, and what the customer's server is told.

use provider_sim::{Action, ScriptedAnswer};
use serde_json::{Value, json};

use crate::harness::{ANDROID_TOKEN, Deployment, IOS_TOKEN, android, ios};

fn says(status: u16, reason: &str) -> ScriptedAnswer {
    ScriptedAnswer { status, reason: Some(reason.into()), ..ScriptedAnswer::default() }
}

/// Sends one iOS push that Apple answers like this, and returns the answer and how often it was sent.
async fn ios_case(answers: Vec<ScriptedAnswer>) -> (Value, usize) {
    let deployment = Deployment::start();
    deployment.script(IOS_TOKEN, answers);
    let answer = deployment.push(&ios(json!({}))).await.json();
    (answer, deployment.received().len())
}

/// The same for Android and Google.
async fn android_case(answers: Vec<ScriptedAnswer>) -> (Value, usize) {
    let deployment = Deployment::start();
    deployment.script(ANDROID_TOKEN, answers);
    let answer = deployment.push(&android(json!({}))).await.json();
    (answer, deployment.received().len())
}

fn ok() -> Value {
    json!({ "status": "OK" })
}

fn remove() -> Value {
    json!({ "status": "REMOVE" })
}

fn failed_with(answer: &Value, code: &str) {
    assert_eq!(answer["status"], "FAIL");
    assert!(answer["error"].as_str().unwrap().starts_with(&format!("{code}: ")), "{answer}");
}

#[tokio::test]
async fn p01_keep_apns_200() {
    assert_eq!(ios_case(vec![]).await, (ok(), 1));
}

#[tokio::test]
async fn p02_keep_apns_bad_device_token_once_the_app_had_a_success() {
    let (answer, _) = ios_case(vec![says(400, "BadDeviceToken")]).await;
    failed_with(&answer, "app_misconfigured");

    let deployment = Deployment::start();
    deployment.script(IOS_TOKEN, vec![says(200, ""), says(400, "BadDeviceToken")]);
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), remove());
}

#[tokio::test]
async fn p02_mend_apns_bad_device_token_for_everybody_is_our_mistake() {
    let deployment = Deployment::start();
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
    let mut answers = Vec::new();
    for number in 0..40 {
        let token = format!("{number:064x}");
        deployment.script(&token, vec![says(400, "BadDeviceToken")]);
        answers.push(deployment.push(&ios(json!({ "device_id": token }))).await.json());
    }

    assert!(answers[..19].iter().all(|answer| *answer == remove()));
    answers[19..].iter().for_each(|answer| failed_with(answer, "app_misconfigured"));
}

#[tokio::test]
async fn p03_keep_apns_unregistered() {
    let answer = ScriptedAnswer { timestamp: Some(1_700_000_000_000), ..says(410, "Unregistered") };
    assert_eq!(ios_case(vec![answer]).await, (remove(), 1));
}

#[tokio::test]
async fn p03_keep_apns_410_whose_body_never_comes_or_is_not_apples() {
    let html = ScriptedAnswer { status: 410, body: Some("<html>".into()), ..ScriptedAnswer::default() };
    assert_eq!(ios_case(vec![html]).await, (ok(), 2));

    let deployment = Deployment::start();
    let huge = ScriptedAnswer { status: 400, body: Some("x".repeat(200_000)), ..ScriptedAnswer::default() };
    deployment.script(IOS_TOKEN, vec![huge, says(410, "Unregistered")]);
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), remove());
}

#[tokio::test]
async fn p04_mend_apns_device_token_not_for_topic() {
    let deployment = Deployment::with("[gateway]\naccess = \"open\"");
    deployment.script(
        IOS_TOKEN,
        vec![says(400, "DeviceTokenNotForTopic"), says(200, ""), says(400, "DeviceTokenNotForTopic")],
    );

    failed_with(&deployment.push(&ios(json!({}))).await.json(), "app_misconfigured");
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), remove());
}

#[tokio::test]
async fn p05_mend_apns_missing_device_token() {
    failed_with(&ios_case(vec![says(400, "MissingDeviceToken")]).await.0, "rejected");
}

#[tokio::test]
async fn p06_mend_apns_expired_token() {
    assert_eq!(ios_case(vec![says(410, "ExpiredToken")]).await, (remove(), 1));
}

#[tokio::test]
async fn p07_mend_apns_payload_too_large_is_never_provoked() {
    let (answer, sends) = ios_case(vec![says(413, "PayloadTooLarge")]).await;
    failed_with(&answer, "rejected");
    assert_eq!(sends, 1);

    let deployment = Deployment::start();
    for push in [
        ios(json!({ "message": "\"".repeat(2046) })),
        android(json!({ "message": "가".repeat(682), "category": "x".repeat(2100) })),
    ] {
        assert_eq!(deployment.push(&push).await.json(), ok());
    }
    let received = deployment.received();
    assert!(received.iter().all(|one| one.status == 200));
    let text = received[0].body["aps"]["alert"].as_str().unwrap();
    assert!(text.len() > 1500 && text.chars().all(|character| character == '"'));
    let text = received[1].body["message"]["data"]["message"].as_str().unwrap();
    assert!(text.len() > 1500 && text.chars().all(|character| character == '가'));

    let hopeless = deployment.push(&ios(json!({ "category": "x".repeat(5000) }))).await;
    failed_with(&hopeless.json(), "payload_too_large");
    let voip = ios(json!({ "transport": "voip", "sender_name": "x".repeat(5200) }));
    failed_with(&deployment.push(&voip).await.json(), "payload_too_large");
    let voip = ios(json!({ "transport": "voip", "sender_name": "x".repeat(4700) }));
    assert_eq!(deployment.push(&voip).await.json(), ok());
}

#[tokio::test]
async fn p08_mend_apns_expired_provider_token_is_tried_again_on_a_new_connection() {
    let deployment = Deployment::start();
    deployment.script(IOS_TOKEN, vec![says(403, "ExpiredProviderToken")]);

    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());

    let connections: Vec<_> = deployment.received().iter().map(|one| one.connection).collect();
    assert_eq!(connections.len(), 2);
    assert_ne!(connections[0], connections[1]);
}

#[tokio::test]
async fn p09_keep_apns_credentials_refused() {
    for reason in
        ["InvalidProviderToken", "BadCertificate", "BadEnvironmentKeyInToken", "BadEnvironmentKeyIdInToken"]
    {
        let (answer, sends) = ios_case(vec![says(403, reason); 3]).await;
        failed_with(&answer, "app_misconfigured");
        assert!(answer["error"].as_str().unwrap().contains(reason));
        assert!(sends <= 2, "{reason}");
    }
}

#[tokio::test]
async fn p10_keep_apns_too_many_requests_is_not_sent_again() {
    let (answer, sends) = ios_case(vec![says(429, "TooManyRequests")]).await;
    failed_with(&answer, "provider_busy");
    assert_eq!(sends, 1);
}

#[tokio::test]
async fn p11_mend_apns_too_many_provider_token_updates_mints_nothing() {
    let deployment = Deployment::start();
    deployment.script(IOS_TOKEN, vec![says(429, "TooManyProviderTokenUpdates")]);

    failed_with(&deployment.push(&ios(json!({}))).await.json(), "provider_busy");
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());

    assert!(deployment.simulator.stats().provider_tokens <= deployment.simulator.stats().apns_connections);
}

#[tokio::test]
async fn p12_mend_apns_5xx_is_tried_again() {
    for (status, reason) in [(500, "InternalServerError"), (503, "ServiceUnavailable"), (503, "Shutdown")] {
        assert_eq!(ios_case(vec![says(status, reason)]).await, (ok(), 2), "{reason}");
    }
    let (answer, sends) = ios_case(vec![says(503, "ServiceUnavailable"); 9]).await;
    failed_with(&answer, "provider_down");
    assert_eq!(sends, 3);
    let asked = ScriptedAnswer { retry_after: Some("5".into()), ..says(503, "ServiceUnavailable") };
    let (answer, sends) = ios_case(vec![asked]).await;
    failed_with(&answer, "provider_down");
    assert_eq!(sends, 1);
}

#[tokio::test]
async fn p13_keep_apns_transport_faults_are_tried_again_under_the_same_id() {
    for action in [Action::Reset, Action::Refuse, Action::Close, Action::GoAway] {
        let deployment = Deployment::start();
        deployment
            .script(IOS_TOKEN, vec![ScriptedAnswer { action: Some(action), ..ScriptedAnswer::default() }]);

        assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok(), "{action:?}");

        let ids: Vec<_> = deployment.received().iter().map(|one| one.headers["apns-id"].clone()).collect();
        assert_eq!(ids.len(), 2, "{action:?}");
        assert_eq!(ids[0], ids[1]);
    }
    let hang = ScriptedAnswer { action: Some(Action::Hang), ..ScriptedAnswer::default() };
    let deployment =
        Deployment::with("[gateway]\naccess = \"open\"\n[worker]\napns_attempt_timeout_ms = 300");
    deployment.script(IOS_TOKEN, vec![hang]);
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
}

#[tokio::test]
async fn p14_keep_apns_body_that_is_no_json() {
    let html =
        ScriptedAnswer { status: 400, body: Some("<html>proxy</html>".into()), ..ScriptedAnswer::default() };
    assert_eq!(ios_case(vec![html]).await, (ok(), 2));
}

#[tokio::test]
async fn p15_keep_fcm_200() {
    assert_eq!(android_case(vec![]).await, (ok(), 1));
}

#[tokio::test]
async fn p16_keep_fcm_unregistered() {
    assert_eq!(android_case(vec![says(404, "UNREGISTERED")]).await, (remove(), 1));
    failed_with(&android_case(vec![says(404, "")]).await.0, "app_misconfigured");
}

#[tokio::test]
async fn p17_mend_fcm_sender_id_mismatch() {
    let deployment = Deployment::with("[gateway]\naccess = \"open\"");
    deployment.script(ANDROID_TOKEN, vec![says(403, "SENDER_ID_MISMATCH")]);
    failed_with(&deployment.push(&android(json!({}))).await.json(), "app_misconfigured");

    assert_eq!(deployment.push(&android(json!({}))).await.json(), ok());
    deployment.script(ANDROID_TOKEN, vec![says(403, "SENDER_ID_MISMATCH")]);

    assert_eq!(deployment.push(&android(json!({}))).await.json(), remove());
    assert_eq!(deployment.metric("service_removal_total", "reason=\"SENDER_ID_MISMATCH\"").await, 1.0);
}

#[tokio::test]
async fn p18_mend_fcm_invalid_argument_removes_only_for_the_token() {
    let body = |field: &str| {
        let detail = json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{ "field": field, "description": "x" }] });
        let error = json!({ "error": { "code": 400, "message": "x", "status": "INVALID_ARGUMENT", "details": [detail] } });
        ScriptedAnswer { status: 400, body: Some(error.to_string()), ..ScriptedAnswer::default() }
    };
    assert_eq!(android_case(vec![body("message.token")]).await, (remove(), 1));
    failed_with(&android_case(vec![body("message.data[0].value")]).await.0, "rejected");
}

#[tokio::test]
async fn p19_mend_fcm_429_of_both_kinds_is_not_sent_again() {
    for (reason, retry_after) in
        [("QUOTA_EXCEEDED", None), ("RATE_LIMIT_EXCEEDED", None), ("QUOTA_EXCEEDED", Some("30"))]
    {
        let answer = ScriptedAnswer { retry_after: retry_after.map(str::to_owned), ..says(429, reason) };
        let (answer, sends) = android_case(vec![answer]).await;
        failed_with(&answer, "provider_busy");
        assert_eq!(sends, 1);
    }
}

#[tokio::test]
async fn p20_keep_fcm_internal() {
    assert_eq!(android_case(vec![says(500, "INTERNAL")]).await, (ok(), 2));
}

#[tokio::test]
async fn p21_mend_fcm_500_without_detail() {
    assert_eq!(android_case(vec![says(500, "")]).await, (ok(), 2));
}

#[tokio::test]
async fn p22_keep_fcm_503() {
    assert_eq!(android_case(vec![says(503, "UNAVAILABLE")]).await, (ok(), 2));
    let asked = ScriptedAnswer {
        retry_after: Some("Tue, 31 Dec 2999 23:59:59 GMT".into()),
        ..says(503, "UNAVAILABLE")
    };
    let (answer, sends) = android_case(vec![asked]).await;
    failed_with(&answer, "provider_down");
    assert_eq!(sends, 1);
}

#[tokio::test]
async fn p23_mend_fcm_credentials_refused() {
    let (answer, sends) = android_case(vec![says(401, "THIRD_PARTY_AUTH_ERROR")]).await;
    failed_with(&answer, "app_misconfigured");
    assert_eq!(sends, 1);

    let deployment = Deployment::start();
    deployment.script("oauth", vec![says(400, "invalid_grant"); 5]);
    for _ in 0..5 {
        let answer = deployment.push(&android(json!({}))).await.json();
        failed_with(&answer, "app_misconfigured");
        assert!(!answer.to_string().contains("http"), "{answer}");
    }
    assert_eq!(
        deployment.simulator.stats().token_requests,
        1,
        "a refused account is not tried for every push"
    );
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
}

#[tokio::test]
async fn p23_mend_fcm_expired_access_token_is_renewed_once() {
    let deployment = Deployment::start();
    assert_eq!(deployment.push(&android(json!({}))).await.json(), ok());
    let revoke = crate::http::post("/sim/revoke-access-tokens", b"");
    crate::http::exchange(deployment.simulator.control(), &revoke).await;

    assert_eq!(deployment.push(&android(json!({}))).await.json(), ok());

    assert_eq!(deployment.simulator.stats().token_requests, 2);
}

#[tokio::test]
async fn a_provider_that_never_answers_is_told_as_such() {
    let deployment = Deployment::with("[gateway]\naccess = \"open\"\nbudget_ms = 700");
    let hangs = ScriptedAnswer { action: Some(Action::Hang), ..ScriptedAnswer::default() };
    deployment.script(IOS_TOKEN, vec![hangs.clone(); 3]);
    deployment.script(ANDROID_TOKEN, vec![hangs; 3]);

    for push in [ios(json!({})), android(json!({}))] {
        let answer = deployment.push(&push).await.json();
        failed_with(&answer, "provider_down");
    }

    let told = || deployment.service.log().matches("\"attempts\":1").count();
    crate::harness::eventually("both attempts are logged", || told() == 2).await;
    assert_eq!(deployment.push(&ios(json!({ "device_id": "ab".repeat(32) }))).await.json(), ok());
}

#[tokio::test]
async fn refused_credentials_do_not_cost_a_connection_for_every_push() {
    let deployment = Deployment::start();
    deployment.script("*", vec![says(403, "InvalidProviderToken"); 200]);
    for _ in 0..40 {
        failed_with(&deployment.push(&ios(json!({}))).await.json(), "app_misconfigured");
    }

    let connections = deployment.simulator.stats().apns_connections;
    assert!(connections <= 6, "{connections} connections for 40 pushes");
}

#[tokio::test]
async fn update_badge_goes_to_android_with_normal_priority_and_calls_expire() {
    let deployment = Deployment::start();
    for push in [
        android(json!({ "type": "update_badge", "badge": 2 })),
        android(json!({ "sub_type": "calls" })),
        android(json!({})),
        ios(json!({ "transport": "voip", "sub_type": "calls" })),
        ios(json!({})),
    ] {
        assert_eq!(deployment.push(&push).await.json(), ok());
    }

    let received = deployment.received();
    let android: Vec<_> = received[..3].iter().map(|one| one.body["message"]["android"].clone()).collect();
    assert_eq!(
        android,
        [
            json!({ "priority": "normal" }),
            json!({ "priority": "high", "ttl": "30s" }),
            json!({ "priority": "high" })
        ]
    );
    let expires: u64 = received[3].headers["apns-expiration"].parse().unwrap();
    let now = received[3].received_at_ms / 1000;
    assert!((now + 25..=now + 31).contains(&expires));
    assert_eq!(received[3].headers["apns-topic"], "com.example.mm.voip");
    assert!(!received[4].headers.contains_key("apns-expiration"));
}
