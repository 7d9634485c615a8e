//! Credential loader: an app's credentials are read, proven as far as goes without its provider, and made
//! into senders.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use apns_sender::{ApnsSender, Certificate, Endpoint, Identity, ProviderToken, TokenKey};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use fcm_sender::{FcmSender, GOOGLE_FCM, GOOGLE_TOKEN_URL, ServiceAccount, TokenSource};
use push_domain::{Clock, PushEnvironment, PushSender, PushType, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::{ApnsConfig, AppConfig, Config, FcmConfig};
use crate::outbound::ProxyResolver;
use crate::secret_file;

/// Credentials of one app, shared by its senders in all threads.
#[derive(Debug)]
pub(crate) enum Credentials {
    Apns { settings: apns_sender::Settings, identity: Identity },
    Fcm { settings: fcm_sender::Settings, tokens: TokenSource },
}

/// Credential loader: reads and proves an app's credentials, and fingerprints their files.
pub(crate) struct CredentialLoader {
    pub(crate) config: Arc<Config>,
    pub(crate) outbound: ProxyResolver,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: TaskTracker,
    /// The machine's roots, read once; and those of files of development, by path.
    roots: Mutex<HashMap<PathBuf, Arc<RootCertStore>>>,
}

/// Fingerprint of an app's credential files. Says nothing about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// Tells one use of the files from another: the same key for another topic, or in another environment, is not proven.
    pub(crate) fn at(self, app: &AppConfig) -> Self {
        let mut digest = Digest::new(&SHA256);
        digest.update(&self.0);
        digest.update(app.destination().as_bytes());
        Self::of(digest)
    }

    fn of(digest: Digest) -> Self {
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&digest.finish().as_ref()[..8]);
        Self(fingerprint)
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// File stamp (`stat`): tells whether a file may have changed, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileStamp {
    /// Looks at a file, at the end of all links.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let found = std::fs::metadata(path)?;
        let changed = (found.ctime(), found.ctime_nsec());
        Ok(Self { device: found.dev(), inode: found.ino(), size: found.size(), changed })
    }
}

/// Stamps of all credential files of an app; nothing for one that is not there.
pub(crate) type FileStamps = Vec<Option<FileStamp>>;

impl CredentialLoader {
    pub(crate) fn new(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> anyhow::Result<Self> {
        let (outbound, roots) = (ProxyResolver::new(&config.outbound)?, Mutex::default());
        Ok(Self { config, outbound, clock, tasks, roots })
    }

    /// Looks whether the files of an app may have changed.
    pub(crate) fn stamps(&self, app: &AppConfig) -> FileStamps {
        app.files().map(|path| FileStamp::of(&self.config.path(path)).ok()).collect()
    }

    /// Fingerprints the files of an app as they are now; one that cannot be read
    /// counts by the reason.
    pub(crate) fn fingerprint(&self, app: &AppConfig) -> Fingerprint {
        let mut digest = Digest::new(&SHA256);
        for path in app.files() {
            match secret_file::read(&self.config.path(path)) {
                Ok(content) => {
                    digest.update(&content.len().to_be_bytes());
                    digest.update(&content);
                }
                Err(error) => digest.update(error.to_string().as_bytes()),
            }
        }
        Fingerprint::of(digest)
    }

    /// Reads and proves the credentials of one app.
    pub(crate) fn load(&self, name: &str, app: &AppConfig) -> anyhow::Result<Credentials> {
        match app {
            AppConfig::Apns(app) => self.apns(name, app),
            AppConfig::Fcm(app) => self.fcm(name, app),
        }
    }

    fn apns(&self, name: &str, app: &ApnsConfig) -> anyhow::Result<Credentials> {
        let endpoint = endpoint(app)?;
        let settings = apns_sender::Settings {
            name: name.to_owned(),
            proxy: self.outbound.proxy_for(&format!("https://{}:{}", endpoint.host, endpoint.port))?,
            endpoint,
            topic: app.topic.clone(),
            roots: self.roots(app.ca_file.as_deref())?,
            max_connections: app.max_connections.max(1),
            ping_interval: Duration::from_millis(app.ping_interval_ms.max(1)),
        };
        let identity = self.identity(app)?;
        ApnsSender::new(settings.clone(), identity.clone(), self.tasks.clone())?;
        Ok(Credentials::Apns { settings, identity })
    }

    /// Whose certificates are trusted: the machine's roots, or only those in a file. All apps share them.
    fn roots(&self, ca_file: Option<&Path>) -> anyhow::Result<Arc<RootCertStore>> {
        let path = ca_file.map(|path| self.config.path(path)).unwrap_or_default();
        let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = known.get(&path) {
            return Ok(Arc::clone(roots));
        }
        let mut roots = RootCertStore::empty();
        if ca_file.is_some() {
            let pem = secret_file::read(&path)
                .with_context(|| format!("`ca_file`: cannot read {}", path.display()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate?)?;
            }
            ensure!(!roots.is_empty(), "the CA file holds no readable PEM certificate");
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(!roots.is_empty(), "no root certificates were found on this machine");
        }
        let roots = Arc::new(roots);
        known.insert(path, Arc::clone(&roots));
        Ok(roots)
    }

    fn identity(&self, app: &ApnsConfig) -> anyhow::Result<Identity> {
        let data_dir = &self.config.data_dir;
        let Some(certificate) = app.certificate() else {
            let (Some(team), Some(key)) = (&app.team_id, &app.key_id) else {
                anyhow::bail!(
                    "either `team_id`, `key_id` and `key_file`, or `certificate_file` has to be set"
                );
            };
            let key = TokenKey::new(team, key, &app.key().read(data_dir)?)?;
            return Ok(Identity::Token(Arc::new(ProviderToken::new(key, Arc::clone(&self.clock)))));
        };
        ensure!(
            app.team_id.is_none() && app.key_id.is_none(),
            "`team_id` and `key_id` belong to a key, not to `certificate_file`"
        );
        let pem = certificate.read(data_dir)?;
        let key = if app.key().is_set() { app.key().read(data_dir)? } else { pem.clone() };
        let certificate = Certificate::new(&pem, &key)?;
        ensure!(
            certificate.topics().contains(&app.topic),
            "the certificate is for {}, not for `topic` {}",
            certificate.topics().join(", "),
            app.topic
        );
        ensure!(certificate.expires_at() > self.clock.now(), "the certificate has expired");
        let calls = format!("{}{}", app.topic, PushType::Voip.topic_suffix());
        if !certificate.topics().contains(&calls) {
            let topic = &app.topic;
            warn!(topic, "the certificate is not for {calls}: Apple will refuse the app's calls");
        }
        Ok(Identity::Certificate(Arc::new(certificate)))
    }

    fn fcm(&self, name: &str, app: &FcmConfig) -> anyhow::Result<Credentials> {
        let account = ServiceAccount::new(&app.account().read(&self.config.data_dir)?, &app.project)?;
        let base_url = app.base_url.clone().unwrap_or_else(|| GOOGLE_FCM.to_owned());
        let token_url = app.token_url.clone().unwrap_or_else(|| GOOGLE_TOKEN_URL.to_owned());
        let settings = fcm_sender::Settings {
            name: name.to_owned(),
            proxy: self.outbound.proxy_for(&base_url)?,
            token_proxy: self.outbound.proxy_for(&token_url)?,
            base_url,
            token_url,
            roots: self.roots(app.ca_file.as_deref())?,
            shards: app.shards,
            ping_interval: Duration::from_millis(app.ping_interval_ms.max(1)),
        };
        let tokens = TokenSource::new(&settings, account, Arc::clone(&self.clock), self.tasks.clone())?;
        Ok(Credentials::Fcm { settings, tokens })
    }
}

impl Credentials {
    /// Makes a sender whose work runs on `tasks`.
    pub(crate) fn sender(&self, tasks: &TaskTracker) -> anyhow::Result<Box<dyn PushSender>> {
        Ok(match self {
            Self::Apns { settings, identity } => {
                Box::new(ApnsSender::new(settings.clone(), identity.clone(), tasks.clone())?)
            }
            Self::Fcm { settings, tokens } => Box::new(FcmSender::new(settings, tokens.clone())?),
        })
    }

    /// Says what it is, for people.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Apns { identity: Identity::Token(_), .. } => "APNs token key",
            Self::Apns { identity: Identity::Certificate(_), .. } => "APNs certificate",
            Self::Fcm { .. } => "FCM service account",
        }
    }

    /// Returns when it ends to be good. Apple's keys and Google's accounts hold until they are revoked.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Apns { identity: Identity::Certificate(certificate), .. } => Some(certificate.expires_at()),
            Self::Apns { identity: Identity::Token(_), .. } | Self::Fcm { .. } => None,
        }
    }
}

fn endpoint(app: &ApnsConfig) -> anyhow::Result<Endpoint> {
    let Some(custom) = &app.endpoint else {
        let host = match app.environment {
            PushEnvironment::Production => "api.push.apple.com",
            PushEnvironment::Sandbox => "api.sandbox.push.apple.com",
        };
        return Ok(Endpoint { host: host.to_owned(), port: app.port.0 });
    };
    let (host, port) = custom.rsplit_once(':').context("`endpoint` has to be HOST:PORT")?;
    let port = port.parse().context("`endpoint` has to be HOST:PORT")?;
    Ok(Endpoint { host: host.to_owned(), port })
}
