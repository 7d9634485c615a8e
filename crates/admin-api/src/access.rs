//! Route authorisation table: every route and the roles that may call it. What is not in it is refused.

use http::Method;
use tenant_registry::Role::{self, Auditor, Operator, SecurityAdmin, Support, Tenant, Viewer};

/// Access rule of a route: the roles that may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, signed in or not.
    Open,
    /// Whoever has one of these roles.
    Roles(&'static [Role]),
}

use Access::{Open, Roles};

const ANY_ROLE: Access = Roles(&[Viewer, Support, Operator, SecurityAdmin, Auditor, Tenant]);
/// A tenant sees its own; the operations see to that.
const ANY_ROLE_OWN_TENANT: Access = ANY_ROLE;
const READER_ROLES: Access = Roles(&[Viewer, Support, Operator, SecurityAdmin, Auditor]);
const OPERATOR_ROLES: Access = Roles(&[Operator, SecurityAdmin]);
const SUPPORT_ROLES: Access = Roles(&[Support, Operator, SecurityAdmin]);
const SUPPORT_ROLES_AND_TENANT: Access = Roles(&[Support, Operator, SecurityAdmin, Tenant]);
const SECURITY_ROLES: Access = Roles(&[SecurityAdmin]);
const AUDITOR_ROLES: Access = Roles(&[Auditor, SecurityAdmin]);
const AUDITOR_ROLES_AND_TENANT: Access = Roles(&[Auditor, SecurityAdmin, Tenant]);

/// Every route of the API and of the console.
pub(crate) const TABLE: &[(&str, &str, Access)] = &[
    ("GET", "/openapi.json", Open),
    ("GET", "/docs", Open),
    ("GET", "/.well-known/hpns-report-signers", Open),
    ("GET", "/v1/me", ANY_ROLE),
    ("GET", "/v1/overview", READER_ROLES),
    ("GET", "/v1/alerts", READER_ROLES),
    ("GET", "/v1/tenants", READER_ROLES),
    ("POST", "/v1/tenants", OPERATOR_ROLES),
    ("GET", "/v1/tenants/{tenant}", ANY_ROLE_OWN_TENANT),
    ("PUT", "/v1/tenants/{tenant}", OPERATOR_ROLES),
    ("GET", "/v1/tenants/{tenant}/usage", ANY_ROLE_OWN_TENANT),
    ("GET", "/v1/tenants/{tenant}/licences", ANY_ROLE_OWN_TENANT),
    ("POST", "/v1/tenants/{tenant}/licences", OPERATOR_ROLES),
    ("GET", "/v1/tenants/{tenant}/devices", ANY_ROLE_OWN_TENANT),
    ("DELETE", "/v1/tenants/{tenant}/devices", SECURITY_ROLES),
    ("GET", "/v1/tenants/{tenant}/devices/erasures", AUDITOR_ROLES_AND_TENANT),
    ("POST", "/v1/tenants/{tenant}/devices/lookup", SUPPORT_ROLES_AND_TENANT),
    ("POST", "/v1/tenants/{tenant}/devices/erase", OPERATOR_ROLES),
    ("GET", "/v1/tenants/{tenant}/audit", AUDITOR_ROLES_AND_TENANT),
    ("GET", "/v1/tenants/{tenant}/service-level", ANY_ROLE_OWN_TENANT),
    ("GET", "/v1/tenants/{tenant}/service-level/hours", ANY_ROLE_OWN_TENANT),
    ("GET", "/v1/tenants/{tenant}/service-level/signed", ANY_ROLE_OWN_TENANT),
    ("GET", "/v1/service-level", READER_ROLES),
    ("GET", "/v1/service-level/tenants", READER_ROLES),
    ("GET", "/v1/licences/{licence}", ANY_ROLE_OWN_TENANT),
    ("PUT", "/v1/licences/{licence}", OPERATOR_ROLES),
    ("PUT", "/v1/licences/{licence}/terms", OPERATOR_ROLES),
    ("PUT", "/v1/licences/{licence}/suspension", OPERATOR_ROLES),
    ("DELETE", "/v1/licences/{licence}/suspension", OPERATOR_ROLES),
    ("GET", "/v1/licences/{licence}/keys", ANY_ROLE_OWN_TENANT),
    ("POST", "/v1/licences/{licence}/keys", OPERATOR_ROLES),
    ("DELETE", "/v1/keys/{kid}", OPERATOR_ROLES),
    ("GET", "/v1/licences/{licence}/servers", ANY_ROLE_OWN_TENANT),
    ("PUT", "/v1/licences/{licence}/servers/{server}", OPERATOR_ROLES),
    ("DELETE", "/v1/licences/{licence}/servers/{server}", OPERATOR_ROLES),
    ("GET", "/v1/apps", READER_ROLES),
    ("POST", "/v1/test-pushes", SUPPORT_ROLES),
    ("GET", "/v1/queues", READER_ROLES),
    ("GET", "/v1/audit", AUDITOR_ROLES),
    ("GET", "/v1/audit/verification", AUDITOR_ROLES),
    ("GET", "/v1/admin-tokens", SECURITY_ROLES),
    ("POST", "/v1/admin-tokens", SECURITY_ROLES),
    ("DELETE", "/v1/admin-tokens/{id}", SECURITY_ROLES),
    ("GET", "/", ANY_ROLE),
    ("GET", "/assets/{file}", Open),
    ("GET", "/sign-in", Open),
    ("POST", "/sign-in", Open),
    ("POST", "/sign-out", ANY_ROLE),
    ("POST", "/language", Open),
    ("GET", "/tenants", READER_ROLES),
    ("GET", "/tenants/new", OPERATOR_ROLES),
    ("POST", "/tenants/new", OPERATOR_ROLES),
    ("GET", "/tenants/{tenant}", ANY_ROLE_OWN_TENANT),
    ("POST", "/tenants/{tenant}", OPERATOR_ROLES),
    ("POST", "/tenants/{tenant}/erase", SECURITY_ROLES),
    ("GET", "/tenants/{tenant}/licences/new", OPERATOR_ROLES),
    ("POST", "/tenants/{tenant}/licences/new", OPERATOR_ROLES),
    ("GET", "/tenants/{tenant}/service-level", ANY_ROLE_OWN_TENANT),
    ("GET", "/service-level", READER_ROLES),
    ("GET", "/licences/{licence}", OPERATOR_ROLES),
    ("POST", "/licences/{licence}", OPERATOR_ROLES),
    ("POST", "/licences/{licence}/terms", OPERATOR_ROLES),
    ("POST", "/licences/{licence}/suspension", OPERATOR_ROLES),
    ("POST", "/licences/{licence}/keys", OPERATOR_ROLES),
    ("POST", "/licences/{licence}/servers", OPERATOR_ROLES),
    ("POST", "/keys/{kid}/revoke", OPERATOR_ROLES),
    ("GET", "/apps", READER_ROLES),
    ("GET", "/queues", READER_ROLES),
    ("GET", "/test-push", SUPPORT_ROLES),
    ("POST", "/test-push", SUPPORT_ROLES),
    ("GET", "/audit", AUDITOR_ROLES),
];

/// Returns who may call a route; nobody if it is not in the table.
pub(crate) fn of(method: &Method, path: &str) -> Option<Access> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    TABLE.iter().find(|(known, route, _)| *known == method && *route == path).map(|(_, _, access)| *access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        assert_eq!(of(&Method::GET, "/v1/secrets"), None);
        assert_eq!(of(&Method::PATCH, "/v1/tenants"), None);
        assert_eq!(of(&Method::HEAD, "/v1/me"), of(&Method::GET, "/v1/me"));
    }

    #[test]
    fn no_route_stands_twice_in_the_table() {
        let mut routes: Vec<_> = TABLE.iter().map(|(method, path, _)| (method, path)).collect();
        routes.sort();
        let all = routes.len();
        routes.dedup();

        assert_eq!(routes.len(), all);
    }

    #[test]
    fn viewers_auditors_and_tenants_change_nothing() {
        for (method, path, access) in TABLE {
            let changes = *method != "GET" && !path.ends_with("/lookup");
            if let Roles(roles) = access
                && changes
                && *path != "/sign-out"
            {
                let harmless = [Viewer, Auditor, Tenant].iter().all(|role| !roles.contains(role));
                assert!(harmless, "{method} {path}");
            }
        }
    }
}
