//! System tests: our own API, `/v1`.

use provider_sim::ScriptedAnswer;
use serde_json::{Value, json};

use crate::harness::{ANDROID_TOKEN, Deployment, IOS_TOKEN};

fn to(app: &str, token: &str, more: &Value) -> Vec<u8> {
    let mut body = json!({ "to": { "app": app, "token": token }, "channel": "message", "body": "hello" });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body.to_string().into_bytes()
}

#[tokio::test]
async fn a_notification_reaches_the_phone_of_either_provider() {
    let deployment = Deployment::with("");
    let message =
        json!({ "title": "T", "badge": 2, "data": { "post": "p1" }, "collapse_id": "c1", "ttl": 60 });
    for (app, token) in [("ios", IOS_TOKEN), ("android", ANDROID_TOKEN)] {
        let answer = deployment.post("/v1/notifications", &to(app, token, &message)).await;
        assert_eq!(
            (answer.status, answer.json()["status"].as_str()),
            (200, Some("sent")),
            "{}",
            answer.text()
        );
        assert!(answer.head.contains(answer.json()["id"].as_str().unwrap()), "{}", answer.head);
    }

    let received = deployment.received();
    let (apple, google) = (&received[0], &received[1]);
    assert_eq!((&*apple.headers["apns-push-type"], &*apple.headers["apns-collapse-id"]), ("alert", "c1"));
    assert_eq!(apple.body["aps"]["alert"], json!({ "title": "T", "body": "hello" }));
    assert_eq!((&apple.body["aps"]["badge"], &apple.body["post"]), (&json!(2), &json!("p1")));
    let message = &google.body["message"];
    assert_eq!((&message["data"]["post"], &message["data"]["title"]), (&json!("p1"), &json!("T")));
    assert_eq!(
        (&message["android"]["ttl"], &message["android"]["collapse_key"]),
        (&json!("60s"), &json!("c1"))
    );
}

#[tokio::test]
async fn a_call_goes_over_the_channel_for_calls_and_a_silent_push_wakes_nobody() {
    let deployment = Deployment::with("");
    let call = json!({ "channel": "voip", "call_id": "call-1", "ttl": 3600 });
    let silent = json!({ "channel": "background", "body": null, "badge": 0 });
    for more in [call, silent] {
        let answer = deployment.post("/v1/notifications", &to("ios", IOS_TOKEN, &more)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    let received = deployment.received();
    let header = |index: usize, name: &str| received[index].headers[name].clone();
    assert!(header(0, "apns-topic").contains(".voip") && header(0, "apns-priority") == "10");
    assert_eq!(received[0].body["call_id"], "call-1");
    assert_eq!((header(1, "apns-push-type"), header(1, "apns-priority")), ("background".into(), "5".into()));
}

#[tokio::test]
async fn a_dead_device_is_told_and_a_fault_is_a_problem_with_its_code() {
    let deployment = Deployment::with("");
    let gone =
        |status, reason: &str| ScriptedAnswer { status, reason: Some(reason.into()), ..Default::default() };
    deployment.script(IOS_TOKEN, vec![gone(410, "Unregistered"), gone(400, "BadTopic")]);
    let push = async |body: &[u8]| deployment.post("/v1/notifications", body).await;

    let answer = push(&to("ios", IOS_TOKEN, &json!({}))).await.json();
    assert_eq!((&answer["status"], &answer["reason"]), (&json!("removed"), &json!("Unregistered")));

    let long_ago = json!({ "deadline": "2020-01-01T00:00:00Z" });
    for (body, status, code) in [
        (to("ios", IOS_TOKEN, &json!({})), 502, "app_misconfigured"),
        (to("nobody's", IOS_TOKEN, &json!({})), 404, "unknown_platform"),
        (to("ios", "no token", &json!({})), 400, "bad_device_token"),
        (to("ios", IOS_TOKEN, &json!({ "body": "x".repeat(5000) })), 413, "payload_too_large"),
        (to("ios", IOS_TOKEN, &json!({ "wrong": 1 })), 400, "bad_request"),
        (to("ios", IOS_TOKEN, &long_ago), 400, "bad_request"),
        (b"no JSON".to_vec(), 400, "bad_request"),
    ] {
        let answer = push(&body).await;
        let problem = answer.json();
        assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert!(answer.head.contains("application/problem+json") && problem["detail"].as_str().is_some());
        assert!(!answer.text().contains("Fail"), "{problem}");
    }
    assert_eq!(deployment.received().len(), 2, "what is refused is not sent");
}

#[tokio::test]
async fn nobody_pushes_without_a_key_and_nobody_to_an_app_of_somebody_else() {
    let deployment = Deployment::with("");
    let body = to("ios", IOS_TOKEN, &json!({}));
    let head = format!(
        "POST /v1/notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = crate::http::exchange(deployment.service.gateway, &[head.into_bytes(), body].concat()).await;

    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("licence_missing")));
    let get = b"GET /v1/notifications HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = crate::http::exchange(deployment.service.gateway, get).await;
    assert!(answer.status == 405 && answer.head.contains("allow: post"), "{}", answer.head);
}
