//! Simulation test of the whole way of a push, in simulated time: the real gateway and the real worker around
//! the in-process hand-over, a provider that fails in every way it can, callers that leave, workers that end
//! or stand still in the middle of their work. Every seed is another story; one that fails is told by its number,
//! which gives the same callers and the same provider again. (The product's own jitter is not seeded.)

mod worker_pool;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use dispatch_stream::InProcessQueue;
use dispatch_worker::{CredentialProofs, Guards, RateLimit, Worker};
use gateway::{Access, AdmissionConfig, Authenticator, Gateway, Version};
use http::Request;
use push_domain::{
    App, AppCatalogue, AppId, Attempt, Audience, Clock, ManualClock, Objectives, Outcome, Provider,
    ProviderRequest, PushSender, Reason, RetryScope, SecretBytes, Timestamp,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tenant_registry::{DeliveryLedger, DeviceActivity, Keys, LedgerWriter, RegistryError};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::Config;
use worker_pool::WorkerPool;

const PUSHES: u64 = 40;
/// How many of them the fault hits, on average: more than twenty a story, with those of callers and workers.
const FAULTY: f64 = 0.5;

/// One push reached the provider.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    worker: u32,
    accepted: bool,
    dead: bool,
}

/// Flaky provider: takes its time, and fails at random.
#[derive(Debug)]
struct FlakyProvider {
    worker: u32,
    dice: Arc<Mutex<StdRng>>,
    sent: Arc<Mutex<HashMap<String, Vec<Sent>>>>,
}

/// Drawn outcome of one attempt.
#[derive(Debug, Clone, Copy)]
enum DrawnOutcome {
    Accepted,
    Dead,
    Refused,
    Later(RetryScope),
    Silence,
    Panic,
}

impl FlakyProvider {
    fn throw(&self) -> (Duration, DrawnOutcome) {
        let mut dice = self.dice.lock().unwrap();
        let time = Duration::from_millis(dice.random_range(1..200));
        if !dice.random_bool(FAULTY) {
            return (time, DrawnOutcome::Accepted);
        }
        let fate = match dice.random_range(0..7) {
            0 => DrawnOutcome::Dead,
            1 => DrawnOutcome::Refused,
            2 | 3 => DrawnOutcome::Later(RetryScope::Attempt),
            4 => DrawnOutcome::Later(RetryScope::Device),
            5 => DrawnOutcome::Silence,
            _ => DrawnOutcome::Panic,
        };
        (time, fate)
    }
}

#[async_trait]
impl PushSender for FlakyProvider {
    async fn send(&self, request: &ProviderRequest, attempt: Attempt) -> Outcome {
        let (time, fate) = self.throw();
        let (accepted, dead) = (matches!(fate, DrawnOutcome::Accepted), matches!(fate, DrawnOutcome::Dead));
        let sent = Sent { at: Instant::now(), worker: self.worker, accepted, dead };
        self.sent.lock().unwrap().entry(request.token().expose().to_owned()).or_default().push(sent);
        let word = Reason::known("word");
        if let DrawnOutcome::Silence = fate {
            tokio::time::sleep_until(attempt.deadline).await;
            return Outcome::TryLater {
                after: None,
                scope: RetryScope::Attempt,
                ambiguous: true,
                reason: word,
            };
        }
        tokio::time::sleep_until(attempt.deadline.min(Instant::now() + time)).await;
        match fate {
            DrawnOutcome::Accepted => Outcome::Accepted,
            DrawnOutcome::Dead => Outcome::TokenDead { since: None, reason: Reason::known("Unregistered") },
            DrawnOutcome::Refused => Outcome::Refused { reason: word },
            DrawnOutcome::Later(scope) => {
                Outcome::TryLater { after: None, scope, ambiguous: false, reason: word }
            }
            DrawnOutcome::Silence | DrawnOutcome::Panic => panic!("by the dice"),
        }
    }
}

struct NoLedger;

#[async_trait]
impl DeliveryLedger for NoLedger {
    async fn record(&self, _: &[DeviceActivity]) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn forget(&self, _: u32, _: u32) -> Result<u64, RegistryError> {
        Ok(0)
    }

    async fn prove(&self, _: &str, _: &str, _: u32) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn proofs(&self) -> Result<Vec<(String, String)>, RegistryError> {
        Ok(Vec::new())
    }
}

/// Every app has had a success.
struct Proven;

impl CredentialProofs for Proven {
    fn is_proven(&self, _: &AppId) -> bool {
        true
    }

    fn prove(&self, _: &AppId) {}
}

/// Test scenario: everything between a caller and the provider.
struct Scenario {
    gateway: gateway::CredentialService,
    clock: Arc<dyn Clock>,
    config: Config,
    queue: InProcessQueue,
    shifts: Arc<WorkerPool>,
    dice: Arc<Mutex<StdRng>>,
    tasks: TaskTracker,
    sent: Arc<Mutex<HashMap<String, Vec<Sent>>>>,
}

impl Scenario {
    fn begin(seed: u64) -> Self {
        let config = Config::parsed("[gateway]\naccess = \"open\"\ndevice_rate_per_second = 0").unwrap();
        let app = App {
            id: AppId::new("android"),
            platform: "android_rn".into(),
            audience: Audience::Shared,
            provider: Provider::Fcm,
            topic: String::new(),
        };
        let apps = Arc::new(AppCatalogue::new([app]).unwrap());
        let clock: Arc<dyn Clock> =
            Arc::new(ManualClock::starting_at(Timestamp::from_millis(1_800_000_000_000)));
        let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
        let authenticator =
            Arc::new(Authenticator::new(AdmissionConfig::new(Access::Open, "us"), keys, Arc::clone(&clock)));
        let (queue, tasks) = (InProcessQueue::new(30), TaskTracker::new());
        let gateway = Gateway::new(gateway::Parts {
            config: config.gateway.clone(),
            authenticator,
            apps,
            clock: Arc::clone(&clock),
            version: Version { hash: String::new(), version: String::new() },
            ledger: gateway::Ledger::new("one", "us", Objectives::default(), Arc::clone(&clock)),
        });
        let front = gateway.service(Arc::new(queue.clone()), tasks.clone());
        let shifts = WorkerPool::new(queue.clone(), tasks.clone());
        let dice = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        Self { gateway: front, clock, config, queue, shifts, dice, tasks, sent: Arc::default() }
    }

    /// Starts one more worker, and returns its number.
    fn start_worker(&self) -> u32 {
        let shift = self.shifts.start_worker();
        let number = shift.worker;
        let (dice, sent) = (Arc::clone(&self.dice), Arc::clone(&self.sent));
        let sender: Arc<dyn PushSender> = Arc::new(FlakyProvider { worker: number, dice, sent });
        let limit = |_: &AppId| RateLimit { credential: "one".into(), per_second: 200 };
        let worker = Worker::new(dispatch_worker::Parts {
            guards: Guards::new(limit, Arc::new(Proven), 10, None),
            senders: Box::new(HashMap::from([(AppId::new("android"), sender)])),
            ledger_writer: LedgerWriter::new(Arc::new(NoLedger)),
            clock: Arc::clone(&self.clock),
            config: self.config.worker.clone(),
            tasks: self.tasks.clone(),
        });
        self.tasks.spawn(worker.run(Arc::new(shift), Provider::Fcm, 8));
        number
    }

    /// Two workers; now and then one of them ends, and another one takes its place, or stands still.
    async fn churn_workers(&self, mut dice: StdRng) {
        let mut workers = [self.start_worker(), self.start_worker()];
        for _ in 0..dice.random_range(0..4) {
            tokio::time::sleep(Duration::from_millis(dice.random_range(1..400))).await;
            let struck = dice.random_range(0..workers.len());
            if dice.random_bool(0.5) {
                self.shifts.end(workers[struck]);
                workers[struck] = self.start_worker();
            } else {
                let pause = Duration::from_millis(dice.random_range(1..6000));
                self.shifts.pause(workers[struck], pause);
            }
        }
    }

    /// Pushes once, and returns the answer and when it came.
    async fn push(&self, number: u64, kind: &str) -> (String, Instant) {
        let body = format!(
            r#"{{"server_id":"s","platform":"android_rn-v2","device_id":"token{number}","type":"{kind}","message":"x"}}"#
        );
        let request = Request::post("/api/v1/send_push").body(Body::from(body)).unwrap();
        let response = self.gateway.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        (String::from_utf8(body.to_vec()).unwrap(), Instant::now())
    }

    fn sent(&self, number: u64) -> Vec<Sent> {
        self.sent.lock().unwrap().get(&format!("token{number}")).cloned().unwrap_or_default()
    }
}

async fn run_scenario(seed: u64) {
    let story = Arc::new(Scenario::begin(seed));
    let mut dice = StdRng::seed_from_u64(seed ^ u64::MAX);
    let mut callers = Vec::new();
    for number in 0..PUSHES {
        let kind = ["message", "clear", "update_badge", "test"][dice.random_range(0..4)];
        let arrives = Instant::now() + Duration::from_millis(dice.random_range(0..400));
        let leaves = dice.random_bool(0.1).then(|| Duration::from_millis(dice.random_range(1..300)));
        let story = Arc::clone(&story);
        callers.push(async move {
            tokio::time::sleep_until(arrives).await;
            let budget = Duration::from_millis(if kind == "test" { 2500 } else { 10_000 });
            let answer = match leaves {
                Some(patience) => tokio::time::timeout(patience, story.push(number, kind)).await.ok(),
                None => Some(story.push(number, kind).await),
            };
            (number, arrives, budget, answer)
        });
    }
    let mut waiting = tokio::task::JoinSet::new();
    for caller in callers {
        waiting.spawn(caller);
    }
    story.churn_workers(StdRng::seed_from_u64(!seed.rotate_left(32))).await;
    let told = waiting.join_all().await;
    story.queue.close();
    story.tasks.close();
    story.tasks.wait().await;
    for (number, arrived, budget, answer) in told {
        judge(seed, &story, number, arrived, budget, answer);
    }
}

/// The laws of every push.
fn judge(
    seed: u64,
    story: &Scenario,
    number: u64,
    arrived: Instant,
    budget: Duration,
    answer: Option<(String, Instant)>,
) {
    let sent = story.sent(number);
    let place = format!("seed {seed}, push {number}: {sent:?}, {answer:?}");
    assert!(sent.iter().all(|sent| sent.at < arrived + budget), "sent past its deadline: {place}");
    for (at, one) in sent.iter().enumerate() {
        // What a worker did with a job before it was struck is not known to who has the job afterwards.
        if !story.shifts.was_struck(one.worker) {
            let same = sent.iter().filter(|other| other.worker == one.worker).count();
            assert!(same <= 3, "too many attempts: {place}");
            let again = (one.accepted || one.dead) && at + 1 < sent.len();
            assert!(!again, "sent again after a last word: {place}");
        }
    }
    let Some((text, at)) = answer else { return };
    assert!(at <= arrived + budget + Duration::from_millis(50), "answered late: {place}");
    if text.contains("\"OK\"") {
        assert!(sent.iter().any(|sent| sent.accepted), "an OK that is not true: {place}");
    } else if text.contains("\"REMOVE\"") {
        assert!(sent.iter().any(|sent| sent.dead), "a REMOVE that is not true: {place}");
    } else {
        assert!(text.contains("FAIL"), "no answer: {place}");
        let unsent = ["\"busy:", "\"rate_limited:", "\"unavailable:"];
        assert!(
            !unsent.iter().any(|code| text.contains(code)) || sent.is_empty(),
            "sent all the same: {place}"
        );
        assert!(sent.iter().all(|sent| sent.at <= at), "sent after FAIL: {place}");
    }
}

fn run_scenarios(seeds: &std::ops::Range<u64>) {
    // Panics by the dice are part of the story.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("by the dice") {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{info}\n"));
        }
    }));
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let mut builder = tokio::runtime::Builder::new_current_thread();
                    let runtime = builder.enable_time().start_paused(true).build().unwrap();
                    runtime.block_on(run_scenario(seed));
                }
            });
        }
    });
}

#[test]
fn every_answer_is_true_whatever_the_dice_say() {
    run_scenarios(&(0..20_000));
}
