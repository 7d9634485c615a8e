//! The first run: `hpns all --demo`, what it prints, and what a browser shows.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::{hpns, run_with};

struct Demo {
    child: Child,
    lines: Vec<String>,
    _directory: tempfile::TempDir,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    /// Starts the demo in an empty directory and reads what it prints.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // As `make run` does: through cargo, which adds variables of its own.
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        hpns();
        let mut child = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "hpns", "--manifest-path", manifest, "--", "all", "--demo"])
            .current_dir(directory.path())
            .env("HPNS_GATEWAY__LISTEN", "127.0.0.1:0")
            .env("HPNS_ADMIN__LISTEN", "127.0.0.1:0")
            .env("HPNS_HEALTH__LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.iter().filter(|line| line.starts_with("curl ")).count() == 2 {
                break;
            }
        }
        Self { child, lines, _directory: directory }
    }

    fn line(&self, start: &str) -> &str {
        self.lines
            .iter()
            .find_map(|line| line.strip_prefix(start))
            .unwrap_or_else(|| panic!("no {start}: {:?}", self.lines))
    }
}

fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn both_curls_that_the_first_run_prints_answer_ok_and_show_on_the_page() {
    let demo = Demo::start();
    let curls: Vec<_> = demo.lines.iter().filter(|line| line.starts_with("curl ")).collect();

    for curl in &curls {
        assert_eq!(shell(curl).trim(), r#"{"status":"OK"}"#);
    }

    assert_eq!(curls.len(), 2);
    let simulator = demo.line("simulator: ");
    let notifications: serde_json::Value =
        serde_json::from_str(&shell(&format!("curl -sS {simulator}/sim/notifications"))).unwrap();
    let providers: Vec<_> =
        notifications.as_array().unwrap().iter().map(|one| one["provider"].clone()).collect();
    assert_eq!(providers, ["apns", "fcm"]);
    let profile = tempfile::tempdir().unwrap();
    let page = shell(&format!(
        "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
         --disable-component-update --disable-sync --user-data-dir={} --virtual-time-budget=4000 --dump-dom {simulator} 2>/dev/null",
        profile.path().display()
    ));
    assert_eq!(
        page.matches("@bob: hello 👋").count(),
        4,
        "once as text and once in the request, on each phone: {page}"
    );
    assert!(page.contains("Town Square") && page.contains("accepted"));
}

#[test]
fn the_printed_token_opens_the_printed_console_and_api() {
    let demo = Demo::start();
    let (console, token) = (demo.line("console: "), demo.line("admin token: "));

    let output =
        run_with(&["tenant", "list", "--json", "--url", console], &[("HPNS_ADMIN_TOKEN", token)], "");
    let document = shell(&format!("curl -sS {console}/openapi.json"));
    let page = shell(&format!("curl -sSL {console}/"));

    assert!(output.status.success(), "{output:?}");
    let tenants: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(tenants[0]["name"], "demo", "{tenants}");
    assert!(document.starts_with(r#"{"openapi":"3.1.0""#), "{document}");
    assert!(page.contains("<form"), "{page}");
}

#[test]
fn the_command_line_sends_through_the_printed_url_and_shows_each_hop() {
    let demo = Demo::start();
    let url = demo.line("push URL: ");

    let url = [("HPNS_PUSH_URL", url)];
    let output = run_with(&["send", "--platform", "apple_rn-v2", "--message", "hi"], &url, &"ab".repeat(32));

    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for hop in [
        "answer       OK",
        "request id   job_",
        "queue ",
        "provider ",
        "total ",
        "attempts     1",
        "round trip ",
    ] {
        assert!(text.contains(hop), "{hop}: {text}");
    }
    let refused = run_with(&["send", "--platform", "junk"], &url, "x");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stdout).unwrap().contains("answer       FAIL  Did not send message"));
    let told = run_with(&["send", "--platform", "apple_rn-v2", "--url", url[0].1], &[], "x");
    assert!(!told.status.success() && !String::from_utf8(told.stderr).unwrap().contains("hpns_us"));
}
