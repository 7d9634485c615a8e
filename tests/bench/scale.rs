//! Benchmark: the cost of a push beside very many idle apps, and with all of them in use.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use system_tests::client::{self, Load, Status};
use system_tests::cost::{Cpu, resident_mb};
use system_tests::hosted::{Hosted, Size};
use system_tests::process::SimulatorOptions;

const APPS: [usize; 4] = [0, 100, 400, 1000];
const WARM_UP: Duration = Duration::from_secs(2);

/// Prints a table: each build named, in turn.
pub(crate) fn run(builds: &[(&str, &Path)], time: Duration) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| idle apps | build | µs/push | gateway | worker | lanes | pushes/s | p99, ms | memory, MB |"
    )?;
    writeln!(out, "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for apps in APPS {
        for (name, hpns) in builds {
            measure(apps, name, hpns, time, &mut out)?;
        }
    }
    Ok(())
}

fn measure(apps: usize, name: &str, hpns: &Path, time: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let size = Size {
        gateways: 1,
        workers: 1,
        tenants: 100,
        own_apps: apps,
        simulator: SimulatorOptions { accept_all: true, delay_ms: 0, rtt_ms: 0 },
        ..Size::default()
    };
    let hosted = Hosted::start(hpns, directory.path(), &size)?;
    let load = Load::closed(hosted.gateways[0].address, hosted.prefixes());
    client::run(&load, WARM_UP)?;
    let lanes = || hosted.lanes.iter().map(|lane| Cpu::of(lane.id())).sum::<anyhow::Result<Cpu>>();
    let used = || -> anyhow::Result<[f64; 3]> {
        let (gateway, worker) = (Cpu::of(hosted.gateways[0].id())?, Cpu::of(hosted.workers[0].id())?);
        Ok([gateway.micros, worker.micros, lanes()?.micros])
    };
    let before = used()?;
    let outcome = client::run(&load, time)?;
    let after = used()?;
    let ok = outcome.count(Status::Ok) as f64;
    let each = |part: usize| (after[part] - before[part]) / ok;
    let memory = resident_mb(hosted.gateways[0].id())? + resident_mb(hosted.workers[0].id())?;
    writeln!(
        out,
        "| {apps} | {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {memory:.0} |",
        each(0) + each(1) + each(2),
        each(0),
        each(1),
        each(2),
        outcome.samples.len() as f64 / outcome.elapsed.as_secs_f64(),
        outcome.percentile_ms(0.99, |_| true),
    )?;
    Ok(())
}
