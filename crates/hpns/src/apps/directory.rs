//! The watched directory of apps: `NAME.toml` is the app NAME, with the keys that stand under `[apps.NAME]` in a
//! configuration. What such a file names lies beside it. Apps come and go with their files, without a restart.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Format, Toml};
use tracing::error;

use crate::apps::credentials::FileStamp;
use crate::config::{AppConfig, Config, check_app, explained};
use crate::secret_file;

/// Watcher of the app directory, with what was found at the last look.
pub(crate) struct AppDirectory {
    path: PathBuf,
    custom_endpoints: bool,
    /// Each file as it was, and what it says or why it cannot be used.
    files: HashMap<String, (FileStamp, Result<Arc<AppConfig>, String>)>,
    /// What was told of apps that cannot be used.
    told: BTreeMap<String, String>,
}

impl AppDirectory {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            path: config.path(&config.apps_dir),
            custom_endpoints: config.development.custom_endpoints,
            files: HashMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Looks at all files, and reads those that have changed; returns the apps that can be used. `taken` are the
    /// names that others have.
    pub(crate) fn scan(
        &mut self,
        taken: &BTreeMap<String, Arc<AppConfig>>,
    ) -> BTreeMap<String, Arc<AppConfig>> {
        let mut files = HashMap::new();
        let mut broken = Vec::new();
        match names(&self.path) {
            Ok(names) => {
                for name in names {
                    let path = self.path.join(format!("{name}.toml"));
                    let Ok(stamp) = FileStamp::of(&path) else { continue };
                    let known = self.files.remove(&name).filter(|(before, _)| *before == stamp);
                    let read = known.map_or_else(|| self.read(&name, taken), |(_, read)| read);
                    if let Err(reason) = &read {
                        broken.push((name.clone(), reason.clone()));
                    }
                    files.insert(name, (stamp, read));
                }
            }
            // Not there: no apps of its own.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                broken.push((String::new(), format!("it cannot be read: {error}")));
                files = std::mem::take(&mut self.files);
            }
        }
        self.files = files;
        self.told.retain(|name, _| broken.iter().any(|(broken, _)| broken == name));
        for (name, reason) in &broken {
            self.broken(name, reason);
        }
        let good = |(name, (_, read)): (&String, &(FileStamp, Result<Arc<AppConfig>, String>))| {
            read.as_ref().ok().map(|app| (name.clone(), Arc::clone(app)))
        };
        self.files.iter().filter_map(good).collect()
    }

    /// Tells the operator of an app that cannot be used, once for each reason.
    pub(crate) fn broken(&mut self, name: &str, reason: &str) {
        if self.told.get(name).is_some_and(|told| told == reason) {
            return;
        }
        metrics::counter!("apps_dir_failures_total").increment(1);
        error!(app = name, directory = %self.path.display(), reason, "an app of the directory cannot be used");
        self.told.insert(name.to_owned(), reason.to_owned());
    }

    fn read(&self, name: &str, taken: &BTreeMap<String, Arc<AppConfig>>) -> Result<Arc<AppConfig>, String> {
        if taken.contains_key(name) {
            return Err("an app of the configuration has this name".into());
        }
        read(&self.path, name, self.custom_endpoints).map(Arc::new).map_err(|error| format!("{error:#}"))
    }
}

/// Reads one app of a directory, and holds it to the rules of a configuration.
pub(crate) fn read(directory: &Path, name: &str, custom_endpoints: bool) -> anyhow::Result<AppConfig> {
    let path = directory.join(format!("{name}.toml"));
    let bytes = secret_file::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = std::str::from_utf8(&bytes).context("it is not UTF-8")?;
    parsed(name, text, directory, custom_endpoints)
}

/// The same of a text; the files that it names begin in the directory.
pub(crate) fn parsed(
    name: &str,
    text: &str,
    directory: &Path,
    custom_endpoints: bool,
) -> anyhow::Result<AppConfig> {
    let mut app: AppConfig =
        Figment::from(Toml::string(text)).extract().map_err(|error| anyhow::anyhow!(explained(&error)))?;
    app.move_files(directory);
    check_app(name, &app, custom_endpoints)?;
    Ok(app)
}

/// The names of all apps in a directory.
pub(crate) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if let Some(name) = name.strip_suffix(".toml").filter(|name| !name.starts_with('.')) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "provider = \"fcm\"\nplatform = \"android_own\"\nproject = \"own\"\nservice_account_file = \"own.json\"";

    fn a_directory() -> (tempfile::TempDir, AppDirectory) {
        let place = tempfile::tempdir().unwrap();
        let text = format!("data_dir = \"{}\"", place.path().display());
        let config = Config::parsed(&text).unwrap();
        std::fs::create_dir(place.path().join("apps.d")).unwrap();
        (place, AppDirectory::new(&config))
    }

    #[test]
    fn apps_come_and_go_with_their_files_and_a_broken_one_stops_no_other() {
        let (place, mut directory) = a_directory();
        let (taken, apps_d) = (BTreeMap::new(), place.path().join("apps.d"));
        assert!(directory.scan(&taken).is_empty());

        std::fs::write(apps_d.join("own.toml"), APP).unwrap();
        std::fs::write(apps_d.join("broken.toml"), "provider = \"fcm\"\nplatfrom = \"x\"").unwrap();
        let found = directory.scan(&taken);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["own"]);
        assert!(directory.told.contains_key("broken"));
        assert_eq!(found["own"].files().collect::<Vec<_>>(), [apps_d.join("own.json")], "beside it");
        assert!(
            Arc::ptr_eq(&found["own"], &directory.scan(&taken)["own"]),
            "what is as it was is not read again"
        );

        std::fs::remove_file(apps_d.join("own.toml")).unwrap();
        assert!(directory.scan(&taken).is_empty());
    }

    #[test]
    fn an_app_of_the_configuration_keeps_its_name() {
        let (place, mut directory) = a_directory();
        std::fs::write(place.path().join("apps.d/own.toml"), APP).unwrap();
        let app = directory.scan(&BTreeMap::new())["own"].clone();
        directory.files.clear();

        assert!(directory.scan(&BTreeMap::from([("own".to_owned(), app)])).is_empty());
        assert!(directory.told["own"].contains("has this name"));
    }

    #[test]
    fn a_place_that_is_not_there_has_no_apps() {
        let config = Config::parsed("data_dir = \"/nowhere\"").unwrap();

        assert!(AppDirectory::new(&config).scan(&BTreeMap::new()).is_empty());
    }
}
