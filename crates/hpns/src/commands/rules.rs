//! `hpns sla rules`: recording and alerting rules for Prometheus, made of the objectives.
//!
//! Burn rates over two windows each, as in Google's SRE Workbook, chapter 5: the long one says that it matters, the short one
//! that it still goes on.

use std::fmt::Write as _;
use std::io::Write as _;

use push_domain::Objectives;

use crate::config::{Config, RoleOptions};

/// Long and short window, how many tenths of the even pace, and what it is worth.
const BURNS: [(&str, &str, u32, &str); 4] = [
    ("1h", "5m", 144, "page"),
    ("6h", "30m", 60, "page"),
    ("1d", "2h", 30, "ticket"),
    ("3d", "6h", 10, "ticket"),
];
const WINDOWS: [&str; 7] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];
const RUNBOOK: &str = "docs/SLA.md#when-the-budget-burns";

/// Prints the rules for the objectives of the configuration.
pub(crate) fn run(options: &RoleOptions) -> anyhow::Result<()> {
    let config = Config::load(options.config.config.as_deref())?;
    Ok(std::io::stdout().write_all(rules(&config.service_level).as_bytes())?)
}

fn rules(objectives: &Objectives) -> String {
    let late = |class: &str, window: &str| {
        let of = |name: &str, more: &str| format!("sum(rate({name}{{class=~\"{class}\"{more}}}[{window}]))");
        let (in_time, delivered) =
            (of("hpns_push_in_time_total", ""), of("hpns_push_ends_total", ",owner=\"none\""));
        format!("1 - {in_time} / {delivered}")
    };
    let unavailable = |window: &str| {
        let ends = |labels: &str| format!("sum(rate(hpns_push_ends_total{labels}[{window}]))");
        let refusals =
            |owner: &str| format!("sum(rate(hpns_push_refusals_total{{owner=~\"{owner}\"}}[{window}]))");
        format!(
            "({} + {}) / ({} + {})",
            ends("{owner=\"ours\"}"),
            refusals("ours"),
            ends(""),
            refusals("ours|provider")
        )
    };
    let mut text = String::from("groups:\n");
    for (name, kind, objective, bad) in [
        ("Availability", "unavailable", objectives.availability_ppm, &unavailable as &dyn Fn(&str) -> String),
        ("CallsInTime", "late_calls", objectives.calls_in_time_ppm, &|window| late("call", window)),
        ("MessagesInTime", "late_messages", objectives.messages_in_time_ppm, &|window| {
            late("message|background", window)
        }),
    ] {
        let _ = writeln!(text, "  - name: hpns_{kind}\n    rules:");
        for window in WINDOWS {
            let _ = writeln!(
                text,
                "      - record: hpns:{kind}:ratio_rate{window}\n        expr: {}",
                bad(window)
            );
        }
        for (long, short, tenths, severity) in BURNS {
            // Millionths that may be bad, times the pace: hundred-thousandths of a hundredth.
            let limit = u64::from(1_000_000 - objective) * u64::from(tenths);
            let limit = format!("{}.{:07}", limit / 10_000_000, limit % 10_000_000);
            let _ = writeln!(
                text,
                "      - alert: Hpns{name}Burns{long}\n        \
                   expr: hpns:{kind}:ratio_rate{long} > {limit} and hpns:{kind}:ratio_rate{short} > {limit}\n        \
                   labels: {{ severity: {severity} }}\n        \
                   annotations:\n          \
                     summary: \"{kind}: the error budget burns {}.{} times as fast as it may ({long} and {short})\"\n          \
                     runbook: {RUNBOOK}",
                tenths / 10,
                tenths % 10,
            );
        }
    }
    text
}
