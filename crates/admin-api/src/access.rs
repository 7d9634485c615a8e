//! Who may call what: every route, and the roles for which it is there. What is not in the table is refused.

use http::Method;
use tenant_registry::Role::{self, Auditor, Operator, SecurityAdmin, Support, Tenant, Viewer};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, signed in or not.
    Open,
    /// Whoever has one of these roles.
    Roles(&'static [Role]),
}

use Access::{Open, Roles};

const EVERYBODY: Access = Roles(&[Viewer, Support, Operator, SecurityAdmin, Auditor, Tenant]);
/// A tenant sees its own; the operations see to that.
const OWN: Access = EVERYBODY;
const READERS: Access = Roles(&[Viewer, Support, Operator, SecurityAdmin, Auditor]);
const SELLERS: Access = Roles(&[Operator, SecurityAdmin]);
const HELPERS: Access = Roles(&[Support, Operator, SecurityAdmin]);
const HELPERS_AND_OWN: Access = Roles(&[Support, Operator, SecurityAdmin, Tenant]);
const SECURITY: Access = Roles(&[SecurityAdmin]);
const AUDITORS: Access = Roles(&[Auditor, SecurityAdmin]);
const AUDITORS_AND_OWN: Access = Roles(&[Auditor, SecurityAdmin, Tenant]);

/// Every route of the API and of the console.
pub(crate) const TABLE: &[(&str, &str, Access)] = &[
    ("GET", "/openapi.json", Open),
    ("GET", "/docs", Open),
    ("GET", "/v1/me", EVERYBODY),
    ("GET", "/v1/overview", READERS),
    ("GET", "/v1/alerts", READERS),
    ("GET", "/v1/tenants", READERS),
    ("POST", "/v1/tenants", SELLERS),
    ("GET", "/v1/tenants/{tenant}", OWN),
    ("PUT", "/v1/tenants/{tenant}", SELLERS),
    ("GET", "/v1/tenants/{tenant}/usage", OWN),
    ("GET", "/v1/tenants/{tenant}/licences", OWN),
    ("POST", "/v1/tenants/{tenant}/licences", SELLERS),
    ("GET", "/v1/tenants/{tenant}/devices", OWN),
    ("DELETE", "/v1/tenants/{tenant}/devices", SECURITY),
    ("POST", "/v1/tenants/{tenant}/devices/lookup", HELPERS_AND_OWN),
    ("POST", "/v1/tenants/{tenant}/devices/erase", SELLERS),
    ("GET", "/v1/tenants/{tenant}/audit", AUDITORS_AND_OWN),
    ("GET", "/v1/licences/{licence}", OWN),
    ("PUT", "/v1/licences/{licence}", SELLERS),
    ("PUT", "/v1/licences/{licence}/terms", SELLERS),
    ("PUT", "/v1/licences/{licence}/suspension", SELLERS),
    ("DELETE", "/v1/licences/{licence}/suspension", SELLERS),
    ("GET", "/v1/licences/{licence}/keys", OWN),
    ("POST", "/v1/licences/{licence}/keys", SELLERS),
    ("DELETE", "/v1/keys/{kid}", SELLERS),
    ("GET", "/v1/licences/{licence}/servers", OWN),
    ("PUT", "/v1/licences/{licence}/servers/{server}", SELLERS),
    ("DELETE", "/v1/licences/{licence}/servers/{server}", SELLERS),
    ("GET", "/v1/apps", READERS),
    ("POST", "/v1/test-pushes", HELPERS),
    ("GET", "/v1/queues", READERS),
    ("GET", "/v1/audit", AUDITORS),
    ("GET", "/v1/audit/verification", AUDITORS),
    ("GET", "/v1/admin-tokens", SECURITY),
    ("POST", "/v1/admin-tokens", SECURITY),
    ("DELETE", "/v1/admin-tokens/{id}", SECURITY),
    ("GET", "/", EVERYBODY),
    ("GET", "/assets/{file}", Open),
    ("GET", "/sign-in", Open),
    ("POST", "/sign-in", Open),
    ("POST", "/sign-out", EVERYBODY),
    ("POST", "/language", Open),
    ("GET", "/tenants", READERS),
    ("GET", "/tenants/new", SELLERS),
    ("POST", "/tenants/new", SELLERS),
    ("GET", "/tenants/{tenant}", OWN),
    ("POST", "/tenants/{tenant}", SELLERS),
    ("POST", "/tenants/{tenant}/erase", SECURITY),
    ("GET", "/tenants/{tenant}/licences/new", SELLERS),
    ("POST", "/tenants/{tenant}/licences/new", SELLERS),
    ("GET", "/licences/{licence}", SELLERS),
    ("POST", "/licences/{licence}", SELLERS),
    ("POST", "/licences/{licence}/terms", SELLERS),
    ("POST", "/licences/{licence}/suspension", SELLERS),
    ("POST", "/licences/{licence}/keys", SELLERS),
    ("POST", "/licences/{licence}/servers", SELLERS),
    ("POST", "/keys/{kid}/revoke", SELLERS),
    ("GET", "/apps", READERS),
    ("GET", "/queues", READERS),
    ("GET", "/test-push", HELPERS),
    ("POST", "/test-push", HELPERS),
    ("GET", "/audit", AUDITORS),
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
