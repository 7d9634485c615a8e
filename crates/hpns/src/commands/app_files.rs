//! `hpns app add` and `hpns app remove`: write the watched directory, so that every process takes the app in, or lets it
//! go, without a restart.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use push_domain::{AppCatalogue, SystemClock};
use tokio_util::task::TaskTracker;

use super::check;
use crate::apps::credentials::CredentialLoader;
use crate::apps::described;
use crate::apps::directory;
use crate::config::ConfigOptions;
use crate::config::{AppConfig, Config};
use crate::secret_file;

/// Whose push service an app uses.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum AppProvider {
    /// Apple.
    Apns,
    /// Google.
    Fcm,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hpns app add acme-ios --provider apns --platform apple_acme --topic com.acme.chat --team-id TEAM --key-id KEY --key-file AuthKey.p8 --audience ten_…\n  hpns app add acme-android --provider fcm --platform android_acme --project acme-chat --service-account-file acme.json --audience ten_…"
)]
pub(crate) struct AddOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// The app's name, in logs and metrics.
    name: String,
    #[arg(long)]
    provider: AppProvider,
    /// What servers send as its platform, without the version (-v2).
    #[arg(long)]
    platform: String,
    /// The one tenant whose app it is; without it, all tenants may push to it.
    #[arg(long, value_name = "TENANT")]
    audience: Option<String>,
    /// Apple: the bundle id.
    #[arg(long, required_if_eq("provider", "apns"))]
    topic: Option<String>,
    /// Apple: `production` or `sandbox`.
    #[arg(long)]
    environment: Option<String>,
    /// Apple: the team that the signing key is of.
    #[arg(long)]
    team_id: Option<String>,
    /// Apple: the signing key's id.
    #[arg(long)]
    key_id: Option<String>,
    /// Apple: the signing key (.p8), or the certificate's key.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Apple: a certificate (PEM) instead of a signing key.
    #[arg(long, value_name = "FILE")]
    certificate_file: Option<PathBuf>,
    /// Google: the Firebase project.
    #[arg(long, required_if_eq("provider", "fcm"))]
    project: Option<String>,
    /// Google: the service account (JSON).
    #[arg(long, value_name = "FILE")]
    service_account_file: Option<PathBuf>,
    /// Any other key of an app, as it stands in a configuration; as often as needed.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Also asks the provider whether it takes the credentials, with a push to a device that does not exist.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hpns app remove acme-ios")]
pub(crate) struct RemoveOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// The app's name.
    name: String,
}

/// Proves an app and its credentials, and puts them into the directory: the credentials first, so that nobody finds an
/// app without them.
pub(crate) async fn add(options: &AddOptions) -> anyhow::Result<()> {
    let config = Arc::new(Config::load(options.config.config.as_deref())?);
    let (name, directory) = (&options.name, config.path(&config.apps_dir));
    let custom = config.development.custom_endpoints;
    let file = directory.join(format!("{name}.toml"));
    ensure!(!config.apps.contains_key(name), "an app of the configuration has the name {name}");
    ensure!(!file.exists(), "there is an app {name} already: {}", file.display());
    // As if it stood where its files are now.
    let described_here = directory::parsed(name, &options.text(None)?, Path::new(""), custom)?;
    prove(options, &config, described_here).await?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut written = Vec::new();
    if let Err(error) = write_all(options, &directory, &mut written) {
        // Half an app would be in the way of the next try.
        for path in &written {
            let _ = fs::remove_file(path);
        }
        return Err(error);
    }
    writeln!(std::io::stdout(), "app {name}: added to {}", directory.display())?;
    Ok(())
}

/// Writes the files of an app; tells which ones, also when it fails.
fn write_all(options: &AddOptions, directory: &Path, written: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let name = &options.name;
    let mut write = |file: String, content: &[u8]| {
        let path = directory.join(file);
        write_new(&path, content)?;
        written.push(path.clone());
        anyhow::Ok(path)
    };
    for (key, source) in options.files() {
        let content =
            secret_file::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        write(own_name(name, key), &content)?;
    }
    let hidden = write(format!(".{name}.toml"), options.text(Some(name))?.as_bytes())?;
    let file = directory.join(format!("{name}.toml"));
    fs::rename(&hidden, &file).with_context(|| format!("cannot write {}", file.display()))
}

/// Takes an app out of the directory, and then its credentials, where they lie in it.
pub(crate) fn remove(options: &RemoveOptions) -> anyhow::Result<()> {
    let config = Config::load(options.config.config.as_deref())?;
    let (name, directory) = (&options.name, config.path(&config.apps_dir));
    ensure!(!config.apps.contains_key(name), "the app {name} stands in the configuration: take it out there");
    let names = directory::names(&directory).unwrap_or_default();
    ensure!(names.contains(name), "there is no app {name} in {}", directory.display());
    // One that cannot be read goes all the same; nobody knows which files are its own.
    let app = directory::read(&directory, name, true);
    let file = directory.join(format!("{name}.toml"));
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    let own = |path: &Path| {
        let its =
            path.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with(&format!("{name}.")));
        its && path.parent() == Some(&directory)
    };
    for path in app.iter().flat_map(AppConfig::files).filter(|path| own(path)) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    writeln!(std::io::stdout(), "app {name}: removed from {}", directory.display())?;
    Ok(())
}

/// Holds an app to all rules that a running process holds it to.
async fn prove(options: &AddOptions, config: &Arc<Config>, app: AppConfig) -> anyhow::Result<()> {
    let (name, directory) = (&options.name, config.path(&config.apps_dir));
    let mut all = config.apps.clone();
    for other in directory::names(&directory).unwrap_or_default() {
        if let Ok(known) = directory::read(&directory, &other, true) {
            all.entry(other).or_insert_with(|| Arc::new(known));
        }
    }
    let app = Arc::new(app);
    all.insert(name.clone(), Arc::clone(&app));
    AppCatalogue::new(all.iter().map(|(name, app)| described(name, app)))?;
    let loader = CredentialLoader::new(Arc::clone(config), Arc::new(SystemClock), TaskTracker::new())?;
    let credentials = loader.load(name, &app)?;
    if options.dry_run {
        let (is_good, text) = check::probe_credentials(&credentials, &loader.tasks).await?;
        ensure!(is_good, "{text}");
        writeln!(std::io::stdout(), "app {name}: {text}")?;
    }
    Ok(())
}

impl AddOptions {
    /// The files that were named, by key.
    fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let files = [
            ("key_file", &self.key_file),
            ("certificate_file", &self.certificate_file),
            ("service_account_file", &self.service_account_file),
        ];
        files.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)))
    }

    /// The app as a file says it: with its files where they are, or as copies under the name of an app.
    fn text(&self, own: Option<&str>) -> anyhow::Result<String> {
        let provider = match self.provider {
            AppProvider::Apns => "apns",
            AppProvider::Fcm => "fcm",
        };
        let mut text = String::new();
        let mut line = |key: &str, value: &str| -> anyhow::Result<()> {
            // A text of JSON is one of TOML.
            Ok(writeln!(text, "{key} = {}", serde_json::to_string(value)?)?)
        };
        line("provider", provider)?;
        line("platform", &self.platform)?;
        let given = [
            ("audience", &self.audience),
            ("topic", &self.topic),
            ("environment", &self.environment),
            ("team_id", &self.team_id),
            ("key_id", &self.key_id),
            ("project", &self.project),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                line(key, value)?;
            }
        }
        for (key, source) in self.files() {
            let shown = match own {
                Some(app) => own_name(app, key),
                None => std::path::absolute(source)?.to_string_lossy().into_owned(),
            };
            line(key, &shown)?;
        }
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                bail!("--set {pair}: KEY=VALUE is expected")
            };
            writeln!(text, "{} = {}", key.trim(), value.trim())?;
        }
        Ok(text)
    }
}

/// What the copy of a file is called: by its key, because two may have one name, and none may look like an app.
fn own_name(app: &str, key: &str) -> String {
    format!("{app}.{key}")
}

/// Writes a file that only its owner reads; one that is there already stays as it is.
fn write_new(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(())
}
