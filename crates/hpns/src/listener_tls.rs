//! TLS certificate of the gateway's listener, reloaded when its files change.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gateway::TlsFiles;
use http_edge::Tls;
use push_domain::{Clock, SecretBytes};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::Config;
use crate::expiry::ExpiryMonitor;
use crate::secret_file;

/// TLS certificate of the listener, with the state of its files.
pub(crate) struct ListenerTls {
    pub(crate) tls: Tls,
    config: Arc<Config>,
    seen: (SecretBytes, SecretBytes),
    expiry: ExpiryMonitor,
    /// Whether the files could not be read at the last look.
    unreadable: bool,
}

impl ListenerTls {
    /// Reads the certificate; `None` if the listener speaks plain HTTP.
    pub(crate) fn load(config: &Arc<Config>) -> anyhow::Result<Option<Self>> {
        let Some(files) = &config.gateway.tls else { return Ok(None) };
        let seen = read(config, files)?;
        let tls = Tls::new(&seen.0, &seen.1).context("`gateway.tls`")?;
        let expiry = ExpiryMonitor::new("listener_certificate_days_left", "listener", "gateway");
        Ok(Some(Self { tls, config: Arc::clone(config), seen, expiry, unreadable: false }))
    }

    /// Serves with the certificate of the moment until `stop`.
    pub(crate) async fn keep_fresh(
        mut self,
        clock: Arc<dyn Clock>,
        every: Duration,
        stop: CancellationToken,
    ) {
        loop {
            self.refresh(&*clock);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Looks whether the files have changed. Broken ones change nothing.
    pub(crate) fn refresh(&mut self, clock: &dyn Clock) {
        self.expiry.check(Some(self.tls.expires_at()), clock.now());
        let Some(files) = &self.config.gateway.tls else { return };
        let now = match read(&self.config, files) {
            Ok(now) => now,
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    failed(&format!("{error:#}"));
                }
                return;
            }
        };
        self.unreadable = false;
        if now.0.expose() == self.seen.0.expose() && now.1.expose() == self.seen.1.expose() {
            return;
        }
        match self.tls.renew(&now.0, &now.1) {
            Ok(()) => {
                info!("the listener has a new certificate");
                self.expiry.renewed();
                self.expiry.check(Some(self.tls.expires_at()), clock.now());
            }
            Err(error) => failed(&error.to_string()),
        }
        self.seen = now;
    }
}

fn failed(reason: &str) {
    metrics::counter!("listener_certificate_reload_failures_total").increment(1);
    error!(reason, "the listener's new certificate cannot be used; the old one stays in use");
}

fn read(config: &Config, files: &TlsFiles) -> anyhow::Result<(SecretBytes, SecretBytes)> {
    type Read = fn(&std::path::Path) -> std::io::Result<Vec<u8>>;
    let one = |key: &str, path: &std::path::Path, read: Read| {
        let path = config.path(path);
        let bytes =
            read(&path).with_context(|| format!("`gateway.tls.{key}`: cannot read {}", path.display()))?;
        anyhow::Ok(SecretBytes::new(bytes))
    };
    let certificate = one("certificate_file", &files.certificate_file, secret_file::read)?;
    Ok((certificate, one("key_file", &files.key_file, secret_file::read_key)?))
}
