//! The hosted shape on one machine: PostgreSQL, Redis lanes, gateways behind one address, workers and the
//! simulator, in a process each.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use rustls::pki_types::CertificateDer;

use crate::process::{Process, SimulatorOptions};
use crate::proxy::Proxy;
use crate::servers::{ADMIN_LOGIN, GATEWAY_LOGIN, Postgres, Redis, WORKER_LOGIN};

/// Options of a hosted deployment: size and settings.
#[derive(Debug, Clone)]
pub struct Size {
    /// Redis servers.
    pub lanes: usize,
    /// Processes that take pushes.
    pub gateways: usize,
    /// Processes that deliver them.
    pub workers: usize,
    /// Serving threads of each process.
    pub threads: usize,
    /// Tenants with a licence each.
    pub tenants: u32,
    /// Pushes a second that each licence allows.
    pub rate: u32,
    /// Whether the lanes are reached through proxies that can misbehave.
    pub proxies: bool,
    /// The simulated providers.
    pub simulator: SimulatorOptions,
    /// Whether there is a process that serves operators.
    pub admin: bool,
    /// More tables of settings, in TOML.
    pub settings: String,
    /// More settings of gateways.
    pub gateway_settings: String,
    /// Apps besides the simulator's three, each of a platform name of its own: `own0`, `own1`, …
    pub own_apps: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            lanes: 2,
            gateways: 2,
            workers: 2,
            threads: 1,
            tenants: 1,
            rate: 1_000_000,
            proxies: false,
            simulator: SimulatorOptions::default(),
            admin: false,
            settings: String::new(),
            gateway_settings: String::new(),
            own_apps: 0,
        }
    }
}

/// Running hosted deployment. Every process ends when this is dropped.
#[derive(Debug)]
pub struct Hosted {
    /// The processes that take pushes.
    pub gateways: Vec<Process>,
    /// The processes that deliver them.
    pub workers: Vec<Process>,
    /// Apple and Google.
    pub simulator: Process,
    /// The lanes.
    pub lanes: Vec<Redis>,
    /// In front of the lanes, if there are any.
    pub proxies: Vec<Proxy>,
    /// Licences and devices.
    pub postgres: Postgres,
    /// The process that serves operators, if there is one.
    pub admin: Option<Process>,
    /// In front of the gateways.
    pub balancer: Proxy,
    /// A licence key of each tenant.
    pub keys: Vec<String>,
    /// The binary.
    pub hpns: PathBuf,
    /// Where everything lies.
    pub directory: PathBuf,
    /// How many processes were started so far: each has a log of its own.
    started: usize,
}

/// A gateway with TLS, and its certificate.
#[derive(Debug)]
pub struct Secure {
    /// The gateway.
    pub process: Process,
    /// What it shows; it is its own authority.
    pub certificate: CertificateDer<'static>,
}

const GATEWAY_KEYS: &str = "[\"control.keys\", \"devices.keys\", \"log.keys\", \"rights-check.keys\"]";
const OPERATORS_KEYS: &str =
    "[\"control.keys\", \"devices.keys\", \"log.keys\", \"operators.keys\", \"rights.keys\"]";

impl Hosted {
    /// Starts everything in a directory.
    pub fn start(hpns: &Path, directory: &Path, size: &Size) -> anyhow::Result<Self> {
        let postgres = Postgres::start(&directory.join("postgres"))?;
        let lanes: Vec<_> = (0..size.lanes)
            .map(|number| Redis::start(&directory.join(format!("lane{number}"))))
            .collect::<anyhow::Result<_>>()?;
        let proxies = if size.proxies {
            lanes.iter().map(|lane| Proxy::start(vec![lane.address])).collect::<anyhow::Result<_>>()?
        } else {
            Vec::new()
        };
        let simulator = Process::simulator(hpns, directory, &size.simulator)?;
        make_keys(hpns, directory)?;
        let ways: Vec<SocketAddr> = if proxies.is_empty() {
            lanes.iter().map(|lane| lane.address).collect()
        } else {
            proxies.iter().map(|proxy| proxy.address).collect()
        };
        let balancer = Proxy::start(Vec::new())?;
        configure(directory, &ways, &postgres, &simulator, size, balancer.address)?;
        let run = |arguments: &[&str]| -> anyhow::Result<String> {
            let output = Command::new(hpns)
                .args(arguments)
                .arg("--config")
                .arg(directory.join("owner.toml"))
                .output()?;
            anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?)
        };
        run(&["migrate"])?;
        split_keys(hpns, directory)?;
        postgres.ask(
            "CREATE ROLE gateway LOGIN IN ROLE hpns_gateway; CREATE ROLE worker LOGIN IN ROLE hpns_worker; \
             CREATE ROLE admin LOGIN IN ROLE hpns_admin",
        )?;
        let seeded =
            run(&["seed", "--tenants", &size.tenants.to_string(), "--rate", &size.rate.to_string()])?;
        let mut hosted = Self {
            gateways: Vec::new(),
            workers: Vec::new(),
            simulator,
            lanes,
            proxies,
            postgres,
            admin: None,
            balancer,
            keys: seeded.lines().map(str::to_owned).collect(),
            hpns: hpns.to_owned(),
            directory: directory.to_owned(),
            started: 0,
        };
        for _ in 0..size.workers {
            hosted.add_worker()?;
        }
        for _ in 0..size.gateways {
            hosted.add_gateway()?;
        }
        if size.admin {
            hosted.admin = Some(hosted.add("admin")?);
        }
        Ok(hosted)
    }

    /// Makes very many tenants, and devices of them.
    pub fn fill(&self, tenants: u32, devices: u32) -> anyhow::Result<()> {
        let output = Command::new(&self.hpns)
            .args(["seed", "--quiet", "--name", "fill-"])
            .args(["--tenants", &tenants.to_string(), "--devices", &devices.to_string(), "--config"])
            .arg(self.directory.join("owner.toml"))
            .output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.postgres.ask("ANALYZE").map(drop)
    }

    /// Makes an operator's token.
    pub fn admin_token(&self) -> anyhow::Result<String> {
        let config = self.directory.join("owner.toml");
        let output = Command::new(&self.hpns).args(["first-token", "--config"]).arg(config).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Starts one more process that delivers.
    pub fn add_worker(&mut self) -> anyhow::Result<()> {
        let worker = self.add("worker")?;
        self.workers.push(worker);
        Ok(())
    }

    /// Ends the process that serves operators, and starts it again.
    pub fn restart_admin(&mut self) -> anyhow::Result<()> {
        if let Some(mut old) = self.admin.take() {
            old.signal("TERM")?;
            old.wait()?;
            self.admin = Some(self.add("admin")?);
        }
        Ok(())
    }

    /// Starts one more process that takes pushes, and sends it its share of the connections.
    pub fn add_gateway(&mut self) -> anyhow::Result<()> {
        let gateway = self.add("gateway")?;
        self.gateways.push(gateway);
        self.balance();
        Ok(())
    }

    fn add(&mut self, role: &str) -> anyhow::Result<Process> {
        self.started += 1;
        let log = self.directory.join(format!("{role}-{}.log", self.started));
        Process::service(&self.hpns, role, &self.directory.join(format!("{role}.toml")), &log)
    }

    /// Starts one more gateway, with TLS, beside those of the balancer.
    pub fn secure_gateway(&self) -> anyhow::Result<Secure> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
        std::fs::write(self.directory.join("tls.pem"), certificate.pem())?;
        write_private(&self.directory.join("tls.key"), key.serialize_pem().as_bytes())?;
        let config = std::fs::read_to_string(self.directory.join("gateway.toml"))?;
        let tls = "[gateway.tls]\ncertificate_file = \"tls.pem\"\nkey_file = \"tls.key\"\n";
        let path = self.directory.join("secure-gateway.toml");
        std::fs::write(&path, config + tls)?;
        let log = self.directory.join("secure-gateway.log");
        let process = Process::service(&self.hpns, "gateway", &path, &log)?;
        Ok(Secure { process, certificate: certificate.der().clone() })
    }

    /// Makes a tenant with a licence while everything runs, and returns its key.
    pub fn seed(&self, rate: u32) -> anyhow::Result<String> {
        let name = format!("late-{}-", self.started);
        let output = Command::new(&self.hpns)
            .args(["seed", "--name", &name, "--rate", &rate.to_string(), "--config"])
            .arg(self.directory.join("owner.toml"))
            .output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Spreads new connections over the gateways that are there now.
    pub fn balance(&self) {
        self.balancer.target(self.gateways.iter().map(|gateway| gateway.address).collect());
    }

    /// What stands before the route of each tenant.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        self.keys.iter().map(|key| format!("/t/{key}")).collect()
    }

    /// Returns how many jobs are not settled: entries in queues, and entries that a worker has.
    pub fn unsettled(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for lane in &self.lanes {
            for queue in ["apns:call", "apns:other", "fcm:call", "fcm:other"] {
                let queue = format!("hpns:jobs:{queue}");
                sum += lane.count(&["XLEN", &queue])?;
                if lane.count(&["EXISTS", &queue])? == 1 {
                    let pending = lane.ask(&["XPENDING", &queue, "w"])?;
                    let pending = pending.lines().next().unwrap_or_default();
                    sum += pending.parse::<u64>().with_context(|| format!("pending: {pending}"))?;
                }
            }
        }
        Ok(sum)
    }
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(content)?)
}

/// Makes the key ring of the lanes, and the board's keys for who serves operators.
fn make_keys(hpns: &Path, directory: &Path) -> anyhow::Result<()> {
    let ring = Command::new(hpns).arg("new-key").output()?.stdout;
    let ring_file = directory.join("dispatch.keys");
    write_private(&ring_file, &ring)?;
    // Another version may know no keys for the board alone.
    let board = Command::new(hpns).args(["new-key", "--board-of"]).arg(&ring_file).output()?;
    let board = if board.status.success() { board.stdout } else { ring };
    write_private(&directory.join("board.keys"), &board)
}

/// Gives each role key files of its own; another version has one for all.
fn split_keys(hpns: &Path, directory: &Path) -> anyhow::Result<()> {
    let split = Command::new(hpns)
        .args(["keys", "split"])
        .arg(directory.join("hpns.key"))
        .arg("--into")
        .arg(directory)
        .output()?;
    if !split.status.success() {
        return Ok(());
    }
    for (role, files) in [("gateway", GATEWAY_KEYS), ("admin", OPERATORS_KEYS)] {
        let path = directory.join(format!("{role}.toml"));
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, text.replace("[registry]\n", &format!("[registry]\nkey_files = {files}\n")))?;
    }
    Ok(())
}

/// Apps as the simulator's first one, under names of their own.
fn own_apps(apps: &str, count: usize) -> anyhow::Result<String> {
    let first = apps.split("[apps.").nth(1).context("the simulator has no apps")?;
    let first = format!("[apps.{first}");
    let own = |number| {
        let app = first.replace("[apps.ios]", &format!("[apps.own{number}]"));
        app.replace("\"apple_rn\"", &format!("\"own{number}\""))
    };
    Ok((0..count).map(own).collect())
}

/// Writes a configuration for each role, with its own logins.
fn configure(
    directory: &Path,
    ways: &[SocketAddr],
    postgres: &Postgres,
    simulator: &Process,
    size: &Size,
    gateways: SocketAddr,
) -> anyhow::Result<()> {
    let lanes = |login: &str| {
        ways.iter().map(|way| format!("\"redis://{login}@{way}\"")).collect::<Vec<_>>().join(", ")
    };
    let write = |role: &str, user: &str, lanes: &str| {
        write_config(directory, role, &postgres.address(user), lanes, simulator, size, gateways)
    };
    write("gateway", "gateway", &lanes(GATEWAY_LOGIN))?;
    write("worker", "worker", &lanes(WORKER_LOGIN))?;
    write("admin", "admin", &lanes(ADMIN_LOGIN))?;
    write("owner", "postgres", "")
}

fn write_config(
    directory: &Path,
    role: &str,
    registry: &str,
    lanes: &str,
    simulator: &Process,
    size: &Size,
    gateways: SocketAddr,
) -> anyhow::Result<()> {
    let (data_dir, threads) = (directory.display(), size.threads);
    let (settings, gateway) = (&size.settings, &size.gateway_settings);
    // Another version may not know this table; only who serves operators has it.
    let admin = if role == "admin" {
        format!("[admin]\nlisten = \"127.0.0.1:0\"\npush_url = \"http://{gateways}\"\n")
    } else {
        String::new()
    };
    let keys = if role == "admin" { "key_ring_file = \"board.keys\"\n" } else { "" };
    let apps = simulator.apps().context("the simulator has no apps")?;
    let apps = format!("{apps}{}", own_apps(apps, size.own_apps)?);
    let text = format!(
        "data_dir = \"{data_dir}\"\n[server]\nthreads = {threads}\ndrain_seconds = 1\n[registry]\nurl = \"{registry}\"\n\
         [dispatch]\nlanes = [{lanes}]\n{keys}[gateway]\nlisten = \"127.0.0.1:0\"\n{gateway}\n\
         {admin}[health]\nlisten = \"127.0.0.1:0\"\n{settings}\n{apps}"
    );
    std::fs::write(directory.join(format!("{role}.toml")), text)?;
    Ok(())
}
