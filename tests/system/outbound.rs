//! System tests: outbound HTTP proxy.

use provider_sim::{Settings, Simulator};
use serde_json::json;

use crate::harness::{Deployment, android, ios};

/// A service behind a proxy that asks for `ada:secret`.
fn behind_a_proxy(login: &str, no_proxy: &str) -> Deployment {
    let settings = |settings: &mut Settings| settings.proxy_login = Some("ada:secret".into());
    let outbound = |simulator: &Simulator| {
        format!("\n[outbound]\nproxy = \"http://{login}@{}\"\nno_proxy = \"{no_proxy}\"\n", simulator.proxy())
    };
    Deployment::with_simulator(settings, |simulator, config| config + &outbound(simulator))
}

#[tokio::test]
async fn pushes_and_access_tokens_alike_go_through_the_proxy() {
    let deployment = behind_a_proxy("ada:secret", "");

    assert_eq!(deployment.push(&ios(json!({}))).await.json(), json!({ "status": "OK" }));
    assert_eq!(deployment.push(&android(json!({}))).await.json(), json!({ "status": "OK" }));

    let stats = deployment.simulator.stats();
    let (apple, google) = (deployment.simulator.apns().port(), deployment.simulator.fcm().port());
    let tunnels = |port: u16| stats.tunnels.get(&format!("localhost:{port}")).copied().unwrap_or(0);
    assert_eq!((tunnels(apple), tunnels(google)), (stats.apns_connections, stats.fcm_connections));
    assert_eq!(tunnels(google), 2, "one for the access token, one for the push");
}

#[tokio::test]
async fn a_proxy_that_refuses_the_login_is_told_without_showing_the_login() {
    let deployment = behind_a_proxy("ada:canary", "");

    assert!(deployment.push(&ios(json!({}))).await.error().starts_with("provider_down: "));
    assert!(deployment.push(&android(json!({}))).await.error().starts_with("provider_down: "));

    deployment.service.until_logged("the proxy opened no tunnel").await;
    let log = deployment.service.log();
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn hosts_that_are_excepted_are_reached_directly() {
    let deployment = behind_a_proxy("ada:canary", "localhost");

    assert_eq!(deployment.push(&ios(json!({}))).await.json(), json!({ "status": "OK" }));
    assert_eq!(deployment.push(&android(json!({}))).await.json(), json!({ "status": "OK" }));
    assert!(deployment.simulator.stats().tunnels.is_empty());
}
