//! API handlers of licence keys.

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;

use super::{Caller, created, idempotency_key, no_content, ok};
use crate::failure::{Failure, missing};
use crate::input::Input;
use crate::state::Admin;
use crate::wire::{KeyInput, KeyView, NewKey, ProblemBody};

/// List a licence's keys
///
/// What is known of them; the keys themselves are stored nowhere.
#[utoipa::path(get, path = "/v1/licences/{licence}/keys", tag = "keys",
    params(("licence" = String, Path, description = "The licence's id")), responses(
    (status = 200, description = "The keys, the newest first", body = Vec<KeyView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let now = admin.now();
    let keys = admin.control.keys_of(licence.id).await?;
    Ok(ok(keys.into_iter().map(|key| KeyView::new(key, now)).collect::<Vec<_>>()))
}

/// Issue a key
///
/// It is shown this once. The key before it ends after the overlap; at most two are live. With `Idempotency-Key`, a
/// request that is sent again is told so (409 `done_before`): the key cannot be shown again.
#[utoipa::path(post, path = "/v1/licences/{licence}/keys", tag = "keys", request_body = KeyInput,
    params(("licence" = String, Path, description = "The licence's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "The caller's own key of this request")),
    responses(
    (status = 201, description = "The key", body = NewKey),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn issue(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
    headers: HeaderMap,
    input: Input<KeyInput>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let audit = caller.idempotent_context(admin.now(), idempotency_key(&headers)?, &input.fingerprint);
    Ok(created(admin.new_key(licence.id, input.value.overlap_hours, audit).await?))
}

/// Revoke a key
///
/// It opens nothing any more, within a second.
#[utoipa::path(delete, path = "/v1/keys/{kid}", tag = "keys",
    params(("kid" = String, Path, description = "The key's public part")), responses(
    (status = 204, description = "It is revoked"),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn revoke(
    State(admin): State<Admin>,
    caller: Caller,
    Path(kid): Path<String>,
) -> Result<Response, Failure> {
    if !kid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(missing("licence key"));
    }
    admin.control.revoke_key(&kid, caller.audit_context(admin.now())).await?;
    Ok(no_content())
}
