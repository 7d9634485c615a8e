//! Publishes verdicts: one script call carries all that are there, one call at a time.

use std::sync::Weak;

use push_domain::JobId;
use redis::Cmd;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::entry::Place;
use super::keys::moment;
use super::link::{Link, described};
use super::script::{Step, number};
use super::worker::End;
use super::{GROUP, KEPT, Lane, MAX_BATCH, pause};

/// Most flushes in a reply stream whose gateway does not read.
const MAX_REPLIES: usize = 20_000;

/// A verdict on its way.
pub(super) struct Settled {
    pub(super) place: Place,
    pub(super) gateway: String,
    pub(super) job: JobId,
    /// Empty: this worker cannot deliver it, another one may.
    pub(super) verdict: Vec<u8>,
    pub(super) at: Instant,
}

/// Publishes until the worker is gone. A verdict holds no slot of the worker while it waits here.
pub(super) async fn serve(end: Weak<End>, lane: Lane, mut waiting: mpsc::UnboundedReceiver<Settled>) {
    let step = Step::finish();
    let mut link = Link::commands(lane);
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        loop {
            let Some(worker) = end.upgrade() else { return };
            // Nobody waits for an older one.
            for settled in batch.extract_if(.., |settled: &mut Settled| settled.at.elapsed() >= KEPT) {
                worker.release(&settled.place);
            }
            if batch.is_empty() {
                break;
            }
            let call = written(&step, &worker, &batch);
            drop(worker);
            let answer = step.run(&call, &mut link).await;
            let Some(worker) = end.upgrade() else { return };
            match answer {
                Ok(_) => break,
                Err(error) => worker.trouble(&described(&error)),
            }
            drop(worker);
            pause().await;
        }
        let Some(worker) = end.upgrade() else { return };
        for settled in batch.drain(..) {
            worker.release(&settled.place);
        }
    }
}

fn written(step: &Step, end: &End, batch: &[Settled]) -> Cmd {
    let (mut queues, mut gateways, mut moments) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers = Vec::with_capacity(batch.len());
    for settled in batch {
        let (queue, gateway) =
            (number(&mut queues, settled.place.0), number(&mut gateways, &*settled.gateway));
        numbers.push([queue, gateway, number(&mut moments, moment(settled.job))]);
    }
    let keys = &end.lane.keys;
    let mut call = step.call(queues.len() + gateways.len() + moments.len());
    for queue in &queues {
        call.arg(keys.queue(*queue));
    }
    for gateway in &gateways {
        call.arg(keys.replies(gateway));
    }
    for moment in &moments {
        call.arg(keys.marks(*moment));
    }
    let life = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    call.arg(GROUP).arg(queues.len()).arg(gateways.len()).arg(life).arg(MAX_REPLIES);
    for (settled, numbers) in batch.iter().zip(numbers) {
        call.arg(&numbers).arg(&settled.place.1);
        call.arg(&settled.job.uuid().as_bytes()[..]).arg(&settled.verdict);
    }
    call
}
