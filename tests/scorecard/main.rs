//! `make faults`: the hosted shape under faults, as a table. Every row starts a service of its own, sends, breaks
//! something, and compares what callers were answered with what arrived at the simulated providers. The run
//! fails when a row does not keep its promise.
//!
//! `scorecard [--long] [--other BINARY] [ROW...]`: all rows or some, in the size of a continuous build or the long
//! one; with another version's binary, S28 mixes both.

#![expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures for people")]

mod broken;
mod hostile;
mod idle;
mod operators;
mod replaced;
mod rig;
mod shared;
mod steady;

use std::io::Write;

use crate::rig::{Row, Scale};

/// Every row: its id, what is done, what has to hold, and how it is run.
const ROWS: &[Row] = &[
    Row { id: "S1", what: "1,000/s, provider 50 ± 20 ms", run: steady::sustained },
    Row { id: "S4", what: "worker killed", run: broken::workers_killed },
    Row { id: "S5", what: "lane killed, back empty", run: broken::lanes_killed },
    Row { id: "S6", what: "gateway killed", run: broken::gateways_killed },
    Row { id: "S7", what: "worker, gateway, lane paused 1 to 10 s", run: broken::paused },
    Row { id: "S8", what: "connections to lanes cut, delayed, sliced, half open", run: broken::connections },
    Row { id: "S9", what: "one lane down, then both", run: broken::lanes_down },
    Row { id: "S10", what: "lanes at their memory limit", run: broken::full },
    Row { id: "S11", what: "PostgreSQL stopped, 500/s", run: broken::no_database },
    Row { id: "S13", what: "a tenant at 10 times its share, 200 quiet ones", run: shared::noisy_tenant },
    Row {
        id: "S13c",
        what: "a tenant without a limit fills everything, 200 quiet ones",
        run: shared::crowded,
    },
    Row {
        id: "S13d",
        what: "the same, 5 gateways of 4 threads, workers with little room",
        run: shared::crowded_by_twenty,
    },
    Row { id: "S13b", what: "a flood of messages, calls beside it", run: shared::calls_in_a_flood },
    Row { id: "S14", what: "slow and silent sockets", run: hostile::slow_sockets },
    Row { id: "S15", what: "raw HTTP garbage", run: hostile::garbage },
    Row { id: "S20", what: "canaries, with workers, gateways and lanes killed", run: hostile::canaries },
    Row { id: "S21", what: "keys revoked under load", run: operators::revocations },
    Row { id: "S22", what: "keys rotated with overlap, under load", run: operators::rotations },
    Row { id: "S23", what: "keys that nobody has, 5,000/s", run: operators::bad_keys },
    Row { id: "S27", what: "pushes that end each worker that sends them", run: replaced::poison },
    Row { id: "S28", what: "rolling deploys, 500/s", run: replaced::deploys },
    Row { id: "many", what: "very many tenants and devices", run: operators::many },
];

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut scale = Scale::default();
    while arguments.first().is_some_and(|argument| argument.starts_with("--")) {
        match &*arguments.remove(0) {
            "--long" => scale.is_long = true,
            "--other" if !arguments.is_empty() => scale.other = Some(arguments.remove(0).into()),
            option => anyhow::bail!("there is no option {option}, or it needs a value"),
        }
    }
    let chosen = |row: &&Row| arguments.is_empty() || arguments.iter().any(|id| id == row.id);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| row | what | size | lost | untrue | duplicates | p50 / p99 / slowest, ms | also | kept |"
    )?;
    writeln!(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |")?;
    out.flush()?;
    let mut broken = Vec::new();
    for row in ROWS.iter().filter(chosen) {
        let result = (row.run)(&scale).unwrap_or_else(|error| rig::Outcome::failed(&error));
        writeln!(out, "{}", result.line(row))?;
        out.flush()?;
        broken.extend(result.broken.iter().map(|promise| format!("{}: {promise}", row.id)));
    }
    for promise in &broken {
        writeln!(std::io::stderr(), "BROKEN {promise}")?;
    }
    anyhow::ensure!(broken.is_empty(), "{} promises are broken", broken.len());
    Ok(())
}
