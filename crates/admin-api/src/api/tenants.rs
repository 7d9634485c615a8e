//! API handlers of tenants.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Caller, created, idempotency_key, ok, with_etag};
use crate::failure::{Failure, invalid};
use crate::input::{Input, if_match_revision};
use crate::operations::{LONGEST_PAGE, decode_cursor};
use crate::state::Admin;
use crate::wire::{Page, ProblemBody, TenantInput, TenantRow, TenantView, UsageView};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only tenants whose name contains this, in whatever case; up to 100 characters.
    #[serde(default)]
    #[param(max_length = 100)]
    search: String,
    /// Where the page before ended.
    cursor: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
}

/// Checks a page's length.
pub(super) fn page_length(limit: Option<u32>) -> Result<u32, Failure> {
    let limit = limit.unwrap_or(50);
    if (1..=LONGEST_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(invalid("limit", "has to be 1 to 100"))
}

/// List tenants
///
/// By name, with their licences, a page at a time.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(ListQuery), responses(
    (status = 200, description = "A page of tenants", body = Page<TenantRow>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|_| invalid("query", "holds `search`, `cursor` and `limit` only"))?;
    if query.search.chars().count() > 100 || query.search.contains('\0') {
        return Err(invalid("search", "has to be up to 100 characters"));
    }
    let after = query.cursor.as_deref().map(decode_cursor).transpose()?.unwrap_or_default();
    let limit = page_length(query.limit)?;
    Ok(ok(admin.list_tenants(query.search.trim(), &after, limit).await?))
}

/// Create a tenant
///
/// With `Idempotency-Key`, a request that is sent again returns the tenant that the first one made.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = TenantInput,
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's own key of this request")),
    responses(
    (status = 201, description = "The tenant", body = TenantView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(admin): State<Admin>,
    caller: Caller,
    headers: HeaderMap,
    input: Input<TenantInput>,
) -> Result<Response, Failure> {
    let draft = input.value.checked()?;
    let audit = caller.idempotent_context(admin.now(), idempotency_key(&headers)?, &input.fingerprint);
    let tenant = admin.control.create_tenant(&draft, audit).await?;
    let revision = tenant.revision;
    Ok(with_etag(created(TenantView::from(tenant)), revision))
}

/// Show a tenant
#[utoipa::path(get, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "The tenant", body = TenantView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let revision = tenant.revision;
    Ok(with_etag(ok(TenantView::from(tenant)), revision))
}

/// Change a tenant
///
/// `If-Match` brings the `ETag` of what was looked at; a tenant that has changed since is left as it is (412).
#[utoipa::path(put, path = "/v1/tenants/{tenant}", tag = "tenants", request_body = TenantInput,
    params(("tenant" = String, Path, description = "The tenant's id"),
        ("If-Match" = String, Header, description = "The ETag, or `*`")), responses(
    (status = 200, description = "The tenant", body = TenantView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn update(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    input: Input<TenantInput>,
) -> Result<Response, Failure> {
    let draft = input.value.checked()?;
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let revision = if_match_revision(&headers)?;
    let tenant =
        admin.control.update_tenant(tenant.id, &draft, revision, caller.audit_context(admin.now())).await?;
    let revision = tenant.revision;
    Ok(with_etag(ok(TenantView::from(tenant)), revision))
}

/// Show what a tenant uses
///
/// Answers of the last minutes, pushes under way, devices.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/usage", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "What the tenant uses", body = UsageView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn usage(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    Ok(ok(admin.usage(tenant.id).await?))
}
