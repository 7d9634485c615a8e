//! Who calls: the identity of a token, of an `OpenID` access token or of a browser session.

mod oidc;
pub(crate) mod session;

use push_domain::{TenantId, Timestamp};
use tenant_registry::{AdminTokenRecord, AuditContext, IdempotencyKey, Role};

pub(crate) use oidc::Oidc;
pub(crate) use session::{Session, cookie, cookie_name};

use crate::access::{self, Access};
use crate::failure::{Failure, missing};

/// Authenticated caller with its role.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// As the audit log calls it.
    pub(crate) actor: String,
    pub(crate) role: Role,
    pub(crate) tenant: Option<TenantId>,
    /// Of a browser: what its forms have to bring.
    pub(crate) form_key: Option<String>,
}

impl Identity {
    pub(crate) fn of_token(record: &AdminTokenRecord) -> Self {
        let actor = format!("token:{}", record.id);
        Self { actor, role: record.terms.role, tenant: record.terms.tenant, form_key: None }
    }

    /// Says whether it may call a route.
    pub(crate) fn may(&self, method: &http::Method, route: &str) -> bool {
        match access::of(method, route) {
            Some(Access::Open) => true,
            Some(Access::Roles(roles)) => roles.contains(&self.role),
            None => false,
        }
    }

    /// Lets a tenant see only its own; to it everything else does not exist.
    pub(crate) fn sees(&self, tenant: TenantId) -> Result<(), Failure> {
        if self.tenant.is_none_or(|own| own == tenant) { Ok(()) } else { Err(missing("tenant")) }
    }

    /// What it does now.
    pub(crate) fn audit_context(&self, now: Timestamp) -> AuditContext<'_> {
        AuditContext::new(&self.actor, now)
    }

    /// The same under the caller's own key of the request.
    pub(crate) fn idempotent_context<'a>(
        &'a self,
        now: Timestamp,
        key: Option<&'a str>,
        fingerprint: &'a [u8; 32],
    ) -> AuditContext<'a> {
        AuditContext {
            idempotency_key: key.map(|key| IdempotencyKey { key, fingerprint }),
            ..self.audit_context(now)
        }
    }
}
