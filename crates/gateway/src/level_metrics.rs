//! Metrics of the service level: ends of pushes by class and by who answers for them. Bounded, and no tenant is in them: those
//! are in the ledger.

use metrics::{Counter, counter};
use push_domain::{Objectives, Owner, TrafficClass};

use crate::event::{Answered, Refused, Sink};

/// Event sink of one serving thread; every counter is made once.
pub(crate) struct LevelMetrics {
    objectives: Objectives,
    classes: [ClassCounters; TrafficClass::ALL.len()],
    refusals: [Counter; Owner::ALL.len()],
}

struct ClassCounters {
    delivered: Counter,
    in_time: Counter,
    failed: [Counter; Owner::ALL.len()],
}

impl LevelMetrics {
    pub(crate) fn new(objectives: Objectives) -> Self {
        Self {
            objectives,
            classes: TrafficClass::ALL.map(|class| {
                let class = class.label();
                let ends =
                    |owner: &'static str| counter!("hpns_push_ends_total", "class" => class, "owner" => owner);
                ClassCounters {
                    delivered: ends("none"),
                    in_time: counter!("hpns_push_in_time_total", "class" => class),
                    failed: Owner::ALL.map(|owner| ends(owner.label())),
                }
            }),
            refusals: Owner::ALL.map(|owner| counter!("hpns_push_refusals_total", "owner" => owner.label())),
        }
    }
}

impl Sink for LevelMetrics {
    fn answered(&self, event: &Answered) {
        let class = event.kind.class();
        let counters = &self.classes[class as usize];
        match event.owner() {
            None => {
                counters.delivered.increment(1);
                if event.took <= self.objectives.in_time(class) {
                    counters.in_time.increment(1);
                }
            }
            Some(owner) => counters.failed[owner as usize].increment(1),
        }
    }

    fn refused(&self, event: &Refused) {
        self.refusals[event.reason.owner() as usize].increment(1);
    }
}
