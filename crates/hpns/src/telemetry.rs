//! Telemetry set-up: the log subscriber and the Prometheus `ledger_writer`.

use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Whose log lines obey the configured level. All others, libraries, never log below `warn`: they
/// know headers, paths and frames.
const OURS: [&str; 11] = [
    "admin_api",
    "apns_sender",
    "dispatch_stream",
    "dispatch_worker",
    "fcm_sender",
    "gateway",
    "hpns",
    "http_edge",
    "provider_sim",
    "push_domain",
    "tenant_registry",
];

/// Lines that wait for a slow disk or terminal; more are dropped and counted.
const MAX_WAITING_LINES: usize = 16_384;
const UPKEEP: Duration = Duration::from_secs(1);

/// Seconds. The peer's buckets, and finer ones below.
const BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0];

/// Lines of so long share a write, and a wake-up of the thread that writes.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);

/// Batching writer: lets lines gather before it flushes, and puts the region into each that is an object.
struct BatchingWriter<W: Write> {
    writer: BufWriter<W>,
    /// The first field of an object, with its brace.
    region: String,
}

impl<W: Write> Write for BatchingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match line.strip_prefix(b"{") {
            Some(rest) => {
                self.writer.write_all(self.region.as_bytes())?;
                self.writer.write_all(rest)?;
            }
            None => self.writer.write_all(line)?,
        }
        Ok(line.len())
    }

    #[expect(clippy::disallowed_methods, reason = "this thread only writes the log")]
    fn flush(&mut self) -> io::Result<()> {
        std::thread::sleep(BATCH_INTERVAL);
        self.writer.flush()
    }
}

/// Telemetry handles: the metrics, and the guard of the log writer.
#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(crate) metrics: PrometheusHandle,
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// Installs the log writer and the metrics recorder of the process. Logs go to standard error.
pub(crate) fn install(config: &LogConfig, region: &str) -> anyhow::Result<Telemetry> {
    let level = match config.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let stderr =
        std::fs::File::from(std::io::stderr().as_fd().try_clone_to_owned().context("standard error")?);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_WAITING_LINES)
        .finish(BatchingWriter {
            writer: BufWriter::with_capacity(32 * 1024, stderr),
            region: format!("{{\"region\":\"{region}\","),
        });
    let dropped = writer.error_counter();
    let filter =
        Targets::new().with_default(LevelFilter::WARN).with_targets(OURS.map(|target| (target, level)));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines = match config.format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.compact().boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().context("log")?;
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .context("metrics")?
        .add_global_label("region", region)
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics are installed already"))?;
    Ok(Telemetry { metrics: handle, dropped, _writer: guard })
}

impl Telemetry {
    /// Folds histograms and counts dropped lines, for ever.
    pub(crate) async fn upkeep(&self) {
        let mut counted = 0;
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.metrics.run_upkeep();
            let dropped = self.dropped.dropped_lines();
            metrics::counter!("log_lines_dropped_total").increment((dropped - counted) as u64);
            counted = dropped;
        }
    }
}
