//! Usage counters: answers by tenant in the last minutes, in one serving thread.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::TenantId;
use tokio::time::Instant;

use crate::event::{Answered, Refused, Sink};

/// What is told is of this time to twice as much ago.
const SPELL: Duration = Duration::from_mins(5);
/// Tenants that are told apart.
const MOST: usize = 10_000;

type Answers = HashMap<TenantId, BTreeMap<&'static str, u64>>;

/// Event sink that counts answers by tenant.
#[derive(Debug)]
pub(crate) struct Usage {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    now: Answers,
    before: Answers,
}

impl Usage {
    pub(crate) fn new() -> Self {
        let state = State { began: Instant::now(), now: Answers::new(), before: Answers::new() };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer. Callers without a licence are no tenants.
    pub(crate) fn count(&self, tenant: TenantId, label: &'static str) {
        if tenant.is_unlicensed() {
            return;
        }
        let mut state = self.lock();
        state.turn();
        if state.now.len() < MOST || state.now.contains_key(&tenant) {
            *state.now.entry(tenant).or_default().entry(label).or_default() += 1;
        }
    }

    /// Adds what was counted to `sum`.
    pub(crate) fn add_to(&self, sum: &mut HashMap<TenantId, BTreeMap<&'static str, u64>>) {
        let mut state = self.lock();
        state.turn();
        for (tenant, answers) in state.now.iter().chain(&state.before) {
            let known = sum.entry(*tenant).or_default();
            for (label, count) in answers {
                *known.entry(label).or_default() += count;
            }
        }
    }
}

impl Sink for Usage {
    fn answered(&self, event: &Answered) {
        self.count(event.tenant, event.verdict.answer.label());
    }

    fn refused(&self, event: &Refused) {
        if let Some(tenant) = event.tenant {
            self.count(tenant, event.reason.code());
        }
    }
}

impl State {
    fn turn(&mut self) {
        let age = self.began.elapsed();
        if age >= SPELL {
            let ended = std::mem::take(&mut self.now);
            self.before = if age < 2 * SPELL { ended } else { Answers::new() };
            self.began = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_told_for_some_minutes_and_then_forgotten() {
        let (usage, tenant) = (Usage::new(), TenantId::new());
        let told = || {
            let mut sum = HashMap::new();
            usage.add_to(&mut sum);
            sum.get(&tenant).and_then(|answers| answers.get("ok").copied()).unwrap_or_default()
        };
        usage.count(tenant, "ok");
        usage.count(TenantId::unlicensed(1), "ok");
        assert_eq!(told(), 1);

        tokio::time::advance(SPELL).await;
        usage.count(tenant, "ok");
        assert_eq!(told(), 2);
        tokio::time::advance(SPELL).await;
        assert_eq!(told(), 1);
        tokio::time::advance(2 * SPELL).await;
        assert_eq!(told(), 0);
    }
}
