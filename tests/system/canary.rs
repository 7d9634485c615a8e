//! No content, token or key where it does not belong: one run with everything at its loudest.

use std::path::Path;

use provider_sim::{Action, ScriptedAnswer};
use serde_json::json;

use crate::harness::{Deployment, android, ios};
use crate::http::{exchange, post};

const TEXT: &str = "canarytextxyz";
const NAME: &str = "canarynamexyz";
const IOS: &str = "cafe7f3acafe7f3acafe7f3acafe7f3acafe7f3acafe7f3acafe7f3acafe7f3a";
const ANDROID: &str = "canary-device:7f3a";
const FOREIGN: &str = "canaryforeignxyz";

/// Sends pushes that succeed, fail in every way, and cannot be read.
async fn provoke(deployment: &Deployment) -> Vec<String> {
    let content = json!({ "message": TEXT, "channel_name": NAME, "sender_name": NAME });
    let with = |mut push: serde_json::Value, device: &str| {
        push["device_id"] = device.into();
        for (key, value) in content.as_object().unwrap() {
            push[key] = value.clone();
        }
        push
    };
    let says = |status, reason: &str| ScriptedAnswer {
        status,
        reason: Some(reason.into()),
        ..ScriptedAnswer::default()
    };
    let acts = |action| ScriptedAnswer { action: Some(action), ..ScriptedAnswer::default() };
    let mut answers = Vec::new();
    for script in [
        says(200, ""),
        says(400, "BadDeviceToken"),
        says(400, &format!("{TEXT} {IOS}")),
        says(400, IOS),
        says(403, "InvalidProviderToken"),
        says(403, "SENDER_ID_MISMATCH"),
        says(404, "UNREGISTERED"),
        says(429, "TooManyRequests"),
        says(500, "INTERNAL"),
        ScriptedAnswer {
            status: 400,
            body: Some(format!("<html>{TEXT}</html>")),
            ..ScriptedAnswer::default()
        },
        acts(Action::Reset),
        acts(Action::Close),
        acts(Action::GoAway),
    ] {
        for (push, token) in [(with(ios(json!({})), IOS), IOS), (with(android(json!({})), ANDROID), ANDROID)]
        {
            deployment.script(token, vec![script.clone()]);
            answers.push(deployment.push(&push).await.text());
        }
    }
    for body in [
        format!(r#"{{"message":"{TEXT}"#),
        format!(r#"{{"badge":"{TEXT}"}}"#),
        format!("\"{TEXT}\""),
        with(ios(json!({ "platform": "junk" })), IOS).to_string(),
        with(ios(json!({})), &format!("{IOS}/?#{ANDROID}")).to_string(),
        with(ios(json!({ "category": TEXT.repeat(500) })), IOS).to_string(),
    ] {
        answers.push(deployment.post("/api/v1/send_push", body.as_bytes()).await.text());
    }
    answers.push(
        deployment
            .post("/api/v1/ack", format!(r#"{{"id":"{TEXT}","received_at":"{TEXT}"}}"#).as_bytes())
            .await
            .text(),
    );
    let head = format!("X-Mattermost-Auth: {FOREIGN}\r\nAuthorization: Basic {FOREIGN}\r\nHost: x\r\n");
    let request = format!("GET {}/{TEXT} HTTP/1.1\r\n{head}\r\n", deployment.prefix);
    answers.push(exchange(deployment.service.gateway, request.as_bytes()).await.text());
    let broken = format!(
        "POST {}/api/v1/send_push HTTP/1.1\r\n{head}Content-Length: 3\r\n\r\n{TEXT}",
        deployment.prefix
    );
    answers.push(exchange(deployment.service.gateway, broken.as_bytes()).await.text());
    answers.push(
        exchange(deployment.service.gateway, &post(&format!("{}x/api/v1/ack", deployment.prefix), b""))
            .await
            .text(),
    );
    answers
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn nothing_secret_is_in_logs_answers_metrics_or_files_at_trace() {
    let deployment = Deployment::with("[log]\nlevel = \"trace\"");
    let key = deployment.prefix.trim_start_matches("/t/").to_owned();
    let (_, secret) = key.rsplit_once('_').unwrap();
    let account = std::fs::read_to_string(deployment.simulator.service_account_file()).unwrap();
    let private_key =
        serde_json::from_str::<serde_json::Value>(&account).unwrap()["private_key"].as_str().unwrap()[40..90]
            .to_owned();
    let p8 = std::fs::read_to_string(deployment.simulator.apns_key_file()).unwrap()[40..80].to_owned();

    let answers = provoke(&deployment).await.join("\n");
    let metrics = deployment.metrics().await;
    let Deployment { mut service, directory, .. } = deployment;
    service.terminate();
    service.child.wait().unwrap();

    service.until_logged("\"message\":\"stopped\"").await;
    let log = service.log();
    assert!(log.contains("push answered"), "the log is there: {log}");
    let secrets = [TEXT, NAME, IOS, ANDROID, FOREIGN, secret, "bearer ", "ya29.", &private_key, &p8];
    for (place, text) in [("log", &log), ("answers", &answers), ("metrics", &metrics)] {
        for secret in secrets {
            assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{secret} in {place}");
        }
    }
    let stored = files(directory.path());
    assert!(stored.iter().any(|(name, _)| name.ends_with("hpns.db")));
    for (name, bytes) in stored.iter().filter(|(name, _)| !name.ends_with("hpns.toml")) {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        for secret in [TEXT, NAME, IOS, ANDROID, FOREIGN, secret] {
            assert!(!text.contains(&secret.to_lowercase()), "{secret} in {name}");
        }
    }
}
