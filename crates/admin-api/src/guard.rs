//! Authentication and authorisation middleware: an admin token or `OpenID` access token as `Authorization: Bearer`, or a
//! browser session. A request is let through only if the table of routes says so; whoever fails to say who he is too often
//! is refused by where he comes from.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use data_encoding::HEXLOWER;
use http::HeaderMap;
use http::header::{
    AUTHORIZATION, HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use http_edge::{ErrorKind, Peer, Problem, networks};
use tenant_registry::{AdminToken, RegistryError};

use crate::access::{self, Access};
use crate::failure::Failure;
use crate::identity::{Identity, Session, session};
use crate::state::Admin;

/// Authentication failure.
enum AuthFailure {
    NoCredential,
    InvalidCredential,
    RegistryFailed(RegistryError),
}

/// Lets a request through to its route, or not.
pub(crate) async fn authorize(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // What has no route is answered by the router itself.
    let Some(route) = route else { return next.run(request).await };
    let is_api = route.starts_with("/v1/");
    let Some(access) = access::of(request.method(), &route) else {
        return next_or_refused(request, next, &route).await;
    };
    let (headers, is_tls) = (request.headers(), behind_tls(&admin, &request));
    if (bearer(headers).is_some() || session::presented(headers, is_tls).is_some())
        && !is_private(&admin, &request)
    {
        let text = "use https: a token or a session must not travel in the clear";
        return Problem::new(ErrorKind::Forbidden, "tls_required", text).into_response();
    }
    let source = source(&admin, &request);
    let identity = match identify(&admin, request.headers(), is_api, is_tls).await {
        Ok(identity) => Some(identity),
        Err(AuthFailure::RegistryFailed(error)) => return Failure::from(error).into_response(),
        Err(AuthFailure::InvalidCredential) => {
            admin.failed.count(source.first().copied().unwrap_or_default());
            if !admin.failures.check(&source) {
                return throttled();
            }
            None
        }
        Err(AuthFailure::NoCredential) => None,
    };
    match (access, &identity) {
        (Access::Roles(_), None) if is_api => return unauthenticated(),
        (Access::Roles(_), None) => return Redirect::to("/sign-in").into_response(),
        (Access::Roles(roles), Some(identity)) if !roles.contains(&identity.role) => {
            let text = format!("the role {} may not do this", identity.role.as_str());
            return Problem::new(ErrorKind::Forbidden, "forbidden", text).into_response();
        }
        (Access::Open, _) | (Access::Roles(_), Some(_)) => {}
    }
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    next.run(request).await
}

/// A method that no route of this path has is 405, as the router says; a route that is in no table is nobody's.
async fn next_or_refused(request: Request, next: Next, route: &str) -> Response {
    if access::TABLE.iter().any(|(_, known, _)| *known == route) {
        return next.run(request).await;
    }
    Problem::new(ErrorKind::Forbidden, "forbidden", "nobody may do this").into_response()
}

fn unauthenticated() -> Response {
    let text = "send an admin token or an access token as `Authorization: Bearer …`";
    let mut response = Problem::new(ErrorKind::Unauthenticated, "unauthenticated", text).into_response();
    let challenge = http::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
    response
}

pub(crate) fn throttled() -> Response {
    let text = "too many failed sign-ins from this address; try again in a minute";
    let mut response = Problem::new(ErrorKind::Throttled, "too_many_failures", text).into_response();
    response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("60"));
    response
}

/// Says whether nobody can listen: the connection is encrypted, or comes from this machine or a proxy of ours.
pub(crate) fn is_private(admin: &Admin, request: &Request) -> bool {
    let peer = request.extensions().get::<Peer>();
    peer.is_none_or(|peer| peer.is_tls || admin.config.trusted_proxies.contains(peer.address))
}

/// Says whether the caller came over TLS: to us, or to a proxy that we trust and that says so.
pub(crate) fn behind_tls(admin: &Admin, request: &Request) -> bool {
    let Some(peer) = request.extensions().get::<Peer>() else { return false };
    let says_so = || request.headers().get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    peer.is_tls || (admin.config.trusted_proxies.contains(peer.address) && says_so())
}

/// Tells browsers to take no answer for what it is not, and to come over TLS from now on where they have (RFC 6797).
pub(crate) async fn harden(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let is_tls = behind_tls(&admin, &request);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=63072000"));
    }
    response
}

/// Keyed hashes of where a request comes from: its site, and the networks that the site is part of.
pub(crate) fn source(admin: &Admin, request: &Request) -> Vec<u64> {
    let peer = request.extensions().get::<Peer>();
    let Some(peer) = peer else { return vec![0] };
    let address = admin.config.trusted_proxies.client(peer.address, request.headers());
    networks(address).iter().map(|network| admin.keys.source_hash(&[network])).collect()
}

async fn identify(
    admin: &Admin,
    headers: &HeaderMap,
    is_api: bool,
    is_tls: bool,
) -> Result<Identity, AuthFailure> {
    if let Some(bearer) = bearer(headers) {
        return bearer_identity(admin, bearer).await;
    }
    // A browser brings its cookie to whoever leads it here: the API does not take it.
    if is_api {
        return Err(AuthFailure::NoCredential);
    }
    let session = session::presented(headers, is_tls).ok_or(AuthFailure::NoCredential)?;
    signed_in(admin, session).await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

async fn bearer_identity(admin: &Admin, bearer: &str) -> Result<Identity, AuthFailure> {
    let now = admin.clock.now();
    if let Ok(token) = AdminToken::parse(bearer) {
        let opened = admin.home.open_admin_token(&token, now).await.map_err(AuthFailure::RegistryFailed)?;
        return opened.map(|record| Identity::of_token(&record)).ok_or(AuthFailure::InvalidCredential);
    }
    match &admin.oidc {
        Some(oidc) => oidc.identity(&admin.client, bearer, now).await.ok_or(AuthFailure::InvalidCredential),
        None => Err(AuthFailure::InvalidCredential),
    }
}

/// The session that a browser brings, if its cookie is ours.
pub(crate) fn presented_session(admin: &Admin, headers: &HeaderMap, is_tls: bool) -> Option<Session> {
    Session::read(session::presented(headers, is_tls)?, &admin.session_keys, admin.now())
}

/// The session and the token behind it are looked up every time: both may have ended.
async fn signed_in(admin: &Admin, cookie: &str) -> Result<Identity, AuthFailure> {
    let now = admin.clock.now();
    let session = Session::read(cookie, &admin.session_keys, now).ok_or(AuthFailure::NoCredential)?;
    let record = admin.home.session_token(&session.id(), now).await.map_err(AuthFailure::RegistryFailed)?;
    let record = record.filter(|record| record.id == session.token).ok_or(AuthFailure::NoCredential)?;
    let form_key = Some(HEXLOWER.encode(&session.form_key()));
    Ok(Identity { form_key, ..Identity::of_token(&record) })
}
