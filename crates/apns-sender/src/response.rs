//! Classification of APNs responses: status and reason to outcome, as one pure table.
//!
//! Source: "Handling notification responses from APNs". Reasons that Apple adds later are judged by
//! their status; a device is only ever called dead by a 410 or by `BadDeviceToken`.

use std::time::Duration;

use push_domain::{Outcome, Reason, RetryScope, Timestamp};
use serde::Deserialize;

/// Retry decision: what the sender does about a response, besides reporting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Nothing.
    None,
    /// Leaves the connection: it is ending.
    Leave,
    /// Leaves the connection and tries once more on a new one.
    Reconnect,
    /// Mints a new provider token, leaves the connection (an expired token wedges it), tries once more.
    Reauthenticate,
}

/// Classified response: the outcome, and what to try first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifiedResponse {
    /// What to report if no remedy helps.
    pub outcome: Outcome,
    /// What to try first.
    pub retry: RetryDecision,
}

/// Every reason in Apple's table, and the two spellings of one that are seen in the wild.
pub const REASONS: [&str; 36] = [
    "BadCertificate",
    "BadCertificateEnvironment",
    "BadCollapseId",
    "BadDeviceToken",
    "BadEnvironmentKeyIdInToken",
    "BadEnvironmentKeyInToken",
    "BadExpirationDate",
    "BadMessageId",
    "BadPath",
    "BadPriority",
    "BadTopic",
    "DeviceTokenNotForTopic",
    "DuplicateHeaders",
    "ExpiredProviderToken",
    "ExpiredToken",
    "Forbidden",
    "IdleTimeout",
    "InternalServerError",
    "InvalidProviderToken",
    "InvalidPushType",
    "MethodNotAllowed",
    "MissingDeviceToken",
    "MissingProviderToken",
    "MissingTopic",
    "PayloadEmpty",
    "PayloadTooLarge",
    "ServiceUnavailable",
    "Shutdown",
    "TooManyProviderTokenUpdates",
    "TooManyRequests",
    "TopicDisallowed",
    "UnrelatedKeyIdInToken",
    "Unregistered",
    "NoReason",
    "UnreadableAnswer",
    "ConnectionLost",
];

/// The reason that stands for an answer without one.
pub const NO_REASON: &str = "NoReason";
/// The reason that stands for a body that Apple cannot have written.
pub const UNREADABLE: &str = "UnreadableAnswer";

fn reason(word: &str) -> Reason {
    REASONS
        .iter()
        .find(|known| **known == word)
        .map_or_else(|| Reason::foreign(word), |known| Reason::known(known))
}

/// Reads Apple's error body: `{"reason": …, "timestamp": <milliseconds, with a 410>}`. Whatever else it
/// is has a reason of ours.
#[must_use]
pub fn read_error(body: &[u8]) -> (String, Option<Timestamp>) {
    #[derive(Deserialize)]
    struct ErrorBody {
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        timestamp: Option<u64>,
    }
    if body.is_empty() {
        return (NO_REASON.into(), None);
    }
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(error) => {
            (error.reason.unwrap_or_else(|| NO_REASON.into()), error.timestamp.map(Timestamp::from_millis))
        }
        Err(_) => (UNREADABLE.into(), None),
    }
}

/// Judges an answer by its status and the `reason` of its body.
///
/// `timestamp` is that of a 410; `retry_after` is not in Apple's documents, but is obeyed if it comes.
#[must_use]
pub fn classify(
    status: u16,
    word: &str,
    timestamp: Option<Timestamp>,
    retry_after: Option<Duration>,
) -> ClassifiedResponse {
    let reason = reason(word);
    let later =
        |scope| Outcome::TryLater { after: retry_after, scope, ambiguous: false, reason: reason.clone() };
    let (outcome, retry) = match (status, word) {
        (200, _) => (Outcome::Accepted, RetryDecision::None),
        // Not that the device is gone, but that it is another app's: with 410 as with 400.
        (400 | 410, "DeviceTokenNotForTopic") => (Outcome::WrongApp { reason }, RetryDecision::None),
        (410, word) if word != UNREADABLE => {
            (Outcome::TokenDead { since: timestamp, reason }, RetryDecision::None)
        }
        (429, UNREADABLE) => (later(RetryScope::Device), RetryDecision::None),
        (400..=499, UNREADABLE) => (later(RetryScope::Attempt), RetryDecision::None),
        (400, "BadDeviceToken") => (Outcome::TokenDead { since: None, reason }, RetryDecision::None),
        (400, "TopicDisallowed" | "BadTopic" | "MissingTopic") => {
            (Outcome::Misconfigured { reason }, RetryDecision::None)
        }
        (400, "IdleTimeout") | (503, "Shutdown") => (later(RetryScope::Attempt), RetryDecision::Leave),
        (403, "ExpiredProviderToken") => (Outcome::Misconfigured { reason }, RetryDecision::Reauthenticate),
        (403, "UnrelatedKeyIdInToken" | "InvalidProviderToken" | "MissingProviderToken") => {
            (Outcome::Misconfigured { reason }, RetryDecision::Reconnect)
        }
        (403, _) => (Outcome::Misconfigured { reason }, RetryDecision::None),
        (429, "TooManyProviderTokenUpdates") => (later(RetryScope::Credential), RetryDecision::None),
        (429, _) => (later(RetryScope::Device), RetryDecision::None),
        (400..=499, _) => (Outcome::Refused { reason }, RetryDecision::None),
        _ => (later(RetryScope::Attempt), RetryDecision::None),
    };
    ClassifiedResponse { outcome, retry }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_is_read_whatever_it_is() {
        let timestamp = Some(Timestamp::from_millis(1_700_000_000_000));

        assert_eq!(
            read_error(br#"{"reason":"Unregistered","timestamp":1700000000000}"#),
            ("Unregistered".into(), timestamp)
        );
        assert_eq!(read_error(br#"{"reason":"BadTopic"}"#), ("BadTopic".into(), None));
        assert_eq!(read_error(b""), (NO_REASON.into(), None));
        assert_eq!(read_error(b"{}"), (NO_REASON.into(), None));
        assert_eq!(read_error(b"<html>"), (UNREADABLE.into(), None));
        assert_eq!(read_error(br#"{"reason":1}"#), (UNREADABLE.into(), None));
    }

    /// `status reasons… → outcome remedy`, every row of Apple's table.
    const TABLE: &[(u16, &[&str], &str, RetryDecision)] = &[
        (200, &[""], "accepted", RetryDecision::None),
        (
            400,
            &[
                "BadCollapseId",
                "BadExpirationDate",
                "BadMessageId",
                "BadPriority",
                "DuplicateHeaders",
                "InvalidPushType",
                "MissingDeviceToken",
                "PayloadEmpty",
                "SomethingNew",
                NO_REASON,
            ],
            "refused",
            RetryDecision::None,
        ),
        (400, &["BadDeviceToken"], "token_dead", RetryDecision::None),
        (400, &["DeviceTokenNotForTopic"], "wrong_app", RetryDecision::None),
        (410, &["DeviceTokenNotForTopic"], "wrong_app", RetryDecision::None),
        (400, &["BadTopic", "MissingTopic", "TopicDisallowed"], "misconfigured", RetryDecision::None),
        (400, &["IdleTimeout"], "try_later", RetryDecision::Leave),
        (403, &["ExpiredProviderToken"], "misconfigured", RetryDecision::Reauthenticate),
        (
            403,
            &["UnrelatedKeyIdInToken", "InvalidProviderToken", "MissingProviderToken"],
            "misconfigured",
            RetryDecision::Reconnect,
        ),
        (
            403,
            &[
                "BadCertificate",
                "BadCertificateEnvironment",
                "BadEnvironmentKeyIdInToken",
                "BadEnvironmentKeyInToken",
                "Forbidden",
                "SomethingNew",
            ],
            "misconfigured",
            RetryDecision::None,
        ),
        (404, &["BadPath", "Unregistered"], "refused", RetryDecision::None),
        (405, &["MethodNotAllowed"], "refused", RetryDecision::None),
        (
            410,
            &["ExpiredToken", "Unregistered", "SomethingNew", NO_REASON],
            "token_dead",
            RetryDecision::None,
        ),
        (410, &[UNREADABLE], "try_later", RetryDecision::None),
        (413, &["PayloadTooLarge"], "refused", RetryDecision::None),
        (
            429,
            &["TooManyProviderTokenUpdates", "TooManyRequests", "SomethingNew"],
            "try_later",
            RetryDecision::None,
        ),
        (500, &["InternalServerError", "SomethingNew"], "try_later", RetryDecision::None),
        (502, &[NO_REASON], "try_later", RetryDecision::None),
        (503, &["ServiceUnavailable"], "try_later", RetryDecision::None),
        (503, &["Shutdown"], "try_later", RetryDecision::Leave),
        (302, &[NO_REASON], "try_later", RetryDecision::None),
        (400, &[UNREADABLE], "try_later", RetryDecision::None),
        (403, &[UNREADABLE], "try_later", RetryDecision::None),
    ];

    #[test]
    fn every_status_and_reason_has_its_outcome() {
        for (status, words, outcome, retry) in TABLE {
            for word in *words {
                let classified = classify(*status, word, None, None);
                assert_eq!(
                    (classified.outcome.label(), classified.retry),
                    (*outcome, *retry),
                    "{status} {word}"
                );
            }
        }
    }

    #[test]
    fn the_table_names_every_known_reason() {
        let named: Vec<_> = TABLE.iter().flat_map(|(_, words, _, _)| words.iter()).collect();

        for known in REASONS.iter().filter(|word| **word != "ConnectionLost") {
            assert!(named.contains(&known), "{known}");
        }
    }

    #[test]
    fn only_a_410_and_bad_device_token_name_a_token_dead() {
        for status in 100..600 {
            for word in REASONS {
                let dead = matches!(classify(status, word, None, None).outcome, Outcome::TokenDead { .. });
                let expected = (status == 410 && word != UNREADABLE && word != "DeviceTokenNotForTopic")
                    || (status, word) == (400, "BadDeviceToken");
                assert_eq!(dead, expected, "{status} {word}");
            }
        }
    }

    #[test]
    fn a_410_carries_its_timestamp_and_a_503_its_retry_after() {
        let since = Some(Timestamp::from_millis(1));
        let after = Some(Duration::from_secs(7));

        assert!(
            matches!(classify(410, "Unregistered", since, None).outcome, Outcome::TokenDead { since: s, .. } if s == since)
        );
        assert!(
            matches!(classify(503, "ServiceUnavailable", None, after).outcome, Outcome::TryLater { after: a, .. } if a == after)
        );
    }

    #[test]
    fn a_token_that_gets_too_many_pushes_waits_alone() {
        let scope = |word| match classify(429, word, None, None).outcome {
            Outcome::TryLater { scope, .. } => scope,
            other => panic!("{other:?}"),
        };

        assert_eq!(scope("TooManyRequests"), RetryScope::Device);
        assert_eq!(scope("TooManyProviderTokenUpdates"), RetryScope::Credential);
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_judged_and_only_a_200_is_a_yes(status in 100..600_u16, body: Vec<u8>) {
            let (word, timestamp) = read_error(&body);
            let outcome = classify(status, &word, timestamp, None).outcome;

            assert_eq!(outcome == Outcome::Accepted, status == 200);
        }
    }
}
