//! The processes that are measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use serde_json::Value;

/// A running process; it is ended when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// How a service pushes to it, if it is the simulator.
    configuration: String,
}

/// CPU time used so far.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) micros: f64,
}

impl Process {
    /// Starts the simulator; it accepts everything.
    pub(crate) fn simulator(hpns: &Path, directory: &Path, delay_ms: u64) -> anyhow::Result<Self> {
        let mut child = Command::new(hpns)
            .args(["simulate", "--accept-all", "--delay-ms", &delay_ms.to_string()])
            .args([
                "--control",
                "127.0.0.1:0",
                "--apns",
                "127.0.0.1:0",
                "--fcm",
                "127.0.0.1:0",
                "--directory",
            ])
            .arg(directory.join("simulator"))
            .stdout(Stdio::piped())
            .spawn()?;
        // Facts, an empty line, the piece of configuration, an empty line.
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut part = || -> anyhow::Result<String> {
            let mut text = String::new();
            for line in lines.by_ref() {
                let line = line?;
                if line.is_empty() {
                    return Ok(text);
                }
                text += &(line + "\n");
            }
            anyhow::bail!("the simulator ended")
        };
        let (facts, configuration) = (part()?, part()?);
        let control = facts.lines().find_map(|line| line.strip_prefix("simulator: http://"));
        let address = control.context("no control address")?.parse()?;
        Ok(Self { child, address, configuration })
    }

    /// Starts the service; its log goes to a file.
    pub(crate) fn service(hpns: &Path, config: &Path, directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join("hpns.log");
        let child = Command::new(hpns)
            .args(["all", "--config"])
            .arg(config)
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut process =
            Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), configuration: String::new() };
        for _ in 0..1000 {
            let text = std::fs::read_to_string(&log)?;
            let mut listening = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let address = listening.find_map(|line| line.get("gateway")?.as_str()?.parse().ok());
            if let Some(address) = address {
                process.address = address;
                return Ok(process);
            }
            anyhow::ensure!(process.child.try_wait()?.is_none(), "the service ended: {text}");
            #[expect(clippy::disallowed_methods, reason = "nothing is measured yet")]
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        anyhow::bail!("the service did not start")
    }

    /// Asks the simulator how many pushes it has accepted.
    pub(crate) fn accepted(&self) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET /sim/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split("\r\n\r\n").nth(1).context("no body")?;
        let stats: Value = serde_json::from_str(body)?;
        stats.get("accepted").and_then(Value::as_u64).context("no count")
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        Cpu::of(&format!("/proc/{}/stat", self.child.id()))
    }

    /// Returns the most memory that it ever used.
    pub(crate) fn rss_mb(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cpu {
    pub(crate) fn of_this_process() -> anyhow::Result<Self> {
        Self::of("/proc/self/stat")
    }

    /// User and system time, which Linux counts in hundredths of a second.
    fn of(stat: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(stat)?;
        let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("no CPU time");
        Ok(Self { micros: (ticks(11)? + ticks(12)?) * 10_000.0 })
    }
}

/// Writes the configuration of the service: everything at its default but ports and apps.
pub(crate) fn config(directory: &Path, simulator: &Process) -> anyhow::Result<PathBuf> {
    let (data_dir, apps) = (directory.display(), &simulator.configuration);
    let text = format!(
        "data_dir = \"{data_dir}\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n[health]\nlisten = \"127.0.0.1:0\"\n{apps}"
    );
    let path = directory.join("hpns.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Makes tenants and returns their keys.
pub(crate) fn seed(hpns: &Path, config: &Path, tenants: u32) -> anyhow::Result<Vec<String>> {
    let arguments = ["seed", "--rate", "1000000", "--tenants", &tenants.to_string(), "--config"];
    let output = Command::new(hpns).args(arguments).arg(config).output()?;
    anyhow::ensure!(output.status.success(), "seed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}
