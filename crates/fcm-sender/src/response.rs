//! Classification of FCM responses: status and parsed body to outcome, as one pure table.
//!
//! Source: the FCM HTTP v1 error codes. 400, 401, 403, 404 and 429 each mean several things; the
//! status alone decides nothing. A device is only called dead when the answer names its token.

use std::time::Duration;

use push_domain::{Outcome, Reason, RetryScope};
use serde::Deserialize;

/// Classified response: the outcome, and whether to re-authenticate first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifiedResponse {
    /// What to report if nothing else helps.
    pub outcome: Outcome,
    /// Whether our access token was refused: get a new one and send once more.
    pub reauthenticate: bool,
}

const QUOTA_PAUSE: Duration = Duration::from_mins(1);
const BAD_GATEWAY_PAUSE: Duration = Duration::from_secs(30);

/// Google's words, and ours for answers without one.
const REASONS: [&str; 16] = [
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "IAM_PERMISSION_DENIED",
    "ACCESS_TOKEN_EXPIRED",
    "QUOTA_EXCEEDED",
    "RATE_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "SENDER_ID_MISMATCH",
    "THIRD_PARTY_AUTH_ERROR",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNREGISTERED",
    "UNSPECIFIED_ERROR",
    "UNREADABLE_ANSWER",
];

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    error: Option<ApiError>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ApiError {
    message: String,
    status: String,
    details: Vec<Detail>,
}

/// All details that we read, whatever their `@type`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    error_code: String,
    reason: String,
    retry_delay: String,
    field_violations: Vec<FieldViolation>,
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FieldViolation {
    field: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    quota_limit: String,
}

impl ApiError {
    /// `FcmError.errorCode`, else `ErrorInfo.reason`, else the canonical status.
    fn word(&self) -> &str {
        let code = self.details.iter().map(|detail| detail.error_code.as_str()).find(|word| !word.is_empty());
        let reason = self.details.iter().map(|detail| detail.reason.as_str()).find(|word| !word.is_empty());
        code.or(reason).unwrap_or(&self.status)
    }

    fn has(&self, word: &str) -> bool {
        self.details.iter().any(|detail| detail.error_code == word || detail.reason == word)
    }

    fn names_the_token(&self) -> bool {
        let violations = self.details.iter().flat_map(|detail| &detail.field_violations);
        let field = violations
            .map(|violation| violation.field.as_str())
            .any(|f| matches!(f, "message.token" | "message.fid"));
        field
            || self.message.contains("not a valid FCM registration token")
            || self.message.contains("Invalid registration token")
    }

    fn is_project_quota(&self) -> bool {
        self.has("RATE_LIMIT_EXCEEDED")
            || self.details.iter().any(|d| d.metadata.quota_limit.contains("PerProject"))
    }

    fn retry_delay(&self) -> Option<Duration> {
        let delays = self.details.iter().filter_map(|detail| detail.retry_delay.strip_suffix('s'));
        delays
            .filter_map(|seconds| seconds.parse::<f64>().ok())
            .filter_map(|s| Duration::try_from_secs_f64(s).ok())
            .max()
    }
}

fn reason(word: &str) -> Reason {
    REASONS
        .iter()
        .find(|known| **known == word)
        .map_or_else(|| Reason::foreign(word), |known| Reason::known(known))
}

/// Judges an answer. `retry_after` is the header, understood; the body's own delay counts if it is longer.
#[must_use]
pub fn classify(status: u16, body: &[u8], retry_after: Option<Duration>) -> ClassifiedResponse {
    let parsed = serde_json::from_slice::<Answer>(body);
    let unreadable = parsed.is_err();
    let answer = parsed.unwrap_or_default();
    if status == 200 {
        let named = answer.name.is_some_and(|name| !name.is_empty());
        let lost = later(None, RetryScope::Attempt, true, Reason::known("UNREADABLE_ANSWER"));
        return ClassifiedResponse {
            outcome: if named { Outcome::Accepted } else { lost },
            reauthenticate: false,
        };
    }
    let error = answer.error.unwrap_or_default();
    let word = reason(if unreadable || error.word().is_empty() { "UNREADABLE_ANSWER" } else { error.word() });
    let after = retry_after.max(error.retry_delay());
    let reauthenticate = status == 401 && !error.has("THIRD_PARTY_AUTH_ERROR");
    let outcome = match status {
        400..=499 if error.has("UNREGISTERED") => Outcome::TokenDead { since: None, reason: word },
        400 if error.names_the_token() => Outcome::TokenDead { since: None, reason: word },
        403 if error.has("SENDER_ID_MISMATCH") => {
            Outcome::WrongApp { reason: Reason::known("SENDER_ID_MISMATCH") }
        }
        401 | 403 | 404 | 300..=399 => Outcome::Misconfigured { reason: word },
        408 => later(after, RetryScope::Attempt, false, word),
        429 if error.is_project_quota() => {
            later(after.or(Some(QUOTA_PAUSE)), RetryScope::Credential, false, word)
        }
        429 => later(after, RetryScope::Device, false, word),
        400..=499 => Outcome::Refused { reason: word },
        502 => later(after.or(Some(BAD_GATEWAY_PAUSE)), RetryScope::Attempt, true, word),
        _ => later(after, RetryScope::Attempt, true, word),
    };
    ClassifiedResponse { outcome, reauthenticate }
}

const fn later(after: Option<Duration>, scope: RetryScope, ambiguous: bool, reason: Reason) -> Outcome {
    Outcome::TryLater { after, scope, ambiguous, reason }
}

/// Reads `Retry-After` in both forms: seconds, or a date. A time that has passed means now.
#[must_use]
pub fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<i64>() {
        return Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        return Some(Duration::MAX);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn error(status: &str, message: &str, details: &str) -> String {
        format!(r#"{{"error":{{"code":0,"message":"{message}","status":"{status}","details":[{details}]}}}}"#)
    }

    fn fcm(code: &str) -> String {
        format!(r#"{{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"{code}"}}"#)
    }

    fn info(reason: &str) -> String {
        format!(
            r#"{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"{reason}","metadata":{{}}}}"#
        )
    }

    fn violation(field: &str) -> String {
        format!(
            r#"{{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{{"field":"{field}"}}]}}"#
        )
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table is as long as it is")]
    fn every_answer_has_its_outcome() {
        let both = format!("{},{}", fcm("INVALID_ARGUMENT"), violation("message.token"));
        let turned = format!("{},{}", violation("message.token"), fcm("INVALID_ARGUMENT"));
        let no_target = format!("{},{}", violation("message"), fcm("INVALID_ARGUMENT"));
        let table: Vec<(&str, u16, String, &str, &str)> = vec![
            ("ok", 200, r#"{"name":"projects/p/messages/1"}"#.into(), "accepted", ""),
            ("200 with HTML", 200, "<html>".into(), "try_later", "UNREADABLE_ANSWER"),
            ("200 without a name", 200, "{}".into(), "try_later", "UNREADABLE_ANSWER"),
            (
                "bad token, by text",
                400,
                error(
                    "INVALID_ARGUMENT",
                    "The registration token is not a valid FCM registration token",
                    &fcm("INVALID_ARGUMENT"),
                ),
                "token_dead",
                "INVALID_ARGUMENT",
            ),
            (
                "bad token, by field",
                400,
                error("INVALID_ARGUMENT", "x", &both),
                "token_dead",
                "INVALID_ARGUMENT",
            ),
            (
                "bad token, other order",
                400,
                error("INVALID_ARGUMENT", "x", &turned),
                "token_dead",
                "INVALID_ARGUMENT",
            ),
            (
                "bad value",
                400,
                error("INVALID_ARGUMENT", "x", &violation("message.data[0].value")),
                "refused",
                "INVALID_ARGUMENT",
            ),
            (
                "unknown field",
                400,
                error("INVALID_ARGUMENT", "x", &violation("message")),
                "refused",
                "INVALID_ARGUMENT",
            ),
            (
                "no target",
                400,
                error("INVALID_ARGUMENT", "Recipient of the message is not set.", &no_target),
                "refused",
                "INVALID_ARGUMENT",
            ),
            (
                "too big",
                400,
                error("INVALID_ARGUMENT", "Request contains an invalid argument.", ""),
                "refused",
                "INVALID_ARGUMENT",
            ),
            (
                "dead",
                404,
                error("NOT_FOUND", "Requested entity was not found.", &fcm("UNREGISTERED")),
                "token_dead",
                "UNREGISTERED",
            ),
            (
                "dead, newer detail",
                404,
                error("NOT_FOUND", "NotRegistered", &info("UNREGISTERED")),
                "token_dead",
                "UNREGISTERED",
            ),
            ("wrong project", 404, error("NOT_FOUND", "x", ""), "misconfigured", "NOT_FOUND"),
            ("HTML 404", 404, "<html>".into(), "misconfigured", "UNREADABLE_ANSWER"),
            (
                "third party",
                401,
                error("UNAUTHENTICATED", "x", &fcm("THIRD_PARTY_AUTH_ERROR")),
                "misconfigured",
                "THIRD_PARTY_AUTH_ERROR",
            ),
            (
                "expired access token",
                401,
                error("UNAUTHENTICATED", "x", &info("ACCESS_TOKEN_EXPIRED")),
                "misconfigured",
                "ACCESS_TOKEN_EXPIRED",
            ),
            (
                "mismatch",
                403,
                error("PERMISSION_DENIED", "SenderId mismatch", &fcm("SENDER_ID_MISMATCH")),
                "wrong_app",
                "SENDER_ID_MISMATCH",
            ),
            (
                "mismatch, other detail",
                403,
                error("PERMISSION_DENIED", "x", &info("SENDER_ID_MISMATCH")),
                "wrong_app",
                "SENDER_ID_MISMATCH",
            ),
            (
                "IAM",
                403,
                error("PERMISSION_DENIED", "x", &info("IAM_PERMISSION_DENIED")),
                "misconfigured",
                "IAM_PERMISSION_DENIED",
            ),
            (
                "project quota",
                429,
                error("RESOURCE_EXHAUSTED", "x", &info("RATE_LIMIT_EXCEEDED")),
                "try_later",
                "RATE_LIMIT_EXCEEDED",
            ),
            (
                "device rate",
                429,
                error("RESOURCE_EXHAUSTED", "x", &fcm("QUOTA_EXCEEDED")),
                "try_later",
                "QUOTA_EXCEEDED",
            ),
            ("internal", 500, error("INTERNAL", "x", &fcm("INTERNAL")), "try_later", "INTERNAL"),
            ("internal without detail", 500, error("INTERNAL", "x", ""), "try_later", "INTERNAL"),
            ("bad gateway", 502, "<html>".into(), "try_later", "UNREADABLE_ANSWER"),
            ("unavailable", 503, error("UNAVAILABLE", "x", &fcm("UNAVAILABLE")), "try_later", "UNAVAILABLE"),
            (
                "a broken answer that names the word",
                500,
                error("INTERNAL", "x", &fcm("UNREGISTERED")),
                "try_later",
                "UNREGISTERED",
            ),
            ("redirect", 302, String::new(), "misconfigured", "UNREADABLE_ANSWER"),
            ("request timeout", 408, String::new(), "try_later", "UNREADABLE_ANSWER"),
            ("teapot", 418, "{}".into(), "refused", "UNREADABLE_ANSWER"),
        ];
        for (name, status, body, outcome, word) in table {
            let classified = classify(status, body.as_bytes(), None);
            assert_eq!(classified.outcome.label(), outcome, "{name}");
            assert_eq!(classified.outcome.reason().map_or("", Reason::as_str), word, "{name}");
        }
    }

    #[test]
    fn only_our_own_refused_token_asks_for_a_new_one() {
        let third = error("UNAUTHENTICATED", "x", &fcm("THIRD_PARTY_AUTH_ERROR"));

        assert!(classify(401, b"<html>", None).reauthenticate);
        assert!(classify(401, error("UNAUTHENTICATED", "x", "").as_bytes(), None).reauthenticate);
        assert!(!classify(401, third.as_bytes(), None).reauthenticate);
        assert!(!classify(403, b"{}", None).reauthenticate);
    }

    #[test]
    fn the_two_kinds_of_429_wait_for_different_things() {
        let pause = |body: &str, header| match classify(429, body.as_bytes(), header).outcome {
            Outcome::TryLater { after, scope, .. } => (scope, after),
            other => panic!("{other:?}"),
        };
        let seven = Some(Duration::from_secs(7));
        let delay = r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"42.5s"}"#;

        assert_eq!(
            pause(&error("", "", &info("RATE_LIMIT_EXCEEDED")), None),
            (RetryScope::Credential, Some(QUOTA_PAUSE))
        );
        assert_eq!(
            pause(&error("", "", &info("RATE_LIMIT_EXCEEDED")), seven),
            (RetryScope::Credential, seven)
        );
        assert_eq!(pause(&error("", "", &fcm("QUOTA_EXCEEDED")), None), (RetryScope::Device, None));
        assert_eq!(
            pause(&error("", "", delay), seven),
            (RetryScope::Device, Some(Duration::from_millis(42_500)))
        );
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);

        assert_eq!(retry_after("120", now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("-5", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999999999999", now), Some(Duration::MAX));
        assert_eq!(retry_after("soon", now), None);
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_judged_and_only_a_4xx_calls_a_device_dead(status in 100..600_u16, body: Vec<u8>, code in "[A-Z_]{0,20}|UNREGISTERED") {
            for body in [body, error("X", "Invalid registration token", &fcm(&code)).into_bytes()] {
                let outcome = classify(status, &body, None).outcome;

                let dead = matches!(outcome, Outcome::TokenDead { .. });
                assert!(!dead || (400..500).contains(&status));
                assert!(outcome != Outcome::Accepted || status == 200);
            }
        }

        #[test]
        fn any_retry_after_is_read_or_ignored(text: String) {
            let _ = retry_after(&text, UNIX_EPOCH);
        }
    }
}
