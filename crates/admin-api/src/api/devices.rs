//! API handlers of devices: count, look-up by token, erasure. Tokens are hashed on arrival.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::{Caller, ok};
use crate::failure::{Failure, invalid, missing};
use crate::input::Input;
use crate::state::Admin;
use crate::wire::{DeviceCountView, DeviceInput, DeviceView, DevicesInput, Erased, ErasureView, ProblemBody};

const MOST_AT_ONCE: usize = 1000;

/// Count a tenant's devices
#[utoipa::path(get, path = "/v1/tenants/{tenant}/devices", tag = "devices",
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "How many of each kind", body = Vec<DeviceCountView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn count(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let counts = admin.home.count_devices(tenant.id).await?;
    Ok(ok(counts.into_iter().map(DeviceCountView::from).collect::<Vec<_>>()))
}

/// Forget all of a tenant's devices
///
/// Their hashes, and what they were made with: nothing that was kept elsewhere can be matched any more. It is an order to
/// every region; the answer is what this one knew.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/devices", tag = "devices",
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "How many were known", body = Erased),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn erase_all(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let erased = admin.erase_all_devices(&tenant, caller.audit_context(admin.now())).await?;
    Ok(ok(Erased { erased }))
}

/// List orders to forget all of a tenant's devices
///
/// The newest first; those of them that this region has carried out say so.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/devices/erasures", tag = "devices",
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "The orders", body = Vec<ErasureView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn erasures(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let orders = admin.home.erasures_of(tenant.id).await?;
    Ok(ok(orders.into_iter().map(ErasureView::from).collect::<Vec<_>>()))
}

/// Look a device up
#[utoipa::path(post, path = "/v1/tenants/{tenant}/devices/lookup", tag = "devices", request_body = DeviceInput,
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "What is remembered of it", body = DeviceView),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn look_up(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
    input: Input<DeviceInput>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let (app, devices) = (input.value.app.clone(), admin.devices(&tenant, input.value)?);
    let mut found = None;
    for device in devices {
        found = found.or(admin.home.device(tenant.id, device).await?.map(|known| (known, device)));
    }
    // Who looked is noted, not for what.
    let detail = json!({ "app": app, "found": found.is_some() });
    let object = tenant.id.to_string();
    admin.note("device.look_up", &object, Some(tenant.id), detail, caller.audit_context(admin.now())).await?;
    let (known, device) = found.ok_or_else(|| missing("device"))?;
    let reference = admin.keys.log_key(admin.now().day()).reference(&device);
    Ok(ok(DeviceView::new(known, reference)))
}

/// Forget some devices
#[utoipa::path(post, path = "/v1/tenants/{tenant}/devices/erase", tag = "devices", request_body = DevicesInput,
    params(("tenant" = String, Path, description = "The tenant's id")), responses(
    (status = 200, description = "How many were known", body = Erased),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn erase(
    State(admin): State<Admin>,
    caller: Caller,
    Path(tenant): Path<String>,
    input: Input<DevicesInput>,
) -> Result<Response, Failure> {
    let tenant = admin.find_tenant(&caller, &tenant).await?;
    let given = input.value.devices;
    if !(1..=MOST_AT_ONCE).contains(&given.len()) {
        return Err(invalid("devices", "has to be 1 to 1000 devices"));
    }
    let devices: Vec<Vec<_>> =
        given.into_iter().map(|device| admin.devices(&tenant, device)).collect::<Result<_, _>>()?;
    let devices = devices.concat();
    let erased = admin.home.erase_devices(tenant.id, &devices, caller.audit_context(admin.now())).await?;
    Ok(ok(Erased { erased }))
}
