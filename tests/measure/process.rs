//! Child processes under measurement: the service and the simulator.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use serde_json::Value;

/// A running process; it is ended when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The service's gateway, its admin API, a worker's private port, or the simulator's control port.
    pub address: SocketAddr,
    /// The private port of a service: health and metrics.
    pub health: SocketAddr,
    /// Where a service's log goes.
    pub log: PathBuf,
    /// How a service pushes to it, if it is the simulator.
    configuration: String,
}

/// How the simulator is to be.
#[derive(Debug, Clone, Default)]
pub struct SimulatorOptions {
    /// It accepts everything and keeps nothing.
    pub accept_all: bool,
    /// How long every answer takes.
    pub delay_ms: u64,
    /// How much later everything arrives that it says.
    pub rtt_ms: u64,
}

impl Process {
    /// Starts the simulator.
    pub fn simulator(hpns: &Path, directory: &Path, options: &SimulatorOptions) -> anyhow::Result<Self> {
        let mut command = killed_with_parent(hpns);
        command.arg("simulate").args(options.accept_all.then_some("--accept-all"));
        for port in ["--control", "--apns", "--fcm", "--proxy"] {
            command.args([port, "127.0.0.1:0"]);
        }
        let mut child = command
            .args(["--delay-ms", &options.delay_ms.to_string(), "--rtt-ms", &options.rtt_ms.to_string()])
            .arg("--directory")
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
        Ok(Self { child, address, health: address, log: PathBuf::new(), configuration })
    }

    /// Starts a service in a role; its log goes to a file.
    pub fn service(hpns: &Path, role: &str, config: &Path, log: &Path) -> anyhow::Result<Self> {
        // Where a core would be written, and allowed to.
        let child = Command::new("sh")
            .args(["-c", r#"ulimit -c unlimited 2>/dev/null; exec setpriv --pdeathsig KILL "$@""#, "sh"])
            .arg(hpns)
            .args([role, "--config"])
            .arg(config)
            .current_dir(log.parent().unwrap_or(Path::new(".")))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(log)?)
            .spawn()?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self {
            child,
            address: nowhere,
            health: nowhere,
            log: log.to_owned(),
            configuration: String::new(),
        };
        for _ in 0..1000 {
            let text = std::fs::read_to_string(log)?;
            let mut listening = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let addresses = listening.find_map(|line| {
                let health = line.get("health")?.as_str()?.parse().ok()?;
                let named =
                    ["gateway", "admin"].iter().find_map(|name| line.get(name)?.as_str()?.parse().ok());
                Some((named.unwrap_or(health), health))
            });
            if let Some((address, health)) = addresses {
                (process.address, process.health) = (address, health);
                return Ok(process);
            }
            anyhow::ensure!(process.child.try_wait()?.is_none(), "the service ended: {text}");
            #[expect(clippy::disallowed_methods, reason = "nothing is measured yet")]
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        anyhow::bail!("the service did not start")
    }

    /// Returns the simulated apps, as a piece of configuration.
    #[must_use]
    pub fn apps(&self) -> Option<&str> {
        (!self.configuration.is_empty()).then_some(&*self.configuration)
    }

    /// Sends the process a signal, such as `KILL`, `STOP` or `TERM`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status()?;
        anyhow::ensure!(sent.success(), "no signal to {}", self.id());
        Ok(())
    }

    /// Lets it dump its core, if it may, and waits for its end.
    pub fn abort(&mut self) -> anyhow::Result<()> {
        self.signal("ABRT")?;
        self.wait().map(drop)
    }

    /// Waits for its end, and returns its exit code; none if a signal ended it.
    pub fn wait(&mut self) -> anyhow::Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }

    /// Returns a service's metrics page.
    pub fn metrics(&self) -> anyhow::Result<String> {
        ask(self.health, "GET", "/metrics", "")
    }

    /// Asks the simulator for one of its counts.
    pub fn stat(&self, name: &str) -> anyhow::Result<u64> {
        let stats: Value = serde_json::from_str(&self.ask("GET", "/sim/stats", "")?)?;
        stats.get(name).and_then(Value::as_u64).with_context(|| format!("no count {name}"))
    }

    /// Sends one request to the simulator's control port, and returns the body of the answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        ask(self.address, method, path, body)
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{address} says: {answer}");
    Ok(answer.split_once("\r\n\r\n").context("no body")?.1.to_owned())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command whose process does not outlive the thread that starts it.
#[must_use]
pub fn killed_with_parent(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Writes the configuration of the service: the gateway with `settings`, ports, apps with `apns_settings`, and no limit to
/// Google and a free port for operators where the build knows them; everything else at its default.
pub fn config(
    hpns: &Path,
    directory: &Path,
    simulator: &Process,
    settings: &str,
    apns_settings: &str,
) -> anyhow::Result<PathBuf> {
    let (data_dir, apps) = (directory.display(), &simulator.configuration);
    let path = directory.join("hpns.toml");
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    for (limit, admin) in [("rate_per_second = 0\n", admin), ("rate_per_second = 0\n", ""), ("", "")] {
        let apps = apps
            .replace("provider = \"fcm\"\n", &format!("provider = \"fcm\"\n{limit}"))
            .replace("provider = \"apns\"\n", &format!("provider = \"apns\"\n{apns_settings}"));
        let text = format!(
            "data_dir = \"{data_dir}\"\n[gateway]\n{settings}listen = \"127.0.0.1:0\"\n{admin}[health]\nlisten = \"127.0.0.1:0\"\n{apps}"
        );
        std::fs::write(&path, text)?;
        if Command::new(hpns).args(["check-config", "--config"]).arg(&path).output()?.status.success() {
            break;
        }
    }
    Ok(path)
}
