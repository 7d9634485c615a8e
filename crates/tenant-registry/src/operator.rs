//! Operators: roles, admin tokens, and the audit context of a change.

use std::fmt;
use std::str::FromStr;

use push_domain::{TenantId, Timestamp};

use crate::{InvalidKey, LicenceKey};

/// Role of an operator. Which role may call what is a table of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Looks at everything but the audit log.
    Viewer,
    /// Helps customers: looks, sends test pushes, finds devices.
    Support,
    /// Runs tenants, licences and keys.
    Operator,
    /// Erases, and gives admin tokens.
    SecurityAdmin,
    /// Looks at everything, the audit log too.
    Auditor,
    /// Looks at one tenant: its own.
    Tenant,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Viewer, Self::Support, Self::Operator, Self::SecurityAdmin, Self::Auditor, Self::Tenant];

    /// Returns the name used in storage, in the API and in access tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::SecurityAdmin => "security-admin",
            Self::Auditor => "auditor",
            Self::Tenant => "tenant",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or("a role is viewer, support, operator, security-admin, auditor or tenant")
    }
}

/// Audit context: who changes the registry, and when. The audit log holds it with what was done.
#[derive(Debug, Clone, Copy)]
pub struct AuditContext<'a> {
    /// Who: `token:<id>`, `oidc:<subject>`, or the command that does it.
    pub by: &'a str,
    /// When.
    pub at: Timestamp,
    /// The caller's own key of a request that creates something: sent again, it creates nothing more.
    pub idempotency_key: Option<IdempotencyKey<'a>>,
}

impl<'a> AuditContext<'a> {
    /// Something that is done now, by somebody.
    #[must_use]
    pub const fn new(by: &'a str, at: Timestamp) -> Self {
        Self { by, at, idempotency_key: None }
    }
}

/// Idempotency key: a caller's own key of a request.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyKey<'a> {
    /// The key, unique among those of one actor.
    pub key: &'a str,
    /// A hash of what is asked: the same key may not ask for something else.
    pub fingerprint: &'a [u8; 32],
}

/// An admin token, well formed: a secret that opens the admin API.
///
/// It has the form of a licence key of the region `admin`, so that whatever finds or hides those does so here too.
#[derive(Clone)]
pub struct AdminToken(LicenceKey);

impl AdminToken {
    const REGION: &str = "admin";

    /// Makes a token with 256 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self(LicenceKey::generate(Self::REGION))
    }

    /// Parses a token that a caller presents.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let key = LicenceKey::parse(text)?;
        if key.region() == Self::REGION { Ok(Self(key)) } else { Err(InvalidKey) }
    }

    /// Returns the public part, by which the token is found.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.kid()
    }

    /// Gives the whole token to the one place that shows or hashes it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminToken").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Terms of a new admin token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTokenDraft {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Of which tenant, if it is a tenant's own.
    pub tenant: Option<TenantId>,
    /// Until when it opens anything.
    pub expires_at: Timestamp,
}

/// An admin token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTokenRecord {
    /// The public part.
    pub id: String,
    /// What was asked.
    pub terms: AdminTokenDraft,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The last day on which it was used, counted from 1970.
    pub last_used_day: Option<u32>,
}

impl AdminTokenRecord {
    /// Says whether it opens anything at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.terms.expires_at
    }
}

/// An admin token that has just been made. This is the only time that it can be shown.
#[derive(Debug)]
pub struct IssuedAdminToken {
    /// The token.
    pub token: AdminToken,
    /// What was stored of it.
    pub record: AdminTokenRecord,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_key_is_no_admin_token_and_a_token_does_not_show() {
        let token = AdminToken::generate();

        assert_eq!(AdminToken::parse(token.expose()).unwrap().id(), token.id());
        assert!(AdminToken::parse(LicenceKey::generate("us").expose()).is_err());
        assert!(!format!("{token:?}").contains(&token.expose()[24..]));
    }

    #[test]
    fn roles_are_read_back() {
        assert!(Role::ALL.iter().all(|role| role.as_str().parse() == Ok(*role)));
    }
}
