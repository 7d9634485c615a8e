//! Publisher of verdicts (XACK and reply): one script call carries all that are there, one at a time.

use std::sync::Weak;

use redis::Cmd;
use tokio::sync::mpsc;

use super::consumer::{LaneConsumer, Settled};
use super::keys::QUEUES;
use super::lane_connection::{LaneConnection, described};
use super::script::LuaScript;
use super::{GROUP, Lane, MAX_BATCH, REPLY_TTL, pause};
use crate::wire;

/// Most calls in a reply stream whose gateway does not read.
const MAX_REPLIES: usize = 20_000;

/// Publishes until the worker is gone. A verdict holds no slot of the worker while it waits here.
pub(super) async fn serve(
    consumer: Weak<LaneConsumer>,
    lane: Lane,
    mut waiting: mpsc::UnboundedReceiver<Settled>,
) {
    let step = LuaScript::finish();
    let mut link = LaneConnection::commands(lane);
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        loop {
            let Some(worker) = consumer.upgrade() else { return };
            // Nobody waits for an older one.
            for settled in batch.extract_if(.., |settled: &mut Settled| settled.at.elapsed() >= REPLY_TTL) {
                worker.release(&settled.place);
            }
            if batch.is_empty() {
                break;
            }
            let call = written(&step, &worker, &batch);
            drop(worker);
            let answer = step.run(&call, &mut link).await;
            let Some(worker) = consumer.upgrade() else { return };
            match answer {
                Ok(_) => break,
                Err(error) => worker.mark_down(&described(&error)),
            }
            drop(worker);
            pause().await;
        }
        let Some(worker) = consumer.upgrade() else { return };
        for settled in batch.drain(..) {
            worker.release(&settled.place);
        }
    }
}

fn written(step: &LuaScript, consumer: &LaneConsumer, batch: &[Settled]) -> Cmd {
    let mut queues: [Vec<&str>; QUEUES] = Default::default();
    let mut gateways: Vec<(&str, Vec<u8>)> = Vec::new();
    for settled in batch {
        let (queue, entry) = &settled.place;
        queues[*queue].push(entry);
        let known = gateways.iter().position(|(gateway, _)| **gateway == *settled.gateway);
        let gateway = known.unwrap_or_else(|| {
            gateways.push((&settled.gateway, Vec::new()));
            gateways.len() - 1
        });
        wire::append_verdict(&mut gateways[gateway].1, settled.job, &settled.verdict);
    }
    let used = || queues.iter().enumerate().filter(|(_, entries)| !entries.is_empty());
    let keys = &consumer.lane.keys;
    let mut call = step.call(used().count() + gateways.len());
    for (queue, _) in used() {
        call.arg(keys.queue(queue));
    }
    for (gateway, _) in &gateways {
        call.arg(keys.replies(gateway));
    }
    let ttl = u64::try_from(REPLY_TTL.as_millis()).unwrap_or(u64::MAX);
    call.arg(GROUP).arg(used().count()).arg(ttl).arg(MAX_REPLIES);
    for (_, entries) in used() {
        call.arg(entries.len());
    }
    for (gateway, told) in &gateways {
        call.arg(consumer.authenticator.sign(gateway, told));
    }
    for (_, entries) in used() {
        call.arg(entries);
    }
    call
}
