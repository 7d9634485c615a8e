//! Test harness: the binary in a process of its own, the simulator in this one, everything on free ports.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use provider_sim::{Received, Script, ScriptedAnswer, Settings, Simulator};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, exchange, post};

pub(crate) const IOS_TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const ANDROID_TOKEN: &str = "android:APA91b-token_1";

/// Returns the binary, built as the tests are.
pub(crate) fn hpns() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built =
            Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "hpns"]).status().unwrap();
        assert!(built.success(), "the binary cannot be built");
        std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("hpns")
    })
}

/// Waits until something is so; a test that waits in vain fails after 20 s.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    let waiting = async {
        while !is_so() {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "in vain: {what}");
}

/// Runs a command of the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(hpns()).args(arguments).output().unwrap()
}

/// Runs the binary with variables and something on its standard input.
pub(crate) fn run_with(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(hpns());
    command.args(arguments).envs(variables.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Puts a file in place at once, so that nobody reads half of it.
pub(crate) fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    system_tests::hosted::write_private(&new, text.as_bytes()).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Throw-away credentials, made once: an RSA key takes its time.
fn credentials(directory: &Path) {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let _inside = runtime.enter();
                Simulator::start(Settings::on_free_ports(directory.path())).unwrap();
            });
        });
        directory
    });
    std::fs::create_dir_all(directory).unwrap();
    for file in std::fs::read_dir(made.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
}

/// A running service.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) gateway: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) log: Arc<Mutex<String>>,
}

impl Service {
    /// Starts the binary and waits until it listens.
    pub(crate) fn start(config: &Path) -> Self {
        let mut command = Command::new(hpns());
        let mut child = command.args(["all", "--config"]).arg(config).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (found, listening) = mpsc::channel();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let addresses = serde_json::from_str::<Value>(&line).ok().and_then(|line| {
                    let address = |name: &str| line.get(name)?.as_str()?.parse::<SocketAddr>().ok();
                    Some((address("gateway")?, address("admin")?, address("health")?))
                });
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                if let Some(addresses) = addresses {
                    let _ = found.send(addresses);
                }
            }
        });
        let started = listening.recv_timeout(Duration::from_secs(30));
        let Ok((gateway, admin, health)) = started else {
            panic!("the service did not start: {}", log.lock().unwrap())
        };
        Self { child, gateway, admin, health, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log says so: it is written beside the work, and read here by a thread.
    pub(crate) async fn until_logged(&self, text: &str) {
        eventually(text, || self.log.lock().unwrap().contains(text)).await;
    }

    /// Asks the process to stop, as an operator does.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service and the simulator behind it.
pub(crate) struct Deployment {
    pub(crate) service: Service,
    pub(crate) simulator: Simulator,
    pub(crate) config: PathBuf,
    /// What stands before the routes: nothing, or `/t/<key>`.
    pub(crate) prefix: String,
    /// The same of another tenant.
    pub(crate) other_prefix: String,
    pub(crate) directory: TempDir,
}

impl Deployment {
    /// Starts an open service, as a self-hoster runs it.
    pub(crate) fn start() -> Self {
        Self::with("[gateway]\naccess = \"open\"")
    }

    /// Starts a service with these settings besides ports and apps.
    pub(crate) fn with(settings: &str) -> Self {
        Self::configured(settings, |config| config)
    }

    /// Starts a licensed service whose tenant may push so often a second.
    pub(crate) fn rated(rate: u32) -> Self {
        Self::assembled("", |config| config, rate)
    }

    /// Starts a service whose configuration file was changed before.
    pub(crate) fn configured(settings: &str, change: impl FnOnce(String) -> String) -> Self {
        Self::assembled(settings, change, 1000)
    }

    /// Starts an open service with a simulator of its own kind; the configuration may depend on it.
    pub(crate) fn with_simulator(
        settings: impl FnOnce(&mut Settings),
        change: impl FnOnce(&Simulator, String) -> String,
    ) -> Self {
        Self::built("[gateway]\naccess = \"open\"", settings, change, 1000)
    }

    fn assembled(settings: &str, change: impl FnOnce(String) -> String, rate: u32) -> Self {
        Self::built(settings, |_| {}, |_, config| change(config), rate)
    }

    fn built(
        settings: &str,
        simulated: impl FnOnce(&mut Settings),
        change: impl FnOnce(&Simulator, String) -> String,
        rate: u32,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("simulator");
        credentials(&keys);
        let mut simulator = Settings::on_free_ports(&keys);
        simulated(&mut simulator);
        let simulator = Simulator::start(simulator).unwrap();
        let config = directory.path().join("hpns.toml");
        let text = change(&simulator, merged(&base(directory.path(), &simulator), settings));
        std::fs::write(&config, &text).unwrap();
        let open = text.contains("access = \"open\"");
        let [prefix, other_prefix] = if open { Default::default() } else { seeded(&config, rate) };
        let service = Service::start(&config);
        Self { service, simulator, config, prefix, other_prefix, directory }
    }

    /// Sends a push and returns the answer.
    pub(crate) async fn push(&self, body: &Value) -> Answer {
        self.post("/api/v1/send_push", body.to_string().as_bytes()).await
    }

    /// Posts bytes to a route.
    pub(crate) async fn post(&self, route: &str, body: &[u8]) -> Answer {
        exchange(self.service.gateway, &post(&format!("{}{route}", self.prefix), body)).await
    }

    /// Sends a push of the other tenant.
    pub(crate) async fn push_of_other(&self, body: &Value) -> Answer {
        let route = format!("{}/api/v1/send_push", self.other_prefix);
        exchange(self.service.gateway, &post(&route, body.to_string().as_bytes())).await
    }

    /// Scripts what a provider answers for a token.
    pub(crate) fn script(&self, token: &str, answers: Vec<ScriptedAnswer>) {
        self.simulator.script(Script { token: token.into(), answers: answers.into(), ..Script::default() });
    }

    /// Returns what reached the providers, once nothing is under way.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.simulator.notifications()
    }

    /// Returns the metrics page.
    pub(crate) async fn metrics(&self) -> String {
        exchange(self.service.health, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .text()
    }

    /// Returns the sum of all samples of a metric whose labels contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.metrics().await;
        let samples = page.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the sum of a metric is `value`: gauges are shown twice a second.
    pub(crate) async fn until_metric(&self, name: &str, labels: &str, value: f64) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let waiting = async {
            while self.metric(name, labels).await != value {
                tick.tick().await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(),
            "{name} is never {value}"
        );
    }
}

/// A message to an iPhone; `more` adds and replaces fields.
pub(crate) fn ios(more: Value) -> Value {
    message(json!({ "platform": "apple_rn-v2", "device_id": IOS_TOKEN }), more)
}

/// A message to an Android phone.
pub(crate) fn android(more: Value) -> Value {
    message(json!({ "platform": "android_rn-v2", "device_id": ANDROID_TOKEN }), more)
}

fn message(base: Value, more: Value) -> Value {
    let mut push = json!({ "server_id": "srv1", "type": "message", "version": "v2", "message": "hello" });
    for fields in [base, more] {
        for (key, value) in fields.as_object().unwrap() {
            push[key] = value.clone();
        }
    }
    push
}

/// Makes two tenants' licences in the deployment's registry, and returns their path prefixes.
fn seeded(config: &Path, rate: u32) -> [String; 2] {
    let arguments =
        ["seed", "--tenants", "2", "--rate", &rate.to_string(), "--config", config.to_str().unwrap()];
    let output = run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let keys = String::from_utf8(output.stdout).unwrap();
    let mut prefixes = keys.lines().map(|key| format!("/t/{key}"));
    [prefixes.next().unwrap(), prefixes.next().unwrap()]
}

/// Ports, registry and apps.
fn base(directory: &Path, simulator: &Simulator) -> String {
    let (data_dir, apps) = (directory.display(), simulator.configuration());
    format!(
        "data_dir = \"{data_dir}\"\n[gateway]\ndevice_rate_per_second = 0\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[health]\nlisten = \"127.0.0.1:0\"\n{apps}"
    )
}

/// Puts settings into the tables of `base`, which TOML allows to open only once.
fn merged(base: &str, settings: &str) -> String {
    let mut text = base.to_owned();
    let mut table = String::new();
    for line in settings.lines() {
        if line.starts_with('[') {
            table = format!("{line}\n");
            if !text.contains(&table) {
                text.push_str(&table);
            }
        } else {
            text = text.replacen(&table, &format!("{table}{line}\n"), 1);
        }
    }
    text
}
