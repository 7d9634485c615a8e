//! System tests: what was counted of pushes is what their callers were told, and whoever has the hours computes the report.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use provider_sim::ScriptedAnswer;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Deployment, Service, android, ios, run, run_with};
use crate::http::{exchange, post};
use crate::operators::Operator;

/// The ledger is written every ten seconds.
const WRITTEN: Duration = Duration::from_secs(30);

/// Sends pushes of every kind of end, and returns the tenant and what its callers were told.
async fn a_customer_with_pushes(deployment: &Deployment, operator: &Operator<'_>) -> (String, Value) {
    let (licence, key) = operator.customer("acme", json!({})).await;
    let licence = operator.make("GET", &format!("/licences/{licence}"), Value::Null).await;
    let tenant = licence["tenant"].as_str().unwrap().to_owned();
    operator.until(&key, &ios(json!({})), "\"OK\"").await;
    for _ in 0..12 {
        assert!(operator.push(&key, &android(json!({}))).await.text().contains("OK"));
    }
    let dead = "ab".repeat(32);
    let says =
        ScriptedAnswer { status: 410, reason: Some("Unregistered".into()), ..ScriptedAnswer::default() };
    deployment.script(&dead, vec![says]);
    let removed = operator.push(&key, &ios(json!({ "device_id": dead }))).await.text();
    assert!(removed.contains("REMOVE"), "{removed}");
    for _ in 0..3 {
        let refused = operator.push(&key, &ios(json!({ "device_id": "zz" }))).await.text();
        assert!(refused.contains("FAIL"), "{refused}");
    }
    let ack = json!({ "id": "a", "platform": "ios", "type": "message", "received_at": 1 });
    let request = post(&format!("/t/{key}/api/v1/ack"), ack.to_string().as_bytes());
    assert!(exchange(deployment.service.gateway, &request).await.text().contains("OK"));
    (tenant, json!({ "ok": 13, "removed": 1, "receipts": 1, "refused": 3 }))
}

async fn report_until(operator: &Operator<'_>, tenant: &str, expected: &Value) -> Value {
    let began = Instant::now();
    loop {
        let report = operator.make("GET", &format!("/tenants/{tenant}/service-level"), Value::Null).await;
        let total = &report["total"];
        let found = json!({
            "ok": total["ok"], "removed": total["removed"], "receipts": total["receipts"],
            "refused": total["refused"]["tenant"],
        });
        if found == *expected {
            return report;
        }
        assert!(began.elapsed() < WRITTEN, "{found} instead of {expected}");
        tokio::task::yield_now().await;
    }
}

fn recomputed(report: &Path, hours: &Path) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sla/recompute.py");
    Command::new("python3").arg(script).args([report, hours]).output().unwrap()
}

#[tokio::test]
async fn what_callers_were_told_is_what_the_report_says_and_anybody_computes_the_same() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (tenant, expected) = a_customer_with_pushes(&deployment, &operator).await;

    let report = report_until(&operator, &tenant, &expected).await;
    assert_eq!(report["is_kept"], true);
    assert_eq!(report["bad"], json!({ "ours": 0, "provider": 0, "tenant": 3, "device": 1 }));
    let region = operator.make("GET", "/service-level", Value::Null).await;
    assert_eq!(region["total"]["ok"], 13);
    let busiest = operator.make("GET", "/service-level/tenants", Value::Null).await;
    assert_eq!(busiest[0]["tenant"], *tenant);

    let url = format!("http://{}", deployment.service.admin);
    let sla = |arguments: &[&str]| {
        let all = [&["sla"], arguments, &["--url", &url]].concat();
        let output = run_with(&all, &[("HPNS_ADMIN_TOKEN", &operator.token)], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let directory = tempfile::tempdir().unwrap();
    let (report, hours) = (directory.path().join("report.json"), directory.path().join("hours.csv"));
    std::fs::write(&report, sla(&["report", &tenant, "--json"])).unwrap();
    let csv = sla(&["hours", &tenant]);
    std::fs::write(&hours, &csv).unwrap();
    let computed = recomputed(&report, &hours);
    assert!(computed.status.success(), "{}", String::from_utf8_lossy(&computed.stdout));

    // One push less, and it is found.
    let text = String::from_utf8(csv).unwrap();
    let forged = text.replacen("message,12,", "message,11,", 1);
    assert_ne!(forged, text);
    std::fs::write(&hours, forged).unwrap();
    assert!(!recomputed(&report, &hours).status.success());

    let kept = directory.path().join("kept");
    sla(&["export", &tenant, kept.to_str().unwrap()]);
    let signers = exchange(
        deployment.service.admin,
        b"GET /.well-known/hpns-report-signers HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    .await;
    let list = directory.path().join("signers");
    std::fs::write(&list, signers.text()).unwrap();
    let hpns = || {
        let arguments = ["sla", "verify", kept.to_str().unwrap(), "--signers", list.to_str().unwrap()];
        run(&arguments).status.success()
    };
    let stock = || {
        let report = std::fs::File::open(kept.join("report.json")).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-I", "hpns-us", "-n", "sla-report@hpns", "-f"]).arg(&list);
        command.arg("-s").arg(kept.join("report.json.sig")).stdin(report).output().unwrap().status.success()
    };
    assert!(hpns() && stock());
    assert!(recomputed(&kept.join("report.json"), &kept.join("hours.csv")).status.success());
    for file in ["report.json", "hours.csv"] {
        let good = std::fs::read_to_string(kept.join(file)).unwrap();
        std::fs::write(kept.join(file), good.replacen("12", "13", 1)).unwrap();
        assert!(!hpns(), "{file}");
        assert!(file != "report.json" || !stock());
        std::fs::write(kept.join(file), good).unwrap();
    }
}

#[tokio::test]
async fn an_orderly_stop_writes_all_that_was_counted_and_leaves_no_gap() {
    let mut deployment = Deployment::with("");
    let (tenant, expected) = {
        let operator = Operator::of(&deployment);
        a_customer_with_pushes(&deployment, &operator).await
    };
    deployment.service.terminate();
    assert!(deployment.service.child.wait().unwrap().success());
    deployment.service = Service::start(&deployment.config);

    let operator = Operator::of(&deployment);
    let report = operator.make("GET", &format!("/tenants/{tenant}/service-level"), Value::Null).await;

    assert_eq!(
        (&report["total"]["ok"], &report["total"]["receipts"]),
        (&expected["ok"], &expected["receipts"])
    );
    assert!(report["total"]["latency_us"]["p50"].as_u64().unwrap() > 0);
    assert_eq!(report["gaps"], json!([]));
}

/// What Prometheus would make of an hour and a half in which so many of 10,000 pushes a minute failed by our fault, and so
/// many calls were late: whether the page of the fast burn comes.
fn rule_test(ours: u32, late: u32) -> String {
    let series =
        |name: &str, a_minute: u32| format!("      - {{ series: '{name}', values: '0+{a_minute}x90' }}\n");
    let ends =
        |class: &str, owner: &str| format!("hpns_push_ends_total{{class=\"{class}\",owner=\"{owner}\"}}");
    let alert = |name: &str, fires: bool| {
        let labels = "      - exp_labels: { severity: page }\n";
        let expected = if fires { format!("        exp_alerts:\n    {labels}") } else { String::new() };
        format!("      - eval_time: 80m\n        alertname: {name}\n{expected}")
    };
    [
        "rule_files: [rules.yml]\ntests:\n  - interval: 1m\n    input_series:\n".to_owned(),
        series(&ends("message", "none"), 10_000 - ours),
        series(&ends("message", "ours"), ours),
        series("hpns_push_in_time_total{class=\"message\"}", 10_000 - ours),
        series(&ends("call", "none"), 1000),
        series("hpns_push_in_time_total{class=\"call\"}", 1000 - late),
        series("hpns_push_refusals_total{owner=\"ours\"}", 0),
        series("hpns_push_refusals_total{owner=\"tenant\"}", 900),
        "    alert_rule_test:\n".to_owned(),
        alert("HpnsAvailabilityBurns1h", ours > 72),
        alert("HpnsCallsInTimeBurns1h", late > 144),
        alert("HpnsMessagesInTimeBurns1h", false),
    ]
    .concat()
}

#[test]
fn the_rules_for_prometheus_fire_when_the_budget_burns_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let rules = run(&["sla", "rules"]);
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
    // What is said of an alert is for people; the tests ask which come.
    let text = String::from_utf8(rules.stdout).unwrap();
    std::fs::write(directory.path().join("full.yml"), &text).unwrap();
    let promtool = |arguments: &[&str]| {
        let output = Command::new("promtool").args(arguments).current_dir(directory.path()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (good, said) = promtool(&["check", "rules", "full.yml"]);
    assert!(good, "{said}");
    let is_said =
        |line: &&str| ["annotations:", "summary:", "runbook:"].iter().all(|it| !line.trim().starts_with(it));
    let plain: Vec<_> = text.lines().filter(is_said).collect();
    std::fs::write(directory.path().join("rules.yml"), plain.join("\n")).unwrap();
    for (ours, late) in [(0, 0), (71, 0), (80, 0), (0, 143), (0, 160), (500, 500)] {
        std::fs::write(directory.path().join("test.yml"), rule_test(ours, late)).unwrap();
        let (good, said) = promtool(&["test", "rules", "test.yml"]);
        assert!(good, "{ours} {late}: {said}");
    }
}

#[tokio::test]
async fn every_name_in_the_rules_is_one_that_a_gateway_shows_from_its_start() {
    let deployment = Deployment::with("");
    let shown = deployment.metrics().await;
    let rules = String::from_utf8(run(&["sla", "rules"]).stdout).unwrap();

    let names: std::collections::BTreeSet<_> = rules
        .split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
        .filter(|it| it.ends_with("_total"))
        .collect();

    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        assert!(shown.contains(&format!("{name}{{")), "{name} is not shown");
    }
}
