//! From a mattermost-push-proxy configuration to pushes that flow, and the proof before a start.

use std::process::Output;

use provider_sim::{ProviderName, Script, ScriptedAnswer};
use serde_json::json;

use crate::harness::{Deployment, Service, android, ios, run};
use crate::http::{exchange, post};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check(deployment: &Deployment, more: &[&str]) -> Output {
    run(&[&["check-config", "--config", deployment.config.to_str().unwrap()], more].concat())
}

// The simulator has to answer while the command runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_configuration_serves_the_same_apps_in_the_same_way() {
    let deployment = Deployment::start();
    let directory = deployment.directory.path();
    let source = json!({
        "ListenAddress": "127.0.0.1:0", "ThrottlePerSec": 300, "ThrottleMemoryStoreSize": 50000,
        "ThrottleVaryByHeader": "X-Forwarded-For", "EnableMetrics": true,
        "SendTimeoutSec": 20, "RetryTimeoutSec": 8, "LogFormat": "json", "EnableConsoleLog": true,
        "EnableFileLog": true, "LogFileLocation": "push.log",
        "ApplePushSettings": [
            { "Type": "apple_rn", "ApplePushUseDevelopment": false, "ApplePushTopic": "com.example.mm",
              "AppleAuthKeyFile": "simulator/apns.p8", "AppleAuthKeyID": "SIMKEY0001", "AppleTeamID": "SIMTEAM001",
              "ApplePushCertPrivate": "", "ApplePushCertPassword": "" },
            { "Type": "apple_rnbeta", "ApplePushTopic": "com.example.mm.beta",
              "ApplePushCertPrivate": "simulator/apns-certificate.pem", "ApplePushCertPassword": "" },
            { "Type": "apple", "ApplePushTopic": "", "ApplePushCertPrivate": "" }
        ],
        "AndroidPushSettings": [
            { "Type": "android", "AndroidApiKey": "canary" },
            { "Type": "android_rn", "ServiceFileLocation": "simulator/service-account.json" }
        ],
        "SomethingElse": true
    });
    let (old, new) = (directory.join("mattermost-push-proxy.json"), directory.join("imported.toml"));
    std::fs::write(&old, source.to_string()).unwrap();

    let imported = run(&["import-config", old.to_str().unwrap(), "--output", new.to_str().unwrap()]);

    let told = text(&imported.stderr);
    assert!(imported.status.success(), "{told}");
    for word in [
        "ThrottlePerSec",
        "metrics are always on",
        "RetryTimeoutSec 8",
        "push.log",
        "\"apple\" has no",
        "AndroidApiKey",
        "\"android\" has no",
        "SomethingElse",
    ] {
        assert!(told.contains(word), "{word} is not told: {told}");
    }
    let toml = std::fs::read_to_string(&new).unwrap();
    assert!(!toml.contains("canary"));
    for line in [
        "listen = \"127.0.0.1:0\"",
        "access = \"open\"",
        "budget_ms = 20000",
        "apns_attempt_timeout_ms = 8000",
        "format = \"json\"",
        "[apps.apple_rn]",
        "platform = \"apple_rn\"",
        "topic = \"com.example.mm\"",
        "team_id = \"SIMTEAM001\"",
        "key_id = \"SIMKEY0001\"",
        "[apps.apple_rnbeta]",
        "topic = \"com.example.mm.beta\"",
        "[apps.android_rn]",
        "project = \"proj-1\"",
    ] {
        assert!(toml.lines().any(|it| it == line), "{line} is missing: {toml}");
    }
    // Apple and Google are the simulator, which mattermost-push-proxy could not have been told.
    let ca = deployment.simulator.ca_file().display().to_string();
    let apple =
        format!("endpoint = \"localhost:{}\"\nca_file = \"{ca}\"", deployment.simulator.apns().port());
    let google = format!("https://localhost:{}", deployment.simulator.fcm().port());
    let google = format!("base_url = \"{google}\"\ntoken_url = \"{google}/token\"\nca_file = \"{ca}\"");
    let toml = toml
        .replace("provider = \"apns\"", &format!("provider = \"apns\"\n{apple}"))
        .replace("provider = \"fcm\"", &format!("provider = \"fcm\"\n{google}"));
    let rest = "\n[development]\ncustom_endpoints = true\n[health]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(&new, format!("data_dir = \"{}\"\n{toml}{rest}", directory.display())).unwrap();

    let checked = run(&["check-config", "--config", new.to_str().unwrap(), "--dry-run"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
    let service = Service::start(&new);
    for push in [ios(json!({})), ios(json!({ "platform": "apple_rnbeta" })), android(json!({}))] {
        let request = post("/api/v1/send_push", push.to_string().as_bytes());
        assert_eq!(exchange(service.gateway, &request).await.json(), json!({ "status": "OK" }), "{push}");
    }
}

#[tokio::test]
async fn an_existing_file_is_not_overwritten_and_a_wrong_source_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("old.json"), directory.path().join("new.toml"));
    std::fs::write(&old, "{}").unwrap();
    std::fs::write(&new, "mine").unwrap();

    let kept = run(&["import-config", old.to_str().unwrap(), "--output", new.to_str().unwrap()]);
    let missing = run(&["import-config", "/nowhere.json"]);
    std::fs::write(&old, "{\"a\":").unwrap();
    let broken = run(&["import-config", old.to_str().unwrap()]);

    assert!(!kept.status.success() && std::fs::read_to_string(&new).unwrap() == "mine");
    assert!(!missing.status.success() && text(&missing.stderr).contains("/nowhere.json"));
    assert!(!broken.status.success() && text(&broken.stderr).contains("is not JSON"));
}

// The simulator has to answer while the command runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_asks_the_providers_whether_they_take_the_credentials() {
    let deployment = Deployment::start();
    let good = check(&deployment, &["--dry-run"]);
    assert!(good.status.success(), "{}", text(&good.stdout));
    assert_eq!(text(&good.stdout).matches("dry run: ok").count(), 3, "{}", text(&good.stdout));

    let refused = ScriptedAnswer {
        status: 403,
        reason: Some("InvalidProviderToken".into()),
        ..ScriptedAnswer::default()
    };
    let revoked =
        ScriptedAnswer { status: 400, reason: Some("invalid_grant".into()), ..ScriptedAnswer::default() };
    for (token, provider, answer) in
        [("*", ProviderName::Apns, refused), ("oauth", ProviderName::Fcm, revoked)]
    {
        let script = Script {
            token: token.into(),
            provider: Some(provider),
            answers: vec![answer].into(),
            repeat: true,
            ..Script::default()
        };
        deployment.simulator.script(script);
    }
    let bad = check(&deployment, &["--dry-run"]);
    assert!(!bad.status.success());
    let told = text(&bad.stdout);
    assert!(told.contains("InvalidProviderToken") && told.contains("OAUTH_REFUSED"), "{told}");
    assert!(check(&deployment, &[]).status.success(), "without the dry run nobody is asked");
}

#[tokio::test]
async fn a_certificate_of_another_app_is_refused_before_a_start() {
    let deployment = Deployment::start();
    let config = std::fs::read_to_string(&deployment.config).unwrap();
    let wrong = config
        .replace(
            "topic = \"com.example.mm\"\nteam_id = \"SIMTEAM001\"\nkey_id = \"SIMKEY0001\"\nkey_file",
            "topic = \"com.example.other\"\ncertificate_file",
        )
        .replacen("apns.p8", "apns-certificate.pem", 1);
    std::fs::write(&deployment.config, wrong).unwrap();

    let checked = check(&deployment, &[]);

    assert!(!checked.status.success());
    let told = text(&checked.stdout);
    assert!(
        told.contains("com.example.mm.voip") && told.contains("not for `topic` com.example.other"),
        "{told}"
    );
}
