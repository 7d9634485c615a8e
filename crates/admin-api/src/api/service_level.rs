//! API handlers of service levels.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};

use super::{Caller, ok};
use crate::failure::{Failure, invalid};
use crate::service_level::{Month, hours_csv};
use crate::state::Admin;
use crate::wire::{MonthQuery, ProblemBody, ServiceLevelReport, SignedReport, TenantLevelView};

type Asked = Result<Query<MonthQuery>, QueryRejection>;

fn month_of(query: Asked, admin: &Admin) -> Result<Month, Failure> {
    let Query(query) = query.map_err(|_| invalid("query", "holds `month` only"))?;
    Month::parse(query.month.as_deref(), admin.now())
}

/// The service level of the region
///
/// All tenants together, in a calendar month.
#[utoipa::path(get, path = "/v1/service-level", tag = "service level", params(MonthQuery), responses(
    (status = 200, description = "The report", body = ServiceLevelReport),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn region(State(admin): State<Admin>, query: Asked) -> Result<Response, Failure> {
    let month = month_of(query, &admin)?;
    Ok(ok(admin.region_report(month).await?.0))
}

/// Tenants of the last hours
///
/// Those with most failures that are not their own first, then the busiest; at most twenty.
#[utoipa::path(get, path = "/v1/service-level/tenants", tag = "service level", responses(
    (status = 200, description = "Tenants", body = Vec<TenantLevelView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn tenants(State(admin): State<Admin>) -> Result<Response, Failure> {
    Ok(ok(admin.busiest_tenants().await?))
}

/// The service level of a tenant
///
/// A calendar month against what was promised to it.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/service-level", tag = "service level",
    params(("tenant" = String, Path, description = "The tenant's id"), MonthQuery), responses(
    (status = 200, description = "The report", body = ServiceLevelReport),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn of_tenant(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
    query: Asked,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let month = month_of(query, &admin)?;
    Ok(ok(admin.tenant_report(&tenant, month).await?.0))
}

/// The signed report of a tenant
///
/// Texts to keep as they are: the report, the hours that it was computed from, and a signature that `ssh-keygen` checks
/// against `/.well-known/hpns-report-signers`.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/service-level/signed", tag = "service level",
    params(("tenant" = String, Path, description = "The tenant's id"), MonthQuery), responses(
    (status = 200, description = "The report", body = SignedReport),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn signed(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
    query: Asked,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let month = month_of(query, &admin)?;
    Ok(ok(admin.signed_report(&tenant, month).await?))
}

/// The keys that sign reports; they are no secret.
pub(crate) async fn signers(State(admin): State<Admin>) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], admin.report_signers()).into_response()
}

/// The hours of a tenant's service level
///
/// As CSV: every number of the report can be computed from them (docs/SLA.md).
#[utoipa::path(get, path = "/v1/tenants/{tenant}/service-level/hours", tag = "service level",
    params(("tenant" = String, Path, description = "The tenant's id"), MonthQuery), responses(
    (status = 200, description = "The hours", body = String, content_type = "text/csv"),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn hours(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
    query: Asked,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let month = month_of(query, &admin)?;
    let rows = admin.level_rows(tenant.id, month).await?;
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{}-{month}.csv\"", tenant.id)),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, hours_csv(&rows)).into_response())
}
