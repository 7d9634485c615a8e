//! Credential extraction: the first thing that a request meets takes the licence key out of its path and headers.
//!
//! A stock server can carry its key only in the URL: in the path, `/t/<key>/api/v1/send_push`, or as
//! `https://push:<key>@host`, which arrives as Basic authorization; others may send it as Bearer. From here on the path is
//! `/api/v1/send_push`, and the key a value that cannot be printed; no layer that logs, traces or
//! measures ever sees it, or the header of another service's token.

use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderName, Request, Uri};
use tenant_registry::{InvalidKey, LicenceKey};
use tower::Service;

/// What a stock server may keep sending of another push service.
const FOREIGN_TOKEN: HeaderName = HeaderName::from_static("x-mattermost-auth");

/// Presented credential: the licence key that came with a request, valid or not.
#[derive(Clone)]
pub(crate) struct PresentedCredential(pub(crate) Result<LicenceKey, InvalidKey>);

impl fmt::Debug for PresentedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedCredential(…)")
    }
}

/// The gateway's router behind the extraction of credentials.
#[derive(Debug, Clone)]
pub struct CredentialService {
    router: Router,
}

/// Puts the extraction of credentials in front of `router`.
#[must_use]
pub(crate) const fn with_credentials(router: Router) -> CredentialService {
    CredentialService { router }
}

impl<B> Service<Request<B>> for CredentialService
where
    B: axum::body::HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (path, mut key) = split(request.uri().path());
        if let Some(path) = path {
            let cleaned =
                PathAndQuery::try_from(path).unwrap_or_else(|_| PathAndQuery::from_static("/unreadable"));
            // The authority stays: over HTTP/2 it is all that tells the name by which we were called.
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.path_and_query = Some(cleaned.clone());
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_| Uri::from(cleaned));
        }
        request.headers_mut().remove(FOREIGN_TOKEN);
        if let Some(header) = request.headers_mut().remove(AUTHORIZATION) {
            key = key.or_else(|| authorized(&header));
        }
        if let Some(key) = key {
            request.extensions_mut().insert(PresentedCredential(key));
        }
        self.router.call(request)
    }
}

/// Returns the key that is presented as Bearer authorization, or in either half of Basic. One that cannot be
/// read is a wrong one, and not none: where servers without a licence may push, it would count as theirs.
fn authorized(header: &HeaderValue) -> Option<Result<LicenceKey, InvalidKey>> {
    let (scheme, value) = header.to_str().ok()?.trim().split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(LicenceKey::parse(value));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(value.as_bytes()).unwrap_or_default();
    let decoded = String::from_utf8(decoded).unwrap_or_default();
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    Some(LicenceKey::parse(password).or_else(|_| LicenceKey::parse(user)))
}

/// Splits a path into the path behind the licence prefix, without doubled slashes, and the key.
/// The path is `None` when it is clean already.
fn split(path: &str) -> (Option<String>, Option<Result<LicenceKey, InvalidKey>>) {
    if !path.starts_with("/t/") && !path.contains("//") {
        return (None, None);
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    let key = parts.next_if_eq(&"t").map(|_| LicenceKey::parse(parts.next().unwrap_or_default()));
    let mut cleaned = String::with_capacity(path.len());
    for part in parts {
        cleaned.push('/');
        cleaned.push_str(part);
    }
    let directory = path.len() > 1 && path.ends_with('/') && !cleaned.is_empty();
    if cleaned.is_empty() || directory {
        cleaned.push('/');
    }
    (Some(cleaned), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_path_is_left_alone() {
        for path in ["/", "/version", "/api/v1/send_push", "/api/v1/send_push/", "/test", "/t"] {
            assert!(matches!(split(path), (None, None)), "{path}");
        }
    }

    #[test]
    fn a_key_is_taken_out_of_every_route_and_doubled_slashes_go() {
        let key = LicenceKey::generate("us");
        for (path, cleaned) in [
            ("/t/KEY/api/v1/send_push", "/api/v1/send_push"),
            ("//t//KEY//api/v1/send_push", "/api/v1/send_push"),
            ("/t/KEY/version", "/version"),
            ("/t/KEY", "/"),
            ("/t/KEY/", "/"),
            ("/t/KEY/api/v1/send_push/", "/api/v1/send_push/"),
        ] {
            let (path, found) = split(&path.replace("KEY", key.expose()));
            assert_eq!(path.as_deref(), Some(cleaned));
            assert_eq!(found.unwrap().unwrap().kid(), key.kid());
        }
        assert!(matches!(split("//api//v1/ack"), (Some(path), None) if path == "/api/v1/ack"));
    }

    #[tokio::test]
    async fn the_name_that_was_called_stays_when_the_key_is_taken_out() {
        async fn seen(request: axum::extract::Request) -> String {
            request.uri().to_string()
        }
        let mut service = CredentialService { router: Router::new().fallback(seen) };
        let key = LicenceKey::generate("us");
        let uri = format!("https://push.example.com/t/{}/version", key.expose());
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();

        let response = service.call(request).await.unwrap();

        let seen = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(seen, "https://push.example.com/version");
    }

    #[test]
    fn a_key_is_found_in_either_half_of_basic_authorization() {
        let key = LicenceKey::generate("us");
        let header = |text: String| {
            HeaderValue::try_from(format!("Basic {}", BASE64.encode(text.as_bytes()))).unwrap()
        };

        for text in [format!("push:{}", key.expose()), format!("{}:", key.expose()), key.expose().to_owned()]
        {
            assert_eq!(authorized(&header(text)).unwrap().unwrap().kid(), key.kid());
        }
    }

    #[test]
    fn a_wrong_key_is_no_absence_whatever_its_scheme_looks_like() {
        let key = LicenceKey::generate("us");
        let basic = BASE64.encode(format!("push:{}", &key.expose()[..30]).as_bytes());
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let header = HeaderValue::try_from(format!("{scheme}  {}", key.expose())).unwrap();
            assert_eq!(authorized(&header).unwrap().unwrap().kid(), key.kid());
        }
        for wrong in ["Bearer x", "basic !", "Basic eDp5", &format!("Basic {basic}")] {
            assert!(authorized(&HeaderValue::try_from(wrong).unwrap()).unwrap().is_err(), "{wrong}");
        }
        assert!(authorized(&HeaderValue::from_static("Digest x")).is_none());
    }

    #[test]
    fn a_text_that_is_no_key_is_still_taken_out() {
        for path in ["/t/junk/api/v1/ack", "/t/%2F..%2F/api/v1/ack", "/t//api/v1/ack"] {
            let (cleaned, key) = split(path);
            assert!(key.unwrap().is_err());
            assert!(!cleaned.unwrap().contains("junk"));
        }
    }
}
