//! API handlers of the caller's identity (`/v1/me`), the overview and the alerts.

use axum::extract::State;
use axum::response::Response;

use super::{Caller, ok};
use crate::failure::Failure;
use crate::state::Admin;
use crate::wire::{AlertView, Me, OverviewView, ProblemBody};

/// Who calls
///
/// What the token stands for: the name in the audit log, the role, and the tenant of a tenant's own token.
#[utoipa::path(get, path = "/v1/me", tag = "overview", responses(
    (status = 200, description = "Who calls", body = Me),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn me(State(admin): State<Admin>, caller: Caller) -> Response {
    ok(Me {
        actor: caller.actor.clone(),
        role: caller.role.as_str().to_owned(),
        tenant: caller.tenant.map(|tenant| tenant.to_string()),
        region: admin.region.clone(),
    })
}

/// The service at a glance
///
/// Counts, processes, lanes, and what to look at.
#[utoipa::path(get, path = "/v1/overview", tag = "overview", responses(
    (status = 200, description = "The service at a glance", body = OverviewView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn overview(State(admin): State<Admin>) -> Result<Response, Failure> {
    Ok(ok(admin.overview().await?))
}

/// What to look at
///
/// Licences and certificates that end soon, apps that are held, providers out of order, many dead or new devices.
#[utoipa::path(get, path = "/v1/alerts", tag = "overview", responses(
    (status = 200, description = "What to look at", body = Vec<AlertView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn alerts(State(admin): State<Admin>) -> Result<Response, Failure> {
    Ok(ok(admin.alerts().await?))
}
