//! API handlers of admin tokens.

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;

use super::{Caller, created, idempotency_key, no_content, ok};
use crate::failure::{Failure, missing};
use crate::input::Input;
use crate::state::Admin;
use crate::wire::{AdminTokenInput, AdminTokenView, NewAdminToken, ProblemBody};

/// List admin tokens
#[utoipa::path(get, path = "/v1/admin-tokens", tag = "admin tokens", responses(
    (status = 200, description = "The tokens, the newest first", body = Vec<AdminTokenView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Response, Failure> {
    let now = admin.now();
    let tokens = admin.home.admin_tokens().await?;
    Ok(ok(tokens.into_iter().map(|token| AdminTokenView::new(token, now)).collect::<Vec<_>>()))
}

/// Issue an admin token
///
/// It is shown this once. With `Idempotency-Key`, a request that is sent again is told so (409 `done_before`).
#[utoipa::path(post, path = "/v1/admin-tokens", tag = "admin tokens", request_body = AdminTokenInput,
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's own key of this request")),
    responses(
    (status = 201, description = "The token", body = NewAdminToken),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn issue(
    State(admin): State<Admin>,
    caller: Caller,
    headers: HeaderMap,
    input: Input<AdminTokenInput>,
) -> Result<Response, Failure> {
    let now = admin.now();
    let draft = input.value.checked(now)?;
    let audit = caller.idempotent_context(now, idempotency_key(&headers)?, &input.fingerprint);
    let issued = admin.home.issue_admin_token(draft, audit).await?;
    let token = issued.token.expose().to_owned();
    Ok(created(NewAdminToken { token, record: AdminTokenView::new(issued.record, now) }))
}

/// Revoke an admin token
///
/// It opens nothing any more, and ends the console sessions that it began.
#[utoipa::path(delete, path = "/v1/admin-tokens/{id}", tag = "admin tokens",
    params(("id" = String, Path, description = "The token's public part")), responses(
    (status = 204, description = "It is revoked"),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn revoke(
    State(admin): State<Admin>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(missing("admin token"));
    }
    admin.home.revoke_admin_token(&id, caller.audit_context(admin.now())).await?;
    Ok(no_content())
}
