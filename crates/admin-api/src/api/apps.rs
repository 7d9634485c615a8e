//! API handlers of apps, queues and test pushes.

use axum::extract::State;
use axum::response::Response;

use super::{Caller, ok};
use crate::failure::Failure;
use crate::input::Input;
use crate::state::Admin;
use crate::wire::{AppView, ProblemBody, QueuesView, TestPushInput, TestPushView};

/// List apps
///
/// With the health of their credentials, as the workers tell it.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", responses(
    (status = 200, description = "The apps, by name", body = Vec<AppView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Response {
    ok(admin.app_views().await)
}

/// Send a test push
///
/// Through a gateway of this region, with a licence key; shows how long each part took.
#[utoipa::path(post, path = "/v1/test-pushes", tag = "apps", request_body = TestPushInput, responses(
    (status = 200, description = "What became of it", body = TestPushView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The gateway or the registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn test_push(
    State(admin): State<Admin>,
    caller: Caller,
    input: Input<TestPushInput>,
) -> Result<Response, Failure> {
    Ok(ok(admin.test_push(input.value, caller.audit_context(admin.now())).await?))
}

/// Show what waits, and where
///
/// Processes, lanes, what waits for each app, and the busiest tenants.
#[utoipa::path(get, path = "/v1/queues", tag = "apps", responses(
    (status = 200, description = "What waits, and where", body = QueuesView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn queues(State(admin): State<Admin>) -> Result<Response, Failure> {
    Ok(ok(admin.queues().await?))
}
