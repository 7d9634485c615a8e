//! The console in headless Chromium, driven by `tests/console/console.mjs`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{ANDROID_TOKEN, Deployment, run};

/// The simulator needs threads of its own while the browser works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_the_way_on_every_page() {
    let deployment = Deployment::with("");
    let token = run(&["first-token", "--config", deployment.config.to_str().unwrap()]);
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("console/console.mjs");
    let shots = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("console");
    std::fs::create_dir_all(&shots).unwrap();
    let console = format!("http://{}", deployment.service.admin);

    let node = Command::new("node")
        .arg(script)
        .args([&console, &token, ANDROID_TOKEN, "android_rn-v2"])
        .arg(&shots)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node is installed by scripts/setup.sh");
    let output = tokio::task::spawn_blocking(|| node.wait_with_output().unwrap()).await.unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("looks"), "{text}");
    let log = deployment.service.log();
    assert!(!log.contains(&token) && !log.contains("panick"), "{log}");
}
