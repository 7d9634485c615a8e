//! Reader of the gateway's reply stream: verdicts of the workers, one reader for each lane.

use std::sync::Weak;

use push_domain::JobId;
use redis::{Pipeline, RedisResult, cmd};
use tracing::{debug, info, warn};

use super::lane_connection::{LaneConnection, described};
use super::pending_jobs::Event;
use super::producer::Producer;
use super::value::{self, StreamEntry};
use super::{BLOCK, Lane, pause};
use crate::wire;

/// Most entries of one read; each holds the verdicts of one call.
const COUNT: usize = 100;

/// Reads until the gateway is gone, on the thread `home`. A lane counts as up while this reader gets answers; one
/// whose connection broke is down only when a new one cannot be had: the verdicts still lie there.
pub(super) async fn serve(lane: Lane, number: usize, home: usize, gateway: Weak<Producer>) {
    let Some(shared) = gateway.upgrade() else { return };
    let stream = lane.keys.replies(&shared.gateway);
    let name = lane.name().to_owned();
    drop(shared);
    let mut link = LaneConnection::blocking(lane);
    let mut read_before = Vec::new();
    let mut failures = 0_u32;
    loop {
        // The very first read does not wait: it tells whether the lane is there.
        let waits =
            gateway.upgrade().is_some_and(|shared| shared.lane_selector.is_up(number) && failures == 0);
        let read = read(&mut link, &stream, &read_before, waits).await;
        let Some(shared) = gateway.upgrade() else { return };
        match read {
            Ok(entries) => {
                failures = 0;
                if shared.lane_selector.mark_up(number) {
                    info!(lane = name, "a lane is up");
                }
                read_before = entries.iter().map(|entry| entry.id.clone()).collect();
                let events: Vec<_> = entries.into_iter().flat_map(|it| events(&shared, it)).collect();
                for (job, _) in events.iter().filter(|(_, event)| matches!(event, Event::NotServed)) {
                    shared.pending_jobs.returned(*job, number);
                }
                shared.pending_jobs.notify(home, events);
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    debug!(lane = name, error = described(&error), "a lane's connection broke");
                    continue;
                }
                if shared.lane_selector.mark_down(number) {
                    warn!(lane = name, error = described(&error), "a lane is down");
                } else {
                    debug!(lane = name, error = described(&error), "a lane is still down");
                }
                shared.pending_jobs.lane_failed(home, number);
                drop(shared);
                pause().await;
            }
        }
    }
}

/// Takes out what was read before, by its ids, and waits for more. Always from the beginning: ids that a server gives
/// after its clock was set back may be smaller than those before.
async fn read(
    link: &mut LaneConnection,
    stream: &str,
    read_before: &[String],
    waits: bool,
) -> RedisResult<Vec<StreamEntry>> {
    let mut both = Pipeline::new();
    if !read_before.is_empty() {
        both.add_command(cmd("XDEL").arg(stream).arg(read_before).to_owned()).ignore();
    }
    let mut read = cmd("XREAD");
    if waits {
        read.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX));
    }
    both.add_command(read.arg("COUNT").arg(COUNT).arg("STREAMS").arg(stream).arg(0).to_owned());
    let answers = link.pipeline(&both).await?;
    let streams = answers.into_iter().next().map(value::streams).unwrap_or_default();
    Ok(streams.into_iter().flat_map(|(_, entries)| entries).collect())
}

/// The jobs of an entry, and what a worker says of them. What nobody with the ring has said is not heard.
fn events(shared: &Producer, mut entry: StreamEntry) -> Vec<(JobId, Event)> {
    let said = entry.take(b"v").unwrap_or_default();
    let Some(told) = shared.verdicts.verify(&shared.gateway, &said) else {
        super::note_unauthenticated("verdict", &"no process with the key ring has said it");
        return Vec::new();
    };
    let told = said.slice_ref(told);
    let event = |(job, verdict)| match verdict {
        Ok(Some(verdict)) => Some((job, Event::Verdict(verdict))),
        Ok(None) => Some((job, Event::NotServed)),
        Err(error) => {
            warn!(%error, %job, "a verdict cannot be read");
            None
        }
    };
    match wire::read_verdicts(told) {
        Ok(told) => told.filter_map(event).collect(),
        Err(error) => {
            warn!(%error, "verdicts cannot be read");
            Vec::new()
        }
    }
}
