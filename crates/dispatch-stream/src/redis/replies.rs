//! Reads what the workers decided: one reader for each lane.

use std::sync::Weak;

use push_domain::JobId;
use redis::{Pipeline, RedisResult, cmd};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::gateway::{Event, Shared};
use super::link::{Link, described};
use super::value::{self, StreamEntry};
use super::{BLOCK, Lane, pause};
use crate::wire;

/// Most entries of one read; each holds the verdicts of one flush.
const COUNT: usize = 100;

/// Reads until the gateway is gone. A lane counts as up while this reader gets answers.
pub(super) async fn serve(lane: Lane, number: usize, gateway: Weak<Shared>) {
    let Some(shared) = gateway.upgrade() else { return };
    let stream = lane.keys.replies(&shared.gateway);
    let name = lane.name().to_owned();
    drop(shared);
    let mut link = Link::blocking(lane);
    let mut last = "0".to_owned();
    loop {
        // The very first read does not wait: it tells whether the lane is there.
        let waits = gateway.upgrade().is_some_and(|shared| shared.is_up(number));
        let read = read(&mut link, &stream, &last, waits).await;
        let Some(shared) = gateway.upgrade() else { return };
        match read {
            Ok(entries) => {
                if shared.lane_works(number) {
                    info!(lane = name, "a lane is up");
                }
                for entry in entries {
                    deliver(&entry, &shared);
                    last = entry.id;
                }
            }
            Err(error) => {
                if shared.lane_failed(number) {
                    warn!(lane = name, error = described(&error), "a lane is down");
                } else {
                    debug!(lane = name, error = described(&error), "a lane is still down");
                }
                // A server that was restarted may count from smaller ids. What is read twice does no harm.
                "0".clone_into(&mut last);
                drop(shared);
                pause().await;
            }
        }
    }
}

/// Forgets what was read before, and waits for more.
async fn read(link: &mut Link, stream: &str, last: &str, waits: bool) -> RedisResult<Vec<StreamEntry>> {
    let mut both = Pipeline::new();
    both.add_command(cmd("XTRIM").arg(stream).arg("MINID").arg(last).to_owned()).ignore();
    let mut read = cmd("XREAD");
    if waits {
        read.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX));
    }
    both.add_command(read.arg("COUNT").arg(COUNT).arg("STREAMS").arg(stream).arg(last).to_owned());
    let answers = link.pipeline(&both).await?;
    let streams = answers.into_iter().next().map(value::streams).unwrap_or_default();
    Ok(streams.into_iter().flat_map(|(_, entries)| entries).collect())
}

fn deliver(entry: &StreamEntry, shared: &Shared) {
    for pair in entry.fields.chunks_exact(2) {
        let (Ok(job), Ok(verdict)) = (Uuid::from_slice(&pair[0]), wire::read_verdict(&pair[1])) else {
            warn!("a verdict cannot be read");
            continue;
        };
        shared.tell(JobId::from_uuid(job), Event::Verdict(verdict));
    }
}
