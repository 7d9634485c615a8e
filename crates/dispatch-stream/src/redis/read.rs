//! Stream reader (XREADGROUP) of one lane's jobs for one provider.
//!
//! While few jobs come, one blocking read brings them as they are handed over. Where it brings as many as it may,
//! more may wait: then they are claimed as many as there is room for, calls first.

use std::sync::{Arc, Weak};

use push_domain::Provider;
use redis::{RedisResult, cmd};
use tracing::info;

use super::consumer::LaneConsumer;
use super::keys::{QUEUES, queue_of};
use super::lane_connection::{LaneConnection, described};
use super::script::LuaScript;
use super::value::{self, StreamEntry};
use super::{BLOCK, GROUP, MAX_BATCH, pause};

/// Most room that a read sets aside while it waits; each of a provider's two queues gets half.
const WAITING_ROOM: usize = 64;

/// Reads until the worker closes. `lanes` readers share the room.
pub(super) async fn serve(consumer: Weak<LaneConsumer>, provider: Provider, lanes: usize) {
    let Some(worker) = consumer.upgrade() else { return };
    let mut reader = Reader {
        link: LaneConnection::blocking(worker.lane.clone()),
        claim: LuaScript::claim(),
        provider,
        has_more: false,
    };
    drop(worker);
    // The server may be new: it knows no heartbeat of ours, or no group.
    let (mut unproven, mut groupless) = (true, false);
    while let Some(worker) = consumer.upgrade() {
        worker.move_on(provider);
        if worker.is_closing() {
            worker.reader_ended();
            return;
        }
        let unsure = unproven || !worker.liveness.is_alive();
        if unsure && tokio::time::timeout(BLOCK, worker.liveness.again()).await.is_err() {
            continue;
        }
        let most = if reader.has_more { MAX_BATCH } else { WAITING_ROOM };
        // What lies idle on one lane must not be missed on another.
        let free = worker.claim_queue.room(provider);
        let share = (free / (2 * lanes.max(1))).max(2);
        let reserved =
            worker.claim_queue.reserve(provider, if reader.has_more { most } else { most.min(share) }).await;
        if reserved == 0 {
            continue;
        }
        let incarnation = worker.liveness.incarnation();
        let read = async {
            if groupless {
                make_groups(&worker, &mut reader.link).await?;
            }
            reader.read(&worker, reserved).await
        };
        match read.await {
            Ok(entries) => {
                (unproven, groupless) = (false, false);
                worker.take_in(provider, reserved, entries, incarnation);
            }
            Err(error) => {
                worker.claim_queue.deliver(provider, reserved, Vec::new());
                reader.has_more = false;
                unproven = true;
                if error.code() == Some("NOGROUP") || error.to_string().contains("NOGROUP") {
                    groupless = true;
                } else {
                    worker.mark_down(&described(&error));
                    pause().await;
                }
            }
        }
    }
}

struct Reader {
    link: LaneConnection,
    claim: LuaScript,
    provider: Provider,
    /// Whether more jobs waited than the last read could bring.
    has_more: bool,
}

impl Reader {
    /// Claims at most `room` entries, if there are two places at least.
    async fn read(
        &mut self,
        consumer: &Arc<LaneConsumer>,
        room: usize,
    ) -> RedisResult<Vec<(usize, StreamEntry)>> {
        let numbers = [queue_of(self.provider, true), queue_of(self.provider, false)];
        let keys = numbers.map(|number| consumer.lane.keys.queue(number));
        if self.has_more {
            let mut call = self.claim.call(2);
            call.arg(&keys).arg(GROUP).arg(&consumer.name).arg(room);
            let lists = value::list(self.claim.run(&call, &mut self.link).await?);
            let entries: Vec<_> = numbers.into_iter().zip(lists).flat_map(of_queue).collect();
            self.has_more = entries.len() >= room;
            return Ok(entries);
        }
        // COUNT holds for each stream by itself, and two are read.
        let each = (room / 2).max(1);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&consumer.name).arg("COUNT").arg(each);
        read.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX));
        read.arg("STREAMS").arg(&keys).arg(&[">", ">"]);
        let streams = value::streams(self.link.query(&read).await?);
        self.has_more = streams.iter().any(|(_, entries)| entries.len() >= each);
        let number = |key: &str| numbers.into_iter().zip(&keys).find(|(_, it)| *it == key).map(|(it, _)| it);
        let entries = streams.into_iter().filter_map(|(key, entries)| Some((number(&key)?, entries)));
        Ok(entries.flat_map(|(queue, all)| all.into_iter().map(move |entry| (queue, entry))).collect())
    }
}

fn of_queue((queue, entries): (usize, redis::Value)) -> impl Iterator<Item = (usize, StreamEntry)> {
    value::list(entries).into_iter().filter_map(StreamEntry::read).map(move |entry| (queue, entry))
}

/// Makes the group of every queue, from its first entry on.
async fn make_groups(consumer: &LaneConsumer, link: &mut LaneConnection) -> RedisResult<()> {
    for number in 0..QUEUES {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(consumer.lane.keys.queue(number)).arg(GROUP).arg(0).arg("MKSTREAM");
        if let Err(error) = link.query(&make).await
            && error.code() != Some("BUSYGROUP")
        {
            return Err(error);
        }
    }
    info!(lane = consumer.lane.name(), "a lane is new to its workers");
    Ok(())
}
