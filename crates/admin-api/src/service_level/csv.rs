//! The hours of a report as CSV (RFC 4180): all that it was computed from.

use std::fmt::Write;

use push_domain::{Timestamp, TrafficClass};
use tenant_registry::ServiceLevelRow;

use crate::wire::Moment;

const HEADER: &str = "hour,span_hours,provider,class,ok,removed,failed_ours,failed_provider,failed_tenant,failed_device,\
                      refused_ours,refused_provider,refused_tenant,refused_device,in_time,receipts,latency_us";

/// Writes them. `latency_us` has the buckets that hold something: `from-to:count`, separated by blanks.
pub(crate) fn hours_csv(rows: &[ServiceLevelRow]) -> String {
    let mut text = format!("{HEADER}\r\n");
    for row in rows {
        let (key, tally) = (&row.key, &row.tally);
        let hour = Moment(Timestamp::from_millis(key.hour * 3_600_000));
        let provider = key.provider.map_or("", push_domain::Provider::label);
        let class = key.class.map_or("", TrafficClass::label);
        let _ = write!(text, "{hour},{},{provider},{class},{},{}", row.span, tally.ok, tally.removed);
        for count in tally.failed.iter().chain(&tally.refused).chain([&tally.in_time, &tally.acks]) {
            let _ = write!(text, ",{count}");
        }
        let buckets = tally.latency.buckets().map(|(from, to, count)| format!("{from}-{to}:{count}"));
        let _ = write!(text, ",{}\r\n", buckets.collect::<Vec<_>>().join(" "));
    }
    text
}
