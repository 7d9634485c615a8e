//! The command line: what is printed, what is refused, how it ends.

use crate::harness::{Deployment, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_names_the_release_and_the_commit() {
    let output = run(&["version"]);

    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with(concat!("hpns ", env!("CARGO_PKG_VERSION"), " (")));
}

#[test]
fn an_unknown_key_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, "[gateway]\nlisen = \"127.0.0.1:0\"\n").unwrap();

    let output = run(&["check-config", "--config", file.to_str().unwrap()]);

    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("`gateway.lisen`") && message.contains("did you mean `listen`?"), "{message}");
}

#[test]
fn variables_are_a_layer_with_the_same_rules() {
    let check = |name: &str, value: &str| {
        let mut command = std::process::Command::new(crate::harness::hpns());
        command.arg("check-config").env(name, value).output().unwrap()
    };

    assert!(check("HPNS_GATEWAY__LISTEN", "127.0.0.1:1").status.success());
    assert!(check("HPNS_SERVICE_HOST", "10.0.0.1").status.success(), "Kubernetes makes such variables");
    assert!(
        check("HPNS_GATEWAY_PORT", "tcp://10.0.0.1:8066").status.success(),
        "also of a service named hpns-gateway"
    );
    assert!(check("HPNS_REGION", "1").status.success(), "a text of digits is a text");
    let typo = check("HPNS_GATEWAY__LISEN", "127.0.0.1:1");
    assert!(text(&typo.stderr).contains("`gateway.lisen`"), "{}", text(&typo.stderr));
    let wrong = check("HPNS_WORKER__SLOTS", "canary");
    assert!(!wrong.status.success() && !text(&wrong.stderr).contains("canary"));
}

#[tokio::test]
async fn a_good_configuration_is_proven_and_a_broken_credential_named() {
    let deployment = Deployment::start();
    let config = deployment.config.to_str().unwrap();

    let good = run(&["check-config", "--config", config]);
    assert!(good.status.success());
    assert!(text(&good.stdout).contains("app ios: ok, APNs token key"));

    std::fs::write(deployment.simulator.apns_key_file(), "canary").unwrap();
    let broken = run(&["check-config", "--config", config]);
    assert_eq!(broken.status.code(), Some(1));
    let report = text(&broken.stdout);
    assert!(report.contains("app ios: cannot be used: the key file is not a PEM file"), "{report}");
    assert!(
        report.contains("app android: ok, FCM service account") && !report.contains("canary"),
        "{report}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let deployment = Deployment::start();
    let taken = deployment.service.gateway.to_string();
    let text_of = std::fs::read_to_string(&deployment.config).unwrap();
    let file = deployment.directory.path().join("second.toml");
    std::fs::write(&file, text_of.replacen("127.0.0.1:0", &taken, 1)).unwrap();

    let output = run(&["all", "--config", file.to_str().unwrap()]);

    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("gateway.listen: cannot listen on {taken}")),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn health_and_readiness_are_on_the_private_port_only() {
    let deployment = Deployment::start();
    for (path, body) in [("/health/live", "live\n"), ("/health/ready", "ready\n")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(crate::http::exchange(deployment.service.health, request.as_bytes()).await.text(), body);
        assert_eq!(crate::http::exchange(deployment.service.gateway, request.as_bytes()).await.status, 404);
    }
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(crate::http::exchange(deployment.service.gateway, request).await.status, 404);
}
