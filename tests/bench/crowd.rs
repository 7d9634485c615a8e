//! Benchmark: a thousand tenants with an app each, one of whose providers has fallen silent.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use system_tests::client::{self, Load, Sample, Status};
use system_tests::cost::resident_mb;
use system_tests::hosted::{Hosted, Size};
use system_tests::process::SimulatorOptions;
use system_tests::proxy::{Fault, Proxy};

const TENANTS: u32 = 1000;
/// Pushes a second of all but one, and of the one whose provider is silent.
const RATE: f64 = 1000.0;
const SILENT_RATE: f64 = 200.0;

/// Prints what the others notice.
pub(crate) fn run(hpns: &Path, time: Duration) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let size = Size {
        gateways: 1,
        workers: 2,
        threads: 2,
        tenants: TENANTS,
        simulator: SimulatorOptions { accept_all: true, delay_ms: 20, rtt_ms: 0 },
        settings: "[credentials]\npoll_ms = 200\n".into(),
        gateway_settings: "connections_per_address = 20000\n".into(),
        ..Size::default()
    };
    let hosted = Hosted::start(hpns, directory.path(), &size)?;
    let silent = own_apps(&hosted)?;
    let platforms: Vec<&'static str> =
        (0..TENANTS).map(|number| &*Box::leak(format!("own{number}-v2").into_boxed_str())).collect();
    let prefixes = hosted.prefixes();
    let load = |which: std::ops::Range<usize>, connections, per_second| Load {
        address: hosted.gateways[0].address,
        prefixes: prefixes[which.clone()].to_vec(),
        platforms: platforms[which].to_vec(),
        devices: 0,
        first: 0,
        connections,
        per_second,
        padding: 0,
        calls: 0,
    };
    until_known(&load(999..1000, 1, None))?;
    let others = load(1..TENANTS as usize, 256, Some(RATE));
    // Every app's first push makes its connection.
    client::run(&others, time)?;
    let calm = client::run(&others, time)?;
    silent.misbehave(Fault::Blackhole);
    let flood = load(0..1, 1500, Some(SILENT_RATE));
    let (beside, flood) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| client::run(&flood, time));
        let beside = client::run(&others, time);
        (beside, flood.join())
    });
    let (beside, flood) = (beside?, flood.map_err(|_| anyhow::anyhow!("the flood"))??);
    report(&hosted, &calm, &beside, flood.samples.len())
}

/// Says what the others noticed.
fn report(
    hosted: &Hosted,
    calm: &client::Outcome,
    beside: &client::Outcome,
    open: usize,
) -> anyhow::Result<()> {
    let of = |outcome: &client::Outcome, share| {
        outcome.percentile_ms(share, |it: &Sample| it.status == Status::Ok)
    };
    let ok = beside.count(Status::Ok) as f64 / beside.samples.len() as f64;
    let mut out = std::io::stdout();
    writeln!(out, "\n| | p50, ms | p99, ms | served, % |\n| --- | ---: | ---: | ---: |")?;
    writeln!(out, "| {} apps, all well | {:.1} | {:.1} | 100 |", TENANTS, of(calm, 0.5), of(calm, 0.99))?;
    writeln!(
        out,
        "| the others, one silent with {open} pushes | {:.1} | {:.1} | {:.2} |",
        of(beside, 0.5),
        of(beside, 0.99),
        ok * 100.0
    )?;
    let memory = hosted.workers.iter().map(|worker| resident_mb(worker.id())).sum::<anyhow::Result<f64>>()?;
    writeln!(
        out,
        "\nboth workers: {memory:.0} MB; gateway: {:.0} MB",
        resident_mb(hosted.gateways[0].id())?
    )?;
    Ok(())
}

/// Gives each tenant an app, the first one by way of a proxy that can fall silent.
fn own_apps(hosted: &Hosted) -> anyhow::Result<Proxy> {
    let apps = hosted.simulator.apps().context("the simulator has no apps")?;
    let first = apps.split("[apps.").find(|app| app.starts_with("ios]")).context("no Apple app")?;
    let lines: Vec<_> = first.lines().skip(1).take_while(|line| !line.starts_with('[')).collect();
    let port = lines.iter().find_map(|line| line.strip_prefix("endpoint = \"localhost:")?.strip_suffix('"'));
    let proxy = Proxy::start(vec![format!("127.0.0.1:{}", port.context("no port")?).parse()?])?;
    let tenants = hosted
        .postgres
        .ask("SELECT k.kid, l.tenant_id FROM licence_key k JOIN licence l ON l.id = k.licence_id")?;
    let directory = hosted.directory.join("apps.d");
    std::fs::create_dir_all(&directory)?;
    for (number, key) in hosted.keys.iter().enumerate() {
        let kid = key.split('_').nth(2).context("no kid")?;
        let row = tenants.lines().find(|row| row.contains(kid)).context("no tenant")?;
        let tenant = row.rsplit(['|', '\t', ' ']).find(|text| text.len() == 36).context("no tenant's id")?;
        let mut text = String::new();
        for line in &lines {
            match line.split_once(" = ").map(|(key, _)| key) {
                Some("platform") => writeln!(text, "platform = \"own{number}\"")?,
                Some("endpoint") if number == 0 => {
                    writeln!(text, "endpoint = \"localhost:{}\"", proxy.address.port())?;
                }
                _ => writeln!(text, "{line}")?,
            }
        }
        writeln!(text, "audience = \"ten_{}\"", tenant.replace('-', ""))?;
        std::fs::write(directory.join(format!("own{number}.toml")), text)?;
    }
    Ok(proxy)
}

/// Waits until the last app is there.
fn until_known(last: &Load) -> anyhow::Result<()> {
    for _ in 0..100 {
        let tried = client::run(last, Duration::from_millis(200))?;
        if tried.samples.last().is_some_and(|it| it.status == Status::Ok) {
            return Ok(());
        }
    }
    anyhow::bail!("the apps of the directory are not served")
}
