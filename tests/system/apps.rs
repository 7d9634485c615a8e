//! System tests: apps that come and go without a restart.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Deployment, android, eventually, put, run};

/// What `[apps.android]` says of where Google is, for `hpns app add`.
fn google(deployment: &Deployment) -> Vec<String> {
    let text = std::fs::read_to_string(&deployment.config).unwrap();
    let app = text.split("[apps.").find(|app| app.starts_with("android]")).unwrap();
    let pair = |line: &str| line.split_once(" = ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    app.lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(pair)
        .filter(|(key, _)| !["provider", "platform", "audience"].contains(&&**key))
        .flat_map(|(key, value)| match &*key {
            "project" | "service_account_file" => {
                let path = deployment.directory.path().join(value.trim_matches('"'));
                let value = if key == "project" {
                    value.trim_matches('"').to_owned()
                } else {
                    path.display().to_string()
                };
                ["--".to_owned() + &key.replace('_', "-"), value]
            }
            _ => ["--set".to_owned(), format!("{key}={value}")],
        })
        .collect()
}

/// Runs a command beside the simulator, which it may ask.
async fn app(deployment: &Deployment, arguments: &[&str]) -> Output {
    let config = deployment.config.to_str().unwrap();
    let all = [&["app"], arguments, &["--config", config]].concat();
    let all: Vec<_> = all.into_iter().map(str::to_owned).collect();
    let run = move || run(&all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn own_android() -> Value {
    android(json!({ "platform": "android_own-v2" }))
}

#[tokio::test]
async fn an_app_of_one_tenant_comes_and_goes_without_a_restart() {
    let deployment = Deployment::with("[credentials]\npoll_ms = 20");
    assert!(deployment.push(&own_android()).await.error().contains("missing platform"));
    deployment.service.until_logged("unknown_platform").await;
    let tenant = {
        let log = deployment.service.log();
        let line = log.lines().find(|line| line.contains("unknown_platform")).unwrap().to_owned();
        serde_json::from_str::<Value>(&line).unwrap()["tenant"].as_str().unwrap().to_owned()
    };

    let google = google(&deployment);
    let mut add = vec![
        "add",
        "own",
        "--provider",
        "fcm",
        "--platform",
        "android_own",
        "--audience",
        &tenant,
        "--dry-run",
    ];
    add.extend(google.iter().map(String::as_str));
    let added = app(&deployment, &add).await;
    assert!(added.status.success(), "{added:?}");
    deployment.service.until_logged("apps came or went").await;

    assert_eq!(deployment.push(&own_android()).await.json(), json!({ "status": "OK" }));
    assert!(deployment.push_of_other(&own_android()).await.error().contains("missing platform"));
    let again = app(&deployment, &add).await;
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is an app own already"), "{again:?}");

    let removed = app(&deployment, &["remove", "own"]).await;
    assert!(removed.status.success(), "{removed:?}");
    let log_of = || deployment.service.log().matches("apps came or went").count();
    eventually("the app is gone", || log_of() == 2).await;
    assert!(deployment.push(&own_android()).await.error().contains("missing platform"));
    let left = std::fs::read_dir(deployment.directory.path().join("apps.d")).unwrap().count();
    assert_eq!(left, 0, "its credentials are gone too");
    assert_eq!(
        deployment.push(&android(json!({}))).await.json(),
        json!({ "status": "OK" }),
        "the others serve"
    );
}

#[tokio::test]
async fn an_app_whose_credentials_are_no_good_is_not_added() {
    let deployment = Deployment::start();
    let broken = deployment.directory.path().join("broken.json");
    put(&broken, "{}");
    let fcm =
        ["--provider", "fcm", "--platform", "android_own", "--project", "demo", "--service-account-file"];

    for (file, told) in [(&broken, "service account"), (&broken.with_extension("gone"), "broken.gone")] {
        let refused =
            app(&deployment, &[&["add", "own"], &fcm[..], &[file.to_str().unwrap()]].concat()).await;
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains(told), "{refused:?}");
    }
    let twice = ["--provider", "fcm", "--platform", "android_rn"];
    let google = google(&deployment);
    let google: Vec<_> = google.iter().map(String::as_str).collect();
    let refused = app(&deployment, &[&["add", "own"], &twice[..], &google].concat()).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("android_rn"), "{refused:?}");
    assert!(!deployment.directory.path().join("apps.d/own.toml").exists());
    let unknown = app(&deployment, &["remove", "own"]).await;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no app own"), "{unknown:?}");
}
