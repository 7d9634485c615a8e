//! API handlers of the audit log: list and verify.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use push_domain::TenantId;
use serde::Deserialize;
use tenant_registry::AuditHead;
use utoipa::IntoParams;

use super::tenants::page_length;
use super::{Caller, ok};
use crate::failure::{Failure, invalid};
use crate::operations::{decode_cursor, encode_cursor};
use crate::state::Admin;
use crate::wire::{AuditVerification, AuditView, Page, ProblemBody};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Where the page before ended.
    cursor: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
}

type Asked = Result<Query<AuditQuery>, axum::extract::rejection::QueryRejection>;

impl Admin {
    async fn audit_page(&self, tenant: Option<TenantId>, query: Asked) -> Result<Page<AuditView>, Failure> {
        let Query(query) = query.map_err(|_| invalid("query", "holds `cursor` and `limit` only"))?;
        let limit = page_length(query.limit)?;
        let before = match query.cursor {
            None => u64::MAX,
            Some(text) => decode_cursor(&text)?
                .parse()
                .map_err(|_| invalid("cursor", "has to be one that a page before has given"))?,
        };
        let mut events = self.home.audit(tenant, before, limit + 1).await?;
        let more = events.len() > limit as usize;
        events.truncate(limit as usize);
        let next_cursor = events.last().filter(|_| more).map(|last| encode_cursor(&last.seq.to_string()));
        Ok(Page { items: events.into_iter().map(AuditView::from).collect(), next_cursor })
    }
}

/// List what was done
///
/// The newest first, a page at a time.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery), responses(
    (status = 200, description = "A page of events", body = Page<AuditView>),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(admin): State<Admin>, query: Asked) -> Result<Response, Failure> {
    Ok(ok(admin.audit_page(None, query).await?))
}

/// List what was done to a tenant
#[utoipa::path(get, path = "/v1/tenants/{tenant}/audit", tag = "audit",
    params(("tenant" = String, Path, description = "The tenant's id"), AuditQuery), responses(
    (status = 200, description = "A page of events", body = Page<AuditView>),
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
    Ok(ok(admin.audit_page(Some(tenant.id), query).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NotedHead {
    /// The number of the last event of an end that was noted: from the service's own log.
    seq: Option<u64>,
    /// Its hash, in hexadecimal.
    head: Option<String>,
}

type Noted = Result<Query<NotedHead>, axum::extract::rejection::QueryRejection>;

/// Check the whole log
///
/// Every event holds the hash of the one before, under a key: what is changed, left out or cut off is found, and what
/// cannot be found is said. With an end that was noted elsewhere, it is looked for too.
#[utoipa::path(get, path = "/v1/audit/verification", tag = "audit", params(NotedHead), responses(
    (status = 200, description = "What the check shows", body = AuditVerification),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, description = "The registry is away", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn verify(State(admin): State<Admin>, query: Noted) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|_| invalid("query", "holds `seq` and `head` only"))?;
    let noted = match (query.seq, query.head) {
        (None, None) => None,
        (Some(seq), Some(hex)) => {
            let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
            let hash = hash.map_err(|_| invalid("head", "has to be a hash in hexadecimal"))?;
            Some(AuditHead { seq, hash })
        }
        _ => return Err(invalid("head", "and `seq` belong together")),
    };
    let report = admin.home.verify_audit(noted.as_ref()).await?;
    Ok(ok(AuditVerification::new(&report, noted.is_some())))
}
