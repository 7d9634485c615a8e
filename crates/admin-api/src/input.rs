//! Request-body extractor: reads JSON within limits; a refusal names the field and repeats nothing.

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::IF_MATCH;
use http_edge::{BodyFault, ErrorKind, Problem};
use serde::de::DeserializeOwned;

use crate::failure::{Failure, invalid};
use crate::rules;

/// JSON body, with the fingerprint by which an idempotent retry is recognised.
#[derive(Debug)]
pub(crate) struct Input<T> {
    pub(crate) value: T,
    pub(crate) fingerprint: [u8; 32],
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let route = format!("{} {}\n", request.method(), request.uri().path());
        let body = bounded(request.into_body()).await?;
        let value = parsed(&body)?;
        let hash = digest(&SHA256, &[route.as_bytes(), &body].concat());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.as_ref());
        Ok(Self { value, fingerprint })
    }
}

/// Reads a body within the limits of the listener.
pub(crate) async fn bounded(body: Body) -> Result<Bytes, Failure> {
    http_edge::read(body).await.map_err(|fault| {
        let (kind, code) = match fault {
            BodyFault::TooLarge => (ErrorKind::TooLarge, "body_too_large"),
            BodyFault::TooSlow => (ErrorKind::TooSlow, "body_too_slow"),
            BodyFault::Crowded => (ErrorKind::Unavailable, "busy"),
            BodyFault::Broken => (ErrorKind::BadRequest, "body_broken"),
        };
        Failure(Problem::new(kind, code, fault.to_string()))
    })
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return Failure(Problem::new(ErrorKind::BadRequest, "bad_json", "the body is not JSON"));
        }
        // serde's own sentences repeat what the caller sent, up to the comma.
        let text = inner.to_string();
        if text.starts_with("missing field") {
            let rule =
                text.split(" at line").next().unwrap_or_default().replace("missing field", "is missing:");
            return invalid(&path, &rule);
        }
        let expected = text.split(", expected ").nth(1).and_then(|rest| rest.split(" at line").next());
        if text.starts_with("unknown field") {
            let known = expected.unwrap_or("none");
            return invalid(&path, &format!("is not a field of this request; there are {known}"));
        }
        invalid(&path, &format!("has to be {}", expected.unwrap_or("of another type")))
    })?;
    reader.end().map_err(|_| {
        Failure(Problem::new(ErrorKind::BadRequest, "bad_json", "something follows the JSON in the body"))
    })?;
    Ok(value)
}

/// Returns the revision that a caller has looked at: `If-Match`, which a change has to bring.
pub(crate) fn if_match_revision(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(IF_MATCH) else {
        let text = "send `If-Match` with the ETag of what you have looked at";
        return Err(Failure(Problem::new(ErrorKind::PreconditionRequired, "etag_missing", text)));
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    // What is not one of ours matches nothing.
    let number =
        text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|it| it.parse().ok());
    Ok(Some(number.unwrap_or(u64::MAX >> 1)))
}

/// Returns the caller's own key of the request, if there is one.
pub(crate) fn request_key(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    rules::request_key(value.to_str().unwrap_or_default()).map(Some)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read counts")]
    struct Thing {
        name: String,
        number: u32,
    }

    fn refusal(body: &str) -> String {
        parsed::<Thing>(body.as_bytes()).unwrap_err().0.detail().to_owned()
    }

    #[test]
    fn a_refusal_names_the_field_and_repeats_nothing() {
        for (body, needle) in [
            (r#"{"name":"a","number":"canary"}"#, "`number` has to be u32"),
            (r#"{"name":"a","number":1,"canary":2}"#, "is not a field of this request"),
            (r#"{"name":"a"}"#, "number"),
            (r#"{"name":"a","number":-5}"#, "`number`"),
            ("canary", "not JSON"),
            (r#"{"name":"a","number":1} canary"#, "something follows"),
        ] {
            let text = refusal(body);
            assert!(
                text.contains(needle) && (needle.contains("not a field") || !text.contains("canary")),
                "{text}"
            );
        }
    }
}
