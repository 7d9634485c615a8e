//! Background load: pushes that keep coming while something else happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Deployment, android, ios};
use crate::http::{exchange, post};

/// Makes the push of a number.
pub(crate) type Push = fn(u64) -> Value;

/// A push to a device of its own.
pub(crate) fn to_iphone(number: u64) -> Value {
    ios(json!({ "device_id": format!("{number:064x}"), "ack_id": format!("ack{number}") }))
}

/// A push to a device of its own.
pub(crate) fn to_android(number: u64) -> Value {
    android(json!({ "device_id": format!("token:{number}"), "ack_id": format!("ack{number}") }))
}

/// Some senders that push one after another, each to ever new devices.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    senders: JoinSet<Vec<Value>>,
}

impl Load {
    pub(crate) fn start(deployment: &Deployment, push: Push, senders: u64) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for sender in 0..senders {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let (gateway, route) =
                (deployment.service.gateway, format!("{}/api/v1/send_push", deployment.prefix));
            tasks.spawn(async move {
                let mut answers = Vec::new();
                for number in sender * 1_000_000.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let request = post(&route, push(number).to_string().as_bytes());
                    answers.push(exchange(gateway, &request).await.json());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                answers
            });
        }
        Self { stop, answered, senders: tasks }
    }

    /// How many pushes were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets every sender finish its push, and returns all answers.
    pub(crate) async fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        Answers(self.senders.join_all().await.into_iter().flatten().collect())
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answers(pub(crate) Vec<Value>);

impl Answers {
    pub(crate) fn ok(&self) -> u64 {
        self.0.iter().filter(|answer| answer["status"] == "OK").count() as u64
    }

    /// Everything but `OK`.
    pub(crate) fn others(&self) -> Vec<&Value> {
        self.0.iter().filter(|answer| answer["status"] != "OK").collect()
    }

    pub(crate) fn assert_all_ok(&self) {
        assert!(self.others().is_empty(), "{:?}", self.others());
    }
}

/// Sends pushes to different devices, all at once.
pub(crate) async fn at_once(deployment: &Deployment, pushes: impl Iterator<Item = Value>) -> Answers {
    let mut answers = JoinSet::new();
    for push in pushes {
        let (gateway, prefix) = (deployment.service.gateway, deployment.prefix.clone());
        answers.spawn(async move {
            let request = post(&format!("{prefix}/api/v1/send_push"), push.to_string().as_bytes());
            exchange(gateway, &request).await.json()
        });
    }
    Answers(answers.join_all().await)
}
