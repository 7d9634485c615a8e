//! Benchmark: throughput of one lane, and its idle cost, with very many apps and workers.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dispatch_stream::{JobConsumer, JobProducer, KeyRing, Lane, RedisGateway, RedisWorker, VitalTasks};
use push_domain::{
    Answer, App, AppCatalogue, AppId, Audience, Clock, Content, DeviceId, DeviceToken, FcmRequest, JobId,
    Kind, Notification, Provider, ProviderRequest, SystemClock, TenantId, Timing, Verdict,
};
use system_tests::cost::Cpu;
use system_tests::servers::{GATEWAY_LOGIN, Redis, WORKER_LOGIN};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const RING: &str = "00000000000000a1 1111111111111111111111111111111111111111111111111111111111111111";
const APPS: [usize; 4] = [1, 100, 1000, 10_000];
/// Jobs that wait for their verdict at once.
const UNDER_WAY: usize = 512;
/// Processes that only show that they live.
const IDLE_WORKERS: usize = 100;

/// Prints both tables.
pub(crate) fn run(time: Duration) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "\n| apps in use | jobs/s, one gateway and one worker | lane's CPU a job, µs | a lane's core carries, jobs/s |"
    )?;
    writeln!(out, "| ---: | ---: | ---: | ---: |")?;
    for apps in APPS {
        let (per_second, cost) = on_a_runtime(carried(apps, time))?;
        writeln!(out, "| {apps} | {per_second:.0} | {cost:.1} | {:.0} |", 1e6 / cost)?;
        out.flush()?;
    }
    writeln!(out, "\n| workers | apps | lane's CPU while idle, % of a core |")?;
    writeln!(out, "| ---: | ---: | ---: |")?;
    for (workers, apps) in [(1, 1), (IDLE_WORKERS, 1), (IDLE_WORKERS, 10_000)] {
        let share = on_a_runtime(idle(workers, apps, time * 2))?;
        writeln!(out, "| {workers} | {apps} | {:.2} |", share * 100.0)?;
        out.flush()?;
    }
    Ok(())
}

fn on_a_runtime<T>(measured: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(measured);
    runtime.shutdown_background();
    done
}

fn catalogue(apps: usize) -> anyhow::Result<Arc<AppCatalogue>> {
    let app = |number| App {
        id: AppId::new(&format!("app{number}")),
        platform: format!("android{number}"),
        audience: Audience::Shared,
        provider: Provider::Fcm,
        topic: String::new(),
    };
    Ok(Arc::new(AppCatalogue::new((0..apps).map(app))?))
}

fn lane(redis: &Redis, login: &str) -> anyhow::Result<Lane> {
    let address = format!("redis://{login}@{}", redis.address);
    Ok(Lane::new("lane", &address.into(), "hpns", true, None)?)
}

/// How many jobs a second go there and back, and what each costs the lane, in microseconds.
async fn carried(apps: usize, time: Duration) -> anyhow::Result<(f64, f64)> {
    let directory = tempfile::tempdir()?;
    let redis = Redis::start(directory.path())?;
    let (tasks, vital) = vital();
    let ring = Arc::new(KeyRing::parse(RING)?);
    let apps = catalogue(apps)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let worker = RedisWorker::new("worker", &[lane(&redis, WORKER_LOGIN)?], &ring, 1, &clock);
    let source = worker.serve(0, 1, Arc::clone(&apps), &vital);
    let gateway = RedisGateway::new("gateway".into(), &[lane(&redis, GATEWAY_LOGIN)?], ring, 10_000, 10_000);
    let submit = Arc::new(gateway.serve(0, 1, &vital));
    tasks.spawn(async move {
        while let Some(jobs) = source.claim(Provider::Fcm, UNDER_WAY).await {
            for claimed in jobs {
                claimed.finish(accepted());
            }
        }
    });
    let all = apps.all();
    let (began, end) =
        (Instant::now() + Duration::from_secs(1), Instant::now() + Duration::from_secs(1) + time);
    let mut callers = JoinSet::new();
    for caller in 0..UNDER_WAY {
        let (submit, all) = (Arc::clone(&submit), all.clone());
        callers.spawn(async move {
            let mut done = 0_u64;
            let mut number = caller;
            while Instant::now() < end {
                let verdict = submit.submit(job(&all[number % all.len()])?).await;
                anyhow::ensure!(verdict.is_ok_and(|it| it.answer == Answer::Ok), "a job was not done");
                done += u64::from(Instant::now() >= began);
                number += UNDER_WAY;
            }
            Ok(done)
        });
    }
    tokio::time::sleep_until(began).await;
    let before = Cpu::of(redis.id())?;
    let mut jobs = 0;
    while let Some(done) = callers.join_next().await {
        jobs += done??;
    }
    let used = Cpu::of(redis.id())?.micros - before.micros;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let jobs = jobs as f64;
    Ok((jobs / time.as_secs_f64(), used / jobs))
}

/// The share of a core that a lane takes while workers only show that they live.
async fn idle(workers: usize, apps: usize, time: Duration) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let redis = Arc::new(Redis::start(directory.path())?);
    let (_tasks, vital) = vital();
    let ring = Arc::new(KeyRing::parse(RING)?);
    let apps = catalogue(apps)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut all = Vec::new();
    for number in 0..workers {
        let worker =
            RedisWorker::new(&format!("worker{number}"), &[lane(&redis, WORKER_LOGIN)?], &ring, 1, &clock);
        let source = worker.serve(0, 1, Arc::clone(&apps), &vital);
        all.push((worker, source));
    }
    let mut waiting = JoinSet::new();
    for (worker, source) in all {
        waiting.spawn(async move {
            let _ = tokio::join!(source.claim(Provider::Apns, 64), source.claim(Provider::Fcm, 64));
            drop(worker);
        });
    }
    // What starting costs is not what idling costs: each worker waits for jobs of both providers.
    let waits = format!("blocked_clients:{}", 2 * workers);
    loop {
        let redis = Arc::clone(&redis);
        let clients = tokio::task::spawn_blocking(move || redis.ask(&["INFO", "clients"])).await??;
        if clients.lines().any(|line| line.trim_end() == waits) {
            break;
        }
    }
    let before = Cpu::of(redis.id())?;
    tokio::time::sleep(time).await;
    let used = Cpu::of(redis.id())?.micros - before.micros;
    Ok(used / 1e6 / time.as_secs_f64())
}

fn vital() -> (TaskTracker, VitalTasks) {
    let tasks = TaskTracker::new();
    let vital = VitalTasks::new(tasks.clone(), CancellationToken::new());
    (tasks, vital)
}

fn accepted() -> Verdict {
    Verdict { answer: Answer::Ok, reason: None, attempts: 1, timing: Timing::default() }
}

fn job(app: &Arc<App>) -> anyhow::Result<dispatch_stream::Job> {
    let token = DeviceToken::parse(Provider::Fcm, "a".repeat(160)).context("a token")?;
    let request = FcmRequest { token, body: Content::new("x".repeat(400)), data_bytes: 200 };
    let notification = Notification {
        id: JobId::new(),
        tenant: TenantId::new(),
        app: Arc::clone(app),
        device: DeviceId::from_bytes([7; 32]),
        kind: Kind::Message,
        request: ProviderRequest::Fcm(request),
    };
    let accepted_at = Instant::now();
    let deadline = accepted_at + Duration::from_secs(10);
    Ok(dispatch_stream::Job { notification: Arc::new(notification), accepted_at, deadline })
}
