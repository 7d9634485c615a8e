//! Test rig: a Redis of a test's own with the configuration and users that we ship, on its own socket.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use push_domain::{App, AppCatalogue, Clock, JobId, Provider, SystemClock, Verdict};
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lane_connection::LaneConnection;
use super::{GatewayThread, Lane, RedisGateway, RedisWorker, WorkerThread, value};

use crate::conformance::{QueueBackend, the_app};
use crate::{
    BoardKeys, Claimed, Job, JobConsumer, JobProducer, KeyRing, PeerDirectory, SubmitError, VitalTasks,
};

const KEY: &str = "00000000000000a1 1111111111111111111111111111111111111111111111111111111111111111";

/// A running server; it is ended when this is dropped.
pub(super) struct Server {
    child: Mutex<Child>,
    directory: TempDir,
}

impl Server {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/redis");
        let users = std::fs::read_to_string(shipped.join("users.acl")).unwrap();
        let hash = |password: &str| HEXLOWER.encode(digest(&SHA256, password.as_bytes()).as_ref());
        let users = users
            .replace("GATEWAY_PASSWORD_SHA256", &hash("gateway"))
            .replace("WORKER_PASSWORD_SHA256", &hash("worker"))
            .replace("ADMIN_PASSWORD_SHA256", &hash("admin"))
            .replace("OPERATOR_PASSWORD_SHA256", &hash("operator"));
        let users = format!("{users}user test on nopass ~* &* +@all\n");
        std::fs::write(directory.path().join("users.acl"), users).unwrap();
        std::fs::copy(shipped.join("lane.conf"), directory.path().join("lane.conf")).unwrap();
        let child = Mutex::new(Self::run(directory.path()));
        Self { child, directory }
    }

    fn run(directory: &Path) -> Child {
        let server = Command::new("redis-server")
            .arg(directory.join("lane.conf"))
            .args(["--port", "0", "--unixsocket", "redis.sock", "--aclfile", "users.acl", "--dir"])
            .arg(directory)
            .current_dir(directory)
            .stdout(Stdio::null())
            .spawn();
        server.expect("redis-server is not installed")
    }

    /// Ends the server without a warning.
    pub(super) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again, empty.
    pub(super) fn start_again(&self) {
        *self.child.lock().unwrap() = Self::run(self.directory.path());
    }

    /// A process's board on this server.
    pub(super) fn board(&self, process: &str) -> PeerDirectory {
        PeerDirectory::new(process, &[self.lane("worker")], &BoardKeys::of(&ring()))
    }

    pub(super) fn lane(&self, user: &str) -> Lane {
        let socket = self.directory.path().join("redis.sock");
        let name = if user == "test" { user.to_owned() } else { format!("hpns-{user}") };
        let address = format!("redis+unix://{}?user={name}&pass={user}", socket.display());
        let checks = !["test", "operator"].contains(&user);
        Lane::new("lane", &address.into(), "hpns", checks, None).unwrap()
    }

    /// Sends a command as a user who may do everything; waits for a server that is starting.
    pub(super) async fn admin(&self, command: &redis::Cmd) -> redis::Value {
        let mut link = LaneConnection::commands(self.lane("test"));
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            match link.query(command).await {
                Ok(value) => return value,
                Err(error) if error.is_io_error() && Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Says whether a job lies in a queue, claimed or not.
    async fn has_queued(&self, job: JobId) -> bool {
        for queue in self.lane("test").keys.queues() {
            // The newest ones.
            let mut look = redis::cmd("XREVRANGE");
            look.arg(queue).arg("+").arg("-").arg("COUNT").arg(10);
            let entries =
                value::list(self.admin(&look).await).into_iter().filter_map(value::StreamEntry::read);
            let mut parcels =
                entries.filter_map(|mut entry| crate::wire::read_parcel(entry.take(b"p")?).ok());
            if parcels.any(|parcel| parcel.job == job) {
                return true;
            }
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A gateway with one thread.
pub(super) struct Gateway {
    pub(super) process: RedisGateway,
    thread: GatewayThread,
}

impl Gateway {
    pub(super) fn is_ready(&self) -> bool {
        self.process.is_served()
    }

    pub(super) async fn submit(&self, job: Job) -> Result<Verdict, SubmitError> {
        self.thread.submit(job).await
    }
}

/// A worker with one thread.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) process: RedisWorker,
    thread: Arc<WorkerThread>,
}

impl Worker {
    pub(super) fn is_up(&self) -> bool {
        self.process.is_up()
    }

    pub(super) async fn settled(&self) {
        self.process.settled().await;
    }

    pub(super) async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        self.thread.claim(provider, free).await
    }
}

/// Both ends, and the server between them.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) gateway: Arc<Gateway>,
    pub(super) worker: Worker,
    pub(super) server: Arc<Server>,
}

impl Rig {
    /// Starts a server and both ends, and waits until they have found each other.
    pub(super) async fn start(capacity: usize) -> Self {
        let server = Arc::new(Server::start());
        server.admin(&redis::cmd("PING")).await;
        let tasks = TaskTracker::new();
        let gateway = Arc::new(a_gateway("gw", &[&server], capacity, &tasks));
        let worker = a_worker("w1", &[&server], &tasks);
        let rig = Self { gateway, worker, server };
        until(|| rig.gateway.is_ready() && rig.worker.is_up()).await;
        rig
    }

    pub(super) async fn count(&self, command: &str, key: &[u8]) -> i64 {
        let answer = self.server.admin(redis::cmd(command).arg(key)).await;
        value::number(&answer).unwrap_or_default()
    }
}

pub(super) fn a_gateway(name: &str, servers: &[&Server], capacity: usize, tasks: &TaskTracker) -> Gateway {
    let lanes: Vec<_> = servers.iter().map(|server| server.lane("gateway")).collect();
    let process = RedisGateway::new(name.into(), &lanes, ring(), 1000, capacity);
    let thread = process.serve(0, 1, &vital(tasks));
    Gateway { process, thread }
}

pub(super) fn a_worker(name: &str, servers: &[&Server], tasks: &TaskTracker) -> Worker {
    a_worker_of(the_app(), name, servers, tasks)
}

/// A worker that delivers to one app.
pub(super) fn a_worker_of(app: App, name: &str, servers: &[&Server], tasks: &TaskTracker) -> Worker {
    let lanes: Vec<_> = servers.iter().map(|server| server.lane("worker")).collect();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let process = RedisWorker::new(name, &lanes, &ring(), 1, &clock);
    let apps = Arc::new(AppCatalogue::new([app]).unwrap());
    let thread = Arc::new(process.serve(0, 1, apps, &vital(tasks)));
    Worker { process, thread }
}

fn vital(tasks: &TaskTracker) -> VitalTasks {
    VitalTasks::new(tasks.clone(), CancellationToken::new())
}

pub(super) fn ring() -> Arc<KeyRing> {
    Arc::new(KeyRing::parse(KEY).unwrap())
}

/// Waits until something is so; a test that waits in vain fails after 20 s.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in vain");
}

#[async_trait]
impl JobProducer for Rig {
    async fn submit(&self, job: Job) -> Result<Verdict, SubmitError> {
        self.gateway.submit(job).await
    }
}

#[async_trait]
impl JobConsumer for Rig {
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        self.worker.claim(provider, free).await
    }
}

#[async_trait]
impl QueueBackend for Rig {
    fn close(&self) {
        self.worker.process.close();
    }

    async fn until_queued(&self, job: JobId) {
        let in_time = async {
            while !self.server.has_queued(job).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), in_time).await.expect("in vain");
    }
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rig")
    }
}
