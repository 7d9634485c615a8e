//! API handlers of licences, and of the servers that they are bound to.

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;

use super::{Caller, created, idempotency_key, no_content, ok, with_etag};
use crate::failure::Failure;
use crate::input::{Input, if_match_revision};
use crate::rules;
use crate::state::Admin;
use crate::wire::{LicenceInput, LicenceView, ProblemBody, SuspensionInput, TermsInput};

/// List a tenant's licences
#[utoipa::path(get, path = "/v1/tenants/{tenant}/licences", tag = "licences",
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "The licences, the oldest first", body = Vec<LicenceView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let now = admin.now();
    let licences = admin.control.licences_of(tenant.id).await?;
    Ok(ok(licences.into_iter().map(|licence| LicenceView::new(licence, now)).collect::<Vec<_>>()))
}

/// Create a licence
///
/// It is not active before the terms are accepted. With `Idempotency-Key`, a request that is sent again returns the
/// licence that the first one made.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/licences", tag = "licences", request_body = LicenceInput,
    params(("tenant" = String, Path, description = "The tenant's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "The caller's own key of this request")),
    responses(
    (status = 201, description = "The licence", body = LicenceView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    input: Input<LicenceInput>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let now = admin.now();
    let draft = input.value.checked(tenant.id, now)?;
    admin.check_plan(&draft, None).await?;
    let audit = caller.idempotent_context(now, idempotency_key(&headers)?, &input.fingerprint);
    let licence = admin.control.create_licence(draft, audit).await?;
    let revision = licence.revision;
    Ok(with_etag(created(LicenceView::new(licence, now)), revision))
}

/// Show a licence
#[utoipa::path(get, path = "/v1/licences/{licence}", tag = "licences",
    params(("licence" = String, Path, description = "The licence's id")), responses(
    (status = 200, description = "The licence", body = LicenceView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let revision = licence.revision;
    Ok(with_etag(ok(LicenceView::new(licence, admin.now())), revision))
}

/// Change a licence
///
/// `If-Match` brings the `ETag` of what was looked at; a licence that has changed since is left as it is (412).
#[utoipa::path(put, path = "/v1/licences/{licence}", tag = "licences", request_body = LicenceInput,
    params(("licence" = String, Path, description = "The licence's id"),
        ("If-Match" = String, Header, description = "The ETag, or `*`")), responses(
    (status = 200, description = "The licence", body = LicenceView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn update(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
    headers: HeaderMap,
    mut input: Input<LicenceInput>,
) -> Result<Response, Failure> {
    let known = admin.find_licence(&caller, &licence).await?;
    let now = admin.now();
    // Without a word about it, a licence keeps its privacy, and holds from when it held before.
    input.value.privacy.get_or_insert_with(|| known.terms.privacy.as_str().to_owned());
    let mut draft = input.value.checked(known.terms.tenant, known.terms.not_before.min(now))?;
    if input.value.not_before.is_none() {
        draft.not_before = known.terms.not_before;
    }
    admin.check_plan(&draft, Some(&known)).await?;
    let revision = if_match_revision(&headers)?;
    let licence = admin.control.update_licence(known.id, draft, revision, caller.audit_context(now)).await?;
    let revision = licence.revision;
    Ok(with_etag(ok(LicenceView::new(licence, now)), revision))
}

/// Note that the terms are accepted
#[utoipa::path(put, path = "/v1/licences/{licence}/terms", tag = "licences", request_body = TermsInput,
    params(("licence" = String, Path, description = "The licence's id")), responses(
    (status = 200, description = "The licence", body = LicenceView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn accept_terms(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
    input: Input<TermsInput>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let version = rules::text("version", &input.value.version, 1, 40)?;
    let by = rules::text("accepted_by", &input.value.accepted_by, 1, 200)?;
    let now = admin.now();
    let licence = admin.control.accept_terms(licence.id, &version, &by, caller.audit_context(now)).await?;
    let revision = licence.revision;
    Ok(with_etag(ok(LicenceView::new(licence, now)), revision))
}

/// Suspend a licence
#[utoipa::path(put, path = "/v1/licences/{licence}/suspension", tag = "licences", request_body = SuspensionInput,
    params(("licence" = String, Path, description = "The licence's id")), responses(
    (status = 200, description = "The licence", body = LicenceView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn suspend(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
    input: Input<SuspensionInput>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let reason = rules::text("reason", &input.value.reason, 1, 500)?;
    let now = admin.now();
    let licence = admin.control.suspend_licence(licence.id, Some(&reason), caller.audit_context(now)).await?;
    let revision = licence.revision;
    Ok(with_etag(ok(LicenceView::new(licence, now)), revision))
}

/// Resume a licence
#[utoipa::path(delete, path = "/v1/licences/{licence}/suspension", tag = "licences",
    params(("licence" = String, Path, description = "The licence's id")), responses(
    (status = 200, description = "The licence", body = LicenceView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn resume(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let now = admin.now();
    let licence = admin.control.suspend_licence(licence.id, None, caller.audit_context(now)).await?;
    let revision = licence.revision;
    Ok(with_etag(ok(LicenceView::new(licence, now)), revision))
}

/// List the servers of a licence
///
/// A licence that is bound to some servers opens for no other; one that is bound to none, for every server.
#[utoipa::path(get, path = "/v1/licences/{licence}/servers", tag = "servers",
    params(("licence" = String, Path, description = "The licence's id")), responses(
    (status = 200, description = "The servers' ids", body = Vec<String>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn servers(
    State(admin): State<Admin>,
    caller: Caller,
    Path(licence): Path<String>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    Ok(ok(admin.control.servers_of(licence.id).await?))
}

/// Bind a licence to a server
#[utoipa::path(put, path = "/v1/licences/{licence}/servers/{server}", tag = "servers",
    params(("licence" = String, Path, description = "The licence's id"),
        ("server" = String, Path, description = "The `server_id` of its pushes")), responses(
    (status = 204, description = "It is bound"),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn bind_server(
    State(admin): State<Admin>,
    caller: Caller,
    Path((licence, server)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let server = rules::server(&server)?;
    admin.control.bind_server(licence.id, server, true, caller.audit_context(admin.now())).await?;
    Ok(no_content())
}

/// Let a server go
#[utoipa::path(delete, path = "/v1/licences/{licence}/servers/{server}", tag = "servers",
    params(("licence" = String, Path, description = "The licence's id"),
        ("server" = String, Path, description = "The `server_id` of its pushes")), responses(
    (status = 204, description = "It is bound no longer"),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn unbind_server(
    State(admin): State<Admin>,
    caller: Caller,
    Path((licence, server)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let licence = admin.find_licence(&caller, &licence).await?;
    let server = rules::server(&server)?;
    admin.control.bind_server(licence.id, server, false, caller.audit_context(admin.now())).await?;
    Ok(no_content())
}
