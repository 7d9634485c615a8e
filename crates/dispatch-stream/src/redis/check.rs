//! Check of a Redis server's configuration: it must neither persist nor evict anything.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, cmd};

/// Begins the detail of an error that stands for an unsafe configuration.
const UNSAFE: &str = "unsafe configuration";

/// Reads the server's configuration, and fails when it is not safe.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let mut question = cmd("CONFIG");
    question.arg("GET").arg("appendonly").arg("save").arg("maxmemory-policy");
    let answer: HashMap<String, String> = question.query_async(connection).await.map_err(|error| {
        let denied = error.code() == Some("NOPERM") || matches!(error.kind(), ErrorKind::Server(_));
        if denied {
            refusal("it does not tell its configuration (CONFIG GET); dispatch.check_lanes = false trusts it all the same".to_owned())
        } else {
            error
        }
    })?;
    if let Some(fault) = fault(&answer) {
        return Err(refusal(fault));
    }
    // Whoever may not ask has a server that was not known to be a bad one.
    let info: String = cmd("INFO").arg("server").query_async(connection).await.unwrap_or_default();
    if has_unreliable_blocking(&info) {
        return Err(refusal(
            "Redis 7.2.0 to 7.2.4 restart the time-out of a blocked read at every signal: use 7.2.5 or later"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Says whether blocked reads may never time out. Valkey names a Redis version that it is compatible with, and its own.
fn has_unreliable_blocking(info: &str) -> bool {
    let value = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let patch = value("redis_version").and_then(|version| version.strip_prefix("7.2.")?.parse::<u32>().ok());
    value("valkey_version").is_none() && patch.is_some_and(|patch| patch <= 4)
}

/// Says what is wrong with a configuration.
fn fault(config: &HashMap<String, String>) -> Option<String> {
    let value = |key: &str| config.get(key).map_or("unknown", String::as_str);
    if value("appendonly") != "no" {
        return Some("appendonly has to be no: pushes would be kept on a disk".to_owned());
    }
    if !value("save").is_empty() {
        return Some("save has to be \"\": pushes would be kept on a disk".to_owned());
    }
    let policy = value("maxmemory-policy");
    if policy != "noeviction" {
        return Some(format!(
            "maxmemory-policy has to be noeviction, not {policy}: pushes would be lost without a word"
        ));
    }
    None
}

fn refusal(fault: String) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, UNSAFE, fault))
}

/// Returns what is wrong with the server's configuration, if that is what an error says.
pub(super) fn unsafe_setting(error: &RedisError) -> Option<String> {
    let ours = error.kind() == ErrorKind::InvalidClientConfig && error.to_string().starts_with(UNSAFE);
    ours.then(|| error.detail().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_keeps_or_drops_anything_is_refused_with_the_setting() {
        let config = |appendonly: &str, save: &str, policy: &str| -> HashMap<String, String> {
            [("appendonly", appendonly), ("save", save), ("maxmemory-policy", policy)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };

        assert_eq!(fault(&config("no", "", "noeviction")), None);
        assert!(fault(&config("yes", "", "noeviction")).unwrap().starts_with("appendonly"));
        assert!(fault(&config("no", "3600 1", "noeviction")).unwrap().starts_with("save"));
        assert!(fault(&config("no", "", "allkeys-lru")).unwrap().starts_with("maxmemory-policy"));
        assert!(fault(&HashMap::new()).is_some());
    }

    #[test]
    fn a_server_whose_blocked_reads_may_never_end_is_refused() {
        for bad in ["redis_version:7.2.0", "# Server\r\nredis_version:7.2.4\r\nos:Linux"] {
            assert!(has_unreliable_blocking(bad), "{bad}");
        }
        for good in
            ["", "redis_version:7.0.15", "redis_version:7.2.5", "redis_version:7.2.4\r\nvalkey_version:8.0.1"]
        {
            assert!(!has_unreliable_blocking(good), "{good}");
        }
    }

    #[test]
    fn a_refusal_is_told_from_every_other_error() {
        assert_eq!(unsafe_setting(&refusal("save".into())).as_deref(), Some("save"));
        let other = RedisError::from((ErrorKind::InvalidClientConfig, "else"));
        assert_eq!(unsafe_setting(&other), None);
    }
}
