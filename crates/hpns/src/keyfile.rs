//! Key files of the service, which only their owner may read: one with all keys for a single process,
//! or one for each purpose, of which each role is given its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use tenant_registry::{KeyPurpose, KeySet, Keys};
use tracing::warn;

use crate::config::Config;
use crate::secret_file;

const BYTES: usize = 32;

/// Key holder: decides which key purposes a role or command must and must not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyHolder {
    /// Checks licence keys and hashes devices. It must not have those of operators.
    Gateway,
    /// Sells licences, and answers to operators.
    Operators,
    /// Binds or opens a registry, and does no more.
    Registry,
}

impl KeyHolder {
    const fn needs(self) -> &'static [KeyPurpose] {
        match self {
            Self::Gateway => {
                &[KeyPurpose::Control, KeyPurpose::Devices, KeyPurpose::Log, KeyPurpose::RightsCheck]
            }
            Self::Operators => &KeyPurpose::ALL,
            Self::Registry => &[KeyPurpose::Control],
        }
    }
}

/// Reads the keys that the configuration names. Where it names none by purpose, the one file is made when it is missing.
pub(crate) fn load(config: &Config, holder: KeyHolder) -> anyhow::Result<Keys> {
    let files = config.key_files();
    let set = if files.is_empty() {
        let path = config.key_path();
        if !path.exists() {
            make(&path).with_context(|| format!("registry.key_file: cannot make {}", path.display()))?;
        }
        let set = read(&path).with_context(|| format!("registry.key_file: {}", path.display()))?;
        if holder == KeyHolder::Gateway
            && set.holds(KeyPurpose::Operators)
            && !config.dispatch.lanes.is_empty()
        {
            warn!("this gateway holds the operators' keys; give each role files of its own: hpns keys split");
        }
        set
    } else {
        let mut set = KeySet::default();
        for path in &files {
            let more = read(path).with_context(|| format!("registry.key_files: {}", path.display()))?;
            set.merge(more).with_context(|| format!("registry.key_files: {}", path.display()))?;
        }
        ensure!(
            holder != KeyHolder::Gateway
                || !(set.holds(KeyPurpose::Operators) || set.holds(KeyPurpose::Rights)),
            "registry.key_files: a gateway must not have the operators' keys, nor those that sign; leave their files out"
        );
        set
    };
    for purpose in holder.needs() {
        let name = purpose.as_str();
        ensure!(
            set.holds(*purpose),
            "registry.key_files: this process needs keys for `{name}`, and there are none (hpns keys new, hpns keys checks)"
        );
    }
    Ok(Keys::of(&set))
}

/// Reads one file.
pub(crate) fn read(path: &Path) -> anyhow::Result<KeySet> {
    let bytes = secret_file::read_key(path)?;
    Ok(KeySet::parse(std::str::from_utf8(&bytes).context("it is no text")?)?)
}

fn random() -> anyhow::Result<String> {
    let mut bytes = [0_u8; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    Ok(HEXLOWER.encode(&bytes))
}

fn make(path: &Path) -> anyhow::Result<()> {
    Ok(secret_file::write(path, &(random()? + "\n"))?)
}

/// `hpns keys`: the service's own keys by purpose.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Splits a key file into one for each purpose: control, devices, log, operators, rights and rights-check.
    ///
    /// What the former file was made of is in none of them; keep it away from the machines. Gateways get control, devices, log
    /// and rights-check; the admin role gets all six (`registry.key_files`).
    Split(SplitOptions),
    /// Makes a new key for a purpose, as a line for the end of its file; docs/OPERATIONS.md tells how to bring it in.
    New(NewOptions),
    /// Prints what proves the signatures of a file of `rights` keys: the file `rights-check.keys` of gateways.
    Checks {
        /// The file of the keys that sign.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SplitOptions {
    /// The file that holds everything.
    file: PathBuf,
    /// Where the new files go: control.keys, devices.keys and so on.
    #[arg(long, value_name = "DIRECTORY")]
    into: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// The file of the purpose, as it is now.
    file: PathBuf,
    /// The purpose, where there is no file yet.
    #[arg(long, value_parser = ["control", "devices", "log", "operators", "rights"])]
    first_of: Option<String>,
}

/// Runs `hpns keys`.
pub(crate) fn run(command: &KeysCommand) -> anyhow::Result<()> {
    let mut out = String::new();
    match command {
        KeysCommand::Split(SplitOptions { file, into }) => {
            let set = read(file).with_context(|| file.display().to_string())?;
            for purpose in KeyPurpose::ALL {
                let path = into.join(format!("{}.keys", purpose.as_str()));
                secret_file::write(&path, &set.lines(purpose)).with_context(|| path.display().to_string())?;
                writeln!(out, "{}", path.display())?;
            }
        }
        KeysCommand::New(NewOptions { file, first_of: Some(purpose) }) => {
            ensure!(!file.exists(), "{} is there already: leave --first-of out", file.display());
            writeln!(out, "{purpose} 1 {}", random()?)?;
        }
        KeysCommand::New(NewOptions { file, first_of: None }) => {
            let set = read(file).with_context(|| file.display().to_string())?;
            // What proves comes with what signs.
            let is_own = |it: &KeyPurpose| *it != KeyPurpose::RightsCheck || !set.holds(KeyPurpose::Rights);
            let purposes: Vec<_> =
                KeyPurpose::ALL.into_iter().filter(|it| set.holds(*it)).filter(is_own).collect();
            let [purpose] = purposes[..] else { bail!("{} holds keys of several purposes", file.display()) };
            ensure!(
                purpose != KeyPurpose::RightsCheck,
                "what proves is made of what signs: hpns keys checks"
            );
            writeln!(out, "{} {} {}", purpose.as_str(), set.newest(purpose) + 1, random()?)?;
        }
        KeysCommand::Checks { file } => {
            let set = read(file).with_context(|| file.display().to_string())?;
            ensure!(set.holds(KeyPurpose::Rights), "{} holds no key that signs", file.display());
            out.push_str(&set.lines(KeyPurpose::RightsCheck));
        }
    }
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(settings: &str, directory: &Path) -> Config {
        Config::parsed(&format!("data_dir = \"{}\"\n[registry]\n{settings}", directory.display())).unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let config = config("", directory.path());

        let first = load(&config, KeyHolder::Operators).unwrap().purpose_keys("test");
        let second = load(&config, KeyHolder::Operators).unwrap().purpose_keys("test");

        assert_eq!(first[0].expose(), second[0].expose());
        let mode = std::fs::metadata(directory.path().join("hpns.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_file_is_named_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let config = config("", directory.path());
        for text in ["canary", "", &"zz".repeat(32), &"ab".repeat(33)] {
            let path = directory.path().join("hpns.key");
            let _ = std::fs::remove_file(&path);
            secret_file::write(&path, text).unwrap();
            let message = format!("{:#}", load(&config, KeyHolder::Operators).unwrap_err());
            assert!(message.contains("hpns.key") && !message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn each_role_gets_its_own_files_and_a_gateway_is_refused_the_operators() {
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join("old.key")).unwrap();
        let (file, into) = (directory.path().join("old.key"), directory.path().to_owned());
        run(&KeysCommand::Split(SplitOptions { file, into })).unwrap();
        let with = |names: &[&str], holder| {
            let names: Vec<_> = names.iter().map(|name| format!("\"{name}.keys\"")).collect();
            let settings = format!("key_files = [{}]", names.join(", "));
            load(&config(&settings, directory.path()), holder)
        };
        let all = ["control", "devices", "log", "operators", "rights", "rights-check"];
        let gateway = ["control", "devices", "log", "rights-check"];

        assert!(with(&all, KeyHolder::Operators).is_ok() && with(&gateway, KeyHolder::Gateway).is_ok());
        let refused = |names: &[&str], holder| with(names, holder).unwrap_err().to_string();
        assert!(refused(&all, KeyHolder::Gateway).contains("must not have the operators' keys"));
        assert!(
            refused(&["control", "log", "devices", "rights"], KeyHolder::Gateway)
                .contains("nor those that sign")
        );
        assert!(refused(&all[..2], KeyHolder::Gateway).contains("needs keys for `log`"));
        assert!(refused(&all[..3], KeyHolder::Gateway).contains("needs keys for `rights-check`"));
        assert!(refused(&all[..3], KeyHolder::Operators).contains("needs keys for `operators`"));
        assert!(refused(&["control", "control"], KeyHolder::Gateway).contains("control.keys"));
        // They are the keys that the one file had.
        let old = load(&config("key_file = \"old.key\"", directory.path()), KeyHolder::Operators).unwrap();
        let new = with(&all, KeyHolder::Operators).unwrap();
        assert_eq!(old.purpose_keys("x")[0].expose(), new.purpose_keys("x")[0].expose());
        assert!(with(&gateway, KeyHolder::Gateway).unwrap().purpose_keys("console session").is_empty());
    }
}
