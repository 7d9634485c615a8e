//! `hpns import-config`: from mattermost-push-proxy's JSON file to ours.
//!
//! Whatever cannot be carried over is said, in comments of the result and on standard error; no key of
//! the file is passed over in silence.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::secret_file;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  hpns import-config /opt/mattermost-push-proxy/config/mattermost-push-proxy.json --output hpns.toml\n  hpns check-config --config hpns.toml --dry-run\n  hpns all --config hpns.toml"
)]
pub(crate) struct ImportOptions {
    /// mattermost-push-proxy's JSON file.
    pub(crate) file: PathBuf,
    /// Where to write the configuration; a file that exists is not touched. Without it, standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

const MAX_BUDGET_SECONDS: u64 = 25;

/// Source document: the peer's JSON file. Keys are compared as Go does, whatever their case.
struct Source {
    keys: BTreeMap<String, (String, Value)>,
    /// Keys whose values are of another type than the peer's.
    odd: Vec<&'static str>,
}

/// Result of the conversion: the TOML, and notes about what could not be carried over.
#[derive(Default)]
struct Import {
    toml: String,
    notes: Vec<String>,
    /// The apps written so far.
    apps: Vec<String>,
    /// Where files are looked for.
    places: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
struct KeyFile {
    #[serde(default)]
    project_id: String,
}

/// Reads, converts, checks and writes.
pub(crate) fn run(options: &ImportOptions) -> anyhow::Result<()> {
    let shown = options.file.display();
    let text = std::fs::read_to_string(&options.file).with_context(|| format!("cannot read {shown}"))?;
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .with_context(|| format!("{shown} is not JSON"))?;
    let import = convert(value, &options.file).with_context(|| format!("{shown}"))?;
    Config::parsed(&import.toml).context("what it would become cannot be accepted")?;
    let mut errors = std::io::stderr();
    match &options.output {
        None => std::io::stdout().write_all(import.toml.as_bytes())?,
        Some(path) => {
            secret_file::write(path, &import.toml)
                .with_context(|| format!("cannot write {}", path.display()))?;
            writeln!(errors, "written: {}", path.display())?;
        }
    }
    for note in &import.notes {
        writeln!(errors, "note: {note}")?;
    }
    let config = options.output.as_deref().unwrap_or(Path::new("hpns.toml")).display();
    writeln!(errors, "next: hpns check-config --config {config} --dry-run")?;
    Ok(())
}

impl Source {
    fn new(value: Value) -> anyhow::Result<Self> {
        let Value::Object(map) = value else { anyhow::bail!("it has to be a JSON object") };
        let odd = Vec::new();
        Ok(Self {
            odd,
            keys: map.into_iter().map(|(key, value)| (key.to_lowercase(), (key, value))).collect(),
        })
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(&key.to_lowercase()).map(|(_, value)| value)
    }

    /// Takes a value of one type; another one is noted, `null` is as good as none.
    fn of_type<T>(&mut self, key: &'static str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.take(key).filter(|value| !value.is_null())?;
        let read = read(&value);
        if read.is_none() {
            self.odd.push(key);
        }
        read
    }

    fn text(&mut self, key: &'static str) -> String {
        self.of_type(key, |value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    fn number(&mut self, key: &'static str) -> Option<u64> {
        self.of_type(key, Value::as_u64)
    }

    fn flag(&mut self, key: &'static str) -> bool {
        self.of_type(key, Value::as_bool).unwrap_or(false)
    }

    fn list(&mut self, key: &str) -> anyhow::Result<Vec<Self>> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(Self::new)
                .collect::<Result<_, _>>()
                .with_context(|| format!("an app of `{key}`")),
            Some(_) => anyhow::bail!("`{key}` has to be a list"),
        }
    }
}

impl Import {
    fn line(&mut self, text: &str) {
        self.toml.push_str(text);
        self.toml.push('\n');
    }

    fn set(&mut self, key: &str, value: &str) {
        // A JSON string is a TOML string, but for one character.
        let value = Value::from(value).to_string().replace('\u{7f}', "\\u007f");
        let _ = writeln!(self.toml, "{key} = {value}");
    }

    fn note(&mut self, text: &str) {
        let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
        let _ = writeln!(self.toml, "# NOTE: {text}");
        self.notes.push(text);
    }

    /// Names the keys that nobody asked for.
    fn rest(&mut self, place: &str, source: &Source) {
        for name in &source.odd {
            self.note(&format!(
                "{name}{place} has a value of another type than expected; it was not carried over"
            ));
        }
        for (name, _) in source.keys.values() {
            self.note(&format!("{name:?}{place} is not known and was not carried over"));
        }
    }
}

fn convert(value: Value, file: &Path) -> anyhow::Result<Import> {
    let mut source = Source::new(value)?;
    // The peer looks where it was started, often the directory above that of its configuration.
    let directory = file.parent().unwrap_or(Path::new("."));
    let above = directory.parent().unwrap_or(directory);
    let places = [Path::new("."), directory, above].map(Path::to_owned).into();
    let mut import = Import { places, ..Import::default() };
    import.line("# Made by `hpns import-config` from a mattermost-push-proxy configuration.\n");
    gateway(&mut source, &mut import);
    worker(&mut source, &mut import);
    log(&mut source, &mut import);
    let mut apps = 0;
    for mut app in source.list("ApplePushSettings")? {
        apps += u32::from(apple(&mut app, &mut import)?);
    }
    for mut app in source.list("AndroidPushSettings")? {
        apps += u32::from(android(&mut app, &mut import)?);
    }
    import.rest("", &source);
    if apps == 0 {
        import.note("no app has credentials; every push will fail");
    }
    Ok(import)
}

fn gateway(source: &mut Source, import: &mut Import) {
    let address = source.text("ListenAddress");
    let mut listen = match address.strip_prefix(':') {
        // As Go does: IPv4 and IPv6 alike.
        Some(port) => format!("[::]:{port}"),
        None => address.replace("localhost", "127.0.0.1"),
    };
    if listen.parse::<std::net::SocketAddr>().is_err() {
        "[::]:8066".clone_into(&mut listen);
        if !address.is_empty() {
            import
                .note(&format!("ListenAddress {address:?} is not an address with a port; {listen} is used"));
        }
    }
    import.line("[gateway]");
    import.set("listen", &listen);
    import.line("# As with mattermost-push-proxy, whoever reaches the port may push.");
    import.set("access", "open");
    let given = source.number("SendTimeoutSec").filter(|seconds| *seconds > 0);
    let seconds = given.unwrap_or(MAX_BUDGET_SECONDS);
    let _ = writeln!(import.toml, "budget_ms = {}", seconds.min(MAX_BUDGET_SECONDS) * 1000);
    if given.is_some_and(|seconds| seconds > MAX_BUDGET_SECONDS) {
        import.note(&format!(
            "SendTimeoutSec {seconds} became {MAX_BUDGET_SECONDS} s: a Mattermost server itself gives up at 30 s"
        ));
    }
    let limits = ["ThrottlePerSec", "ThrottleMemoryStoreSize", "ThrottleVaryByHeader"];
    if limits.map(|key| source.take(key).is_some()).contains(&true) {
        import.note("ThrottlePerSec, ThrottleMemoryStoreSize and ThrottleVaryByHeader were not carried over: an open service has no limit by caller, and a limit by a header that callers write protects nothing");
    }
    if source.flag("EnableMetrics") {
        import.note("metrics are always on, under their old names, but on a private port: 127.0.0.1:8068/metrics (health.listen)");
    }
}

fn worker(source: &mut Source, import: &mut Import) {
    if let Some(seconds) = source.number("RetryTimeoutSec").filter(|seconds| *seconds > 0) {
        import.line("\n[worker]");
        let _ = writeln!(import.toml, "apns_attempt_timeout_ms = {}", seconds.min(MAX_BUDGET_SECONDS) * 1000);
        if seconds < 10 {
            import.note(&format!(
                "RetryTimeoutSec {seconds} holds for Apple only: Google asks for at least 10 s an attempt"
            ));
        }
    }
}

fn log(source: &mut Source, import: &mut Import) {
    let json = source.text("LogFormat").eq_ignore_ascii_case("json");
    import.line("\n[log]");
    import.set("format", if json { "json" } else { "text" });
    let level = source.text("LogLevel").to_lowercase();
    match level.as_str() {
        "" => {}
        "error" | "warn" | "info" | "debug" | "trace" => import.set("level", &level),
        other => import.note(&format!("LogLevel {other:?} is none of ours; the default is used")),
    }
    if source.take("EnableConsoleLog") == Some(Value::Bool(false)) {
        import.note("EnableConsoleLog false was not carried over: the log always goes to standard error");
    }
    let (to_file, file) = (source.flag("EnableFileLog"), source.text("LogFileLocation"));
    if to_file {
        import.note(&format!(
            "the log goes to standard error, not to {file:?}: let the service manager write it"
        ));
    }
}

/// Converts one iOS app, and says whether it has credentials.
fn apple(source: &mut Source, import: &mut Import) -> anyhow::Result<bool> {
    let (kind, topic) = (source.text("Type"), source.text("ApplePushTopic"));
    let (key_file, key_id) = (source.text("AppleAuthKeyFile"), source.text("AppleAuthKeyID"));
    let (team, certificate) = (source.text("AppleTeamID"), source.text("ApplePushCertPrivate"));
    let has_password = !source.text("ApplePushCertPassword").is_empty();
    let sandbox = source.flag("ApplePushUseDevelopment");
    let has_key = !key_file.is_empty() && !key_id.is_empty() && !team.is_empty();
    if !has_key && certificate.is_empty() {
        import.rest(&format!(" of iOS app {kind:?}"), source);
        import.note(&format!("iOS app {kind:?} has no credentials and was left out"));
        return Ok(false);
    }
    if !begin_app(&kind, import)? {
        return Ok(true);
    }
    if topic.is_empty() {
        import.note(&format!("iOS app {kind:?} has no ApplePushTopic: set `topic` to its bundle id"));
    }
    import.set("provider", "apns");
    import.set("platform", &kind);
    import.set("topic", &topic);
    if sandbox {
        import.set("environment", "sandbox");
    }
    if has_key {
        import.set("team_id", &team);
        import.set("key_id", &key_id);
        let path = found(&key_file, import);
        import.set("key_file", &path);
        if !certificate.is_empty() {
            import.note(&format!("iOS app {kind:?} has a key and a certificate; the key is used"));
        }
    } else {
        let path = found(&certificate, import);
        import.set("certificate_file", &path);
        if has_password {
            import.note(&format!(
                "the certificate of iOS app {kind:?} has a password, which was not carried over: take it off with `openssl pkey -in OLD.pem -out KEY.pem` and set key_file (docs/SELF-HOSTING.md)"
            ));
        }
    }
    import.rest(&format!(" of iOS app {kind:?}"), source);
    Ok(true)
}

/// Converts one Android app, and says whether it has credentials.
fn android(source: &mut Source, import: &mut Import) -> anyhow::Result<bool> {
    let (kind, file) = (source.text("Type"), source.text("ServiceFileLocation"));
    if !source.text("AndroidApiKey").is_empty() {
        import.note(&format!("AndroidApiKey of Android app {kind:?} was not carried over: Google has shut the interface that took it down"));
    }
    if file.is_empty() {
        import.rest(&format!(" of Android app {kind:?}"), source);
        import.note(&format!("Android app {kind:?} has no service account file and was left out"));
        return Ok(false);
    }
    if !begin_app(&kind, import)? {
        return Ok(true);
    }
    import.set("provider", "fcm");
    import.set("platform", &kind);
    let path = found(&file, import);
    let key = std::fs::read(&path).ok().and_then(|json| serde_json::from_slice::<KeyFile>(&json).ok());
    let project = key.unwrap_or_default().project_id;
    if project.is_empty() {
        import.note(&format!("the project of Android app {kind:?} could not be read from its service account file: set `project`"));
    }
    import.set("project", &project);
    import.set("service_account_file", &path);
    import.rest(&format!(" of Android app {kind:?}"), source);
    Ok(true)
}

/// Begins the table of an app; says no for one that was written already.
fn begin_app(kind: &str, import: &mut Import) -> anyhow::Result<bool> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    ensure!(
        !kind.is_empty() && kind.bytes().all(plain) && !kind.contains("-v"),
        "`Type` {kind:?} has to be a platform name such as apple_rn, without a version"
    );
    if import.apps.iter().any(|known| known == kind) {
        import.note(&format!("Type {kind:?} comes more than once; only its first app was carried over"));
        return Ok(false);
    }
    import.apps.push(kind.to_owned());
    import.line(&format!("\n[apps.{kind}]"));
    Ok(true)
}

/// Finds a file where the peer would, or beside its configuration.
fn found(file: &str, import: &mut Import) -> String {
    let place = import.places.iter().map(|place| place.join(file)).find(|place| place.exists());
    let Some(place) = place.and_then(|place| place.canonicalize().ok()) else {
        import.note(&format!("{file:?} was not found"));
        return file.to_owned();
    };
    place.display().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn imported(value: Value) -> Import {
        let import = convert(value, Path::new("/nowhere/config/file.json")).unwrap();
        Config::parsed(&import.toml).unwrap();
        import
    }

    #[test]
    fn keys_count_whatever_their_case_and_none_is_passed_over_in_silence() {
        let import = imported(json!({ "listenaddress": ":9000", "Surprise": 1 }));

        assert!(import.toml.contains("listen = \"[::]:9000\""), "{}", import.toml);
        assert!(import.notes.iter().any(|note| note.contains("\"Surprise\"")), "{:?}", import.notes);
    }

    #[test]
    fn times_are_carried_over_as_far_as_they_make_sense() {
        let import = imported(json!({ "SendTimeoutSec": 30, "RetryTimeoutSec": 8 }));

        assert!(import.toml.contains("budget_ms = 25000"));
        assert!(import.toml.contains("apns_attempt_timeout_ms = 8000"));
        assert_eq!(import.notes.len(), 3);
    }

    #[test]
    fn an_app_is_carried_over_with_its_kind_of_credentials() {
        let key = json!({ "Type": "apple_rn", "ApplePushTopic": "com.a", "AppleAuthKeyFile": "a.p8",
            "AppleAuthKeyID": "KEY1234567", "AppleTeamID": "TEAM123456", "ApplePushUseDevelopment": true });
        let certificate = json!({ "Type": "apple_rnbeta", "ApplePushTopic": "com.b",
            "ApplePushCertPrivate": "b.pem", "ApplePushCertPassword": "secret" });
        let bare = json!({ "Type": "apple", "ApplePushTopic": "com.c" });

        let import = imported(json!({ "ApplePushSettings": [key, certificate, bare] }));

        assert!(
            import.toml.contains("key_id = \"KEY1234567\"")
                && import.toml.contains("environment = \"sandbox\"")
        );
        assert!(import.toml.contains("certificate_file = \"b.pem\""));
        assert!(!import.toml.contains("[apps.apple]") && !import.toml.contains("secret"));
        assert!(import.notes.iter().any(|note| note.contains("password")));
    }

    #[test]
    fn what_cannot_be_carried_over_neither_breaks_the_result_nor_passes_in_silence() {
        let app = json!({ "Type": "android_rn", "ServiceFileLocation": "a\u{7f}\"b\nc.json" });
        let import = imported(json!({
            "ListenAddress": "push.example:8066", "Two\nlines": 1, "LogLevel": "loud",
            "AndroidPushSettings": [app, app]
        }));

        for word in ["push.example", "Two", "loud", "more than once"] {
            assert!(import.notes.iter().any(|note| note.contains(word)), "{word}: {:?}", import.notes);
        }
    }

    #[test]
    fn what_is_not_a_configuration_is_refused() {
        for value in [json!([]), json!({ "ApplePushSettings": 1 })] {
            assert!(convert(value, Path::new("file.json")).is_err());
        }
    }
}
