//! Benchmark: the cost of up to a hundred thousand tenants, and of ten million devices.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use system_tests::client::{self, Load, Status};
use system_tests::cost::{Cpu, resident_mb};
use system_tests::hosted::{Hosted, Size};
use system_tests::process::SimulatorOptions;
use system_tests::servers::Postgres;
use tokio::time::Instant;

/// Tenants whose keys are used; the others only fill the registry.
const USED: u32 = 100;
const TENANTS: [u32; 4] = [100, 1_000, 10_000, 100_000];
const DEVICES: [u32; 4] = [0, 100_000, 1_000_000, 10_000_000];
/// Devices in a statement, as a worker writes them.
const BATCH: u32 = 1024;
const BATCHES: u32 = 200;

const FILL_TENANTS: &str = "
INSERT INTO tenant (id, name, device_salt, created_at)
SELECT gen_random_uuid(), 'filler-' || n, decode(md5(n::text) || md5(n::text), 'hex'), 0
FROM generate_series(1, $N) n;
INSERT INTO licence (id, tenant_id, plan, regions, rate_per_second, burst, not_before, terms_version)
SELECT gen_random_uuid(), id, 'professional', 'us', 1000, 2000, 0, '1' FROM tenant WHERE name LIKE 'filler-%';
INSERT INTO licence_key (kid, licence_id, mac, created_at)
SELECT left(md5(licence.id::text), 12), licence.id, device_salt, 0
FROM licence JOIN tenant ON tenant.id = tenant_id WHERE name LIKE 'filler-%';";

const FILL_DEVICES: &str = "
INSERT INTO device
SELECT md5((n % 1000)::text)::uuid, sha256(n::text::bytea), 'ios', 'apple_rn', 20000, 20000 + n % 60, 'active', NULL
FROM generate_series($FROM, $TO) n ON CONFLICT DO NOTHING";

/// The statement of a worker, in a loop, for devices of which half are known already.
const WRITE_DEVICES: &str = "
DO $$ BEGIN FOR batch IN 1..$BATCHES LOOP
INSERT INTO device (tenant_id, id, app, platform, first_seen, last_seen, state, reason)
SELECT md5((n % 1000)::text)::uuid, sha256(n::text::bytea), 'ios', 'apple_rn', 20100, 20100, 'active', NULL
FROM (SELECT DISTINCT (random() * 2 * greatest($SIZE, 100000))::bigint AS n FROM generate_series(1, $BATCH)) seen
ORDER BY 1, 2
ON CONFLICT (tenant_id, id) DO UPDATE
SET last_seen = excluded.last_seen, state = excluded.state, reason = excluded.reason
WHERE excluded.last_seen >= device.last_seen;
COMMIT;
END LOOP; END $$";

/// Prints both tables.
pub(crate) fn run(hpns: &Path, time: Duration) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| tenants | gateway start, s | gateway memory, MB | gateway µs/push | all µs/push | pushes/s |"
    )?;
    writeln!(out, "| ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for tenants in TENANTS {
        tenants_cost(hpns, tenants, time, &mut out)?;
    }
    writeln!(out, "\n| devices | table and indexes, MB | devices written/s |\n| ---: | ---: | ---: |")?;
    devices_cost(&mut out)
}

fn tenants_cost(hpns: &Path, tenants: u32, time: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let simulator = SimulatorOptions { accept_all: true, ..SimulatorOptions::default() };
    let size = Size { gateways: 0, workers: 1, tenants: USED, simulator, ..Size::default() };
    let mut hosted = Hosted::start(hpns, directory.path(), &size)?;
    hosted.postgres.ask(&FILL_TENANTS.replace("$N", &(tenants - USED).to_string()))?;
    let started = Instant::now();
    hosted.add_gateway()?;
    let start = started.elapsed();
    let load = Load::closed(hosted.gateways[0].address, hosted.prefixes());
    client::run(&load, Duration::from_secs(2))?;
    let used = || -> anyhow::Result<[Cpu; 2]> {
        let gateway = Cpu::of(hosted.gateways[0].id())?;
        let mut all = gateway.micros + Cpu::of(hosted.workers[0].id())?.micros;
        for lane in &hosted.lanes {
            all += Cpu::of(lane.id())?.micros;
        }
        Ok([gateway, Cpu { micros: all }])
    };
    let before = used()?;
    let outcome = client::run(&load, time)?;
    let after = used()?;
    let pushes = outcome.samples.len() as f64;
    anyhow::ensure!(outcome.count(Status::Ok) == outcome.samples.len() as u64, "pushes failed");
    writeln!(
        out,
        "| {tenants} | {:.2} | {:.0} | {:.1} | {:.1} | {:.0} |",
        start.as_secs_f64(),
        resident_mb(hosted.gateways[0].id())?,
        (after[0].micros - before[0].micros) / pushes,
        (after[1].micros - before[1].micros) / pushes,
        pushes / outcome.elapsed.as_secs_f64(),
    )?;
    out.flush()?;
    Ok(())
}

fn devices_cost(out: &mut impl Write) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let postgres = Postgres::start(&directory.path().join("postgres"))?;
    let hpns = std::env::current_exe()?.with_file_name("hpns");
    let config = directory.path().join("admin.toml");
    let text = format!(
        "data_dir = \"{}\"\n[registry]\nurl = \"{}\"\n",
        directory.path().display(),
        postgres.address("postgres")
    );
    std::fs::write(&config, text)?;
    let migrated = std::process::Command::new(hpns).args(["migrate", "--config"]).arg(&config).output()?;
    anyhow::ensure!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let mut filled = 0;
    for devices in DEVICES {
        if devices > filled {
            let fill = FILL_DEVICES.replace("$FROM", &(filled + 1).to_string());
            postgres.ask(&fill.replace("$TO", &devices.to_string()))?;
            postgres.ask("ANALYZE device")?;
            filled = devices;
        }
        let megabytes: f64 = postgres.ask("SELECT pg_total_relation_size('device') / 1048576.0")?.parse()?;
        let write =
            WRITE_DEVICES.replace("$BATCHES", &BATCHES.to_string()).replace("$BATCH", &BATCH.to_string());
        let started = Instant::now();
        postgres.ask(&write.replace("$SIZE", &devices.to_string()))?;
        let rate = f64::from(BATCH * BATCHES) / started.elapsed().as_secs_f64();
        writeln!(out, "| {devices} | {megabytes:.0} | {rate:.0} |")?;
        out.flush()?;
    }
    Ok(())
}
