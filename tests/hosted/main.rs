//! `make hosted`: the hosted shape on this machine, to try it out: PostgreSQL, two Redis lanes, two gateways
//! behind one address, two workers and the simulator. Runs until it is interrupted, and leaves nothing behind.

use std::io::Write;

use system_tests::hosted::{Hosted, Size};

const IOS_TOKEN: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
const ANDROID_TOKEN: &str = "demo-android:APA91b-demo_token";

fn main() -> anyhow::Result<()> {
    let hpns = std::env::current_exe()?.with_file_name("hpns");
    let directory = tempfile::tempdir()?;
    let hosted = Hosted::start(&hpns, directory.path(), &Size { admin: true, ..Size::default() })?;
    let url = format!("http://{}{}", hosted.balancer.address, hosted.prefixes()[0]);
    let mut out = std::io::stdout();
    writeln!(out, "\npush URL: {url}\nsimulator: http://{}", hosted.simulator.address)?;
    if let Some(admin) = &hosted.admin {
        writeln!(out, "console: http://{}\nadmin token: {}\n", admin.address, hosted.admin_token()?)?;
    }
    for (name, platform, token) in
        [("iOS", "apple_rn-v2", IOS_TOKEN), ("Android", "android_rn-v2", ANDROID_TOKEN)]
    {
        writeln!(
            out,
            r#"# {name}
curl -sS {url}/api/v1/send_push -d '{{"server_id":"demo","platform":"{platform}","device_id":"{token}","type":"message","version":"v2","channel_name":"Town Square","sender_name":"ada","message":"@bob: hello :wave:","badge":1,"ack_id":"demo-ack","signature":"demo"}}'
"#
        )?;
    }
    for (role, processes) in [("gateway", &hosted.gateways), ("worker", &hosted.workers)] {
        for process in processes {
            writeln!(out, "{role}: process {}, http://{}/metrics", process.id(), process.health)?;
        }
    }
    for lane in &hosted.lanes {
        writeln!(out, "lane: process {}, {}", lane.id(), lane.address)?;
    }
    writeln!(out, "postgres: process {}, {}", hosted.postgres.id, hosted.postgres.address("postgres"))?;
    writeln!(out, "logs: {}", directory.path().display())?;
    out.flush()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminated.recv() => Ok(()),
        }
    })?;
    Ok(())
}
