//! Service-level ledger of one process: an event sink for each serving thread, and one aggregator that writes what they
//! counted to the registry.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{Clock, Objectives, Tally, TenantId, Timestamp};
use tenant_registry::{
    HOURS_HELD, LedgerProcess, RegistryError, ServiceLevelKey, ServiceLevelLedger, everybody, hour_of, nobody,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::event::{Answered, Refused, Sink};

/// What was counted is written so often: a crash loses no more.
const FLUSH: Duration = Duration::from_secs(10);
/// Where a write takes long it is made less often, so that it takes no more than a twentieth of the time; at most so seldom.
const SLOWEST: Duration = Duration::from_mins(5);
const PART: u32 = 20;
/// Tallies in one thread between two writes. More tenants are counted together, as nobody's.
const MOST: usize = 30_000;
/// Tallies of all hours that may still be written, also of those that passed while the registry was away; the same of more.
const MOST_HELD: usize = 200_000;
/// So many rows are written in one transaction.
const BATCH: usize = 500;

type Tallies = HashMap<ServiceLevelKey, Tally>;

/// Event sink of one serving thread.
pub(crate) struct ThreadLedger {
    clock: Arc<dyn Clock>,
    objectives: Objectives,
    /// Nobody else takes the lock but the aggregator, every ten seconds.
    counted: Mutex<Tallies>,
}

/// Aggregator of one process.
pub struct Ledger {
    clock: Arc<dyn Clock>,
    objectives: Objectives,
    process: String,
    region: String,
    began: Timestamp,
    threads: Mutex<Vec<Arc<ThreadLedger>>>,
    state: tokio::sync::Mutex<State>,
}

/// Sums of the hours that may still change, and which of them have to be written.
#[derive(Default)]
struct State {
    tallies: Tallies,
    unwritten: HashSet<ServiceLevelKey>,
    /// Until when all that was counted is written.
    flushed: Option<Timestamp>,
    /// The hour of the last write, and how often the clock has gone back to hours that are no longer held.
    hour: u64,
    generation: u32,
}

impl Ledger {
    /// Makes the ledger of a process, which is named for as long as it runs.
    #[must_use]
    pub fn new(process: &str, region: &str, objectives: Objectives, clock: Arc<dyn Clock>) -> Arc<Self> {
        let began = clock.now();
        Arc::new(Self {
            clock,
            objectives,
            process: process.to_owned(),
            region: region.to_owned(),
            began,
            threads: Mutex::default(),
            state: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) const fn objectives(&self) -> Objectives {
        self.objectives
    }

    /// Makes the sink of one more serving thread.
    pub(crate) fn thread(&self) -> Arc<ThreadLedger> {
        let thread = Arc::new(ThreadLedger {
            clock: Arc::clone(&self.clock),
            objectives: self.objectives,
            counted: Mutex::default(),
        });
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&thread));
        thread
    }

    /// Writes what was counted every ten seconds, until `end`; what is left then is left to [`Ledger::close`].
    pub async fn keep_written(
        self: Arc<Self>,
        registry: Arc<dyn ServiceLevelLedger>,
        end: CancellationToken,
    ) {
        loop {
            let began = tokio::time::Instant::now();
            if let Err(error) = self.flush(&*registry, false).await {
                metrics::counter!("service_level_write_failures_total").increment(1);
                warn!(%error, "what became of pushes cannot be written; it will be tried again");
            }
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep((began.elapsed() * PART).clamp(FLUSH, SLOWEST)) => {}
            }
        }
    }

    /// Writes the last of it, and, if all pushes are told, that nothing is missing.
    pub async fn close(
        &self,
        registry: &dyn ServiceLevelLedger,
        all_told: bool,
    ) -> Result<(), RegistryError> {
        self.flush(registry, all_told).await
    }

    /// Adds up what the threads have counted, and writes what has changed. What cannot be written stays for the next time.
    async fn flush(&self, registry: &dyn ServiceLevelLedger, is_last: bool) -> Result<(), RegistryError> {
        let mut state = self.state.lock().await;
        // Taken before the counts: all that came before it is in them.
        let flushed = self.clock.now();
        if hour_of(flushed) + 1 < state.hour {
            // The clock went back: what comes may be of hours that were written and let go, and must not replace those.
            self.write(&mut state, registry, flushed, true).await?;
            state.tallies.clear();
            state.generation += 1;
            state.hour = 0;
        }
        // Not lower: a clock that goes back hour by hour would never seem to go back.
        state.hour = state.hour.max(hour_of(flushed));
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for thread in threads {
            // Not in the head of the loop, which would hold the lock, and the thread, as long as it runs.
            let counted = std::mem::take(&mut *thread.lock());
            for (key, tally) in counted {
                state.add(key, &tally);
                state.add(ServiceLevelKey { tenant: everybody(), ..key }, &tally);
            }
        }
        state.forget_before(hour_of(flushed).saturating_sub(HOURS_HELD));
        self.write(&mut state, registry, flushed, is_last).await?;
        // The registry puts hours together when it is told of the second one after them: none is written after that.
        let oldest = hour_of(flushed).saturating_sub(1);
        state.tallies.retain(|key, _| key.hour >= oldest);
        Ok(())
    }

    async fn write(
        &self,
        state: &mut State,
        registry: &dyn ServiceLevelLedger,
        flushed: Timestamp,
        is_last: bool,
    ) -> Result<(), RegistryError> {
        let name = match state.generation {
            0 => self.process.clone(),
            generation => format!("{}-{generation}", self.process),
        };
        let mut process = LedgerProcess {
            process: name,
            region: self.region.clone(),
            began: self.began,
            flushed: state.flushed.unwrap_or(self.began),
            ended: None,
        };
        let unwritten: Vec<_> = state.unwritten.iter().copied().collect();
        for batch in unwritten.chunks(BATCH) {
            let rows: Vec<_> = batch.iter().map(|key| (*key, state.tallies[key].clone())).collect();
            registry.write_service_level(&process, &rows).await?;
            for key in batch {
                state.unwritten.remove(key);
            }
        }
        // Only now: until here some of it was not written.
        process.flushed = flushed;
        process.ended = is_last.then_some(flushed);
        registry.write_service_level(&process, &[]).await?;
        state.flushed = Some(flushed);
        Ok(())
    }
}

impl State {
    /// Adds what a thread counted. Where no more tallies fit, it is nobody's.
    fn add(&mut self, mut key: ServiceLevelKey, tally: &Tally) {
        if self.tallies.len() >= MOST_HELD && !self.tallies.contains_key(&key) && key.tenant != everybody() {
            key.tenant = nobody();
        }
        self.tallies.entry(key).or_default().add(tally);
        self.unwritten.insert(key);
    }

    /// Gives up what could not be written in so long: the registry has put that hour together without it.
    fn forget_before(&mut self, hour: u64) {
        self.unwritten.retain(|key| key.hour >= hour);
        self.tallies.retain(|key, _| key.hour >= hour);
    }
}

impl ThreadLedger {
    fn lock(&self) -> MutexGuard<'_, Tallies> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for the tenant; for everybody the aggregator adds up. Callers without a licence are nobody.
    fn count(&self, tenant: Option<TenantId>, kind: Option<&Answered>, count: impl FnOnce(&mut Tally)) {
        let tenant = tenant.filter(|tenant| !tenant.is_unlicensed()).unwrap_or_else(nobody);
        let key = ServiceLevelKey {
            tenant,
            hour: hour_of(self.clock.now()),
            provider: kind.map(|event| event.app.provider),
            class: kind.map(|event| event.kind.class()),
        };
        let mut counted = self.lock();
        let own = if counted.len() < MOST || counted.contains_key(&key) {
            key
        } else {
            ServiceLevelKey { tenant: nobody(), ..key }
        };
        count(counted.entry(own).or_default());
    }
}

impl Sink for ThreadLedger {
    fn answered(&self, event: &Answered) {
        let in_time = self.objectives.in_time(event.kind.class());
        let count = |tally: &mut Tally| tally.answered(event.verdict.answer, event.took, in_time);
        self.count(Some(event.tenant), Some(event), count);
    }

    fn refused(&self, event: &Refused) {
        self.count(event.tenant, None, |tally| tally.refused(event.reason.owner()));
    }

    fn acknowledged(&self, tenant: TenantId) {
        self.count(Some(tenant), None, |tally| tally.acks += 1);
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("process", &self.process).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use push_domain::{FailReason, JobId, ManualClock, Owner};

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// Keeps what was written as a registry does: a tally replaces the one of the same process before.
    #[derive(Default)]
    struct Registry {
        rows: Mutex<HashMap<(String, ServiceLevelKey), Tally>>,
        told: Mutex<Vec<LedgerProcess>>,
        down: AtomicBool,
    }

    #[async_trait]
    impl ServiceLevelLedger for Registry {
        async fn write_service_level(
            &self,
            process: &LedgerProcess,
            tallies: &[(ServiceLevelKey, Tally)],
        ) -> Result<(), RegistryError> {
            if self.down.load(Ordering::SeqCst) {
                return Err(RegistryError::Timeout);
            }
            let rows = tallies.iter().map(|(key, tally)| ((process.process.clone(), *key), tally.clone()));
            self.rows.lock().unwrap().extend(rows);
            self.told.lock().unwrap().push(process.clone());
            Ok(())
        }
    }

    impl Registry {
        fn refused(&self, tenant: TenantId) -> u64 {
            let rows = self.rows.lock().unwrap();
            rows.iter()
                .filter(|((_, key), _)| key.tenant == tenant)
                .map(|(_, tally)| tally.bad(Owner::Tenant))
                .sum()
        }
    }

    fn refusal(tenant: Option<TenantId>) -> Refused {
        Refused { id: JobId::new(), tenant, reason: FailReason::RateLimited }
    }

    fn a_ledger() -> (Arc<ManualClock>, Arc<Ledger>, Registry) {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_millis(500_000 * HOUR_MS)));
        let ledger = Ledger::new("p", "us", Objectives::default(), clock.clone());
        (clock, ledger, Registry::default())
    }

    #[tokio::test]
    async fn what_all_threads_counted_is_written_once_and_a_failed_write_loses_nothing() {
        let (_, ledger, registry) = a_ledger();
        let (one, two, tenant) = (ledger.thread(), ledger.thread(), TenantId::new());
        one.refused(&refusal(Some(tenant)));
        two.refused(&refusal(Some(tenant)));
        two.refused(&refusal(None));
        registry.down.store(true, Ordering::SeqCst);
        assert!(ledger.flush(&registry, false).await.is_err());

        registry.down.store(false, Ordering::SeqCst);
        one.refused(&refusal(Some(TenantId::unlicensed(7))));
        ledger.flush(&registry, false).await.unwrap();
        ledger.flush(&registry, false).await.unwrap();

        let told = [tenant, nobody(), everybody()].map(|tenant| registry.refused(tenant));
        assert_eq!(told, [2, 2, 4]);
    }

    #[tokio::test]
    async fn an_hour_is_written_no_more_once_the_next_one_is_over_and_the_end_is_told() {
        let (clock, ledger, registry) = a_ledger();
        let (thread, tenant) = (ledger.thread(), TenantId::new());
        for _ in 0..3 {
            thread.refused(&refusal(Some(tenant)));
            ledger.flush(&registry, false).await.unwrap();
            clock.advance(Duration::from_hours(1));
        }
        ledger.close(&registry, true).await.unwrap();

        assert_eq!(registry.refused(tenant), 3);
        assert!(ledger.state.lock().await.tallies.keys().all(|key| key.hour >= 500_002));
        let process = registry.told.lock().unwrap().pop().unwrap();
        assert_eq!((process.flushed, process.ended), (clock.now(), Some(clock.now())));
    }

    #[tokio::test]
    async fn until_when_all_is_written_is_never_taken_back() {
        let (clock, ledger, registry) = a_ledger();
        let thread = ledger.thread();
        for _ in 0..3 {
            clock.advance(Duration::from_mins(1));
            (0..BATCH).for_each(|_| thread.refused(&refusal(Some(TenantId::new()))));
            ledger.flush(&registry, false).await.unwrap();
        }

        let told: Vec<_> = registry.told.lock().unwrap().iter().map(|it| it.flushed).collect();
        assert!(told.len() > 6 && told.is_sorted(), "{told:?}");
    }

    #[tokio::test]
    async fn while_the_registry_is_away_what_is_held_is_bounded() {
        let (clock, ledger, registry) = a_ledger();
        let (thread, tenant) = (ledger.thread(), TenantId::new());
        registry.down.store(true, Ordering::SeqCst);
        for _ in 0..30 {
            thread.refused(&refusal(Some(tenant)));
            (0..10_000).for_each(|_| thread.refused(&refusal(Some(TenantId::new()))));
            assert!(ledger.flush(&registry, false).await.is_err());
            clock.advance(Duration::from_hours(1));
        }
        let state = ledger.state.lock().await;
        assert!(state.tallies.len() <= MOST_HELD + 100, "{}", state.tallies.len());
        assert_eq!(state.unwritten.len(), state.tallies.len());
        drop(state);

        registry.down.store(false, Ordering::SeqCst);
        ledger.flush(&registry, false).await.unwrap();
        assert_eq!(registry.refused(everybody()), HOURS_HELD * 10_001);
        let late = registry.rows.lock().unwrap().keys().all(|(_, key)| key.hour >= 500_030 - HOURS_HELD);
        assert!(late, "hours that the registry has put together were written");
    }

    #[tokio::test]
    async fn a_clock_that_goes_back_takes_nothing_from_what_was_written() {
        let (clock, ledger, registry) = a_ledger();
        let (thread, tenant) = (ledger.thread(), TenantId::new());
        for hours in [0_u64, 1, 1, 1] {
            clock.advance(Duration::from_hours(hours));
            thread.refused(&refusal(Some(tenant)));
            ledger.flush(&registry, false).await.unwrap();
        }
        clock.step_to(Timestamp::from_millis(500_000 * HOUR_MS));
        for _ in 0..2 {
            thread.refused(&refusal(Some(tenant)));
            ledger.flush(&registry, false).await.unwrap();
        }

        assert_eq!(registry.refused(tenant), 6);
    }

    #[test]
    fn any_number_of_tenants_takes_bounded_room() {
        let (_, ledger, _) = a_ledger();
        let thread = ledger.thread();

        (0..MOST + 100).for_each(|_| thread.refused(&refusal(Some(TenantId::new()))));

        let counted = thread.lock();
        assert!(counted.len() <= MOST + 1, "{}", counted.len());
        let all: u64 = counted.values().map(|tally| tally.bad(Owner::Tenant)).sum();
        assert_eq!(all, MOST as u64 + 100);
    }
}
