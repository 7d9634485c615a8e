//! Redis and PostgreSQL servers of a measurement, on loopback ports of their own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;

use crate::process::killed_with_parent;

/// What the lanes' users log in with.
pub const GATEWAY_LOGIN: &str = "hpns-gateway:gateway";
/// The same for workers.
pub const WORKER_LOGIN: &str = "hpns-worker:worker";

/// The same for who serves operators.
pub const ADMIN_LOGIN: &str = "hpns-admin:admin";

/// Where this project lies.
#[must_use]
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Finds a port that nobody listens on.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A Redis with the configuration and the users that are shipped; it is ended when this is dropped.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    directory: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Redis {
    /// Starts one in a directory of its own.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let shipped = project().join("deploy/redis");
        let users = std::fs::read_to_string(shipped.join("users.acl"))?;
        // Of the words in the logins above.
        let users = users
            .replace("#GATEWAY_PASSWORD_SHA256", ">gateway")
            .replace("#WORKER_PASSWORD_SHA256", ">worker")
            .replace("#ADMIN_PASSWORD_SHA256", ">admin")
            .replace("#OPERATOR_PASSWORD_SHA256", ">operator");
        std::fs::write(directory.join("users.acl"), format!("{users}user test on nopass ~* &* +@all\n"))?;
        std::fs::copy(shipped.join("lane.conf"), directory.join("lane.conf"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let child = Self::run(directory, address)?;
        let redis = Self { child, directory: directory.to_owned(), address };
        redis.until_up()?;
        Ok(redis)
    }

    fn run(directory: &Path, address: SocketAddr) -> anyhow::Result<Child> {
        let server = killed_with_parent("redis-server")
            .arg("lane.conf")
            .args(["--bind", "127.0.0.1", "--aclfile", "users.acl", "--dir", ".", "--logfile", "redis.log"])
            .args(["--port", &address.port().to_string()])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        server.context("redis-server is not installed")
    }

    fn until_up(&self) -> anyhow::Result<()> {
        for _ in 0..1000 {
            if std::net::TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            #[expect(clippy::disallowed_methods, reason = "nothing is measured yet")]
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        anyhow::bail!("redis-server did not start: see {}", self.directory.join("redis.log").display())
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, empty.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.child = Self::run(&self.directory, self.address)?;
        self.until_up()
    }

    /// Sends a command as a user who may do everything, and returns what the server says.
    pub fn ask(&self, command: &[&str]) -> anyhow::Result<String> {
        self.ask_as("test:x", command)
    }

    /// The same with one of the logins.
    pub fn ask_as(&self, login: &str, command: &[&str]) -> anyhow::Result<String> {
        let port = self.address.port().to_string();
        let (user, password) = login.split_once(':').context("a login is a user and a password")?;
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &port, "--user", user, "--pass", password, "--no-auth-warning"])
            .args(command)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Sends a command that answers with a number.
    pub fn count(&self, command: &[&str]) -> anyhow::Result<u64> {
        let answer = self.ask(command)?;
        answer.parse().with_context(|| format!("{command:?}: {answer}"))
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A PostgreSQL; it ends with this process, however that ends.
#[derive(Debug)]
pub struct Postgres {
    script: Child,
    lifeline: Option<ChildStdin>,
    /// The server's process id.
    pub id: u32,
    /// Where it listens on loopback.
    pub port: u16,
    /// Where its files lie.
    pub directory: PathBuf,
}

impl Postgres {
    /// Starts one in a directory of its own.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let (script, lifeline, id) = Self::run(directory, port)?;
        Ok(Self { script, lifeline: Some(lifeline), id, port, directory: directory.to_owned() })
    }

    fn run(directory: &Path, port: u16) -> anyhow::Result<(Child, ChildStdin, u32)> {
        let mut script = Command::new(project().join("scripts/postgres.sh"))
            .arg(directory)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(script.stdout.take().context("no output")?).read_line(&mut line)?;
        let id = line.trim().strip_prefix("ready ").context("PostgreSQL does not start")?.parse()?;
        let lifeline = script.stdin.take().context("no input")?;
        Ok((script, lifeline, id))
    }

    /// Stops it; what was written stays.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.lifeline = None;
        self.script.wait()?;
        Ok(())
    }

    /// Starts it again.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let (script, lifeline, id) = Self::run(&self.directory, self.port)?;
        (self.script, self.lifeline, self.id) = (script, Some(lifeline), id);
        Ok(())
    }

    /// Returns the address for a login.
    #[must_use]
    pub fn address(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs a statement as the owner of everything, and returns its rows as text.
    pub fn ask(&self, statement: &str) -> anyhow::Result<String> {
        self.ask_as("postgres", statement)
    }

    /// The same with a login of one of the roles.
    pub fn ask_as(&self, user: &str, statement: &str) -> anyhow::Result<String> {
        let output = Command::new("psql").args(["-qAtX", &self.address(user), "-c", statement]).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
